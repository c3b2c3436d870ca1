"""Figures of a torch tensor of few values, one after the other, on a CPU.

As `reductions` has them, in as few lines of Python as there can be: where most passes
over small layers go, those cost more than the sums.
"""

from __future__ import annotations

import sys
from typing import Any

import keras

from keras_inits.backends import loaded
from keras_inits.statistics.reductions import BLOCK, mean_and_variance, tensor_of_ones

# Values up to which NumPy is there before torch has dispatched the operation.
OF_NUMPY = 2**16


def is_dense(x: Any) -> bool:
    """Whether a torch tensor is of few values, one after the other, on a CPU."""
    module = loaded()
    return (
        keras.backend.backend() == "torch"
        and isinstance(x, module.Tensor)
        and x.dtype in (module.float32, module.float64)
        and x.is_cpu
        and 0 < x.numel() <= BLOCK
        and x.is_contiguous()
    )


def mean_and_variance_of_dense(x: Any) -> tuple[float, float]:
    """As `mean_and_variance`, where `is_dense`."""
    if x.numel() <= OF_NUMPY:
        values = x.detach().numpy().reshape(-1)
        size = values.size
        mean = float(values.sum()) / size
        square = float(values.dot(values)) / size
    else:
        torch, flat = sys.modules["torch"], x.view(-1)
        size, columns = flat.shape[0], x.shape[-1]
        # By rows: as many ones as values would take their place in the cache.
        sums = torch.mv(flat.view(-1, columns), tensor_of_ones(x.dtype, columns))
        mean = float(torch.dot(sums, tensor_of_ones(x.dtype, sums.shape[0]))) / size
        square = float(torch.dot(flat, flat)) / size
    variance = square - mean * mean
    return (mean, variance) if variance > 0.1 * square else mean_and_variance(x)


def sums_over_rows(x: Any) -> tuple[Any, float]:
    """Sums of each column of a matrix, a NumPy vector, and that of all squares."""
    if x.numel() <= OF_NUMPY:
        values = x.detach().numpy()
        flat = values.reshape(-1)
        return values.sum(axis=0), float(flat.dot(flat))
    ones = tensor_of_ones(x.dtype, x.shape[0])
    flat = x.detach().view(-1)
    return sys.modules["torch"].mv(x.t(), ones).numpy(), float(flat.dot(flat))


def mean_square_of_dense(x: Any) -> float:
    """As `mean_square`, where `is_dense`."""
    flat = x.view(-1)
    return float(flat.dot(flat)) / flat.shape[0]
