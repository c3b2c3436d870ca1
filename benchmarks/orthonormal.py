"""How fast is an orthonormal draw, beside Keras's and a matrix product, and how exact?

`LSUVNormal` and `keras.initializers.Orthogonal` by shape, warm, medians of interleaved
rounds. The product is (rows, columns) x (columns, columns), the size of the kernel:
what any method that works in matrix products has to do at least once. The error is the
largest entry of |Q'Q - I| over the shorter side n; `2e-6 sqrt(n)` is the bound.

Before each call there is a product that is not timed: the threads of LAPACK, which
Keras's draw has called on JAX, keep turning on every core for some 25 ms behind it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops
from support import tables
from support.timing import interleaved, wait

import keras_inits

HEADER = ("shape", "ms", "Keras/ours", "ours/product", "error", "Keras's", "bound")
QUICK = ((64, 64), (512, 512), (2048, 2048), (3, 3, 512, 512), (512, 4608))
FULL = (*QUICK, (1024, 1024), (4096, 4096), (16384, 256))


def error(kernel: Any) -> float:
    """Largest entry of |Q'Q - I|, in float64."""
    q = np.asarray(ops.convert_to_numpy(kernel), "float64")
    q = q.reshape(-1, q.shape[-1])
    q = q if q.shape[0] >= q.shape[1] else q.T
    return float(np.abs(q.T @ q - np.eye(q.shape[1])).max())


def row(shape: tuple[int, ...], rounds: int) -> list[Any]:
    """One shape."""
    rows, columns = math.prod(shape[:-1]), shape[-1]
    long, short = max(rows, columns), min(rows, columns)
    a = keras.random.normal((long, short), seed=1)
    b = keras.random.normal((short, short), seed=2)
    ours, theirs = keras_inits.LSUVNormal(), keras.initializers.Orthogonal()
    functions: dict[str, Callable[[], Any]] = {
        "ours": lambda: ours(shape),
        "Keras": lambda: theirs(shape),
        "product": lambda: ops.matmul(a, b),
    }
    large = keras.random.normal((2048, 2048), seed=3)
    times = interleaved(functions, rounds, before=lambda: wait(large @ large))
    return [
        " x ".join(map(str, shape)),
        times["ours"].median * 1e3,
        times["Keras"].over(times["ours"]),
        times["ours"].over(times["product"]),
        error(ours(shape)),
        error(theirs(shape)),
        2e-6 * math.sqrt(short),
    ]


def main() -> None:
    """Print the table."""
    full = tables.parser(__doc__).parse_args().full
    tables.print_machine(__doc__)
    shapes, rounds = (FULL, 7) if full else (QUICK, 5)
    tables.print_table(HEADER, [row(shape, rounds) for shape in shapes])


if __name__ == "__main__":
    main()
