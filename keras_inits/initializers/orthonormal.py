"""Orthonormal factors, uniform over all of them (Haar's law)."""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_inits.initializers.base import (
    FanInitializer,
    Seed,
    Seeds,
    Tensor,
    as_kernel,
    positive,
)
from keras_inits.initializers.products import exactly
from keras_inits.initializers.sampling import normal, require_held, wide
from keras_inits.initializers.triangles import inverse_factor, solve_upper
from keras_inits.initializers.variance_scaling import Axes

# Not `ops.matmul` and `ops.maximum` below: on PyTorch they narrow float64.

# Columns per panel: a quarter of all, within these bounds. One panel costs 5 n^3
# operations for a square kernel, many cost 4/3 n^3 but more, smaller steps.
_PANELS = (256, 512)
# Up to this many columns LAPACK is done before products have begun to pay, and twice
# as many on TensorFlow, whose operations take longer.
_SMALL = 256
# From twice as many rows as columns on, and this many columns, the singular values of
# Gaussian noise lie within a factor of 6 or 7 (Marchenko and Pastur; a factor of 100
# has a chance below 1e-20): its Gram matrix is factorised without a loss that shows.
_MANY = 32
# Parts that its columns are taken in. On JAX four take no less time, and more memory;
# on TensorFlow operations take too long for it to pay.
_PARTS = {"jax": 2, "torch": 4}
# Below this a leading entry counts as this: the square of anything smaller would
# underflow in float32, and a column of length one may consist of it alone.
_TINY = 1e-6


class OrthonormalInitializer(FanInitializer):
    """Root of the laws built on orthonormal matrices of (inputs, outputs)."""

    def __init__(
        self,
        gain: float = 1.0,
        seed: Seed = None,
        input_axes: Axes = None,
        output_axes: Axes = None,
    ) -> None:
        super().__init__(seed, input_axes, output_axes)
        positive(gain=gain)
        self.gain = gain

    def _matrix(
        self,
        rows: int,
        columns: int,
        dtype: str,
        seeds: Seeds,
        groups: tuple[int, ...] = (),
    ) -> Tensor:
        """Orthonormal vectors of length `gain`, as wide as they are computed."""
        require_held(dtype, gain=self.gain)
        found = haar(rows, columns, wide(dtype), seeds, groups)
        return found if self.gain == 1.0 else self.gain * found

    def get_config(self) -> dict[str, Any]:
        return {"gain": self.gain, **super().get_config()}

    def _draw(self, shape: tuple[int, ...], dtype: str, seeds: Seeds) -> Tensor:
        """The whole kernel, flattened to (inputs, outputs), times `gain`."""
        inputs, outputs, others = self._split_axes(shape)
        rows = math.prod(shape[axis] for axis in inputs)
        columns = math.prod(shape[axis] for axis in outputs)
        groups = tuple(shape[axis] for axis in others)
        matrix = self._matrix(rows, columns, dtype, seeds, groups)
        return ops.cast(as_kernel(matrix, shape, inputs, outputs, others), dtype)


def haar(
    rows: int, columns: int, dtype: str, seeds: Seeds, groups: tuple[int, ...] = ()
) -> Tensor:
    """Draws `(*groups, rows, columns)`, orthonormal along the shorter side.

    The QR factor of Gaussian noise follows Haar's law where the triangle has a positive
    diagonal (Mezzadri 2007). Three ways to it: LAPACK's for small kernels; for tall
    ones, whose noise is well-conditioned, Cholesky QR,

        Q = X L^-T,    L L' = X'X;

    and for all others Stewart's (1980), which needs no factorisation: with x_i
    independent Gaussian vectors of lengths n, n-1, ..., and H_i the Householder
    reflection that takes x_i to an axis, Q = H_1 H_2 ... D, D holding the signs, has
    that law. The product is accumulated in compact form, Q = (I - V T V') D, with the
    UT transform

        T^-1 = striu(V'V) + I/2,    columns of V of length 1,

    so that all work is matrix products and one triangular solve per panel.

    References:
        Stewart, G. W. (1980), The efficient generation of random orthogonal
        matrices, SIAM J. Numer. Anal. 17(3). Joffrain et al. (2006), Accumulating
        Householder transformations, revisited, ACM TOMS 32(2). Mezzadri, F. (2007),
        How to generate random matrices from the classical compact groups, Notices of
        the AMS 54(5).
    """
    if rows < columns:
        return ops.swapaxes(haar(columns, rows, dtype, seeds, groups), -1, -2)
    if columns == 0:
        return ops.zeros((*groups, rows, columns), dtype)
    shape: tuple[int, ...] = (rows, columns)
    factor: Callable[[Tensor], Tensor]
    if rows >= 2 * columns and columns >= _MANY:
        factor = _cholesky_factor
    elif columns <= _SMALL * (1 + (keras.backend.backend() == "tensorflow")):
        factor = _lapack_factor
    else:
        panels = _panels(rows, columns)
        # Of a square kernel, little over half as many numbers as it has; an odd number
        # of them takes JAX four times as long.
        entries = sum(size * length for size, length in panels)
        shape = (entries + entries % 2,)
        factor = _reflected_factor(panels)
    noise = normal((*groups, *shape), 1.0, wide(dtype), seeds)
    return ops.cast(exactly(factor, noise), dtype)


def _lapack_factor(noise: Tensor) -> Tensor:
    factor, triangle = ops.qr(noise)
    diagonal = ops.diagonal(triangle, axis1=-2, axis2=-1)
    return factor * _row(1 - 2 * ops.cast(diagonal < 0, factor.dtype))


def _cholesky_factor(noise: Tensor) -> Tensor:
    """By parts of the columns: no product for what is symmetric, or zero."""
    columns, backend = noise.shape[-1], keras.backend.backend()
    parts = _PARTS.get(backend, 1) if columns >= _SMALL else 1
    bounds = [columns * i // parts for i in range(parts + 1)]
    blocks = []
    for start, end in itertools.pairwise(bounds):
        below = ops.swapaxes(noise[..., start:], -1, -2) @ noise[..., start:end]
        above = ops.zeros((*below.shape[:-2], start, end - start), below.dtype)
        blocks.append(ops.concatenate([above, below], axis=-2))
    lower = ops.concatenate(blocks, axis=-1)
    kept = ops.tri(columns, dtype="bool")
    gram = ops.where(kept, lower, ops.swapaxes(lower, -1, -2))
    upper = ops.swapaxes(inverse_factor(gram), -1, -2)
    found = [
        noise[..., :end] @ upper[..., :end, start:end]
        for start, end in itertools.pairwise(bounds)
    ]
    return ops.concatenate(found, axis=-1)


def _panels(rows: int, columns: int) -> tuple[tuple[int, int], ...]:
    """How many reflectors each panel has, and how long they are."""
    fewest, most = _PANELS
    width = min(max(fewest, columns // 4), most)
    starts = range(0, columns, width)
    return tuple((min(width, columns - i), rows - i) for i in starts)


@functools.cache  # a function of its own for each size, compiled once
def _reflected_factor(
    panels: tuple[tuple[int, int], ...],
) -> Callable[[Tensor], Tensor]:
    def factor(noise: Tensor) -> Tensor:
        groups, found, at = tuple(noise.shape[:-1]), [], 0
        for size, length in panels:
            values = noise[..., at : at + length * size]
            panel = ops.reshape(values, (*groups, length, size))
            found.append(_reflectors(panel))
            at += length * size
        reflectors, signs = zip(*found, strict=True)
        return _accumulate(reflectors) * ops.concatenate(signs, axis=-1)

    return factor


def _reflectors(noise: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors v_i (lower trapezoidal) and signs D from Gaussian columns."""
    dtype = keras.backend.standardize_dtype(noise.dtype)
    rows, columns = noise.shape[-2:]
    vectors = ops.tril(noise)  # other diagonals take TensorFlow ten times as long
    drawn = ops.diagonal(noise, axis1=-2, axis2=-1)
    sign = 1 - 2 * ops.cast(drawn < 0, dtype)
    lead = ops.abs(drawn)
    lead = ops.where(lead < _TINY, ops.convert_to_tensor(_TINY, dtype), lead)
    below = ops.sum(ops.square(vectors), axis=-2) - ops.square(drawn)
    norm = ops.sqrt(below + ops.square(lead))
    # v = x + sign(x_1) |x| e_1, whose length is sqrt(2 |x| (|x| + |x_1|)).
    length = ops.sqrt(2 * norm * (norm + lead))
    top = _row(sign * (lead + norm))
    vectors = ops.where(ops.eye(rows, columns, dtype="bool"), top, vectors)
    return vectors / _row(length), _row(-sign)


def _accumulate(panels: Sequence[Tensor]) -> Tensor:
    """The first columns of the product of all reflections, last panel first."""
    dtype = keras.backend.standardize_dtype(panels[-1].dtype)
    product, columns = None, 0
    for panel in reversed(panels):
        length, size = panel.shape[-2:]
        columns += size
        gram = ops.swapaxes(panel, -1, -2) @ panel
        half = ops.full((), 0.5, dtype)
        inverse = ops.where(ops.eye(size, dtype="bool"), half, ops.triu(gram))
        right = ops.swapaxes(panel[..., :size, :], -1, -2)
        start_from = ops.eye(length, columns, dtype=dtype)
        if product is not None:
            rest = ops.swapaxes(panel[..., size:, :], -1, -2)
            right = ops.concatenate([right, rest @ product], axis=-1)
            corner = [(0, 0)] * (panel.ndim - 2) + [(size, 0), (size, 0)]
            first = ops.eye(length, size, dtype=dtype)
            start_from = ops.pad(product, corner) + ops.pad(
                first, [(0, 0), (0, columns - size)]
            )
        product = start_from - panel @ solve_upper(inverse, right)
    return product


def _row(values: Tensor) -> Tensor:
    return ops.expand_dims(values, -2)
