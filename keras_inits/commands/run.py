"""From what was typed to an exit code."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from keras_inits.commands.parser import parser
from keras_inits.commands.refusal import Refusal, one_line
from keras_inits.errors import KerasInitsError

DONE, FOUND, REFUSED, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: What was typed; None: `sys.argv`.

    Returns:
        The exit code: 0 done, 1 `report --check` found something wrong, 2 refused,
        130 interrupted.
    """
    chosen = parser().parse_args(arguments)
    try:
        return _run(chosen)
    except (Refusal, KerasInitsError) as error:
        if getattr(chosen, "debug", False):
            raise
        text = one_line(error)
        if "layers=" in text:
            text += " On the command line: --layer with the names of the others"
        print(f"keras-inits: error: {text}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print("keras-inits: interrupted, nothing was written", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe has gone; what is left in the buffer has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:  # a full disk behind standard output
        print(f"keras-inits: error: {one_line(error)}", file=sys.stderr)
        return REFUSED


def _run(chosen: argparse.Namespace) -> int:
    if chosen.command == "list":
        from keras_inits.registry import available

        print(available(), flush=True)
        return DONE
    if chosen.command == "demo":
        return _demo()
    from keras_inits.commands import on_models

    if chosen.command == "report":
        healthy = on_models.report(chosen)
        return DONE if healthy or not chosen.check else FOUND
    on_models.lsuv(chosen)
    return DONE


def _demo() -> int:
    from keras_inits.demo import run

    try:
        return run()
    except SystemExit as stop:
        if isinstance(stop.code, str):
            raise Refusal(stop.code) from stop
        raise
