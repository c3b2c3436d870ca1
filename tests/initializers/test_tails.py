"""Normal laws cut off anywhere: no values at a far bound, and tails with all digits."""

from __future__ import annotations

import contextlib
import math
import random
import sys
from typing import Any

import keras
import numpy as np
import pytest
from laws import cut, to_numpy
from scipy import special, stats

import keras_inits.initializers as inits
from keras_inits.initializers import sampling
from keras_inits.initializers.base import Seeds
from keras_inits.initializers.truncated_normal import truncated_moments

pytestmark = pytest.mark.any_keras

N = 1_000_000
INTERVALS = [
    (-2.0, 2.0),
    (0.0, 100.0),
    (3.0, 100.0),
    (3.5, 10.0),
    (-100.0, -3.5),
    (0.5, 3.0),
    (1.2, 1.4),
    (-0.001, 0.001),
    (5.0, 6.0),
    (-6.0, -5.0),
    (-1.0, 50.0),
    (-50.0, 1.0),
]
JAX = keras.backend.backend() == "jax"


def no_float64() -> Any:
    """JAX says so where float64 is not switched on."""
    return pytest.warns(UserWarning, match="x64") if JAX else contextlib.nullcontext()


@pytest.mark.parametrize(("lower", "upper"), INTERVALS)
def test_every_interval_follows_scipys_law(lower: float, upper: float) -> None:
    """The whole by Kolmogorov and Smirnov; the deviation to 5 of its standard errors
    and to 0.5 %; both ends by counts, against the binomial and the rounding of
    probabilities near 0 and 1 to multiples of 2**-23."""
    law = cut(0.0, 1.0, lower, upper)
    values = to_numpy(inits.TruncatedNormal(0.0, 1.0, lower, upper, seed=7)((N,)))
    assert law.support()[0] <= values.min()
    assert values.max() <= law.support()[1]
    assert stats.kstest(values, law.cdf).pvalue > 1e-4
    kurtosis = float(law.stats("k"))
    assert abs(values.std() - 1) < min(5e-3, 5 * ((kurtosis + 2) / 4 / N) ** 0.5)
    for chance in (1e-2, 1e-3, 1e-4, 1e-5):
        allowed = 4.5 * (N * chance) ** 0.5 + N * 2.0**-23
        assert abs((values < law.ppf(chance)).sum() - N * chance) < allowed
        assert abs((values > law.isf(chance)).sum() - N * chance) < allowed


@pytest.mark.parametrize(
    ("lower", "upper"), [(0.0, 2.0), (-2.0, 0.0), (-0.03, 2.0), (0.02, 2.0), (0.06, 2)]
)
def test_nothing_lies_at_a_far_bound(lower: float, upper: float) -> None:
    """At a hundred deviations: it would need the very last steps of the generator,
    so they are put in its place."""
    steps = np.array([0, 1, 2, 2**23 - 3, 2**23 - 2, 2**23 - 1]) * 2.0**-23
    steps = np.append(steps, 1 - 2.0**-24)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            keras.random,
            "uniform",
            lambda shape, low, high, dtype, seed: keras.ops.convert_to_tensor(
                steps, dtype
            ),
        )
        law = inits.BoundedNormal(stddev=0.02, lower=lower, upper=upper)
        values = to_numpy(law((7,)))
    assert np.abs(values).max() < 7 * 0.02


@pytest.mark.parametrize(("lower", "upper"), [(-100.0, 100.0), (0.0, 100.0), (5.0, 6)])
def test_float64_in_tails(lower: float, upper: float) -> None:
    """Also where JAX gives float32 for it: half a step is then that of float32."""
    initializer = inits.TruncatedNormal(0.0, 1.0, lower, upper, seed=7)
    law = cut(0.0, 1.0, lower, upper)
    with no_float64():
        values = to_numpy(initializer((N,), dtype="float64"))
    assert law.support()[0] <= values.min()
    assert values.max() <= law.support()[1]
    assert stats.kstest(values, law.cdf).pvalue > 1e-4
    with pytest.MonkeyPatch.context() as patch:
        ends = np.array([0.0, 1 - 2.0**-53])
        patch.setattr(
            keras.random,
            "uniform",
            lambda shape, low, high, dtype, seed: keras.ops.convert_to_tensor(
                ends, dtype
            ),
        )
        with no_float64():
            values = to_numpy(initializer((2,), dtype="float64"))
    sigma = law.support()[1] / upper
    assert np.abs(values).max() < 9 * sigma


def test_tail_quantiles_are_scipys() -> None:
    """To 4e-6 of a deviation (float32 has 4e-7 there) down to 1e-11, and to 4e-5."""
    for least, greatest, error in [(1e-11, sampling._TAIL, 4e-6), (1e-17, 1e-11, 4e-5)]:
        chance = np.geomspace(least, greatest, 10_000).astype("float32")
        drawn = keras.ops.convert_to_tensor(chance)
        got = to_numpy(sampling._tail_quantiles(drawn, 0.0, 0.0, 1.0, 1.0, 0.0))
        expected = special.ndtri(chance.astype("float64"))
        np.testing.assert_allclose(got, expected, rtol=0, atol=error)


def test_tails_keep_their_distinct_values() -> None:
    """Rounded with erfinv's argument, 2**-24 apart, no more than 5,000 remained."""
    values = to_numpy(inits.TruncatedNormal(0.0, 1.0, 3.5, 10.0, seed=1)((N,)))
    assert len(np.unique(values)) > 200_000


@pytest.mark.parametrize(
    ("lower", "upper", "accepted"),
    [
        (5.0, 6.0, True),
        (-6.0, -5.0, True),
        (6.5, 100.0, False),
        (5.0, 5.001, False),
        (-1e-4, 1e-4, False),
        (-2e-4, 2e-4, True),
    ],
)
def test_which_intervals_are_accepted(
    lower: float, upper: float, accepted: bool
) -> None:
    refusal = pytest.raises(ValueError, match="interval must hold at least")
    with contextlib.nullcontext() if accepted else refusal:
        inits.TruncatedNormal(lower=lower, upper=upper)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
@pytest.mark.parametrize("cls", [inits.BoundedNormal, inits.TruncatedNormal])
@pytest.mark.parametrize("far", [1e39, 1e200, sys.float_info.max, 10**300])
def test_a_bound_beyond_all_values_is_none(cls: Any, far: float, dtype: str) -> None:
    """The values of a bound at 40 deviations, where no probability is left."""
    kind = "float32" if JAX and dtype == "float64" else dtype
    for sides in ({"lower": 1}, {"lower": 1, "upper": -1}):
        bounds = {side: -sign * far for side, sign in sides.items()}
        nearer = {side: -sign * 40.0 for side, sign in sides.items()}
        one, other = (cls(stddev=1.0, seed=1, **b) for b in (bounds, nearer))
        np.testing.assert_array_equal(
            to_numpy(one((50, 40), dtype=kind)), to_numpy(other((50, 40), dtype=kind))
        )
        assert one.get_config()["lower"] == -far


@pytest.mark.parametrize(
    ("lower", "upper"), [*INTERVALS, (-1e200, 1.0), (1.0, 3.0), (-math.inf, math.inf)]
)
def test_moments_of_an_interval_are_scipys(lower: float, upper: float) -> None:
    mean, stddev = truncated_moments(lower, upper)
    expected = stats.truncnorm(max(-1e3, lower), min(1e3, upper)).stats("mv")
    assert mean == pytest.approx(float(expected[0]), rel=1e-9, abs=1e-12)
    assert stddev == pytest.approx(float(expected[1]) ** 0.5, rel=1e-4)


@pytest.mark.parametrize(
    ("initializer", "shape", "where", "expected"),
    [
        (inits.LogOddsBias(0.01), (1,), 0, math.log(0.01 / 0.99)),
        (inits.ForgetGateBias(0.1), (4,), 1, 0.1),
        (inits.Bilinear(), (5, 1, 1), (0, 0, 0), 1 / 3),
        (inits.ZerO(), (1, 2), (0, 0), 0.5**0.5),
        (inits.Dirac(gain=0.1), (1, 1), (0, 0), 0.1),
    ],
)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_fixed_values_are_rounded_once(
    initializer: Any, shape: Any, where: Any, expected: float, dtype: str
) -> None:
    import ml_dtypes

    with no_float64() if dtype == "float64" else contextlib.nullcontext():
        values = initializer(shape, dtype=dtype)
    kind = keras.backend.standardize_dtype(values.dtype)
    assert kind == ("float32" if JAX and dtype == "float64" else dtype)
    host = keras.ops.convert_to_numpy(
        keras.ops.cast(values, "float32") if kind == "bfloat16" else values
    )
    # math.log(a / b) and np.log(a) - np.log1p(-a) differ by a rounding or two.
    epsilon = float(ml_dtypes.finfo(kind).eps)
    slack = 4 * epsilon if kind == "float64" else epsilon / 2
    assert float(host[where]) == pytest.approx(expected, rel=slack)


def test_the_sign_of_a_seed_counts() -> None:
    """In every stream; those of other seeds are Python's, as they always were."""
    for seed in (1, 5, 2**40):
        plus, minus = Seeds(seed), Seeds(-seed)
        streams = [(plus.next(), minus.next()) for _ in range(4)]
        assert all(p != m for p, m in streams)
        numbers = random.Random(seed)
        first = [seed] if seed < 2**31 else []
        expected = first + [numbers.getrandbits(31) for _ in range(4 - len(first))]
        assert expected == [p for p, _ in streams]
    again = [Seeds(-5), Seeds(-5)]
    assert [again[0].next() for _ in range(3)] == [again[1].next() for _ in range(3)]


def test_every_digit_of_a_long_seed_counts() -> None:
    """In the first stream too, which most laws draw all from."""
    seeds = [0, 2**31, 2**32, 2**31 + 1, 1, 2**63, 2**64, 2**31 - 1, 2**32 - 1]
    assert len(seeds) == len({Seeds(seed).next() for seed in seeds})
    kernels = [to_numpy(inits.HeNormal(seed=seed)((6, 8))) for seed in (0, 2**31)]
    assert not np.array_equal(*kernels)


def test_seeds_of_opposite_sign_drop_other_connections() -> None:
    masks = [
        to_numpy(inits.SparseNormal(0.5, seed=seed)((50, 40))) == 0 for seed in (5, -5)
    ]
    assert not np.array_equal(*masks)
