"""How does the cost of `lsuv_init` grow with the number of parameters?

Four Dense layers, batch 64, warm, medians of interleaved rounds. Kernels have to be
read once and written once: "rewrite" is that alone (`kernel.assign(kernel * 1.001)`
for every layer), the limit for models whose kernels outweigh their activations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
from support import models, tables
from support.timing import interleaved, no_gradients

DEPTH = 4
HEADER = (
    "parameters",
    "width",
    "forward ms",
    "lsuv_init/forward",
    "rewrite/forward",
    "above forward, in rewrites",
)


def rewrite(model: keras.Model) -> Any:
    """Read and write every kernel once; the kernels, to wait for."""
    with no_gradients():
        for layer in model.layers:
            layer.kernel.assign(layer.kernel * 1.001)
    return [layer.kernel.value for layer in model.layers]


def cost(parameters: float, rounds: int) -> list[Any]:
    """One row."""
    width = round(math.sqrt(parameters / DEPTH))
    model, batch = models.dense_stack(DEPTH, width)
    functions: dict[str, Callable[[], Any]] = {
        "forward": lambda: models.forward(model, batch),
        "lsuv_init": lambda: models.lsuv(model, batch),
        "rewrite": lambda: rewrite(model),
    }
    # Keeping a copy of 1e9 weights would not fit beside them: spoil the scale instead.
    times = interleaved(functions, rounds, before=lambda: rewrite(model))
    ratios = {name: times[name].over(times["forward"]) for name in functions}
    above = (ratios["lsuv_init"] - 1) / ratios["rewrite"]
    return [
        f"{parameters:.0e}",
        width,
        times["forward"].median * 1e3,
        ratios["lsuv_init"],
        ratios["rewrite"],
        above,
    ]


def main() -> None:
    """Print the table."""
    full = tables.parser(__doc__).parse_args().full
    tables.print_machine(__doc__)
    sizes = [1e5, 1e6, 1e7, 1e8, *([1e9] if full else [])]
    tables.print_table(HEADER, [cost(size, 3 if size > 1e8 else 7) for size in sizes])


if __name__ == "__main__":
    main()
