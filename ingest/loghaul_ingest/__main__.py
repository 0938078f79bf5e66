"""`python -m loghaul_ingest` is the command `loghaul`."""

from loghaul_ingest.cli import main

if __name__ == "__main__":
    main()
