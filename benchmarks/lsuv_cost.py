"""What do `lsuv_init` and `measure` cost, as multiples of one eager forward pass?

Same model, same batch, warm (the third call and later), in one run: medians of
interleaved rounds, each from weights that are not initialised yet. "In work" is the
same ratio in processor time, which a busy machine disturbs less. "Least" is what the
products and new kernels of the stack take by themselves (`support/bare.py`). Beside it
the textbook algorithm, which runs a forward pass for each layer and step, and (backend
torch, where installed) the PyPI package `lsuv` on the same architecture in plain
PyTorch, over its own forward pass.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from support import bare, models, peer, tables, textbook
from support.timing import interleaved

import keras_inits

HEADER = (
    "model",
    "layers",
    "width",
    "forward ms",
    "lsuv_init",
    "in work",
    "measure",
    "in work ",
    "least",
    "textbook",
    "passes",
    "lsuv",
)
MAKERS: dict[str, Callable[[int, int], models.Subject]] = {
    "conv": models.conv_stack,
    "dense": models.dense_stack,
}
WIDTHS = {"conv": [32], "dense": [512]}
# Beyond these depths the textbook and the peer take minutes.
QUICK_TEXTBOOK = 10
FULL_TEXTBOOK = 40


def cost(
    name: str, subject: models.Subject, rounds: int, *, least: bool
) -> dict[str, Any]:
    """Milliseconds of a forward pass, and `lsuv_init` as a multiple of it."""
    model, batch = subject
    functions: dict[str, Callable[[], Any]] = {
        "forward": lambda: models.forward(model, batch),
        "lsuv_init": lambda: models.lsuv(model, batch),
        "measure": lambda: keras_inits.measure(model, batch),
    }
    if least:
        floor = bare.bare(model)
        functions["least"] = lambda: floor(batch)
    restore = models.restorer(model)

    def before() -> Any:
        return restore(), functions["forward"]()

    times = interleaved(functions, rounds, before=before, warm_up=2)
    figures = {
        "model": name,
        "forward ms": times["forward"].median * 1e3,
        "lsuv_init": times["lsuv_init"].over(times["forward"]),
        "in work": times["lsuv_init"].work_over(times["forward"]),
        "measure": times["measure"].over(times["forward"]),
        "in work ": times["measure"].work_over(times["forward"]),
    }
    if least:
        figures["least"] = times["least"].over(times["forward"])
    return figures


def textbook_cost(subject: models.Subject) -> dict[str, Any]:
    """The textbook algorithm as a multiple of a forward pass, and its passes."""
    model, batch = subject
    passes: list[int] = []
    functions: dict[str, Callable[[], Any]] = {
        "forward": lambda: models.forward(model, batch),
        "textbook": lambda: passes.append(textbook.textbook_lsuv(model, batch)),
    }
    times = interleaved(functions, 1, before=models.restorer(model))
    return {
        "textbook": times["textbook"].over(times["forward"]),
        "passes": passes[-1],
    }


def main() -> None:
    """Print the table."""
    parser = tables.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count")
    parser.add_argument("--depths", type=int, nargs="+", help="depths of the stacks")
    parser.add_argument("--only", choices=MAKERS, help="this kind of stack")
    parser.add_argument("--widths", type=int, nargs="+", help="filters or units")
    arguments = parser.parse_args()
    tables.print_machine(__doc__)
    full = arguments.full
    depths = arguments.depths or ([10, 40, 160, 320] if full else [10, 40, 160])
    limit = FULL_TEXTBOOK if full else QUICK_TEXTBOOK
    rows = []
    for kind in [arguments.only] if arguments.only else MAKERS:
        widths = arguments.widths or WIDTHS[kind]
        for width, depth in itertools.product(widths, depths):
            subject = MAKERS[kind](depth, width)
            row = cost(kind, subject, arguments.rounds, least=True)
            row["layers"] = depth
            row["width"] = width
            if depth <= limit and width in WIDTHS[kind]:
                row |= textbook_cost(subject)
                row["lsuv"] = peer.peer_ratio(kind, depth) if peer.installed() else None
            rows.append([row.get(column) for column in HEADER])
    if full:
        row = cost("ResNet50", models.resnet50(), arguments.rounds, least=False)
        row["layers"] = 54
        rows.append([row.get(column) for column in HEADER])
    tables.print_table(HEADER, rows)


if __name__ == "__main__":
    main()
