"""Mean and variance, in float32 or wider, in two passes.

Half precisions overflow in the sum of squares, and `E[x^2] - E[x]^2` cancels where
the mean is far from zero; two passes over float32 do neither.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_inits.backends import QUICK, fetch, fused, fuses, loaded
from keras_inits.statistics import on_gpu
from keras_inits.statistics.dense_figures import (
    mean_and_variance_of_dense,
    sums_over_rows,
)
from keras_inits.statistics.reductions import (
    first_rows,
    in_memory,
    mean_and_variance,
    number,
    sliced,
    unit_means,
    variance_of_units,
    zero_share,
)

Tensor = Any

# Enough values for 1 % of a mean square: its relative deviation is about 1 / sqrt(n),
# and larger by as much as the values of a row depend on each other.
SAMPLE = 16_384
IMAGES = 4


# A variance below which too many of the squares are less than float32's smallest normal
# number, 1.2e-38.
UNDERFLOW = 1e-36


# Part of a variance below which what another leaves of it is rounding to a thousandth.
DIFFERENCE = 1e-2


class Moments(NamedTuple):
    """Mean and (population) variance, tensors of equal shape."""

    mean: Tensor
    variance: Tensor


def first_tensor(output: Any) -> Tensor:
    """Of what a layer puts out, the first tensor."""
    if hasattr(output, "shape"):  # walking a structure takes longer than a small layer
        return output
    return keras.tree.flatten(output)[0]


def widen(x: Tensor) -> Tensor:
    """`x` in float32, or as it is where it is wider."""
    return x if _is_wide(x.dtype) else ops.cast(x, "float32")


@functools.cache  # many tensors, few dtypes
def _is_wide(dtype: Any) -> bool:
    return keras.backend.standardize_dtype(dtype) in ("float32", "float64")


def figures(x: Tensor) -> tuple[Any, Any]:
    """Mean and variance over the whole tensor: numbers where those cost nothing."""
    return mean_and_variance(widen(x))


def figures_in_float64(x: Tensor) -> tuple[float, float, float]:
    """As `spread`, read from the device: squares of what float32 holds may not be."""
    [values] = fetch([x])
    with np.errstate(all="ignore"):  # what is not finite is a figure like others
        between = values.var(axis=0).mean() if values.ndim else 0.0
        return float(values.mean()), float(values.var()), float(between)


def underflows(found: Moments | None, rows: Any) -> bool:
    """Whether a signal varies by less than squares in float32 can tell.

    Args:
        found: Its moments, in NumPy.
        rows: Some of its values.
    """
    small = found is not None and found.variance < UNDERFLOW
    return bool(small and rows.size and rows.max() > rows.min())


def share_beyond(z: Tensor, limit: float) -> Any:
    """Of the values, the share whose size is above `limit`."""
    return number(ops.mean(ops.cast(ops.abs(z) > limit, "float32")))


def share_above(z: Tensor, limit: float) -> Any:
    """Of the values, the share that is above `limit`."""
    return number(ops.mean(ops.cast(z > limit, "float32")))


def dead_share(y: Tensor, kept: tuple[int, ...], nonnegative: bool) -> Any:
    """The share of units (along `kept`) that are all zero."""
    others = [axis for axis in range(len(y.shape)) if axis not in kept]
    return zero_share(y, others, nonnegative=nonnegative)


def output_figures(
    y: Tensor, kept: tuple[int, ...], nonnegative: bool
) -> tuple[Any, Any, Any]:
    """Mean, variance and `dead_share`."""
    return *figures(y), dead_share(y, kept, nonnegative)


def of_units(
    function: Callable[..., Any], kept: tuple[int, ...], nonnegative: bool
) -> Callable[[Tensor], Any]:
    """One of these two, as `fused`: a function of the tensor alone."""
    if fuses():
        return _of_units(function, kept, nonnegative)
    return partial(fused(function), kept=kept, nonnegative=nonnegative)


@functools.cache  # what is compiled is compiled once
def _of_units(function: Callable[..., Any], *units: Any) -> Callable[[Tensor], Any]:
    return fused(lambda y: function(y, *units))


def moments(x: Tensor) -> Moments:
    """Mean and variance over the whole tensor: tensors, scalars."""
    wide = widen(x)
    dtype = keras.backend.standardize_dtype(wide.dtype)
    found = mean_and_variance(wide)
    return Moments(*(ops.convert_to_tensor(value, dtype) for value in found))


def spread(x: Tensor) -> tuple[Any, Any, Any]:
    """Mean, variance, variance between samples averaged over units.

    Var(x) = E_units Var_samples(x) + Var_units E_samples(x), and the mean is that of
    the units' means: no pass more than for mean and variance.
    """
    wide = widen(x)
    if on_gpu.has(wide):
        mean, of_means, between = on_gpu.spread(wide)
        return mean, of_means + between, between
    means = unit_means(wide)
    mean, of_means = mean_and_variance(means)
    if isinstance(mean, float):
        mean, variance = mean_and_variance(wide, mean)
        if variance - of_means > DIFFERENCE * variance:
            return mean, variance, variance - of_means
    between = variance_of_units(wide, means)
    return mean, of_means + between, between


def _spread_of_dense(x: Tensor) -> tuple[float, float, float]:
    rows, size = x.shape[0], x.numel()
    sums, squares = sums_over_rows(x.view(rows, -1))
    mean, square = float(sums.sum()) / size, squares / size
    square_of_means = float(sums.dot(sums)) / (rows * size)
    of_means, variance = square_of_means - mean * mean, square - mean * mean
    between = variance - of_means
    exact = variance > 0.1 * square and of_means > 0.1 * square_of_means
    if exact and between > DIFFERENCE * variance:
        return mean, variance, between
    return spread(x)  # of NaN too


def _output_figures_of_dense(
    y: Tensor, kept: tuple[int, ...], nonnegative: bool
) -> tuple[float, float, float]:
    rank, channels, size = len(y.shape), y.shape[-1], y.numel()
    if not nonnegative or rank < 2 or kept != (rank - 1,):
        return output_figures(y, kept, nonnegative)
    sums, squares = sums_over_rows(y.view(-1, channels))
    # What is never negative sums up to zero where all of it is.
    dead = 1.0 - np.count_nonzero(sums) / channels
    mean, square = float(sums.sum()) / size, squares / size
    variance = square - mean * mean
    return (mean, variance, dead) if variance > 0.1 * square else (*figures(y), dead)


QUICK[output_figures] = _output_figures_of_dense
QUICK[figures] = mean_and_variance_of_dense
QUICK[spread] = _spread_of_dense


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


def some_rows(
    z: Tensor, channel_axes: tuple[int, ...] = (-1,), *, cut: bool = True
) -> Tensor:
    """Some rows of `z`, in memory of their own: see `where_to_look`."""
    index = where_to_look(z.shape, channel_axes, cut=cut)
    array = in_memory(z)
    if array is not None:
        return np.array(array[index], order="K")
    if len(index) == 1:
        count = index[0].stop
        return z if z.shape[0] <= count else first_rows(z, count)
    return sliced(z, index)


@functools.lru_cache(maxsize=256)  # many tensors, few shapes
def where_to_look(
    shape: tuple[int, ...], channel_axes: tuple[int, ...] = (-1,), *, cut: bool = True
) -> tuple[slice, ...]:
    """Some rows of about `SAMPLE` values; of wide ones, evenly spaced columns.

    The first rows: those of a batch are evenly spaced over the data as they are.

    Args:
        shape: `(rows, ...)`.
        channel_axes: Axes that stay whole.
        cut: Whether columns may be left out.
    """
    rank, total = len(shape), shape[0]
    size = max(1, math.prod(shape[1:]))
    columns = [a for a in (2, 1) if a not in {axis % rank for axis in channel_axes}]
    if size <= SAMPLE or rank < 3 or not (cut and columns):
        return (slice(max(1, SAMPLE // size)),)
    # An image, a long sequence has more values than are needed, and one is too few.
    axis, few = columns[0], min(total, IMAGES)
    step = min(shape[axis], few * size // SAMPLE)
    return (slice(few), *[slice(None)] * (axis - 1), slice(None, None, step))


def inverse_root(x: Any) -> Any:
    """`1 / sqrt(x)` of a float tensor."""
    module = loaded()
    if keras.backend.backend() == "tensorflow":
        return module.math.rsqrt(x)
    return module.rsqrt(x) if keras.backend.backend() == "torch" else ops.rsqrt(x)
