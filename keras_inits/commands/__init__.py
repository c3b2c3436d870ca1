"""The command line: `python -m keras_inits`, or `keras-inits`."""

from keras_inits.commands.run import main

__all__ = ["main"]
