"""Orthogonal kernels: flattened, and as convolutions."""

import math

from keras import ops

from keras_inits.initializers.base import Seeds, Tensor, as_kernel
from keras_inits.initializers.orthonormal import OrthonormalInitializer, haar
from keras_inits.initializers.products import exact_products
from keras_inits.initializers.sampling import chances, wide
from keras_inits.registry import register


@register("orthonormal", law="orthonormal (Haar), flattened to (inputs, outputs)")
class Orthogonal(OrthonormalInitializer):
    """Keras's orthogonal law, in every dtype, for every axis order, and faster.

    The kernel, flattened to `(inputs, outputs)`, is `gain` times a matrix with
    orthonormal rows or columns, whichever are fewer, uniform over all such.

    Example:

    >>> layer = keras.layers.Dense(64, kernel_initializer="orthonormal")

    Args:
        gain: length of the orthonormal vectors.
        seed, input_axes, output_axes: as in `VarianceScaling`.

    Raises:
        ValueError: if `gain` is not positive; on a call, if the shape has less than
            two axes.

    References:
        Saxe et al. (2013), Exact solutions to the nonlinear dynamics of learning in
        deep linear neural networks, arXiv:1312.6120.
    """


@register("conv_orthogonal", law="convolution that keeps the length of every signal")
class ConvolutionOrthogonal(OrthonormalInitializer):
    """A convolution that keeps lengths, spread over its window.

    In 1, 2 or 3 dimensions (and more): `gain` times an orthonormal map of the
    channels, followed along each window axis by `size - 1` filters of two taps
    `[P, I - P]`, P a random projection; the axes take turns. With periodic borders
    the norm of the output is `gain` times that of the input, exactly.
    `DeltaOrthogonal` is the special case that uses one tap.

    A projection may take all of a few channels, or none, which leaves taps at zero: of
    3 x 3 taps one channel uses a single one, anywhere in the window, and 4 channels use
    7.6 on average; from about 16 on all are in use.

    Example:

    >>> layer = keras.layers.Conv2D(
    ...     64, 3, padding="same", kernel_initializer="conv_orthogonal"
    ... )

    Args:
        gain: factor of lengths.
        seed, input_axes, output_axes: as in `DeltaOrthogonal`.

    Raises:
        ValueError: if `gain` is not positive; on a call, if the shape has less than
            two axes, or there are more inputs than outputs.

    References:
        Xiao et al. (2018), Dynamical isometry and a mean field theory of CNNs,
        arXiv:1806.05393, algorithm 1. Kautsky & Turcajová (1994), A matrix approach
        to discrete wavelets.
    """

    def _draw(self, shape: tuple[int, ...], dtype: str, seeds: Seeds) -> Tensor:
        inputs, outputs, window = self._split_window(shape)
        rows = math.prod(shape[axis] for axis in inputs)
        columns = math.prod(shape[axis] for axis in outputs)
        if rows > columns:
            raise ValueError(
                "A convolution keeps lengths only with at least as many outputs as "
                f"inputs. Received: inputs={rows}, outputs={columns}. Use "
                '"delta_orthogonal" or "orthonormal" here.'
            )
        if 0 in shape:
            return ops.zeros(shape, dtype)
        width = wide(dtype)
        kernel = self._matrix(rows, columns, dtype, seeds)
        kernel = ops.reshape(kernel, [1] * len(window) + [rows, columns])
        sizes = [shape[axis] for axis in window]
        # The axes take turns, as in the paper: projections do not commute, so that
        # one axis after the other would be another law, of separable filters.
        for size in range(1, max(sizes, default=1)):
            for place in range(len(sizes)):
                if size < sizes[place]:
                    kernel = _lengthen(kernel, place, width, seeds)
        return ops.cast(as_kernel(kernel, shape, inputs, outputs, window), dtype)


def _lengthen(kernel: Tensor, axis: int, dtype: str, seeds: Seeds) -> Tensor:
    """Convolves with the two taps `[P, I - P]` along one window axis."""
    columns = kernel.shape[-1]
    basis = haar(columns, columns, dtype, seeds)
    coins = chances((columns,), dtype, seeds) < 0.5
    chosen = basis * ops.cast(coins, dtype)
    # As matrices: TensorFlow's product of many with one goes wrong for odd sizes.
    with exact_products():
        rows = ops.reshape(kernel, (-1, columns)) @ chosen @ ops.transpose(basis)
    first = ops.reshape(rows, kernel.shape)
    before, after = [(0, 0)] * len(kernel.shape), [(0, 0)] * len(kernel.shape)
    before[axis], after[axis] = (0, 1), (1, 0)
    return ops.pad(first, before) + ops.pad(kernel - first, after)
