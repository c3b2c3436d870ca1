"""Stacks of ReLU-like layers that start as an exactly linear map."""

import math
from typing import Any

from keras import ops

from keras_inits.initializers.base import Seed, Seeds, Tensor, finite, flags
from keras_inits.initializers.delta_orthogonal import place_tap
from keras_inits.initializers.orthonormal import OrthonormalInitializer
from keras_inits.initializers.sampling import require_held
from keras_inits.initializers.variance_scaling import Axes
from keras_inits.registry import register


@register(
    "looks_linear",
    law="mirrored orthonormal blocks [[Q, -Q], [-Q, Q]]",
    looks_linear_first={"mirrored_input": False},
)
class LooksLinear(OrthonormalInitializer):
    """Mirrored orthonormal blocks: a stack of any depth is linear at the start.

    For ReLU, GELU, SiLU and softplus `f(x) - f(-x) = x`, for leaky ReLU
    `(1 + negative_slope) * x`. With Q orthonormal (Haar) of half the sizes, the kernel

        [[Q, -Q], [-Q, Q]] * gain / (1 + negative_slope)

    takes units that come in pairs `(f(h), f(-h))` to `(h Q, -h Q)`: exactly linear,
    and of the same length. Nothing is tied afterwards. The first layer, whose inputs
    are not paired, has `[Q, -Q] * gain`; the last one `[[Q], [-Q]]`. Lengths are kept
    where the first layer has twice as many units as inputs; with fewer, directions are
    lost. Units pair with those half the width further on; the last unit of an odd
    width is left without a partner and is zero, and stays so under gradient descent
    where `f(0) = 0`: prefer even widths.

    For a convolution `(*window, inputs, outputs)` the block stands at the centre tap,
    zeros elsewhere. It does not hold for tanh, ELU, SELU, sigmoid or Mish.

    Example:

    >>> model = keras.Sequential([
    ...     keras.layers.Dense(
    ...         64, activation="gelu", kernel_initializer="looks_linear_first"
    ...     ),
    ...     keras.layers.Dense(
    ...         64, activation="gelu", kernel_initializer="looks_linear"
    ...     ),
    ...     keras.layers.Dense(
    ...         10, kernel_initializer=keras_inits.LooksLinear(mirrored_output=False)
    ...     ),
    ... ])

    Args:
        gain: factor of lengths through the layer.
        mirrored_input: whether the inputs come in pairs; `False` in the first layer.
        mirrored_output: whether the outputs go in pairs; `False` in the last layer.
        negative_slope: slope of leaky ReLU below zero, 0 for the others.
        seed, input_axes, output_axes: as in `VarianceScaling`. Where axes are given
            (`EinsumDense`), inputs and outputs are paired as flattened.

    Raises:
        ValueError: if `gain` is not positive or `negative_slope` is -1 or not finite;
            on a call, if the shape has less than two axes, or a width of 1 is to be
            mirrored.

    References:
        Balduzzi et al. (2017), The shattered gradients problem, arXiv:1702.08591.
        Burkholz & Dubatovka (2019), Initialization of ReLUs for dynamical isometry,
        arXiv:1806.06362.
    """

    def __init__(
        self,
        gain: float = 1.0,
        mirrored_input: bool = True,
        mirrored_output: bool = True,
        negative_slope: float = 0.0,
        seed: Seed = None,
        input_axes: Axes = None,
        output_axes: Axes = None,
    ) -> None:
        super().__init__(gain, seed, input_axes, output_axes)
        finite(negative_slope=negative_slope)
        flags(mirrored_input=mirrored_input, mirrored_output=mirrored_output)
        if negative_slope == -1:
            raise ValueError(
                "With `negative_slope=-1` the activation is |x|, and no pair of units "
                f"makes it linear. Received: negative_slope={negative_slope}"
            )
        self.mirrored_input = bool(mirrored_input)
        self.mirrored_output = bool(mirrored_output)
        self.negative_slope = negative_slope

    def _draw(self, shape: tuple[int, ...], dtype: str, seeds: Seeds) -> Tensor:
        inputs, outputs, window = self._split_window(shape)
        rows = math.prod(shape[axis] for axis in inputs)
        columns = math.prod(shape[axis] for axis in outputs)
        half_rows = _half(rows, "input") if self.mirrored_input else rows
        half_columns = _half(columns, "output") if self.mirrored_output else columns
        block = self._matrix(half_rows, half_columns, dtype, seeds)
        if self.mirrored_output:
            block = ops.concatenate([block, -block], axis=1)
        if self.mirrored_input:
            slope = self.negative_slope
            require_held(
                dtype, **{"gain / (1 + negative_slope)": self.gain / (1 + slope)}
            )
            block = block / (1 + slope)
            block = ops.concatenate([block, -block], axis=0)
        unpaired = [(0, rows - block.shape[0]), (0, columns - block.shape[1])]
        tap = ops.pad(block, unpaired)
        return ops.cast(place_tap(tap, shape, inputs, outputs, window), dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            "mirrored_input": self.mirrored_input,
            "mirrored_output": self.mirrored_output,
            "negative_slope": self.negative_slope,
            **super().get_config(),
        }


def _half(width: int, side: str) -> int:
    if width == 1:
        raise ValueError(
            f"A single {side} has no partner to mirror it. Received: {side}s=1. Use "
            f"`LooksLinear(mirrored_{side}=False)` for this layer, or a larger width."
        )
    return width // 2
