"""What can be typed; nothing here needs Keras."""

from __future__ import annotations

import argparse
from typing import Literal, NoReturn

from keras_inits import __version__

DATA = """\
The data file is .npz or .npy and holds one array for each input of the model, by the
input's name ("v/u" for a dict within a dict; or in order, as np.savez numbers them, for
a list); or `x`; or a single array. Rows come first. Arrays of Python objects are
refused: nothing is ever unpickled."""

EXAMPLES = """\
examples:
  keras-inits list
  keras-inits report model.keras --data x.npz
  keras-inits report model.keras --data x.npz --plot signal.png
  keras-inits report model.keras --data xy.npz --loss mse --json > report.json
  keras-inits lsuv model.keras --data x.npz --out scaled.keras
  keras-inits lsuv model.keras --data x.npz --out scaled.keras --target-std critical

exit codes: 0 done; 1 done, and `report --check` found an error; 2 refused, with
one line that says why: nothing has been written; 130 interrupted."""

REPORT_EXAMPLES = """\
examples:
  keras-inits report model.keras --data x.npz
  keras-inits report model.keras --data x.npz --plot signal.svg --theme dark
  keras-inits report model.keras --data xy.npz --loss sparse_categorical_crossentropy
  keras-inits report model.keras --data xy.npz --loss price=mse --loss kind=mae
  keras-inits report model.keras --data x.npz --json --check"""

LSUV_EXAMPLES = """\
examples:
  keras-inits lsuv model.keras --data x.npz --out scaled.keras
  keras-inits lsuv model.keras --data x.npy --out model.keras --force
  keras-inits lsuv model.keras --data x.npz --out scaled.keras --layer conv_1 conv_2
  keras-inits lsuv model.keras --data x.npz --out scaled.keras --plot signal.png"""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and exits with 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def target_std(text: str) -> float | Literal["critical"]:
    """A number, or `critical`."""
    if text == "critical":
        return "critical"
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"a positive number or 'critical' is required. Received: {text!r}"
        ) from error


def positive(text: str) -> int:
    """A whole number, at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"a whole number, at least 1, is required. Received: {text!r}"
        )
    return int(text)


def parser() -> argparse.ArgumentParser:
    """The commands with their options."""
    made = Parser(
        prog="keras-inits",
        description="Initialisation for Keras models, and a look at their signal.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="the strings, with their classes and laws")
    commands.add_parser("demo", help="a plain 40-layer network, with and without LSUV")
    _report(_on_a_model(commands, "report", "show what the signal does in each layer"))
    _lsuv(_on_a_model(commands, "lsuv", "scale the kernels on a batch of data"))
    return made


def _on_a_model(
    commands: argparse._SubParsersAction[Parser], name: str, purpose: str
) -> Parser:
    made = commands.add_parser(
        name,
        help=purpose,
        description=f"{purpose[0].upper()}{purpose[1:]}.\n\n{DATA}",
        epilog=REPORT_EXAMPLES if name == "report" else LSUV_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("model", metavar="MODEL.keras", help="a saved Keras model")
    made.add_argument(
        "--data", required=True, metavar="X.npz", help="a batch of the model's inputs"
    )
    made.add_argument(
        "--layer",
        nargs="+",
        metavar="NAME",
        dest="layers",
        help="these layers only, by name or path",
    )
    made.add_argument(
        "--samples",
        type=positive,
        default=256,
        metavar="N",
        help="rows to take from the data (default: %(default)s)",
    )
    made.add_argument(
        "--training", action="store_true", help="run the layers in training mode"
    )
    made.add_argument("--plot", metavar="OUT.png", help="save a picture, PNG or SVG")
    made.add_argument(
        "--theme",
        choices=("light", "dark"),
        default="light",
        help="colours of the picture (default: %(default)s)",
    )
    made.add_argument(
        "--json", action="store_true", help="print the report as JSON, not as a table"
    )
    made.add_argument("--force", action="store_true", help="overwrite files that exist")
    made.add_argument(
        "--debug", action="store_true", help="show the traceback of what went wrong"
    )
    return made


def _report(made: Parser) -> None:
    made.add_argument(
        "--loss",
        action="append",
        metavar="LOSS",
        help="also measure the gradients of this Keras loss; the data file then holds "
        "the labels too, as `y`; of several outputs as `y/OUTPUT`, with --loss "
        "OUTPUT=LOSS for each where the losses differ",
    )
    made.add_argument(
        "--check",
        action="store_true",
        help="exit with 1 where a finding is an error; warnings do not count",
    )


def _lsuv(made: Parser) -> None:
    made.add_argument(
        "--out", required=True, metavar="OUT.keras", help="where to save the model"
    )
    made.add_argument(
        "--target-std",
        type=target_std,
        default=1.0,
        metavar="STD",
        help="deviation to meet, or 'critical' (default: %(default)s)",
    )
    made.add_argument(
        "--signal",
        choices=("pre_activation", "output"),
        default="pre_activation",
        help="what is to meet it (default: %(default)s)",
    )
    for name, purpose in (
        ("center", "also shift the biases, so that means are 0"),
        ("per-channel", "each output channel meets the target on its own"),
        ("orthonormal", "first redraw the kernels as orthonormal ones"),
    ):
        made.add_argument(f"--{name}", action="store_true", help=purpose)
