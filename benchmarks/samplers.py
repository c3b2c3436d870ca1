"""How fast is each sampler, beside Keras's own and the backend's raw generator?

One square kernel, warm, medians of interleaved rounds. "/ Keras" is ours over the
Keras initializer of the same law (or the nearest), "/ raw" ours over the backend's
generator of that kind. Orthonormal laws have a script of their own: orthonormal.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import keras
from keras import initializers
from support import tables
from support.timing import interleaved

import keras_inits as ki

HEADER = ("sampler", "ms", "/ Keras", "Keras's own", "/ raw", "raw generator")
Row = tuple[Any, Any, str]


def scaling(distribution: str) -> Any:
    """Keras's root class for laws that Keras does not name."""
    return initializers.VarianceScaling(distribution=distribution)


def samplers() -> list[Row]:
    """Ours, Keras's, and the kind of raw generator."""
    normal, uniform = scaling("untruncated_normal"), scaling("uniform")
    return [
        (ki.TruncatedNormal(), initializers.TruncatedNormal(), "truncated"),
        (ki.GlorotNormal(), initializers.GlorotNormal(), "truncated"),
        (ki.HeNormal(), initializers.HeNormal(), "truncated"),
        (ki.LecunNormal(), initializers.LecunNormal(), "truncated"),
        (ki.ContribVarianceScaling(), scaling("truncated_normal"), "truncated"),
        (ki.XavierNormal(), normal, "normal"),
        (ki.KaimingNormal(), normal, "normal"),
        (ki.StandardNormal(), normal, "normal"),
        (ki.GlorotUniform(), initializers.GlorotUniform(), "uniform"),
        (ki.HeUniform(), initializers.HeUniform(), "uniform"),
        (ki.LecunUniform(), initializers.LecunUniform(), "uniform"),
        (ki.XavierUniform(), uniform, "uniform"),
        (ki.KaimingUniform(), uniform, "uniform"),
        (ki.StandardUniform(), uniform, "uniform"),
        (ki.UniformUnitScaling(), uniform, "uniform"),
    ]


def raw(kind: str, shape: tuple[int, int]) -> Callable[[], Any]:
    """The backend's own generator, without Keras."""
    backend = keras.backend.backend()
    module = sys.modules[backend]
    if backend == "tensorflow":
        draw: Any = {
            "normal": module.random.stateless_normal,
            "uniform": module.random.stateless_uniform,
            "truncated": module.random.stateless_truncated_normal,
        }[kind]
        return lambda: draw(shape, seed=(1, 2))
    if backend == "jax":
        key = module.random.key(0)
        if kind == "truncated":
            return lambda: module.random.truncated_normal(key, -2.0, 2.0, shape)
        draw = {"normal": module.random.normal, "uniform": module.random.uniform}[kind]
        return lambda: draw(key, shape)
    if kind == "truncated":
        into = module.empty(shape)
        return lambda: module.nn.init.trunc_normal_(into)
    draw = {"normal": module.randn, "uniform": module.rand}[kind]
    return lambda: draw(shape)


def row(sampler: Row, shape: tuple[int, int], rounds: int) -> list[Any]:
    """One sampler."""
    ours, theirs, kind = sampler
    functions: dict[str, Callable[[], Any]] = {
        "ours": partial(ours, shape),
        "Keras": partial(theirs, shape),
        "raw": raw(kind, shape),
    }
    times = interleaved(functions, rounds)
    return [
        type(ours).__name__,
        times["ours"].median * 1e3,
        times["ours"].over(times["Keras"]),
        type(theirs).__name__,
        times["ours"].over(times["raw"]),
        kind,
    ]


def main() -> None:
    """Print the table."""
    parser = tables.parser(__doc__)
    parser.add_argument("--size", type=int, help="rows and columns of the kernel")
    arguments = parser.parse_args()
    tables.print_machine(__doc__)
    size = arguments.size or (4096 if arguments.full else 1024)
    rounds = 7 if arguments.full else 9
    print(f"{size} x {size} values\n")
    rows = [row(sampler, (size, size), rounds) for sampler in samplers()]
    tables.print_table(HEADER, rows)


if __name__ == "__main__":
    main()
