"""`python -m jomni`: the same as the command `jomni`."""

import sys

from jomni.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
