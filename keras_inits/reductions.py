"""Sums over tensors, as each backend does them best.

Eagerly on a CPU a look at a number costs nothing, and arithmetic on numbers less than
on tensors of one value: there figures are Python floats.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_inits.backends import loaded, read

# Values that torch.dot adds up on a CPU without losing more than 3e-7: over 16 million
# it loses 2e-4.
BLOCK = 2**17


def mean_square(x: Any) -> Any:
    """`E[x^2]` of a float tensor, a number where it `looks`; without a temporary."""
    backend, module = keras.backend.backend(), loaded()
    if backend == "torch":
        flat = _in_memory_order(x.detach())
        whole = flat.device.type != "cpu" or flat.shape[0] <= BLOCK
        parts = [flat] if whole else flat.split(BLOCK)
        return sum(number(module.dot(x, x)) for x in parts) / max(1, flat.shape[0])
    if backend == "tensorflow":
        return number(module.nn.l2_loss(x)) * (2.0 / max(1, math.prod(x.shape)))
    return ops.mean(ops.square(x))


def unit_means(x: Any) -> Any:
    """Means over the first axis, one per unit, in any order of the units."""
    backend, module = keras.backend.backend(), loaded()
    if backend == "torch":
        size = x.numel() // max(1, x.shape[0])
        if size and x.stride()[0] == size:  # rows are dense: no strided reduction
            x = x.as_strided((x.shape[0], size), (size, 1))
        return x.detach().mean(0)
    if backend == "jax":  # XLA's reduction over the first axis takes seventy times it
        share = ops.full((x.shape[0],), 1 / x.shape[0], x.dtype)
        flat = ops.reshape(x, (x.shape[0], -1))
        return module.numpy.matmul(share, flat, precision="highest")
    return ops.mean(x, axis=0)


def zero_share(x: Any, axes: list[int], *, nonnegative: bool = False) -> Any:
    """Of what is left when `axes` are reduced, the share that is zero throughout."""
    if keras.backend.backend() == "torch" and x.numel() and axes:
        x = x.detach()  # one or two reductions take less than one and a temporary
        zero = x.amax(axes) == 0
        zero = zero if nonnegative else zero & (x.amin(axes) == 0)
        return number(zero.float().mean())
    size = x if nonnegative else ops.abs(x)
    return number(ops.mean(ops.cast(ops.max(size, axis=axes) == 0, "float32")))


def share_above_zero(x: Any) -> float:
    """Of a tensor that one `looks` at; NaN where one of its values is."""
    [values] = read([x])
    wide = values if values.itemsize > 2 else values.astype("float32")
    with np.errstate(all="ignore"):
        share = np.count_nonzero(wide > 0) / max(1, wide.size)
        return float(share + 0.0 * wide.sum())


def first_rows(x: Any, count: int) -> Any:
    """The first rows of a tensor, without keeping the tensor itself alive."""
    backend, module = keras.backend.backend(), loaded()
    if backend == "tensorflow":  # a slice would share the buffer of the whole
        return module.raw_ops.GatherV2(params=x, indices=np.arange(count), axis=0)
    return x[:count].clone() if backend == "torch" else x[:count]


def every_nth(x: Any, count: int, axis: int, step: int) -> Any:
    """Of the first rows, every nth slice along an axis, in memory of its own."""
    cut = x[(slice(count), *[slice(None)] * (axis - 1), slice(None, None, step))]
    return cut.clone() if keras.backend.backend() == "torch" else cut


def _in_memory_order(x: Any) -> Any:
    """A torch tensor as a vector, without a copy where it is dense.

    Keras runs convolutions channels first and shows them as a permuted view.
    """
    if x.is_contiguous():
        return x.view(-1)
    reach = sum((n - 1) * step for n, step in zip(x.shape, x.stride(), strict=True))
    dense = reach + 1 == x.numel()
    return x.as_strided((x.numel(),), (1,)) if dense else x.reshape(-1)


def looks(x: Any) -> bool:
    """Whether a look at a number costs nothing here: eagerly, on a CPU."""
    backend, module = keras.backend.backend(), loaded()
    if backend == "tensorflow":
        return bool(module.executing_eagerly() and "CPU" in x.device)
    return backend == "torch" and x.device.type == "cpu"


def number(x: Any) -> Any:
    """A tensor of one value as a number, where that costs nothing."""
    return float(x) if looks(x) else x


def mean_and_variance(x: Any, mean: Any = None) -> tuple[Any, Any]:
    """Of a float32 (or wider) tensor; numbers where it `looks`.

    E[x^2] - E[x]^2 needs no temporary, and is as good as two passes where little
    cancels. Whether it does is a look at a number.

    Args:
        x: A tensor.
        mean: Its mean, where that is known.
    """
    backend, module = keras.backend.backend(), loaded()
    x = x.detach() if backend == "torch" else x
    if mean is None:
        mean = number(_mean(x))
    if isinstance(mean, float):
        square = mean_square(x)
        variance = square - mean * mean
        if variance > 0.1 * square:
            return mean, variance
    if backend == "tensorflow":
        difference = module.math.squared_difference(x, mean)
        return mean, number(module.reduce_mean(difference))
    return mean, mean_square(x - mean)


def _mean(x: Any) -> Any:
    backend, module = keras.backend.backend(), loaded()
    if backend == "jax":
        return ops.mean(x)
    return module.mean(x) if backend == "torch" else module.reduce_mean(x)
