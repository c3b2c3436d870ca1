"""Question: does any value leave its support, and are the tails right?

Draws many values from each bounded law and from the normal one, ours and Keras's, and
prints how many lie outside and how the counts beyond 2, 3 and 4 deviations compare
with what the law says, in standard errors.

    KERAS_BACKEND=torch python benchmarks/sampler_quality.py --millions 100
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import keras_inits.initializers as inits

CHUNK = (2000, 2000)
UNIT = 0.87962566103423978  # deviation of a unit normal law cut at two


def upper_tail(z: float) -> float:
    return math.erfc(z / math.sqrt(2)) / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--millions", type=int, default=20)
    chunks = max(1, parser.parse_args().millions * 10**6 // math.prod(CHUNK))

    print(f"keras {keras.__version__} on {keras.backend.backend()}, float32")
    print(f"{chunks * math.prod(CHUNK):.1e} values each\n")
    print(f"{'law':44}{'outside':>9}   deviations from the law beyond 2, 3, 4 sigma")
    rows: list[tuple[str, Callable[[], Any], float, float]] = [
        ("trunc_normal", inits.TruncatedNormal(0.0, UNIT), 2.0, 2.0),
        (
            "Keras TruncatedNormal",
            keras.initializers.TruncatedNormal(0.0, 1.0),
            2.0,
            2.0,
        ),
        ("trunc_normal, bounds of 6", inits.TruncatedNormal(0, 1, -6, 6), 6.0, 6.0),
        ("uniform_unit_scaling", inits.UniformUnitScaling(0.1), 0.0, 0.1 * 3**0.5),
        (
            "standard_normal",
            inits.StandardNormal(input_axes=[], output_axes=[1]),
            9,
            99,
        ),
    ]
    for name, initializer, cut, bound in rows:
        print(f"{name:44}{_row(initializer, chunks, cut, bound)}", flush=True)


def _row(initializer: Any, chunks: int, cut: float, bound: float) -> str:
    outside, n = 0, chunks * math.prod(CHUNK)
    beyond = np.zeros(3)
    for _ in range(chunks):
        shape = CHUNK if cut else (1, math.prod(CHUNK))
        if type(initializer).__module__.startswith("keras."):
            initializer = initializer.clone()  # Keras repeats its values otherwise
            initializer.seed = int(np.random.randint(2**31))
        values = np.abs(keras.ops.convert_to_numpy(initializer(shape)))
        outside += int((values.astype("float64") > bound).sum())
        beyond += [int((values > z).sum()) for z in (2, 3, 4)]
    text = f"{outside:9}   "
    for count, z in zip(beyond, (2, 3, 4), strict=True):
        if z < cut:
            share = 2 * (upper_tail(z) - upper_tail(cut)) / (1 - 2 * upper_tail(cut))
            text += f"{(count - n * share) / math.sqrt(n * share):+8.1f}"
    return text


if __name__ == "__main__":
    main()
