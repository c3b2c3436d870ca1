"""How much memory does `lsuv_init` need, beside inference on the same batch?

Peak resident memory of a fresh process above what it held just before the call (model
built, batch in memory): medians of several processes. Inference is one eager forward
pass, and beside it `predict`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from support import fresh, models, tables

# 33 MB and 67 MB for one activation: well above what imports leave behind.
MAKERS: dict[str, Callable[[], models.Subject]] = {
    "conv": partial(models.conv_stack, 10, pixels=64),
    "VGG-like": models.vgg_like,
}
VERBS = ("forward", "predict", "lsuv_init")
HEADER = ("model", "forward MB", "predict/forward", "lsuv_init/forward")


def resident(kind: str) -> float:
    """Memory held now (`VmRSS`), or at most so far (`VmHWM`), in MB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = [x for x in lines if x.startswith(kind)]
    return int(line.split()[1]) / 1024


def forget_peak() -> None:
    """From now on the peak is that of what comes (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def child(name: str, verb: str) -> None:
    """One call, and the peak above what was held before."""
    model, batch = MAKERS[name]()
    # The backend's threads and libraries are loaded by a first, tiny call.
    models.forward(model, batch[:1])
    calls = {
        "forward": lambda: models.forward(model, batch),
        "predict": lambda: model.predict(batch, batch_size=len(batch), verbose=0),
        "lsuv_init": lambda: models.lsuv(model, batch),
    }
    forget_peak()
    before = resident("VmRSS")
    kept = calls[verb]()
    peak = resident("VmHWM")
    del kept
    fresh.answer(peak=peak - before)


def main() -> None:
    """Print the table."""
    if sys.argv[1:2] == ["--child"]:
        return child(*sys.argv[2:])
    parser = tables.parser(__doc__)
    arguments = parser.parse_args()
    tables.print_machine(__doc__)
    rounds = 5 if arguments.full else 1
    rows = []
    for name in MAKERS:
        peak = {}
        for verb in VERBS:
            found = [fresh.figures(__file__, name, verb) for _ in range(rounds)]
            peak[verb] = fresh.median_of(found, "peak")
        ratios = [peak[verb] / peak["forward"] for verb in VERBS[1:]]
        rows.append([name, peak["forward"], *ratios])
    tables.print_table(HEADER, rows)


if __name__ == "__main__":
    main()
