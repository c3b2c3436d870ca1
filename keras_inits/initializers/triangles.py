"""Inverses of triangles.

Where LAPACK takes care of them all is said in a line each. JAX on a CPU is the
exception. There LAPACK's triangular solves of 1,024 values and more wake the threads of
OpenBLAS, which keep turning on every core for some 25 ms: the next product takes twice
as long. And two of its calls for several matrices each, in one program, may wait for
each other for ever (JAX 0.10). So there it is products of halves and, within blocks,
row by row.

References:
    Higham, N. J. (2002), Accuracy and Stability of Numerical Algorithms, 2nd ed.,
    sections 10.1 and 14.2: Cholesky's factor, and inverses of triangles, by blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_inits.backends import loaded

Tensor = Any

# Columns of a block that is taken row by row.
_BLOCK = 128
# Values of the right side from which on a triangular solve does.
_WAKING = 1024


def inverse(lower: Tensor) -> Tensor:
    """`L^-1` of lower triangles `(..., n, n)`."""
    size = lower.shape[-1]
    if not _by_products(size):
        unit = ops.eye(size, dtype=lower.dtype)
        unit = ops.broadcast_to(unit, lower.shape)
        return ops.solve_triangular(lower, unit, lower=True)
    if size <= _BLOCK:
        return _row_by_row(lower)
    half = size // 2
    first, last = inverse(lower[..., :half, :half]), inverse(lower[..., half:, half:])
    return _joined(first, -(last @ (lower[..., half:, :half] @ first)), last)


def inverse_factor(gram: Tensor) -> Tensor:
    """`L^-1` of matrices `L L'`, `(..., n, n)`."""
    size = gram.shape[-1]
    if not _by_products(size):
        return inverse(ops.cholesky(gram))
    if size <= _BLOCK:
        return _factor_row_by_row(gram)
    half = size // 2
    first = inverse_factor(gram[..., :half, :half])
    below = gram[..., half:, :half] @ ops.swapaxes(first, -1, -2)
    rest = gram[..., half:, half:] - below @ ops.swapaxes(below, -1, -2)
    last = inverse_factor(rest)
    return _joined(first, -(last @ (below @ first)), last)


def solve_upper(upper: Tensor, right: Tensor) -> Tensor:
    """`U^-1 B` of upper triangles `(..., n, n)` and `(..., n, columns)`."""
    if not _by_products(upper.shape[-1]):
        return ops.solve_triangular(upper, right, lower=False)
    return ops.swapaxes(inverse(ops.swapaxes(upper, -1, -2)), -1, -2) @ right


def _by_products(size: int) -> bool:
    if keras.backend.backend() != "jax" or size * size < _WAKING:
        return False
    return bool(loaded().default_backend() == "cpu")


def _row_by_row(lower: Tensor) -> Tensor:
    """Forward substitution: `L X = I` gives each row of X from those above it."""

    def row(of_triangle: Tensor, unit: Tensor, found: Tensor) -> Tensor:
        diagonal = ops.sum(of_triangle * unit, axis=-1, keepdims=True)
        return (unit - of_triangle @ found) / diagonal

    return _by_rows(lower, row)


def _factor_row_by_row(gram: Tensor) -> Tensor:
    """The same, where the row of L follows from those of X: Cholesky's algorithm."""

    def row(of_gram: Tensor, unit: Tensor, found: Tensor) -> Tensor:
        left = of_gram @ ops.swapaxes(found, -1, -2)
        rest = ops.sum(of_gram * unit - ops.square(left), axis=-1, keepdims=True)
        return (unit - left @ found) / ops.sqrt(rest)

    return _by_rows(gram, row)


def _by_rows(matrix: Tensor, row: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
    """Rows, one after the other, in one loop: that takes little to compile.

    Args:
        matrix: Of shape `(..., n, n)`.
        row: From its row, that of the identity, and all that is found so far.
    """
    size, groups = matrix.shape[-1], matrix.shape[:-2]
    origin = [0] * len(groups)
    identity = ops.broadcast_to(ops.eye(size, dtype=matrix.dtype), matrix.shape)

    def step(i: Tensor, found: Tensor) -> Tensor:
        one, unit = (
            ops.slice(x, [*origin, i, 0], [*groups, 1, size])
            for x in (matrix, identity)
        )
        return ops.slice_update(found, [*origin, i, 0], row(one, unit, found))

    return ops.fori_loop(0, size, step, ops.zeros_like(matrix))


def _joined(first: Tensor, below: Tensor, last: Tensor) -> Tensor:
    """`[[first, 0], [below, last]]`."""
    right = ops.zeros((*first.shape[:-1], last.shape[-1]), first.dtype)
    rows = [ops.concatenate(x, axis=-1) for x in ([first, right], [below, last])]
    return ops.concatenate(rows, axis=-2)
