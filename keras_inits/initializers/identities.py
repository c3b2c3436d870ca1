"""Kernels that are fixed by their shape: identities, Hadamard, interpolation."""

import math
from typing import Any, Self

import numpy as np
from keras import ops

from keras_inits.initializers.base import (
    FanInitializer,
    Initializer,
    Seeds,
    Tensor,
    counts,
    positive,
)
from keras_inits.initializers.delta_orthogonal import place_tap
from keras_inits.initializers.sampling import require_held
from keras_inits.initializers.variance_scaling import Axes
from keras_inits.registry import register

Array = np.ndarray[Any, Any]


class FixedInitializer(Initializer):
    """Root of the laws without chance: `_values` gives them as a NumPy array."""

    def __init__(self) -> None:
        super().__init__()

    def _draw(self, shape: tuple[int, ...], dtype: str, seeds: Seeds) -> Tensor:
        return _rounded(self._values(shape), dtype)

    def _values(self, shape: tuple[int, ...]) -> Array:
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        return {}


def _rounded(values: Array, dtype: str) -> Tensor:
    require_held(dtype, value=float(np.abs(values).max(initial=0.0)))
    # NumPy rounds once; it has no bfloat16.
    values = values.astype("float32" if dtype == "bfloat16" else dtype)
    return ops.cast(ops.convert_to_tensor(values), dtype)


class FixedKernel(FixedInitializer, FanInitializer):
    """Root of the fixed kernels: `_tap`, a matrix (inputs, outputs), at the centre of
    the window, which is where `padding="same"` puts the pixel itself."""

    def __init__(self, input_axes: Axes, output_axes: Axes) -> None:
        FanInitializer.__init__(self, None, input_axes, output_axes)

    def _draw(self, shape: tuple[int, ...], dtype: str, seeds: Seeds) -> Tensor:
        inputs, outputs, window = self._split_window(shape)
        rows = math.prod(shape[axis] for axis in inputs)
        columns = math.prod(shape[axis] for axis in outputs)
        tap = _rounded(self._tap(rows, columns), dtype)
        return place_tap(tap, shape, inputs, outputs, window)

    def _tap(self, inputs: int, outputs: int) -> Array:
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        return {"input_axes": self.input_axes, "output_axes": self.output_axes}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """As elsewhere, but for a seed: `EinsumDense` adds one to the config of every
        `VarianceScaling` when it tells the axes."""
        return cls(**{key: value for key, value in config.items() if key != "seed"})


@register("dirac_delta", law="identity of the channels at the centre tap")
class Dirac(FixedKernel):
    """The convolution that passes its input through.

    At the centre tap of `(*window, inputs, outputs)` channel c goes to channel c, in
    each group; zeros elsewhere. Channels without a counterpart are zero.

    Example:

    >>> layer = keras.layers.Conv2D(
    ...     64, 3, padding="same", kernel_initializer="dirac_delta"
    ... )

    Args:
        groups: groups of the convolution, whose kernel holds `inputs / groups`.
        gain: value of the ones.
        input_axes, output_axes: as in `DeltaOrthogonal`.

    Raises:
        ValueError: if an argument is not positive; on a call, if the shape has less
            than two axes or the outputs are no multiple of `groups`.

    References:
        `torch.nn.init.dirac_` (which takes tap `size // 2`, as its paddings ask for;
        the two differ for windows of even size).
    """

    def __init__(
        self,
        groups: int = 1,
        gain: float = 1.0,
        input_axes: Axes = None,
        output_axes: Axes = None,
    ) -> None:
        super().__init__(input_axes, output_axes)
        counts(groups=groups)
        positive(gain=gain)
        self.groups = groups
        self.gain = gain

    def _tap(self, inputs: int, outputs: int) -> Array:
        if outputs % self.groups:
            raise ValueError(
                "`groups` must divide the number of outputs. "
                f"Received: groups={self.groups} for {outputs} outputs"
            )
        one_group = np.eye(inputs, outputs // self.groups)
        return self.gain * np.tile(one_group, self.groups)

    def get_config(self) -> dict[str, Any]:
        return {"groups": self.groups, "gain": self.gain, **super().get_config()}


@register(
    "hadamard_identity",
    law="identity where it narrows; a Hadamard matrix, cut, where it widens",
)
class ZerO(FixedKernel):
    """Only 0, 1 and -1, up to a factor: no randomness at all.

    With more inputs than outputs, or as many, a truncated identity; with fewer, the
    first rows and columns of a Hadamard matrix of 2^m >= outputs, times 2^(-m/2):
    without it, outputs beyond the inputs would all learn the same. Convolutions hold
    it at the centre tap.

    Example:

    >>> layer = keras.layers.Dense(64, kernel_initializer="hadamard_identity")

    Args:
        gain: factor of all values.
        input_axes, output_axes: as in `DeltaOrthogonal`.

    Raises:
        ValueError: if `gain` is not positive; on a call, if the shape has less than
            two axes.

    References:
        Zhao, Schäfer & Anandkumar (2021), ZerO initialization, arXiv:2110.12661 (with
        the orthonormal factor of the authors' code; the paper prints sqrt(2) more).
    """

    def __init__(
        self,
        gain: float = 1.0,
        input_axes: Axes = None,
        output_axes: Axes = None,
    ) -> None:
        super().__init__(input_axes, output_axes)
        positive(gain=gain)
        self.gain = gain

    def _tap(self, inputs: int, outputs: int) -> Array:
        if inputs >= outputs:
            return self.gain * np.eye(inputs, outputs)
        order = math.ceil(math.log2(outputs))
        return self.gain * (_hadamard(inputs, outputs) * 2.0 ** (-order / 2))

    def get_config(self) -> dict[str, Any]:
        return {"gain": self.gain, **super().get_config()}


def _hadamard(rows: int, columns: int) -> Array:
    """The first rows and columns of Sylvester's Hadamard matrices: entry (i, j) is
    -1 where the binary digits that i and j have in common are odd in number."""
    common = np.bitwise_and.outer(np.arange(rows), np.arange(columns))
    for shift in (32, 16, 8, 4, 2, 1):
        common ^= common >> shift
    return 1.0 - 2.0 * (common & 1)


@register(
    "bilinear_upsampling", law="linear interpolation, for transposed convolutions"
)
class Bilinear(FixedInitializer):
    """Up-sampling by linear interpolation, as a transposed convolution.

    For the kernel `(*window, outputs, inputs)` of a transposed convolution with
    strides s and windows `2 s - s % 2`: channel c goes to channel c, weighted along
    each axis by `1 - |i - (size - 1) / 2| / s`. Inside the borders this is exactly
    `keras.layers.UpSampling2D(s, interpolation="bilinear")`.

    Example:

    >>> layer = keras.layers.Conv2DTranspose(
    ...     3, 4, strides=2, padding="same", kernel_initializer="bilinear_upsampling"
    ... )

    Raises:
        ValueError: on a call, if the shape has less than three axes.

    References:
        Long, Shelhamer & Darrell (2015), Fully convolutional networks for semantic
        segmentation, arXiv:1411.4038. MXNet's `Bilinear`.
    """

    def _values(self, shape: tuple[int, ...]) -> Array:
        if len(shape) < 3:
            raise ValueError(
                "`Bilinear` needs a kernel of at least 3 axes. Received: "
                f"shape={shape}. Use another initializer here."
            )
        weights = np.ones(())
        for size in shape[:-2]:
            stride = (size + 1) // 2
            distance = np.abs(np.arange(size) - (size - 1) / 2)
            weights = np.multiply.outer(weights, 1 - distance / max(1, stride))
        return weights[..., None, None] * np.eye(shape[-2], shape[-1])
