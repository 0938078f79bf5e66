"""loghaul: hauls the logs of machine-learning runs from the script to the person who needs them."""
