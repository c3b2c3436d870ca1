"""Looks at data in memory: block by block, in float64, without copies."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from keras_inits.arrays import BLOCK, all_alike, all_finite, mean_and_deviation

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "arrays",
    [
        [RNG.standard_normal((3 * BLOCK + 7,), dtype="float32")],
        [1e6 + RNG.standard_normal((500, 700)).astype("float32")],
        [1e30 * RNG.standard_normal((100, 7)).astype("float32")],  # squares: 1e60
        [RNG.integers(0, 255, (300, 28, 28), dtype="uint8"), np.eye(3)],
        [RNG.random((50, 4)) > 0.3, -np.ones((2, 100_000), "float16")],
        [RNG.standard_normal((400, 500))[::3, ::-2]],
        [np.asfortranarray(RNG.standard_normal((400, 500)))],
        [np.full((4, 5), 3.0, "float32")],
        [np.zeros((0, 3)), RNG.standard_normal((2, 3))],
    ],
    ids=range(9),
)
def test_mean_and_deviation_are_those_of_all_values(arrays: list[np.ndarray]) -> None:
    values = np.concatenate([x.astype("float64").ravel() for x in arrays])
    expected = [values.mean(), values.std()]
    np.testing.assert_allclose(mean_and_deviation(arrays), expected, rtol=1e-12)


def test_of_nothing_they_are_zero() -> None:
    assert mean_and_deviation([]) == (0.0, 0.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_is_not_lost(value: float) -> None:
    x = RNG.standard_normal((2 * BLOCK,), dtype="float32")
    assert all_finite(x)
    x[BLOCK + 3] = value
    mean, deviation = mean_and_deviation([x])
    assert not np.isfinite(mean)
    assert np.isnan(deviation)
    assert not all_finite(x)


def test_a_look_takes_no_memory() -> None:
    x = RNG.standard_normal((64, 224, 224, 3), dtype="float32")  # 38 MB
    tracemalloc.start()
    try:
        mean_and_deviation([x])
        all_finite(x)
        assert not all_alike(x)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2e6


def test_rows_are_alike_only_where_every_one_is() -> None:
    x = np.tile(RNG.standard_normal((1, 9)), (5, 1))
    assert all_alike(x)
    x[2, 4] += 1.0  # neither the first nor the last
    assert not all_alike(x)
    assert not all_alike(x[:1])
    assert not all_alike(x[:0])
