"""Every class of the table follows its law, in every shape and dtype."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from laws import FIXED, RECORDS, Record, check_law, cut, flat, gaussian, to_numpy
from scipy import stats

from keras_inits.initializers import DepthScaledNormal, LooksLinear
from keras_inits.initializers import __all__ as names
from keras_inits.initializers.sampling import round_down
from keras_inits.initializers.variance_scaling import TRUNCATED_STDDEV

pytestmark = pytest.mark.any_keras

SCALAR = [record for record in RECORDS if record.law is not None]
SHAPES = [(20_001,), (143, 141), (23, 21, 43), (2, 3, 2, 41, 43)]


def names_of(record: Record) -> str:
    return record.name


def test_table_has_every_class() -> None:
    classes = {record.cls.__name__ for record in [*RECORDS, *FIXED]}
    assert classes == set(names)


@pytest.mark.parametrize("record", SCALAR, ids=names_of)
def test_values_follow_the_law(record: Record) -> None:
    assert record.law is not None
    for seed, shape in enumerate(SHAPES):
        values = record.build(seed=seed)(shape)
        assert tuple(values.shape) == shape
        check_law(to_numpy(values), record.law(shape))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
@pytest.mark.parametrize("record", SCALAR, ids=names_of)
def test_other_dtypes_follow_the_law_within_its_bounds(
    record: Record, dtype: str
) -> None:
    """Half a unit in the last place of a bfloat16 is 2**-9, hence the slack."""
    assert record.law is not None
    if dtype == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX has no float64 unless it is switched on")
    values = record.build(seed=3)((143, 141), dtype=dtype)
    assert dtype == keras.backend.standardize_dtype(values.dtype)
    check_law(to_numpy(values), record.law((143, 141)), rounding=2.0**-7)


@pytest.mark.parametrize("record", RECORDS, ids=names_of)
@pytest.mark.parametrize(
    "shape", [(1, 2), (0, 4), (4, 0), (5, 3, 2), (0, 3, 4), (2, 0, 3, 4), (1, 1, 2, 2)]
)
def test_small_and_empty_shapes(record: Record, shape: tuple[int, ...]) -> None:
    if record.cls.__name__ == "ConvolutionOrthogonal" and shape[-2] > shape[-1]:
        pytest.skip("refused, and tested with its like")
    config = dict(record.config)
    if record.cls.__name__ == "LooksLinear" and 1 in shape[-2:]:
        config["mirrored_input"] = False
    values = record.cls(**config)(shape, dtype="float16")
    assert shape == tuple(values.shape)
    assert np.isfinite(to_numpy(values)).all()


@pytest.mark.parametrize("record", SCALAR, ids=names_of)
def test_scalars_and_vectors_of_one(record: Record) -> None:
    for shape in ((), (1,)):
        assert shape == tuple(record.build()(shape).shape)


@pytest.mark.parametrize(
    "record", [r for r in RECORDS if hasattr(r.cls, "_fans")], ids=names_of
)
def test_axes_define_the_fans(record: Record) -> None:
    """(40, 25) inputs and outputs behind other axes: the same law as the matrix."""
    if record.law is None:
        pytest.skip("structured kernels have their own test")
    values = record.build(seed=0, input_axes=[2], output_axes=[-1])((3, 7, 40, 25))
    check_law(to_numpy(values), record.law((40, 25)))


class _Wrong:
    """Samplers with the mistakes that the check is there to find."""

    @staticmethod
    def draw(kind: str, n: int) -> np.ndarray:
        rng = np.random.default_rng(0)
        sigma = 1 / 8
        cut_off = stats.truncnorm(-2, 2).rvs(n, random_state=rng) * sigma
        return {
            "no correction for truncation": cut_off,
            "fan - 1": cut_off / TRUNCATED_STDDEV * (64 / 63) ** 0.5,
            "swapped axes": cut_off / TRUNCATED_STDDEV * (64 / 72) ** 0.5,
            "not truncated": rng.normal(size=n) * sigma,
            "shifted": cut_off / TRUNCATED_STDDEV + 0.05 * sigma,
            "narrow": np.clip(cut_off / TRUNCATED_STDDEV, -0.28, 0.28),
            "flat": _Wrong.other_shape(rng, n),
        }[kind]

    @staticmethod
    def other_shape(rng: np.random.Generator, n: int) -> np.ndarray:
        """As wide as the law, reaching as far, and flat for 19 values in 20."""
        bound = 2 / 8 / TRUNCATED_STDDEV
        ends = rng.uniform(-bound, bound, n)
        share = 0.05
        rest = (1 / 64 - share * bound**2 / 3) / (1 - share)
        inner = rng.uniform(-1, 1, n) * (3 * rest) ** 0.5
        return np.where(rng.uniform(size=n) < share, ends, inner)


@pytest.mark.parametrize(
    ("kind", "seen"),
    [
        ("no correction for truncation", "spread 0.77"),
        ("fan - 1", "spread 1.01"),
        ("swapped axes", "spread 0.88"),
        ("not truncated", "support: .* below"),
        ("shifted", "centre 0.0"),
        ("narrow", "reach: beyond the extremes"),
        ("flat", "shape: p = "),
    ],
)
def test_check_sees_a_wrong_law(kind: str, seen: str) -> None:
    right = cut(0, 1 / 8, -2, 2)
    check_law(right.rvs(200_000, random_state=0), right)
    with pytest.raises(AssertionError, match=seen):
        check_law(_Wrong.draw(kind, 200_000), right)


def test_truncated_deviation_is_scipys() -> None:
    assert stats.truncnorm(-2, 2).std() == pytest.approx(TRUNCATED_STDDEV, abs=1e-15)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_bounds_round_down_to_the_grid(dtype: str) -> None:
    import ml_dtypes

    kind = getattr(ml_dtypes, dtype, dtype)
    rng = np.random.default_rng(1)
    largest = float(ml_dtypes.finfo(kind).max)
    assert round_down(2 * min(largest, 1e307), dtype) <= largest
    assert round_down(largest, dtype) == largest
    for bound in [*rng.normal(size=200), 1.0, 2.0**-15 / 3, -1e-7, 0.0, 65000.1, 6e-8]:
        rounded = round_down(bound, dtype)
        assert rounded == float(np.array(rounded).astype(kind))
        assert rounded <= bound
        above = np.nextafter(
            np.array(rounded).astype(kind), np.array(np.inf).astype(kind)
        )
        assert float(above) > bound


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_bounds_between_two_numbers_are_kept(dtype: str) -> None:
    """0.1 * sqrt(3) and 0.3 are no numbers of these types; nearest would exceed."""
    from keras_inits.initializers import TruncatedNormal, UniformUnitScaling

    for initializer, law in [
        (UniformUnitScaling(0.1, seed=1), flat(0.1 * 3**0.5)),
        (TruncatedNormal(0.0, 0.3, -0.01, 0.01, seed=1), cut(0, 0.3, -0.01, 0.01)),
    ]:
        values = to_numpy(initializer((1, 50_000), dtype=dtype))
        assert law.support()[0] <= values.min()
        assert values.max() <= law.support()[1]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_bounds_beyond_the_largest_number_are_no_infinities(dtype: str) -> None:
    """At 4.5 deviations the largest number cuts off 7e-6 of the law."""
    import ml_dtypes

    from keras_inits.initializers import BoundedNormal, TruncatedNormal

    largest = float(ml_dtypes.finfo(dtype).max)
    stddev = largest / 4.5
    for initializer in (
        BoundedNormal(0.0, stddev, -10 * largest, 2 * largest, seed=2),
        TruncatedNormal(0.0, stddev, -30.0, 30.0, seed=2),
    ):
        values = to_numpy(initializer((500, 500), dtype=dtype)).astype("float64")
        assert abs(values).max() <= largest
        check_law(values / stddev, stats.truncnorm(-4.5, 4.5), rounding=2.0**-7)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_law_that_does_not_fit_the_dtype_is_refused(dtype: str) -> None:
    import ml_dtypes

    from keras_inits import initializers

    largest = float(ml_dtypes.finfo(dtype).max)
    fan_in_one = {"scale": (2 * largest) ** 2, "distribution": "uniform"}
    for name, config in {
        "BoundedNormal": {"stddev": largest, "lower": -9e99, "upper": 9e99},
        "TruncatedNormal": {"stddev": largest},
        "UniformUnitScaling": {"factor": 2 * largest},
        "VarianceScaling": fan_in_one,
    }.items():
        initializer = getattr(initializers, name)(**config)
        with pytest.raises(ValueError, match=rf"numbers of {dtype}.*Received: bounds"):
            initializer((1, 8), dtype=dtype)


# (1, 8): the fans are 1 and 8, their mean is 4.5. Each with what its message names.
BEYOND: list[tuple[str, dict[str, float], str]] = [
    ("DepthScaledNormal", {"stddev": 1.5}, "stddev="),
    ("SparseNormal", {"stddev": 1.0}, "stddev="),
    ("XavierNormal", {"gain": 4.5**0.5}, "stddev="),
    ("ConvolutionOrthogonal", {"gain": 1.01}, "gain="),
    ("DeltaOrthogonal", {"gain": 1.01}, "gain="),
    ("LSUVNormal", {"gain": 1.01}, "gain="),
    ("LooksLinear", {"gain": 1.01}, "gain="),
    ("Orthogonal", {"gain": 1.01}, "gain="),
    ("Dirac", {"gain": 1.01}, "value="),
    ("ForgetGateBias", {"value": -1.01}, "value="),
    ("ZerO", {"gain": 3.0}, "value="),
]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize(("name", "config", "named"), BEYOND)
def test_laws_without_bounds_that_do_not_fit_are_refused(
    name: str, config: dict[str, float], named: str, dtype: str
) -> None:
    """What is given here is in units of the dtype's largest number."""
    import ml_dtypes

    from keras_inits import initializers

    largest = float(ml_dtypes.finfo(dtype).max)
    shape = (2, 8) if name == "LooksLinear" else (1, 8)
    law = getattr(initializers, name)
    scaled = {key: value * largest for key, value in config.items()}
    with pytest.raises(ValueError, match=rf"numbers of {dtype}.*Received: {named}"):
        law(**scaled)(shape, dtype=dtype)
    smaller = {key: value / 8 for key, value in scaled.items()}
    assert np.isfinite(to_numpy(law(**smaller)(shape, dtype=dtype))).all()


def test_a_slope_that_takes_mirrored_blocks_beyond_the_dtype() -> None:
    law = LooksLinear(negative_slope=-1 + 2.0**-20)
    with pytest.raises(ValueError, match=r"float16.*negative_slope\)=1\.05e\+06"):
        law((4, 4), dtype="float16")
    assert np.isfinite(to_numpy(law((4, 4), dtype="float32"))).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_what_little_of_a_normal_law_lies_beyond_is_no_infinity(dtype: str) -> None:
    """At 4.5 deviations 7e-6 of it: 7 of a million values."""
    import ml_dtypes

    largest = float(ml_dtypes.finfo(dtype).max)
    law = DepthScaledNormal(stddev=largest / 4.5 * 2**0.5, seed=3)
    values = to_numpy(law((1000, 1000), dtype=dtype)) / largest
    assert np.abs(values).max() == 1


def test_tails_are_right_to_four_deviations() -> None:
    """Counts beyond 2, 3 and 4 deviations, on both sides, against the binomial."""
    from keras_inits.initializers import TruncatedNormal, XavierNormal

    n = 4_000_000
    for initializer, law in [
        (TruncatedNormal(0.0, 1.0, -6.0, 6.0, seed=5), cut(0, 1, -6, 6)),
        (XavierNormal(seed=5), gaussian((2 / 4000) ** 0.5)),
    ]:
        values = to_numpy(initializer((2000, 2000))) / law.std()
        for limit in (2, 3, 4):
            chance = float(stats.norm.sf(limit))
            allowed = 4.5 * (n * chance * (1 - chance)) ** 0.5
            assert abs((values > limit).sum() - n * chance) < allowed
            assert abs((values < -limit).sum() - n * chance) < allowed


def test_both_tails_are_drawn_alike() -> None:
    """Generators give k / 2**23, k from 0: the middle of each step is what counts,
    else the lower tail would reach further than the upper one."""
    from keras_inits.initializers.sampling import _quantiles

    steps = np.array([0, 1, 2, 1000, 2**21, 2**22 - 1]) * 2.0**-23
    both = np.concatenate([steps, 1 - 2.0**-23 - steps])
    drawn = keras.ops.convert_to_tensor(both.astype("float32"))
    values = to_numpy(_quantiles(drawn, 2.0**-24, -1.0, 2.0, 2**0.5, 0.0))
    np.testing.assert_allclose(values[:6], -values[6:], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("chance", [0.0, 2.0**-24, 1 - 2.0**-24])
def test_the_ends_of_the_generator_are_no_infinities(chance: float) -> None:
    """A uniform 0 would come out at the bound, however unlikely that is."""
    from keras_inits.initializers.sampling import _quantiles

    drawn = keras.ops.convert_to_tensor([chance], dtype="float32")
    value = to_numpy(_quantiles(drawn, 2.0**-24, -1.0, 2.0, 2**0.5, 0.0))
    assert 5 < abs(value[0]) < 5.6
