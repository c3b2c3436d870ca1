"""Samplers: wide enough, cast at the end, never outside the bounds."""

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_inits.initializers.base import Seeds, Tensor

# Significant bits, and the exponent below which the grid no longer gets finer
# (`math.frexp` convention: the smallest normal number is 0.5 * 2**exponent).
_GRIDS = {
    "bfloat16": (8, -125),
    "float16": (11, -13),
    "float32": (24, -125),
    "float64": (53, -1021),
}


def wide(dtype: str) -> str:
    """The dtype to compute in, for values of `dtype`."""
    return "float64" if dtype == "float64" else "float32"


def normal(
    shape: tuple[int, ...], stddev: float, dtype: str, seeds: Seeds, mean: float = 0.0
) -> Tensor:
    """N(mean, stddev^2)."""
    values = keras.random.normal(
        shape, mean=mean, stddev=stddev, dtype=wide(dtype), seed=seeds.next()
    )
    return ops.cast(values, dtype)


def uniform(
    shape: tuple[int, ...], low: float, high: float, dtype: str, seeds: Seeds
) -> Tensor:
    """U(low, high)."""
    values = keras.random.uniform(
        shape, minval=low, maxval=high, dtype=wide(dtype), seed=seeds.next()
    )
    return _clip_and_cast(values, low, high, dtype)


def truncated_normal(
    shape: tuple[int, ...],
    mean: float,
    sigma: float,
    lowest: float,
    highest: float,
    dtype: str,
    seeds: Seeds,
) -> Tensor:
    """N(mean, sigma^2) within `[lowest, highest]`.

    The quantile function at a uniform variable: no rejection, so no loop, no limit
    on the number of trials, and nothing outside.
    """
    width = wide(dtype)
    chance = keras.random.uniform(shape, dtype=width, seed=seeds.next())
    # Half a step of the generator (2**-23 or 2**-24 in float32): keeps off 0 and 1,
    # where the quantile function is infinite.
    half = 2.0**-24 if width == "float32" else 2.0**-53
    scale = sigma * math.sqrt(2)
    low, high = math.erf((lowest - mean) / scale), math.erf((highest - mean) / scale)
    values = fused(_quantiles)(chance, half, low, high - low, scale, mean)
    return _clip_and_cast(values, lowest, highest, dtype)


def _quantiles(
    chance: Tensor, half: float, low: float, span: float, scale: float, mean: float
) -> Tensor:
    return (
        ops.erfinv(ops.clip(chance + half, half, 1 - half) * span + low) * scale + mean
    )


def _clip_and_cast(values: Tensor, low: float, high: float, dtype: str) -> Tensor:
    """Casts without leaving `[low, high]`, which may fall between two numbers.

    `values` have just been drawn: PyTorch clips them where they are, for new memory
    takes as long as the draw.
    """
    inside = -round_down(-low, dtype), round_down(high, dtype)
    if inside[0] > inside[1]:
        raise ValueError(
            f"No {dtype} number lies between the bounds of the law. "
            f"Received: bounds=({low}, {high}). Use a wider dtype."
        )
    in_place = keras.backend.backend() == "torch"
    clipped = values.clamp_(*inside) if in_place else ops.clip(values, *inside)
    return ops.cast(clipped, dtype)


def fused(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function of tensors, compiled as one where each operation would be: JAX.

    There the first call with a new shape costs one compilation per operation
    otherwise, which for a model of many shapes adds up to seconds.
    """
    if keras.backend.backend() != "jax":
        return function
    import jax

    compiled: Any = jax.jit(function)  # cached by JAX, under the function itself
    return compiled


def round_down(bound: float, dtype: str) -> float:
    """The largest number of `dtype` that is not above `bound`."""
    bits, smallest = _GRIDS[dtype]
    step = math.ldexp(1.0, max(math.frexp(bound)[1], smallest) - bits)
    return math.floor(bound / step) * step
