"""Laws of TensorFlow 1 that Keras did not take over."""

import math
from typing import Any, Literal

from keras_inits.initializers.base import (
    FanInitializer,
    Seed,
    Seeds,
    Tensor,
    flags,
    one_of,
    positive,
)
from keras_inits.initializers.sampling import truncated_normal, uniform
from keras_inits.initializers.variance_scaling import Axes, choose_fan
from keras_inits.registry import register


@register("uniform_unit_scaling", law="U(-b, b), b = factor*sqrt(3/n), n = inputs")
class UniformUnitScaling(FanInitializer):
    """Keeps the variance of the signal through a linear layer.

    U(-b, b), `b = factor * sqrt(3 / n)`, where n is the product of all axes but the
    last, at least 1 (so a vector of any length has n = 1). For a fully connected
    layer and for a convolution n is `fan_in`; where axes are given, n is theirs.

    Example:

    >>> layer = keras.layers.Dense(64, kernel_initializer="uniform_unit_scaling")

    Args:
        factor: factor of the deviation. TensorFlow's documentation suggests 1.43
            for ReLU and 1.15 for tanh.
        seed, input_axes, output_axes: as in `VarianceScaling`.

    Raises:
        ValueError: if `factor` is not positive.

    References:
        `tf.compat.v1.uniform_unit_scaling_initializer`. Sussillo & Abbott (2014),
        Random walk initialization, arXiv:1412.6558.
    """

    def __init__(
        self,
        factor: float = 1.0,
        seed: Seed = None,
        input_axes: Axes = None,
        output_axes: Axes = None,
    ) -> None:
        super().__init__(seed, input_axes, output_axes)
        positive(factor=factor)
        self.factor = factor

    def _draw(self, shape: tuple[int, ...], dtype: str, seeds: Seeds) -> Tensor:
        if self.input_axes is None and self._given is None:
            inputs = float(math.prod(shape[:-1]))
        else:
            inputs = self._fans(shape).fan_in
        bound = self.factor * math.sqrt(3.0 / max(1.0, inputs))
        return uniform(shape, -bound, bound, dtype, seeds)

    def get_config(self) -> dict[str, Any]:
        return {"factor": self.factor, **super().get_config()}


@register(
    "contrib_variance_scaling",
    law="truncated normal, parent variance 1.3*factor/n; or U(+-sqrt(3*factor/n))",
)
class ContribVarianceScaling(FanInitializer):
    """The scaling law of `tf.contrib.layers`, with its own factor of 1.3.

    With n the fan that `mode` names: normal truncated at two deviations of its
    parent, whose deviation is `sqrt(1.3 * factor / n)` (the values drawn have
    0.8796 of it, so 1.006 times the variance `factor / n`); or, with `uniform`,
    U(-b, b), `b = sqrt(3 * factor / n)`.

    Example:

    >>> layer = keras.layers.Conv2D(
    ...     64, 3, kernel_initializer="contrib_variance_scaling"
    ... )

    Args:
        factor: variance times n.
        mode: `"FAN_IN"`, `"FAN_OUT"` or `"FAN_AVG"`.
        uniform: draw from the uniform law.
        seed, input_axes, output_axes: as in `VarianceScaling`.

    Raises:
        ValueError: if `factor` is not positive or `mode` is unknown.

    References:
        `tf.contrib.layers.variance_scaling_initializer` of TensorFlow 1.
    """

    def __init__(
        self,
        factor: float = 2.0,
        mode: Literal["FAN_AVG", "FAN_IN", "FAN_OUT"] = "FAN_IN",
        uniform: bool = False,
        seed: Seed = None,
        input_axes: Axes = None,
        output_axes: Axes = None,
    ) -> None:
        super().__init__(seed, input_axes, output_axes)
        positive(factor=factor)
        one_of(("FAN_IN", "FAN_OUT", "FAN_AVG"), mode=mode)
        flags(uniform=uniform)
        self.factor = factor
        self.mode = mode
        self.uniform = bool(uniform)

    def _draw(self, shape: tuple[int, ...], dtype: str, seeds: Seeds) -> Tensor:
        fan = choose_fan(self._fans(shape), self.mode.lower())
        if self.uniform:
            bound = math.sqrt(3.0 * self.factor / fan)
            return uniform(shape, -bound, bound, dtype, seeds)
        sigma = math.sqrt(1.3 * self.factor / fan)
        return truncated_normal(shape, 0.0, sigma, -2 * sigma, 2 * sigma, dtype, seeds)

    def get_config(self) -> dict[str, Any]:
        return {
            "factor": self.factor,
            "mode": self.mode,
            "uniform": self.uniform,
            **super().get_config(),
        }
