"""Laws that know the depth of the network, and those of implicit fields."""

import math
from typing import Any

from keras_inits.initializers.base import (
    FanInitializer,
    Initializer,
    Seed,
    Seeds,
    Tensor,
    counts,
    flags,
    positive,
)
from keras_inits.initializers.sampling import normal, uniform
from keras_inits.initializers.variance_scaling import Axes, VarianceScaling, choose_fan
from keras_inits.registry import register


@register(
    "depth_scaled_normal", law="N(0, stddev^2/(2*layers)); the string has layers=1"
)
class DepthScaledNormal(Initializer):
    """GPT-2's law for the kernels that end a residual branch.

    N(0, s^2), `s = stddev / sqrt(2 * layers)`: each block adds two branches to the
    residual stream, so that its variance does not grow with depth. The string
    `"depth_scaled_normal"` means one block: pass the class, which is told how many.

    Example:

    >>> layer = keras.layers.Dense(
    ...     768, kernel_initializer=keras_inits.DepthScaledNormal(layers=12)
    ... )

    Args:
        stddev: standard deviation of all the other kernels.
        layers: number of transformer blocks.
        seed: as in `VarianceScaling`.

    Raises:
        ValueError: if `stddev` is not positive, or `layers` no positive integer.

    References:
        Radford et al. (2019), Language models are unsupervised multitask learners.
    """

    def __init__(
        self, stddev: float = 0.02, layers: int = 1, seed: Seed = None
    ) -> None:
        super().__init__(seed)
        positive(stddev=stddev)
        counts(layers=layers)
        self.stddev = stddev
        self.layers = layers

    def _draw(self, shape: tuple[int, ...], dtype: str, seeds: Seeds) -> Tensor:
        return normal(shape, self.stddev / math.sqrt(2 * self.layers), dtype, seeds)

    def get_config(self) -> dict[str, Any]:
        return {"stddev": self.stddev, "layers": self.layers, **super().get_config()}


@register(
    "deep_norm",
    law="N(0, b^2*2/(fan_in+fan_out)), b = (8*layers)^(-1/4); the string has layers=1",
)
class DeepNorm(VarianceScaling):
    """Glorot's normal law with DeepNorm's gain, for transformers of great depth.

    N(0, s^2), `s = (8 * layers)^(-1/4) * sqrt(2 / (fan_in + fan_out))`, for the
    value, output and feed-forward kernels of an encoder-only or decoder-only
    transformer. Query and key kernels take `"xavier_normal"`; what skips the branch is
    multiplied by `alpha = (2 * layers)^(1/4)`: `LayerNorm(alpha * x + f(x))`. The
    string `"deep_norm"` means one block: pass the class, which is told how many.

    Example:

    >>> layer = keras.layers.Dense(
    ...     768, kernel_initializer=keras_inits.DeepNorm(layers=100)
    ... )

    Args:
        layers: number of transformer blocks.
        seed, input_axes, output_axes: as in `VarianceScaling`.

    Raises:
        ValueError: if `layers` is not a positive integer.

    References:
        Wang et al. (2022), DeepNet: scaling transformers to 1,000 layers,
        arXiv:2203.00555.
    """

    def __init__(
        self,
        layers: int = 1,
        seed: Seed = None,
        input_axes: Axes = None,
        output_axes: Axes = None,
    ) -> None:
        counts(layers=layers)
        scale = 1 / math.sqrt(8 * layers)
        super().__init__(
            scale, "fan_avg", "untruncated_normal", seed, input_axes, output_axes
        )
        self.layers = layers

    @property
    def alpha(self) -> float:
        """What DeepNorm multiplies by what skips the branch."""
        return math.sqrt(math.sqrt(2 * self.layers))

    def get_config(self) -> dict[str, Any]:
        return {"layers": self.layers, **FanInitializer.get_config(self)}


@register(
    "siren_uniform",
    law="U(-b, b), b = sqrt(6/fan_in)/omega; in the first layer 1/fan_in",
    siren_first={"first": True},
)
class Siren(FanInitializer):
    """Networks of sines: pre-activations of the same law in every layer.

    U(-b, b), `b = sqrt(6 / fan_in) / omega` for layers `sin(omega * (W x + bias))`, and
    `b = 1 / fan_in` for the first one, whose inputs are coordinates in [-1, 1].

    Example:

    >>> layer = keras.layers.Dense(
    ...     64, lambda x: keras.ops.sin(30 * x), kernel_initializer="siren_uniform"
    ... )

    Args:
        omega: frequency inside the sine.
        first: whether this is the first layer.
        seed, input_axes, output_axes: as in `VarianceScaling`.

    Raises:
        ValueError: if `omega` is not positive.

    References:
        Sitzmann et al. (2020), Implicit neural representations with periodic
        activation functions, arXiv:2006.09661.
    """

    def __init__(
        self,
        omega: float = 30.0,
        first: bool = False,
        seed: Seed = None,
        input_axes: Axes = None,
        output_axes: Axes = None,
    ) -> None:
        super().__init__(seed, input_axes, output_axes)
        positive(omega=omega)
        flags(first=first)
        self.omega = omega
        self.first = bool(first)

    def _draw(self, shape: tuple[int, ...], dtype: str, seeds: Seeds) -> Tensor:
        fan_in = choose_fan(self._fans(shape), "fan_in")
        bound = 1 / fan_in if self.first else math.sqrt(6 / fan_in) / self.omega
        return uniform(shape, -bound, bound, dtype, seeds)

    def get_config(self) -> dict[str, Any]:
        return {"omega": self.omega, "first": self.first, **super().get_config()}
