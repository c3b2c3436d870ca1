"""Command line: `python -m keras_inits demo`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="keras-inits", description="Initialisation for Keras models."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the strings, with their classes and laws")
    commands.add_parser("demo", help="a plain 40-layer network, with and without LSUV")
    chosen = parser.parse_args(arguments)
    if chosen.command == "list":
        from keras_inits import available

        print(available())
        return 0
    from keras_inits.demo import run

    return run()


if __name__ == "__main__":
    sys.exit(main())
