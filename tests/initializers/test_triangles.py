"""Inverses of triangles against NumPy, and what JAX must not ask LAPACK for."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops
from models import normal

from keras_inits.initializers import triangles
from keras_inits.initializers.base import Seeds
from keras_inits.initializers.orthonormal import haar

pytestmark = pytest.mark.any_keras

ON_JAX = keras.backend.backend() == "jax"
SIZES = (1, 2, 31, 32, 127, 128, 129, 300, 513)
# Of each way: LAPACK's (31), row by row (32), and halves in halves (300).
IN_GROUPS = (31, 32, 300)


def in_groups(one: tuple[int, ...], *several: tuple[int, ...]) -> list[Any]:
    """Every size by itself, some of them in groups: each is compiled anew."""
    many = [(size, groups) for groups in several for size in IN_GROUPS]
    return [*((size, one) for size in SIZES), *many]


def lower(size: int, *groups: int) -> np.ndarray:
    """Well-conditioned triangles, as Gaussian noise makes them."""
    noise = normal(*groups, 3 * size + 4, size)
    return np.linalg.cholesky(np.swapaxes(noise, -1, -2) @ noise / size)


@pytest.mark.parametrize(("size", "groups"), in_groups((), (2,), (2, 3)))
def test_the_inverse(size: int, groups: tuple[int, ...]) -> None:
    triangle = lower(size, *groups)
    found = ops.convert_to_numpy(triangles.inverse(ops.convert_to_tensor(triangle)))
    expected = np.linalg.inv(triangle.astype("float64"))
    np.testing.assert_allclose(found, expected, atol=3e-6 * abs(expected).max())
    assert np.triu(found, 1).max() == 0.0


@pytest.mark.parametrize(("size", "groups"), in_groups((), (2,)))
def test_the_inverse_factor(size: int, groups: tuple[int, ...]) -> None:
    triangle = lower(size, *groups)
    gram = ops.convert_to_tensor(triangle @ np.swapaxes(triangle, -1, -2))
    found = ops.convert_to_numpy(triangles.inverse_factor(gram))
    expected = np.linalg.inv(triangle.astype("float64"))
    np.testing.assert_allclose(found, expected, atol=1e-5 * abs(expected).max())


@pytest.mark.parametrize("size", [3, 40, 200])
def test_the_solution(size: int) -> None:
    upper, right = np.swapaxes(lower(size, 2), -1, -2), normal(2, size, 5)
    found = triangles.solve_upper(*map(ops.convert_to_tensor, (upper, right)))
    expected = np.linalg.solve(upper.astype("float64"), right)
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, atol=1e-5)


@pytest.mark.skipif(not ON_JAX, reason="LAPACK's threads are in nobody's way")
@pytest.mark.parametrize("shape", [(600, 600), (900, 300), (300, 900)])
def test_no_triangular_solve_that_wakes_threads(shape: tuple[int, int]) -> None:
    import jax

    def draw() -> jax.Array:
        return haar(*shape, "float32", Seeds(1), (2,))

    text = jax.jit(draw).lower().as_text()
    assert "dot_general" in text
    assert "trsm" not in text and "triangular_solve" not in text


TWO_AT_ONCE = """
import jax
from keras_inits.initializers.base import Seeds
from keras_inits.initializers.orthonormal import haar

shapes = [(600, 600), (900, 300), (400, 400), (700, 200)]
draw = jax.jit(lambda: [haar(*x, "float32", Seeds(1), (3,)) for x in shapes])
print(len(jax.block_until_ready(draw())), "drawn")
"""


@pytest.mark.skipif(not ON_JAX, reason="others do not wait for each other")
def test_several_draws_in_one_program_come_to_an_end() -> None:
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    run = [sys.executable, "-c", TWO_AT_ONCE]
    found = subprocess.run(
        run, env=environment, capture_output=True, text=True, timeout=240
    )
    assert found.stdout.split() == ["4", "drawn"], found.stderr
