"""Sums over tensors, as each backend does them best.

Eagerly on a CPU a look at a number costs nothing, and arithmetic on numbers less than
on tensors of one value: there figures are Python floats. NumPy sees the memory of such
a tensor, and sums up a small one before TensorFlow has dispatched the operation.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_inits.backends import is_traced, loaded, read
from keras_inits.statistics import on_gpu

# Values that one dot product adds up without losing more than 8e-7: over 16 million it
# loses 2e-4.
BLOCK = 2**18
# Part of the rows in which units are looked for that are not zero: most models have no
# others.
SHARE = 16
# Values up to which NumPy, on one core, is as fast as a backend on all.
FEW = 2**19


def looks(x: Any) -> bool:
    """Whether a look at a number costs nothing here: eagerly, on a CPU."""
    if isinstance(x, np.ndarray):
        return True
    backend, module = keras.backend.backend(), loaded()
    if backend == "tensorflow":
        return bool(module.executing_eagerly() and "CPU" in x.device)
    return backend == "torch" and x.device.type == "cpu" and not is_traced(x)


def number(x: Any) -> Any:
    """A tensor of one value as a number, where that costs nothing."""
    return float(x) if looks(x) else x


def in_memory(x: Any) -> Any:
    """The memory of a tensor that one `looks` at, as an array; else None.

    NumPy has no bfloat16 of its own.
    """
    if isinstance(x, np.ndarray):
        return x
    if not looks(x) or "bfloat16" in str(x.dtype):
        return None
    if keras.backend.backend() == "tensorflow":
        return np.asarray(loaded().convert_to_tensor(x))  # a variable would be copied
    return x.detach().numpy()


def mean_square(x: Any) -> Any:
    """`E[x^2]` of a float tensor, a number where it `looks`; without a temporary."""
    backend, module = keras.backend.backend(), loaded()
    values = _few(x)
    if values is not None:
        return _sum_of_products(values, values) / values.size
    if backend == "torch":
        flat = _in_memory_order(x.detach())
        size = flat.shape[0]
        if flat.device.type != "cpu" or size <= BLOCK:
            return number(module.dot(flat, flat)) / max(1, size)
        return sum(number(module.dot(x, x)) for x in flat.split(BLOCK)) / size
    if backend == "tensorflow":
        return number(module.nn.l2_loss(x)) * (2.0 / max(1, math.prod(x.shape)))
    return ops.mean(ops.square(x))


def unit_means(x: Any) -> Any:
    """Means over the first axis, one per unit, in any order of the units."""
    backend, module = keras.backend.backend(), loaded()
    if backend == "torch":
        x, size = x.detach(), x.numel() // max(1, x.shape[0])
        if not size or x.stride()[0] != size or not _has_dense_rows(x):
            return x.mean(0)
        if x.is_contiguous():
            x = x.view(-1, size)
        else:  # rows are dense: no strided reduction
            x = x.as_strided((x.shape[0], size), (size, 1))
        if x.device.type != "cpu" or x.numel() > BLOCK:
            return x.mean(0)
        return module.mv(x.t(), tensor_of_ones(x.dtype, x.shape[0])) / x.shape[0]
    # On a CPU, XLA's reduction over the first axis takes seventy times the product.
    if backend == "jax" and module.default_backend() == "cpu":
        share = ops.full((x.shape[0],), 1 / x.shape[0], x.dtype)
        flat = ops.reshape(x, (x.shape[0], -1))
        return module.numpy.matmul(share, flat, precision="highest")
    array = in_memory(x)
    if array is None:
        return ops.mean(x, axis=0)
    share = np.full(len(array), 1 / len(array), array.dtype)
    with np.errstate(all="ignore"):
        return np.dot(share, array.reshape(len(array), -1))


def variance_of_units(x: Any, means: Any) -> Any:
    """Variance over the first axis, on average over the units.

    Args:
        x: A float tensor.
        means: What `unit_means` has found.
    """
    if keras.backend.backend() == "torch":  # they may be in another order
        x = x.detach()
        means = x.mean(0)
    with np.errstate(all="ignore"):  # what is not finite is a figure like others
        rest = x - ops.reshape(means, x.shape[1:])
        # Sums of many rows are rounded: what is left of the means is no variance.
        found = mean_square(rest) - mean_square(unit_means(rest))
    if isinstance(found, float):
        return 0.0 if found < 0 else found
    return ops.where(found < 0, ops.zeros_like(found), found)


def _has_dense_rows(x: Any) -> bool:
    """Whether each row of a torch tensor fills its memory, in whatever order."""
    axes = zip(x.shape[1:], x.stride()[1:], strict=True)
    reach = sum((n - 1) * step for n, step in axes)
    return reach + 1 == x.numel() // x.shape[0] and 0 not in x.stride()


def zero_share(x: Any, axes: list[int], *, nonnegative: bool = False) -> Any:
    """Of what is left when `axes` are reduced, the share that is zero throughout."""
    array = in_memory(x)
    leading = axes == [*range(len(axes) or 1)]
    few = array is not None and leading and 0 < array.size <= FEW
    if few and array.flags.c_contiguous:
        return _zero_share(array, len(axes), nonnegative)
    some = x.shape[0] // SHARE if leading else 0
    if some and looks(x) and _zero(x[:some], axes, nonnegative) == 0.0:
        return 0.0  # a unit that is not zero there is not zero throughout
    return _zero(x, axes, nonnegative)


def _zero(x: Any, axes: list[int], nonnegative: bool) -> Any:
    backend, module = keras.backend.backend(), loaded()
    if backend == "torch" and x.numel() and axes:
        x = x.detach()  # one or two reductions take less than one and a temporary
        zero = _over(module.amax, x, axes) == 0
        zero = zero if nonnegative else zero & (_over(module.amin, x, axes) == 0)
        return number(zero.float().mean())
    if backend == "tensorflow":
        zero = _over(module.reduce_max, x, axes) == 0
        zero = zero if nonnegative else zero & (_over(module.reduce_min, x, axes) == 0)
    else:
        zero = _over(ops.max, x if nonnegative else ops.abs(x), axes) == 0
    return number(ops.mean(ops.cast(zero, "float32")))


def _over(reduce: Any, x: Any, axes: list[int]) -> Any:
    """`reduce(x, axes)`, rows first: where the last axis is short, in a tenth of it."""
    if len(axes) < 2 or axes[0]:
        return reduce(x, axes)
    return reduce(reduce(x, [0]), [axis - 1 for axis in axes[1:]])


def share_above_zero(x: Any) -> float:
    """Of a tensor that one `looks` at; NaN where a value is not finite."""
    array = in_memory(x)
    values = read([x])[0] if array is None else array
    wide = values if values.itemsize > 2 else values.astype("float32")
    with np.errstate(all="ignore"):
        share = np.count_nonzero(wide > 0) / max(1, wide.size)
        return float(share + 0.0 * wide.sum())


def first_rows(x: Any, count: int) -> Any:
    """The first rows of a tensor, without keeping the tensor itself alive."""
    backend, module = keras.backend.backend(), loaded()
    if backend == "tensorflow":  # a slice would share the buffer of the whole
        return module.raw_ops.GatherV2(params=x, indices=np.arange(count), axis=0)
    rows = x[:count]
    return rows.clone() if backend == "torch" else rows


def sliced(x: Any, index: tuple[slice, ...]) -> Any:
    """A part of a tensor, in memory of its own."""
    cut = x[index]
    return cut.clone() if keras.backend.backend() == "torch" else cut


def mean_and_variance(x: Any, mean: Any = None) -> tuple[Any, Any]:
    """Of a float32 (or wider) tensor; numbers where it `looks`.

    E[x^2] - E[x]^2 needs no temporary, and is as good as two passes where little
    cancels. Whether it does is a look at a number.

    Args:
        x: A tensor, or an array.
        mean: Its mean, where that is known.
    """
    backend, module = keras.backend.backend(), loaded()
    if backend == "torch" and isinstance(x, module.Tensor):
        x = x.detach()
        if on_gpu.has(x):
            return on_gpu.mean_and_variance(x)
    if mean is None:
        mean = _mean(x)
    if isinstance(mean, float):
        square = mean_square(x)
        variance = square - mean * mean
        if variance > 0.1 * square:
            return mean, variance
    if backend == "tensorflow" and not isinstance(x, np.ndarray):
        difference = module.math.squared_difference(x, mean)
        return mean, number(module.reduce_mean(difference))
    with np.errstate(all="ignore"):  # what is not finite is a figure like others
        return mean, mean_square(x - mean)


def _mean(x: Any) -> Any:
    """Of all values, a number where it `looks`."""
    backend, module = keras.backend.backend(), loaded()
    values = _few(x)
    if values is not None:
        return _sum_of_products(values, _ones(values.dtype)) / values.size
    if backend == "jax":
        return ops.mean(x)
    if backend == "torch" and x.device.type == "cpu" and 0 < x.numel() <= BLOCK:
        # A third of what the mean takes, which waits for all threads.
        flat = _in_memory_order(x)
        ones = tensor_of_ones(x.dtype, x.numel())
        return number(module.dot(flat, ones)) / x.numel()
    mean = module.mean if backend == "torch" else module.reduce_mean
    return number(mean(x))


def _few(x: Any) -> Any:
    """The values of a tensor of few, as a vector, where NumPy is to sum them up.

    Not on PyTorch, whose threads those of NumPy would wait for; few values of it take
    none, see `dense_figures`.
    """
    array = in_memory(x) if keras.backend.backend() == "tensorflow" else None
    if array is None or not 0 < array.size <= FEW:
        return None
    return array.reshape(-1)


@np.errstate(all="ignore")
def _sum_of_products(values: Any, others: Any) -> float:
    """Of two vectors; the second one may end with the first block."""
    if values.size <= BLOCK:
        return float(np.dot(values, others[: values.size]))
    repeated = others.size < values.size
    total = 0.0
    for at in range(0, values.size, BLOCK):
        block = values[at : at + BLOCK]
        other = others if repeated else others[at : at + BLOCK]
        total += float(np.dot(block, other[: block.size]))
    return total


@functools.cache
def _ones(dtype: Any) -> Any:
    return np.ones(BLOCK, dtype)


def tensor_of_ones(dtype: Any, size: int) -> Any:
    if (dtype, size) not in _ONES:
        if len(_ONES) >= 64:
            _ONES.clear()
        ones = loaded().ones(size, dtype=dtype, device="cpu")
        if type(ones) is not loaded().Tensor:  # a mode of torch has made it
            return ones
        _ONES[dtype, size] = ones
    return _ONES[dtype, size]


_ONES: dict[Any, Any] = {}


def _zero_share(array: Any, leading: int, nonnegative: bool) -> float:
    """Of the units behind the leading axes, the share that is zero throughout."""
    rows = array.reshape(len(array), -1)
    units = (-1, math.prod(array.shape[leading:]))  # in two steps: long runs first
    zero = rows.max(axis=0).reshape(units).max(axis=0) == 0
    if not nonnegative:
        zero &= rows.min(axis=0).reshape(units).min(axis=0) == 0
    return float(zero.mean())


def _in_memory_order(x: Any) -> Any:
    """A torch tensor as a vector, without a copy where it is dense.

    Keras runs convolutions channels first and shows them as a permuted view.
    """
    if x.is_contiguous():
        return x.view(-1)
    reach = sum((n - 1) * step for n, step in zip(x.shape, x.stride(), strict=True))
    dense = reach + 1 == x.numel() and 0 not in x.stride()
    return x.as_strided((x.numel(),), (1,)) if dense else x.reshape(-1)
