"""Normal laws between absolute bounds, as PyTorch and timm draw them."""

from typing import Any

from keras_inits.initializers.base import (
    Initializer,
    Seed,
    Seeds,
    Tensor,
    finite,
    positive,
)
from keras_inits.initializers.sampling import truncated_normal
from keras_inits.initializers.truncated_normal import (
    REACH,
    check_interval,
    in_deviations,
)
from keras_inits.registry import register


@register("bounded_normal", law="N(mean, stddev^2) within [lower, upper], absolute")
class BoundedNormal(Initializer):
    """Normal law cut off at absolute bounds: `trunc_normal_` of PyTorch and timm.

    N(mean, stddev^2) restricted to `[lower, upper]`. `stddev` is that of the parent
    law: with the usual 0.02 the bounds of 2 lie a hundred deviations away, and the
    law is plainly normal. `TruncatedNormal` counts its bounds in deviations.

    Example:

    >>> layer = keras.layers.Dense(
    ...     64, kernel_initializer=keras_inits.BoundedNormal(stddev=0.02)
    ... )

    Args:
        mean: mean of the parent law.
        stddev: standard deviation of the parent law.
        lower: lowest value.
        upper: highest value. A bound may lie as far away as a float goes.
        seed: as in `VarianceScaling`.

    Raises:
        ValueError: if `stddev` is not positive, `lower` is not below `upper`, or the
            interval is too narrow or too far away, as in `TruncatedNormal`.

    References:
        `torch.nn.init.trunc_normal_`, `timm.layers.trunc_normal_`.
    """

    def __init__(
        self,
        mean: float = 0.0,
        stddev: float = 1.0,
        lower: float = -2.0,
        upper: float = 2.0,
        seed: Seed = None,
    ) -> None:
        super().__init__(seed)
        finite(mean=mean, lower=lower, upper=upper)
        positive(stddev=stddev)
        check_interval(lower, upper, mean, stddev)
        self.mean = mean
        self.stddev = stddev
        self.lower = lower
        self.upper = upper

    def _draw(self, shape: tuple[int, ...], dtype: str, seeds: Seeds) -> Tensor:
        lowest, highest = self._nearer(self.lower), self._nearer(self.upper)
        return truncated_normal(
            shape, self.mean, self.stddev, lowest, highest, dtype, seeds
        )

    def _nearer(self, bound: float) -> float:
        """The bound, or a nearer one that no value reaches either: float32 holds it."""
        z = in_deviations(bound, self.mean, self.stddev)
        return float(bound) if abs(z) < REACH else self.mean + z * self.stddev

    def get_config(self) -> dict[str, Any]:
        return {
            "mean": self.mean,
            "stddev": self.stddev,
            "lower": self.lower,
            "upper": self.upper,
            **super().get_config(),
        }
