"""Scaled by the fans: one root, and the schemes that carry their authors' names."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from keras_inits.fans import Fans
from keras_inits.initializers.base import (
    FanInitializer,
    Seed,
    Seeds,
    Tensor,
    one_of,
    positive,
)
from keras_inits.initializers.sampling import normal, truncated_normal, uniform
from keras_inits.registry import register

Mode = Literal["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]
Distribution = Literal["truncated_normal", "untruncated_normal", "uniform"]
Axes = Sequence[int] | None

# Standard deviation of a unit normal law truncated at two deviations.
TRUNCATED_STDDEV = 0.87962566103423978


@register(law="variance scale/n, n by `mode`; truncated, plain normal or uniform")
class VarianceScaling(FanInitializer):
    """Values of variance `scale / n`, whatever the shape of the kernel.

    The law, with `n` the `fan_in`, the `fan_out` or a mean of both, at least 1:

    - `"truncated_normal"`: normal truncated at two parent deviations, so scaled
      that the deviation of the values drawn is `sqrt(scale / n)`;
    - `"untruncated_normal"`: N(0, scale / n);
    - `"uniform"`: U(-b, b), `b = sqrt(3 * scale / n)`.

    The schemes:

    | class             | scale           | mode       | distribution         |
    |-------------------|-----------------|------------|----------------------|
    | `GlorotNormal`    | gain^2          | `fan_avg`  | `truncated_normal`   |
    | `GlorotUniform`   | gain^2          | `fan_avg`  | `uniform`            |
    | `HeNormal`        | 2 gain^2        | `fan_in`   | `truncated_normal`   |
    | `HeUniform`       | 2 gain^2        | `fan_in`   | `uniform`            |
    | `LecunNormal`     | gain^2          | `fan_in`   | `truncated_normal`   |
    | `LecunUniform`    | gain^2          | `fan_in`   | `uniform`            |
    | `XavierNormal`    | gain^2          | `fan_avg`  | `untruncated_normal` |
    | `XavierUniform`   | gain^2          | `fan_avg`  | `uniform`            |
    | `KaimingNormal`   | torch_gain^2    | argument   | `untruncated_normal` |
    | `KaimingUniform`  | torch_gain^2    | argument   | `uniform`            |
    | `StandardNormal`  | gain^2          | `fan_in`   | `untruncated_normal` |
    | `StandardUniform` | gain^2 / 3      | `fan_in`   | `uniform`            |

    Example:

    >>> layer = keras.layers.Dense(
    ...     64, kernel_initializer=keras_inits.VarianceScaling(2.0, "fan_out")
    ... )

    Args:
        scale: variance times `n`.
        mode: `"fan_in"`, `"fan_out"`, `"fan_avg"` or `"fan_geo_avg"`, the geometric
            mean (JAX has it).
        distribution: one of the three above; `"normal"` means truncated, as in
            Keras.
        seed: `None` (independent values on every call), an integer (the same values
            on every call) or a `keras.random.SeedGenerator`.
        input_axes: axes of the kernel that are inputs; `None` means Keras's
            convention, `(..., inputs, outputs)`. `EinsumDense` and attention
            set them by themselves.
        output_axes: axes of the kernel that are outputs.

    Raises:
        ValueError: if `scale` is not positive, or a mode is unknown.
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: Mode = "fan_in",
        distribution: Distribution | Literal["normal"] = "truncated_normal",
        seed: Seed = None,
        input_axes: Axes = None,
        output_axes: Axes = None,
    ) -> None:
        super().__init__(seed, input_axes, output_axes)
        positive(scale=scale)
        one_of(("fan_in", "fan_out", "fan_avg", "fan_geo_avg"), mode=mode)
        laws = ("normal", "truncated_normal", "untruncated_normal", "uniform")
        one_of(laws, distribution=distribution)
        if distribution == "normal":
            distribution = "truncated_normal"
        self.scale = scale
        self.mode = mode
        self.distribution = distribution

    def _draw(self, shape: tuple[int, ...], dtype: str, seeds: Seeds) -> Tensor:
        stddev = math.sqrt(self.scale / choose_fan(self._fans(shape), self.mode))
        if self.distribution == "uniform":
            bound = math.sqrt(3.0) * stddev
            return uniform(shape, -bound, bound, dtype, seeds)
        if self.distribution == "untruncated_normal":
            return normal(shape, stddev, dtype, seeds)
        sigma = stddev / TRUNCATED_STDDEV
        return truncated_normal(shape, 0.0, sigma, -2 * sigma, 2 * sigma, dtype, seeds)

    def get_config(self) -> dict[str, Any]:
        return {
            "scale": self.scale,
            "mode": self.mode,
            "distribution": self.distribution,
            **super().get_config(),
        }


def choose_fan(fans: Fans, mode: str) -> float:
    """The number of connections that a mode divides by; 1 where there are none.

    Of a shape it is 1 or more, as in Keras; outputs of a transposed convolution whose
    stride exceeds its window see less than one product on average.
    """
    fan = {
        "fan_in": fans.fan_in,
        "fan_out": fans.fan_out,
        "fan_avg": (fans.fan_in + fans.fan_out) / 2,
        "fan_geo_avg": math.sqrt(fans.fan_in * fans.fan_out),
    }[mode]
    return fan or 1.0


class Scheme(VarianceScaling):
    """A named row of the table above, times `gain`."""

    row: ClassVar[tuple[float, Mode, Distribution]]

    def __init__(
        self,
        gain: float = 1.0,
        seed: Seed = None,
        input_axes: Axes = None,
        output_axes: Axes = None,
    ) -> None:
        positive(gain=gain)
        factor, mode, law = self.row
        scale = factor * float(gain) * float(gain)
        if not 0 < scale < math.inf:
            raise ValueError(
                "`gain` must be a positive number, and so must be its square in "
                f"float64. Received: gain={gain!r}"
            )
        super().__init__(scale, mode, law, seed, input_axes, output_axes)
        self.gain = gain

    def get_config(self) -> dict[str, Any]:
        return {"gain": self.gain, **FanInitializer.get_config(self)}


class KerasScheme(Scheme):
    """A scheme whose arguments come in the order of its namesake in Keras."""

    def __init__(
        self,
        seed: Seed = None,
        input_axes: Axes = None,
        output_axes: Axes = None,
        *,
        gain: float = 1.0,
    ) -> None:
        super().__init__(gain, seed, input_axes, output_axes)
