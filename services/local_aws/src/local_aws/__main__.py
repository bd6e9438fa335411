"""`python -m local_aws`."""

from .server import main

if __name__ == "__main__":
    main()
