"""Truncated normal laws, of the deviation asked for."""

import math
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
from keras_inits.registry import register

# What an interval must hold: so much of the normal law; or, far from its mean, so much
# of it and such a share of what lies beyond the nearer bound. Narrower ones have too
# few float32 numbers in them to follow the law; beyond 6 deviations (1e-9) bounds are
# more likely mistaken.
_LEAST_MASS = 1e-4
_LEAST_TAIL, _LEAST_SHARE = 1e-9, 0.01
# Deviations beyond which float64 knows no probability: erfc(40 / sqrt(2)) is 0.
REACH = 40.0


@register("trunc_normal", law="normal cut at mean+lower*s, mean+upper*s; exact stddev")
class TruncatedNormal(Initializer):
    """Normal law cut off at `lower` and `upper`, whose values have deviation `stddev`.

    The values follow N(mean, sigma^2) restricted to
    `[mean + lower * sigma, mean + upper * sigma]`, with the parent deviation sigma
    so chosen that the values drawn have deviation `stddev` exactly. (Keras's
    `TruncatedNormal(stddev=s)` takes s for sigma, and yields 0.88 s.) `mean` is the
    parent's: with bounds that are not symmetric the values drawn have another one.
    No dtype holds a spread finer than its numbers are apart: with `mean=1.0` that is
    1e-3 in float16 and 8e-3 in bfloat16, and a much smaller `stddev` gives a constant.

    Example:

    >>> layer = keras.layers.Embedding(
    ...     1000, 64, embeddings_initializer="trunc_normal"
    ... )

    Args:
        mean: mean of the parent law.
        stddev: standard deviation of the values drawn.
        lower: lower bound, in parent deviations from the mean.
        upper: upper bound, in parent deviations from the mean. A bound beyond 40 is
            none.
        seed: as in `VarianceScaling`.

    Raises:
        ValueError: if `stddev` is not positive, `lower` is not below `upper`, or the
            interval is too narrow or too far away: it holds less than 1e-4 of the
            parent law and, in a tail, less than 1e-9 or less than a hundredth of
            what lies beyond its nearer bound.
    """

    def __init__(
        self,
        mean: float = 0.0,
        stddev: float = 0.05,
        lower: float = -2.0,
        upper: float = 2.0,
        seed: Seed = None,
    ) -> None:
        super().__init__(seed)
        finite(mean=mean, lower=lower, upper=upper)
        positive(stddev=stddev)
        check_interval(lower, upper)
        self.mean = mean
        self.stddev = stddev
        self.lower = lower
        self.upper = upper

    def _draw(self, shape: tuple[int, ...], dtype: str, seeds: Seeds) -> Tensor:
        lower, upper = within_reach(self.lower), within_reach(self.upper)
        sigma = self.stddev / truncated_moments(lower, upper)[1]
        lowest, highest = self.mean + lower * sigma, self.mean + upper * sigma
        return truncated_normal(shape, self.mean, sigma, lowest, highest, dtype, seeds)

    def get_config(self) -> dict[str, Any]:
        return {
            "mean": self.mean,
            "stddev": self.stddev,
            "lower": self.lower,
            "upper": self.upper,
            **super().get_config(),
        }


def check_interval(
    lower: float, upper: float, mean: float = 0.0, stddev: float = 1.0
) -> None:
    """Refuses intervals that are empty, too narrow or, by the parent law, too far."""
    if not lower < upper:
        raise ValueError(
            f"`lower` must be below `upper`. Received: lower={lower}, upper={upper}"
        )
    a, b = in_deviations(lower, mean, stddev), in_deviations(upper, mean, stddev)
    mass, beyond = _mass(a, b), math.erfc(max(a, -b) / math.sqrt(2)) / 2
    if mass < _LEAST_MASS and mass < max(_LEAST_TAIL, _LEAST_SHARE * beyond):
        raise ValueError(
            f"The interval must hold at least {_LEAST_MASS} of the normal law, or in "
            f"its tails {_LEAST_TAIL} and a hundredth of what lies beyond the nearer "
            f"bound. Received: lower={lower}, upper={upper}, which hold {mass:.1e} of "
            f"it (its mean is {mean}, its deviation {stddev}). Widen it, or draw from "
            "a uniform law."
        )


def in_deviations(bound: float, mean: float, stddev: float) -> float:
    """An absolute bound as a distance from the mean, no further than `REACH`."""
    return within_reach((float(bound) - float(mean)) / float(stddev))


def within_reach(bound: float) -> float:
    """A bound in deviations; one beyond `REACH` moved there, which changes nothing."""
    return max(-REACH, min(REACH, float(bound)))


def truncated_moments(lower: float, upper: float) -> tuple[float, float]:
    """Mean and deviation of a unit normal variable, given that it lies in an interval.

    Johnson, Kotz & Balakrishnan (1994), Continuous univariate distributions, 13.10:
    mean = (p(a) - p(b)) / Z, variance = 1 + (a p(a) - b p(b)) / Z - mean^2.
    """
    lower, upper = within_reach(lower), within_reach(upper)
    mass, at_lower, at_upper = _mass(lower, upper), _density(lower), _density(upper)
    mean = (at_lower - at_upper) / mass
    variance = 1 + (lower * at_lower - upper * at_upper) / mass - mean**2
    return mean, math.sqrt(variance)


def _density(z: float) -> float:
    return math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


def _mass(lower: float, upper: float) -> float:
    if lower > 0:  # the same interval mirrored: `erfc` keeps its digits there
        return _mass(-upper, -lower)
    return (math.erfc(-upper / math.sqrt(2)) - math.erfc(-lower / math.sqrt(2))) / 2
