"""PyTorch's laws under the names they have there: plain normal, not truncated."""

import math
from typing import Any, Literal

from keras_inits.initializers.base import FanInitializer, Seed, finite, one_of
from keras_inits.initializers.variance_scaling import (
    Axes,
    Distribution,
    Scheme,
    VarianceScaling,
)
from keras_inits.registry import register

Nonlinearity = Literal["leaky_relu", "linear", "relu", "selu", "sigmoid", "tanh"]


@register("xavier_normal", law="N(0, gain^2 * 2/(fan_in+fan_out)), not truncated")
class XavierNormal(Scheme):
    """Glorot's normal law as PyTorch draws it, not truncated.

    N(0, s^2), `s = gain * sqrt(2 / (fan_in + fan_out))`.

    Example:

    >>> layer = keras.layers.Dense(64, kernel_initializer="xavier_normal")

    Args:
        gain: factor of the deviation.
        seed, input_axes, output_axes: as in `VarianceScaling`.

    References:
        `torch.nn.init.xavier_normal_`. Glorot & Bengio (2010).
    """

    row = (1.0, "fan_avg", "untruncated_normal")


@register("xavier_uniform", law="U(-b, b), b = gain*sqrt(6/(fan_in+fan_out))")
class XavierUniform(Scheme):
    """Glorot's uniform law under its name in PyTorch.

    U(-b, b), `b = gain * sqrt(6 / (fan_in + fan_out))`.

    Example:

    >>> layer = keras.layers.Dense(64, kernel_initializer="xavier_uniform")

    Args:
        gain: factor of the deviation.
        seed, input_axes, output_axes: as in `VarianceScaling`.

    References:
        `torch.nn.init.xavier_uniform_`. Glorot & Bengio (2010).
    """

    row = (1.0, "fan_avg", "uniform")


@register("standard_normal", law="N(0, gain^2/fan_in), not truncated")
class StandardNormal(Scheme):
    """The plain normal law that keeps the variance through a linear layer.

    N(0, s^2), `s = gain / sqrt(fan_in)`.

    Example:

    >>> layer = keras.layers.Dense(64, kernel_initializer="standard_normal")

    Args:
        gain: factor of the deviation.
        seed, input_axes, output_axes: as in `VarianceScaling`.
    """

    row = (1.0, "fan_in", "untruncated_normal")


@register("standard_uniform", law="U(-b, b), b = gain/sqrt(fan_in), PyTorch's default")
class StandardUniform(Scheme):
    """The law of PyTorch's linear and convolution layers unless told otherwise.

    U(-b, b), `b = gain / sqrt(fan_in)`: a third of the variance that would keep
    the signal.

    Example:

    >>> layer = keras.layers.Dense(64, kernel_initializer="standard_uniform")

    Args:
        gain: factor of the deviation.
        seed, input_axes, output_axes: as in `VarianceScaling`.

    References:
        `torch.nn.Linear.reset_parameters`.
    """

    row = (1.0 / 3.0, "fan_in", "uniform")


def torch_gain(nonlinearity: str, negative_slope: float = 0.0) -> float:
    """Gains of `torch.nn.init.calculate_gain`; the slope is leaky ReLU's alone."""
    slope = float(negative_slope)
    return {
        "linear": 1.0,
        "sigmoid": 1.0,
        "tanh": 5.0 / 3.0,
        "relu": math.sqrt(2.0),
        "leaky_relu": math.sqrt(2.0 / (1.0 + slope * slope)),
        "selu": 3.0 / 4.0,
    }[nonlinearity]


class _Kaiming(VarianceScaling):
    law: Distribution

    def __init__(
        self,
        mode: Literal["fan_in", "fan_out"] = "fan_in",
        nonlinearity: Nonlinearity = "relu",
        negative_slope: float = 0.0,
        seed: Seed = None,
        input_axes: Axes = None,
        output_axes: Axes = None,
    ) -> None:
        one_of(("fan_in", "fan_out"), mode=mode)
        allowed = ("leaky_relu", "linear", "relu", "selu", "sigmoid", "tanh")
        one_of(allowed, nonlinearity=nonlinearity)
        finite(negative_slope=negative_slope)
        scale = torch_gain(nonlinearity, negative_slope) ** 2
        if not scale:
            raise ValueError(
                "`negative_slope` must be a finite number, and so must be its square "
                f"in float64. Received: negative_slope={negative_slope!r}"
            )
        super().__init__(scale, mode, self.law, seed, input_axes, output_axes)
        self.nonlinearity = nonlinearity
        self.negative_slope = negative_slope

    def get_config(self) -> dict[str, Any]:
        return {
            "mode": self.mode,
            "nonlinearity": self.nonlinearity,
            "negative_slope": self.negative_slope,
            **FanInitializer.get_config(self),
        }


@register("kaiming_normal", law="N(0, torch_gain^2/fan), not truncated")
class KaimingNormal(_Kaiming):
    """He's normal law as PyTorch draws it, not truncated, with PyTorch's gains.

    N(0, s^2), `s = g / sqrt(fan)`, where g is 1 for linear and sigmoid, 5/3 for
    tanh, sqrt(2) for ReLU, `sqrt(2 / (1 + slope^2))` for leaky ReLU, 3/4 for SELU.

    Example:

    >>> layer = keras.layers.Dense(
    ...     64, activation="relu", kernel_initializer="kaiming_normal"
    ... )

    Args:
        mode: `"fan_in"` or `"fan_out"`.
        nonlinearity: the activation that follows.
        negative_slope: slope below zero, used by `"leaky_relu"` alone, as there.
        seed, input_axes, output_axes: as in `VarianceScaling`.

    Raises:
        ValueError: if `mode` or `nonlinearity` is unknown, or the square of the slope
            infinite.

    References:
        `torch.nn.init.kaiming_normal_`. He et al. (2015), arXiv:1502.01852.
    """

    law = "untruncated_normal"


@register("kaiming_uniform", law="U(-b, b), b = torch_gain*sqrt(3/fan)")
class KaimingUniform(_Kaiming):
    """He's uniform law with PyTorch's gains.

    U(-b, b), `b = g * sqrt(3 / fan)`, g as for `KaimingNormal`.

    Example:

    >>> layer = keras.layers.Conv2D(
    ...     64, 3, activation="relu", kernel_initializer="kaiming_uniform"
    ... )

    Args:
        mode, nonlinearity, negative_slope: as in `KaimingNormal`.
        seed, input_axes, output_axes: as in `VarianceScaling`.

    Raises:
        ValueError: if `mode` or `nonlinearity` is unknown, or the square of the slope
            infinite.

    References:
        `torch.nn.init.kaiming_uniform_`. He et al. (2015), arXiv:1502.01852.
    """

    law = "uniform"
