"""Command line: `python -m keras_inits --help`."""

import sys

from keras_inits.commands import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
