"""Mean and variance, in float32 or wider, in two passes.

Half precisions overflow in the sum of squares, and `E[x^2] - E[x]^2` cancels where
the mean is far from zero; two passes over float32 do neither.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
from keras import ops

Tensor = Any


class Moments(NamedTuple):
    """Mean and (population) variance, tensors of equal shape."""

    mean: Tensor
    variance: Tensor


def widen(x: Tensor) -> Tensor:
    """`x` in float32, or as it is where it is wider."""
    if keras.backend.standardize_dtype(x.dtype) == "float64":
        return x
    return ops.cast(x, "float32")


def moments(x: Tensor) -> Moments:
    """Over the whole tensor: scalars."""
    x = widen(x)
    mean = ops.mean(x)
    return Moments(mean, ops.mean(ops.square(x - mean)))


def channel_moments(x: Tensor, channel_axes: tuple[int, ...]) -> Moments:
    """For each output channel: vectors `(channels,)`, in the order of the axes."""
    x = widen(x)
    kept = {axis % len(x.shape) for axis in channel_axes}
    others = [axis for axis in range(len(x.shape)) if axis not in kept]
    mean = ops.mean(x, axis=others, keepdims=True)
    variance = ops.mean(ops.square(x - mean), axis=others)
    return Moments(ops.reshape(mean, (-1,)), ops.reshape(variance, (-1,)))


def pooled(channels: Moments, parts: int = 1) -> Moments:
    """Moments of `parts` equal runs of channels, from those of the channels."""
    mean = ops.reshape(channels.mean, (parts, -1))
    variance = ops.reshape(channels.variance, (parts, -1))
    centre = ops.mean(mean, axis=1, keepdims=True)
    between = ops.mean(ops.square(mean - centre), axis=1)
    return Moments(ops.reshape(centre, (-1,)), ops.mean(variance, axis=1) + between)
