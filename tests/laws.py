"""The initializers and the laws they promise: one table, and one way to check it.

The laws are scipy's and the fans are counted here, so nothing of the package takes
part in what it is compared with.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from scipy import stats

import keras_inits.initializers as inits

Shape = tuple[int, ...]
Law = Any  # a frozen scipy distribution


@dataclasses.dataclass(frozen=True)
class Record:
    """A class, its arguments, and the law of its values for a shape (if it has one:
    structured kernels have tests of their own)."""

    cls: type
    config: dict[str, Any]
    law: Callable[[Shape], Law] | None = None

    def build(self, **more: Any) -> Any:
        return self.cls(**self.config, **more)

    @property
    def name(self) -> str:
        arguments = ",".join(f"{k}={v}" for k, v in self.config.items())
        return f"{self.cls.__name__}({arguments})"


def fan_in(shape: Shape) -> float:
    return max(1, shape[0] if len(shape) == 1 else math.prod(shape[:-1]))


def fan_out(shape: Shape) -> float:
    if len(shape) == 1:
        return max(1, shape[0])
    return max(1, math.prod(shape[:-2]) * shape[-1])


def fan_avg(shape: Shape) -> float:
    return (fan_in(shape) + fan_out(shape)) / 2


def gaussian(stddev: float) -> Law:
    return stats.norm(0, stddev)


def flat(bound: float) -> Law:
    return stats.uniform(-bound, 2 * bound)


def cut(mean: float, stddev: float, lower: float, upper: float) -> Law:
    """Truncated normal whose values have deviation `stddev`."""
    sigma = stddev / stats.truncnorm(lower, upper).std()
    return stats.truncnorm(lower, upper, mean, sigma)


def _all_but_last(shape: Shape) -> float:
    return max(1, math.prod(shape[:-1]))


RECORDS: list[Record] = [
    Record(inits.GlorotNormal, {}, lambda s: cut(0, fan_avg(s) ** -0.5, -2, 2)),
    Record(
        inits.GlorotNormal,
        {"gain": 3.0},
        lambda s: cut(0, 3 * fan_avg(s) ** -0.5, -2, 2),
    ),
    Record(inits.GlorotUniform, {}, lambda s: flat((3 / fan_avg(s)) ** 0.5)),
    Record(inits.HeNormal, {}, lambda s: cut(0, (2 / fan_in(s)) ** 0.5, -2, 2)),
    Record(inits.HeUniform, {}, lambda s: flat((6 / fan_in(s)) ** 0.5)),
    Record(inits.LecunNormal, {}, lambda s: cut(0, fan_in(s) ** -0.5, -2, 2)),
    Record(
        inits.LecunUniform, {"gain": 0.5}, lambda s: flat((0.75 / fan_in(s)) ** 0.5)
    ),
    Record(
        inits.XavierNormal, {"gain": 2.0}, lambda s: gaussian(2 * fan_avg(s) ** -0.5)
    ),
    Record(inits.XavierUniform, {}, lambda s: flat((3 / fan_avg(s)) ** 0.5)),
    Record(inits.KaimingNormal, {}, lambda s: gaussian((2 / fan_in(s)) ** 0.5)),
    Record(
        inits.KaimingNormal,
        {"mode": "fan_out", "nonlinearity": "tanh"},
        lambda s: gaussian(5 / 3 * fan_out(s) ** -0.5),
    ),
    Record(
        inits.KaimingUniform,
        {"nonlinearity": "leaky_relu", "negative_slope": 5**0.5},
        lambda s: flat(fan_in(s) ** -0.5),
    ),
    Record(
        inits.KaimingUniform,
        {"nonlinearity": "selu"},
        lambda s: flat(0.75 * (3 / fan_in(s)) ** 0.5),
    ),
    Record(inits.StandardNormal, {}, lambda s: gaussian(fan_in(s) ** -0.5)),
    Record(inits.StandardUniform, {}, lambda s: flat(fan_in(s) ** -0.5)),
    Record(inits.UniformUnitScaling, {}, lambda s: flat((3 / _all_but_last(s)) ** 0.5)),
    Record(
        inits.UniformUnitScaling,
        {"factor": 1.43},
        lambda s: flat(1.43 * (3 / _all_but_last(s)) ** 0.5),
    ),
    Record(
        inits.ContribVarianceScaling,
        {},
        lambda s: stats.truncnorm(-2, 2, 0, (2.6 / fan_in(s)) ** 0.5),
    ),
    Record(
        inits.ContribVarianceScaling,
        {"factor": 1.0, "mode": "FAN_AVG", "uniform": True},
        lambda s: flat((3 / fan_avg(s)) ** 0.5),
    ),
    Record(
        inits.VarianceScaling,
        {"scale": 0.7, "mode": "fan_out", "distribution": "untruncated_normal"},
        lambda s: gaussian((0.7 / fan_out(s)) ** 0.5),
    ),
    Record(
        inits.VarianceScaling,
        {"scale": 1.5, "mode": "fan_geo_avg", "distribution": "uniform"},
        lambda s: flat((4.5 / (fan_in(s) * fan_out(s)) ** 0.5) ** 0.5),
    ),
    Record(inits.TruncatedNormal, {}, lambda s: cut(0, 0.05, -2, 2)),
    Record(
        inits.TruncatedNormal,
        {"mean": 1.0, "stddev": 0.5, "lower": -1.0, "upper": 3.0},
        lambda s: cut(1.0, 0.5, -1, 3),
    ),
    Record(
        inits.TruncatedNormal,
        {"stddev": 2.0, "lower": 1.0, "upper": 2.5},
        lambda s: cut(0, 2.0, 1, 2.5),
    ),
    Record(
        inits.TruncatedNormal,
        {"stddev": 1.0, "lower": -9.0, "upper": 9.0},
        lambda s: cut(0, 1.0, -9, 9),
    ),
    Record(inits.BoundedNormal, {}, lambda s: stats.truncnorm(-2, 2)),
    Record(
        inits.BoundedNormal,
        {"mean": 0.5, "stddev": 0.2, "lower": 0.4, "upper": 1.0},
        lambda s: stats.truncnorm(-0.5, 2.5, 0.5, 0.2),
    ),
    Record(inits.DepthScaledNormal, {"layers": 8}, lambda s: gaussian(0.005)),
    Record(
        inits.DeepNorm,
        {"layers": 2},
        lambda s: gaussian(0.5 * fan_avg(s) ** -0.5),
    ),
    Record(inits.Siren, {}, lambda s: flat((6 / fan_in(s)) ** 0.5 / 30)),
    Record(inits.Siren, {"first": True}, lambda s: flat(1 / fan_in(s))),
    Record(inits.SparseNormal, {"sparsity": 0.5}),
    Record(inits.SparseNormal, {"sparsity": 0.5, "per": "output"}),
    Record(inits.LSUVNormal, {"gain": 1.5}),
    Record(inits.Orthogonal, {}),
    Record(inits.ConvolutionOrthogonal, {"gain": 2.0}),
    Record(inits.DeltaOrthogonal, {}),
    Record(inits.LooksLinear, {}),
    Record(inits.LooksLinear, {"mirrored_input": False, "negative_slope": 0.1}),
]

# No chance in these: the same values on every call.
FIXED: list[Record] = [
    Record(inits.Bilinear, {}),
    Record(inits.Dirac, {"groups": 2}),
    Record(inits.ForgetGateBias, {"value": 2.0}),
    Record(inits.LogOddsBias, {"prior": 0.2}),
    Record(inits.LogOddsBias, {"prior": [0.5, 0.1, 0.2, 0.2]}),
    Record(inits.ZerO, {}),
]

# One of each class, for what depends on the class alone and takes long.
CLASSES: list[Record] = list({record.cls: record for record in RECORDS}.values())


def to_numpy(values: Any) -> np.ndarray:
    """As float64, whatever the backend and the dtype."""
    return np.asarray(
        keras.ops.convert_to_numpy(keras.ops.cast(values, "float32"))
        if keras.backend.standardize_dtype(values.dtype) != "float64"
        else keras.ops.convert_to_numpy(values),
        dtype="float64",
    )


def check_law(values: np.ndarray, law: Law, rounding: float = 0.0) -> None:
    """Fails unless the values follow the law: shape, spread, centre and support.

    With fixed seeds the outcome is fixed; limits of 4.5 deviations and 1e-5 leave
    one chance in 10^5 that a right sampler had to be given another seed. KS alone
    would miss a wrong scale: at n = 20,000 it sees 5 % only every other time, while
    the deviation of the variance is sqrt((kurtosis + 2) / n) = 1 % or less.
    """
    values = np.asarray(values, dtype="float64").ravel()
    n = values.size
    assert n >= 10_000, "too few values to tell"
    kurtosis = float(law.stats(moments="k"))
    spread = values.var() / law.var()
    allowed = 4.5 * math.sqrt((kurtosis + 2) / n) + rounding
    assert abs(spread - 1) < allowed, f"spread {spread}"
    centre = (values.mean() - law.mean()) / law.std()
    assert abs(centre) < 4.5 / math.sqrt(n) + rounding, f"centre {centre}"
    lower, upper = law.support()
    assert lower <= values.min(), f"support: {values.min()} below {lower}"
    assert values.max() <= upper, f"support: {values.max()} above {upper}"
    if not rounding:
        tails = law.cdf(values.min()), law.sf(values.max())
        assert max(tails) < 20 / n, f"reach: beyond the extremes lie {tails}"
        chance = stats.kstest(values, law.cdf).pvalue
        assert chance > 1e-5, f"shape: p = {chance}"
