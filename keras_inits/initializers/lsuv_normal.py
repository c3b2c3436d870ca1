"""Orthonormal kernels that ask for LSUV."""

from collections.abc import Sequence

from keras_inits.initializers.base import Initializer, Tensor
from keras_inits.initializers.marking import MarksForLSUV
from keras_inits.initializers.orthonormal import OrthonormalInitializer
from keras_inits.registry import register


@register("lsuv_normal", law="orthonormal (Haar), then scaled by LSUV where it is run")
class LSUVNormal(MarksForLSUV, OrthonormalInitializer):
    """Orthonormal kernel that `lsuv_init` and the `LSUV` callback will scale.

    The kernel, flattened to `(inputs, outputs)`, is `gain` times a matrix with
    orthonormal rows or columns, whichever are fewer, uniform over all such matrices
    (Haar's law: the orthonormal factor of Gaussian noise). Without data it is an
    orthonormal initialisation in its own right.

    Example:

    >>> layer = keras.layers.Dense(
    ...     64, activation="relu", kernel_initializer="lsuv_normal"
    ... )

    Args:
        gain: length of the orthonormal vectors, before LSUV.
        seed, input_axes, output_axes: as in `VarianceScaling`.

    Raises:
        ValueError: if `gain` is not positive; on a call, if the shape has less than
            two axes.

    References:
        Mishkin & Matas (2015), All you need is a good init, arXiv:1511.06422.
        Saxe et al. (2013), Exact solutions to the nonlinear dynamics of learning in
        deep linear neural networks, arXiv:1312.6120.
    """

    def __call__(self, shape: Sequence[int], dtype: str | None = None) -> Tensor:
        self._mark()
        return Initializer.__call__(self, shape, dtype)
