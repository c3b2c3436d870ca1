"""On JAX, values are those that Keras would draw, bit for bit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keras_inits.initializers import threefry

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="random numbers of JAX"
)

SHAPES = [(), (0, 3), (1,), (70_001,), (3, 5, 7), (2, 1, 1, 9)]


@pytest.mark.parametrize("seed", [0, 1, 7, 2**31 - 1])
@pytest.mark.parametrize("shape", SHAPES)
def test_normal(shape: tuple[int, ...], seed: int) -> None:
    assert threefry.serves(shape, "float32")
    expected = keras.random.normal(shape, -0.3, 2.7, seed=seed)
    found = threefry.normal(shape, -0.3, 2.7, "float32", seed)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("seed", [0, 1, 7, 2**31 - 1])
@pytest.mark.parametrize("shape", SHAPES)
def test_uniform(shape: tuple[int, ...], seed: int) -> None:
    expected = keras.random.uniform(shape, -0.3, 2.7, seed=seed)
    found = threefry.uniform(shape, -0.3, 2.7, "float32", seed)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_the_next_values_of_a_generator() -> None:
    one, two = keras.random.SeedGenerator(3), keras.random.SeedGenerator(3)
    for _ in range(3):
        expected = keras.random.normal((5,), seed=one)
        found = threefry.normal((5,), 0.0, 1.0, "float32", two)
        np.testing.assert_array_equal(found, expected)


def test_inside_a_trace() -> None:
    import jax

    def draw(x: Any) -> Any:
        return x + threefry.uniform((4,), 0.0, 1.0, "float32", 5)

    expected = keras.random.uniform((4,), seed=5)
    np.testing.assert_array_equal(jax.jit(draw)(np.zeros(4, "float32")), expected)


def test_another_generator_is_left_to_keras() -> None:
    import jax

    with jax.default_prng_impl("rbg"):
        assert not threefry.serves((3,), "float32")
    with jax.threefry_partitionable(not jax.config.jax_threefry_partitionable):
        assert threefry.serves((3,), "float32") == jax.config.jax_threefry_partitionable
    assert not threefry.serves((2**16, 2**16), "float32")


WIDE = """
import keras, numpy as np
from keras_inits.initializers import threefry
for seed in (0, 9):
    one = keras.random.normal((1000,), -0.3, 2.7, "float64", seed)
    two = threefry.normal((1000,), -0.3, 2.7, "float64", seed)
    assert one.dtype == two.dtype == "float64" and (one == two).all()
    one = keras.random.uniform((1000,), -0.3, 2.7, "float64", seed)
    two = threefry.uniform((1000,), -0.3, 2.7, "float64", seed)
    assert one.dtype == two.dtype == "float64" and (one == two).all()
    assert keras.random.uniform((9,), dtype="float32", seed=seed).dtype == "float32"
"""


def test_in_float64() -> None:
    root = str(Path(threefry.__file__).parents[2])
    own = {"JAX_ENABLE_X64": "1", "PYTHONPATH": root}
    command = [sys.executable, "-c", WIDE]
    subprocess.run(command, check=True, env={**os.environ, **own}, timeout=300)
