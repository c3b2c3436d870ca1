"""How much memory does `lsuv_init` need, beside inference on the same batch?

Peak resident memory of a fresh process above what it held just before the call (model
built, batch in memory): medians of several processes. Inference is one eager forward
pass, and beside it `predict`.
"""

from __future__ import annotations

import resource
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
MB = 2**20


def resident() -> float:
    """Memory held now, in MB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MB


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
    before = resident()
    earlier_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    kept = calls[verb]()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    del kept
    fresh.answer(peak=peak - before, hidden=earlier_peak - before)


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
            if peak[verb] <= 1.1 * fresh.median_of(found, "hidden"):
                raise SystemExit(f"{name}, {verb}: an earlier peak hides this one.")
        ratios = [peak[verb] / peak["forward"] for verb in VERBS[1:]]
        rows.append([name, peak["forward"], *ratios])
    tables.print_table(HEADER, rows)


if __name__ == "__main__":
    main()
