"""Figures of those steps of a sequence that a mask leaves.

The others are filled with values that change no figure: the plain mean and variance of
the whole tensor, and of each of its channels, are then those of the steps that are
left. Whatever computes them stays as it is.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_inits.backends import fetch, fused
from keras_inits.statistics.moments import IMAGES, SAMPLE, figures, widen
from keras_inits.statistics.reductions import number

Tensor = Any


class Steps(NamedTuple):
    """The steps that count.

    Args:
        mask: True where one counts, `(batch, time)`, of the shape that a tensor
            `(batch, time, ...)` begins with. None: all count.
        channels: Axes of the tensor that index channels.
    """

    mask: Tensor | None = None
    channels: tuple[int, ...] = ()

    def of(self, x: Tensor) -> Tensor | None:
        """The mask as it lies on a tensor; None where it is of another shape."""
        return None if self.mask is None else _fitted(self.mask, x, self.channels)

    def filled(self, x: Tensor) -> Tensor:
        """A tensor whose plain figures are those of the steps of `x` that count."""
        mask = self.of(x)
        return x if mask is None else fused(filled)(x, mask)

    def blank(self, x: Tensor) -> Tensor:
        """Zeros at the steps that do not count."""
        mask = self.of(x)
        return x if mask is None else fused(blank)(x, mask)

    def sampled(self, x: Tensor) -> Tensor:
        """Some rows, where there is a mask, that hold nothing but steps that count."""
        mask = self.of(x)
        return x if mask is None else fused(sampled)(x, mask)

    def share(self, x: Tensor) -> Any:
        """Of the steps, those that count; None where all do."""
        mask = self.of(x)
        return None if mask is None else fused(share)(mask)

    def reversed(self) -> Steps:
        """The same of a sequence that has been turned round."""
        if self.mask is None or len(self.mask.shape) < 2:
            return self
        return self._replace(mask=ops.flip(self.mask, 1))


ALL = Steps()


def _fitted(mask: Tensor, x: Tensor, channels: tuple[int, ...]) -> Tensor | None:
    given, shape = tuple(mask.shape), tuple(x.shape)
    if None in (*given, *shape):  # while TensorFlow traces: the eager pass knows
        raise ValueError("The shape of a masked signal is not known.")
    if given != shape[: len(given)] and shape[:1] == (math.prod(given),):
        mask, given = ops.reshape(mask, (-1,)), shape[:1]  # steps merged into rows
    axes = range(len(given))
    apart = not any(axis % len(shape) in axes for axis in channels)
    fits = len(given) < len(shape) and given == shape[: len(given)] and apart
    return ops.cast(mask, "bool") if fits else None


def filled(x: Tensor, mask: Tensor) -> Tensor:
    """The means of the channels, `m`, and `m + (x - m) / sqrt(share)` where it counts.

    Args:
        x: `(batch, time, ...)`.
        mask: `(batch, time)`, as `Steps.of` has it.
    """
    x, steps = widen(x), list(range(len(mask.shape)))
    real = _beside(mask, x)
    weights = ops.cast(real, x.dtype)
    count = ops.maximum(ops.sum(weights), 1.0)
    mean = ops.sum(ops.where(real, x, 0.0), axis=steps, keepdims=True) / count
    factor = ops.sqrt(math.prod(mask.shape) / count)
    return ops.where(real, mean + (x - mean) * factor, mean)


def blank(x: Tensor, mask: Tensor) -> Tensor:
    """Zeros at the steps that do not count."""
    return ops.where(_beside(mask, x), x, ops.zeros_like(x))


def share(mask: Tensor) -> Any:
    """Of all steps, those that count."""
    return number(ops.mean(ops.cast(mask, "float32")))


def spread(x: Tensor, mask: Tensor) -> tuple[Any, Any, Any]:
    """As `moments.spread`: mean, variance, that between samples averaged over units."""
    x = widen(x)
    return *figures(filled(x, mask)), number(_between(ops, x, mask))


def spread_in_float64(x: Tensor, mask: Tensor) -> tuple[float, float, float]:
    """The same, read from the device."""
    [values], real = fetch([x]), fetch([ops.cast(mask, "float32")])[0] > 0
    with np.errstate(all="ignore"):  # what is not finite is a figure like others
        left, between = values[real], _between(np, values, real)
        return float(left.mean()), float(left.var()), float(between)


def _between(xp: Any, x: Any, mask: Any) -> Any:
    """Each unit, a channel at one time, counts as often as it has samples."""
    real, size = _beside(mask, x), math.prod(x.shape) / math.prod(mask.shape)
    x = xp.where(real, x, 0.0)
    count = xp.sum(xp.where(real, 1.0, 0.0), axis=0)
    mean = xp.sum(x, axis=0) / xp.maximum(count, 1.0)
    squares = xp.sum(xp.where(real, xp.square(x - mean), 0.0), axis=0)
    return xp.sum(squares) / (xp.maximum(xp.sum(count), 1.0) * size)


def sampled(x: Tensor, mask: Tensor) -> Tensor:
    """The first rows of `x`, their steps evenly spaced among all that count."""
    steps, rest = tuple(mask.shape), tuple(x.shape[len(mask.shape) :])
    rows = max(IMAGES, SAMPLE // max(1, math.prod(x.shape[1:])))
    rows, total = min(rows, steps[0]), math.prod(steps)
    wanted = rows * math.prod(steps[1:])
    real = ops.reshape(mask, (-1,))
    count = ops.sum(ops.cast(real, "int32"))
    numbers = ops.arange(total, dtype="int32")  # those that count, then the others
    order = ops.argsort(ops.where(real, numbers, numbers + total))
    spacing = ops.cast(count, "float32") / total
    ranks = ops.cast(ops.arange(wanted, dtype="float32") * spacing, "int32")
    places = ops.take(order, ops.minimum(ranks, ops.maximum(count - 1, 0)), axis=0)
    flat = ops.reshape(x, (total, *rest))
    return ops.reshape(ops.take(flat, places, axis=0), (rows, *steps[1:], *rest))


def _beside(mask: Any, x: Any) -> Any:
    """In a shape that broadcasts against `x`."""
    shape = (*mask.shape, *[1] * (len(x.shape) - len(mask.shape)))
    return (
        mask.reshape(shape)
        if isinstance(mask, np.ndarray)
        else ops.reshape(mask, shape)
    )
