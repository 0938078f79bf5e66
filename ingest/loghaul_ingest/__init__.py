"""The server side of loghaul: worker, stores, query language, command line."""
