"""What does the first `lsuv_init` of a process cost, beside the first `predict`?

Each figure is the first call in a fresh process, imports and building not counted, nor
Python's collection of what they left behind (0.3 s, wherever it happens to fall).
Rounds alternate between the two; the ratio is the median over the rounds.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from functools import partial

from support import fresh, models, tables
from support.timing import Timed, seconds

MAKERS: dict[str, Callable[[], models.Subject]] = {
    "conv 40": partial(models.conv_stack, 40),
    "dense 40": partial(models.dense_stack, 40),
    "ResNet50": models.resnet50,
}
HEADER = ("model", "predict s", "forward/predict", "lsuv_init/predict")
VERBS = ("predict", "forward", "lsuv_init")


def child(name: str, verb: str) -> None:
    """One first call."""
    model, batch = MAKERS[name]()
    calls = {
        "predict": lambda: model.predict(batch, batch_size=len(batch), verbose=0),
        "forward": lambda: models.forward(model, batch),
        "lsuv_init": lambda: models.lsuv(model, batch),
    }
    gc.collect()
    gc.freeze()
    fresh.answer(seconds=seconds(calls[verb])[0])


def main() -> None:
    """Print the table."""
    if sys.argv[1:2] == ["--child"]:
        return child(*sys.argv[2:])
    parser = tables.parser(__doc__)
    parser.add_argument("--rounds", type=int, help="fresh processes for each figure")
    parser.add_argument("--only", nargs="+", choices=MAKERS, help="a subset of models")
    arguments = parser.parse_args()
    tables.print_machine(__doc__)
    names = arguments.only or (list(MAKERS) if arguments.full else ["conv 40"])
    rounds = arguments.rounds or (5 if arguments.full else 3)
    rows = []
    for name in names:
        found: dict[str, list[float]] = {verb: [] for verb in VERBS}
        for _ in range(rounds):
            for verb in VERBS:
                found[verb].append(fresh.figures(__file__, name, verb)["seconds"])
        times = {verb: Timed(tuple(values)) for verb, values in found.items()}
        ratios = [times[verb].over(times["predict"]) for verb in VERBS[1:]]
        rows.append([name, times["predict"].median, *ratios])
    tables.print_table(HEADER, rows)


if __name__ == "__main__":
    main()
