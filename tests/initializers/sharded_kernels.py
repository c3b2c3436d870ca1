"""Every class as the initializer of a kernel that Keras shards while drawing it.

Run by `test_sharded.py` in a process of its own: the number of devices is fixed when
JAX starts. Prints one line for each kernel that is not as it should be.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import keras
import numpy as np
from laws import CLASSES, FIXED, Record, to_numpy

import keras_inits.initializers as inits

DEVICES = 16
# Known of this Keras and later ones; 3.9 draws first and shards then.
IN_JIT = tuple(map(int, keras.__version__.split(".")[:2])) >= (3, 15)
# Keras draws inside `jit` where float32 bytes times devices reach 250 MiB: here 2**22
# values. Few inputs, since each device draws the whole of an orthonormal factor.
WIDE = (16, 2**18)
SHAPES: dict[type, tuple[int, ...]] = {
    inits.Bilinear: (4, 4, 512, 512),
    inits.ConvolutionOrthogonal: (1, *WIDE),
    inits.DeltaOrthogonal: (3, *WIDE),
    inits.Dirac: (3, *WIDE),
    inits.ForgetGateBias: (2**22,),
    inits.LogOddsBias: (2**22,),
}
ORTHONORMAL = (inits.LSUVNormal, inits.Orthogonal)


def problems(record: Record, drawn_in_jit: list[Any]) -> list[str]:
    shape = SHAPES.get(record.cls, WIDE)
    before = len(drawn_in_jit)
    variable = keras.Variable(record.build(), shape=shape, name="sharded_kernel")
    value: Any = variable.value
    found = []
    if IN_JIT and len(drawn_in_jit) != before + 1:
        found.append("not drawn inside jit: the test tests nothing")
    wanted = jax.sharding.PartitionSpec(*[None] * (len(shape) - 1), "model")
    if value.sharding.spec != wanted:
        found.append(f"sharding {value.sharding.spec}, wanted {wanted}")
    shards = [np.asarray(shard.data) for shard in value.addressable_shards]
    if {s.shape for s in shards} != {(*shape[:-1], shape[-1] // DEVICES)}:
        found.append(f"shards of shapes { {s.shape for s in shards} }")
    if record in FIXED:
        expected = to_numpy(record.build()(shape))
        if not np.array_equal(expected, to_numpy(value)):
            found.append("other values than without shards")
        return found
    return found + random_problems(record, shape, to_numpy(value))


def random_problems(
    record: Record, shape: tuple[int, ...], values: np.ndarray
) -> list[str]:
    """Of the whole and of its parts, as if there had been no shards."""
    found = []
    parts = np.split(values.reshape(-1, shape[-1]), DEVICES, axis=1)
    if any(np.array_equal(parts[0], part) for part in parts[1:]):
        found.append("shards are equal")
    if record.law is not None:
        law = record.law(shape)
        kurtosis = float(law.stats(moments="k"))
        for n, part in [(values.size, values), *((p.size, p) for p in parts)]:
            spread = part.var() / law.var()
            if abs(spread - 1) > 5 * math.sqrt((kurtosis + 2) / n):
                found.append(f"spread {spread} of {n} values")
        between = np.corrcoef([part.ravel() for part in parts])
        np.fill_diagonal(between, 0)
        if np.abs(between).max() > 6 / math.sqrt(parts[0].size):
            found.append(f"correlation {np.abs(between).max()} between shards")
    if record.cls in ORTHONORMAL:
        gain = record.config.get("gain", 1.0)
        error = np.abs(values @ values.T - gain**2 * np.eye(shape[0])).max()
        if error > 1e-4:
            found.append(f"rows orthonormal within {error}")
    return found


def long_convolution() -> list[str]:
    """With a window, too slow at that size: the same call of `jit` on a small one."""
    initializer = inits.ConvolutionOrthogonal(seed=3)
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ["model"])
    spec = jax.sharding.PartitionSpec(None, None, "model")
    drawn = jax.jit(
        initializer.__call__,
        out_shardings=jax.sharding.NamedSharding(mesh, spec),
        static_argnames=["shape", "dtype"],
    )(shape=(3, 8, 64), dtype="float32")
    plain = to_numpy(initializer((3, 8, 64)))
    alike = np.allclose(to_numpy(drawn), plain, atol=1e-5)
    return [] if alike else ["other values than without shards"]


def main() -> None:
    assert len(jax.devices()) == DEVICES
    drawn_in_jit: list[Any] = []
    jit = jax.jit

    def watched(function: Any, *args: Any, **options: Any) -> Any:
        if options.get("out_shardings") is not None:
            drawn_in_jit.append(function)
        return jit(function, *args, **options)

    jax.jit = watched  # type: ignore[assignment]
    keras.utils.set_random_seed(0)
    devices = keras.distribution.list_devices()
    mesh = keras.distribution.DeviceMesh((1, DEVICES), ["batch", "model"], devices)
    for record in [*CLASSES, *FIXED]:
        if isinstance(record.config.get("prior"), list):
            continue  # one probability for each of 2**19 outputs
        rank = len(SHAPES.get(record.cls, WIDE))
        layout = keras.distribution.LayoutMap(mesh)
        layout[".*sharded_kernel.*"] = (*[None] * (rank - 1), "model")
        keras.distribution.set_distribution(
            keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")
        )
        for problem in problems(record, drawn_in_jit):
            print(f"{record.name}: {problem}")
    for problem in long_convolution():
        print(f"ConvolutionOrthogonal with a window: {problem}")
    print("done")


if __name__ == "__main__":
    main()
