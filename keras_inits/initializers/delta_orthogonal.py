"""Convolutions that start as an orthonormal map of the channels, pixel by pixel."""

import math

from keras import ops

from keras_inits.initializers.base import Seeds, Tensor
from keras_inits.initializers.orthonormal import OrthonormalInitializer
from keras_inits.registry import register


@register("delta_orthogonal", law="orthonormal (Haar) centre tap, zeros elsewhere")
class DeltaOrthogonal(OrthonormalInitializer):
    """Orthonormal centre tap, zeros elsewhere: the convolution that keeps lengths.

    For a kernel `(*window, inputs, outputs)` the tap `(size - 1) // 2` of each
    window axis, which is where `padding="same"` puts the pixel itself, holds `gain`
    times a matrix with orthonormal rows or columns, whichever are fewer. Lengths
    are kept where `inputs <= outputs`; with more inputs than outputs, those of the
    gradients are.

    Example:

    >>> layer = keras.layers.Conv2D(
    ...     64, 3, padding="same", kernel_initializer="delta_orthogonal"
    ... )

    Args:
        gain: length of the orthonormal vectors.
        seed: as in `VarianceScaling`.
        input_axes, output_axes: for a kernel with further axes, such as
            `EinsumDense`'s; those given are flattened to inputs and outputs, the
            others are the window.

    Raises:
        ValueError: if `gain` is not positive; on a call, if the shape has less than
            two axes.

    References:
        Xiao et al. (2018), Dynamical isometry and a mean field theory of CNNs,
        arXiv:1806.05393.
    """

    def _draw(self, shape: tuple[int, ...], dtype: str, seeds: Seeds) -> Tensor:
        inputs, outputs, window = self._split_window(shape)
        rows = math.prod(shape[axis] for axis in inputs)
        columns = math.prod(shape[axis] for axis in outputs)
        tap = self._matrix(rows, columns, dtype, seeds)
        return ops.cast(place_tap(tap, shape, inputs, outputs, window), dtype)


def place_tap(
    tap: Tensor,
    shape: tuple[int, ...],
    inputs: list[int],
    outputs: list[int],
    window: list[int],
) -> Tensor:
    """A kernel that is `tap` (inputs, outputs) at the window's centre, else 0."""
    if 0 in shape:
        return ops.zeros(shape, tap.dtype)
    order = [*window, *inputs, *outputs]
    sizes = [shape[axis] for axis in order]
    rank = len(window)
    around = [((size - 1) // 2, size // 2) for size in sizes[:rank]]
    kernel = ops.reshape(tap, [1] * rank + sizes[rank:])
    kernel = ops.pad(kernel, around + [(0, 0)] * (len(order) - rank))
    if order != sorted(order):
        kernel = ops.transpose(kernel, [order.index(i) for i in sorted(order)])
    return kernel
