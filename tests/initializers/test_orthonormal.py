"""Orthonormal kernels: exact to working precision, and uniform (Haar's law)."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
from laws import to_numpy
from scipy import stats

import keras_inits.initializers.orthonormal as orthonormal
from keras_inits.initializers import DeltaOrthogonal, LSUVNormal
from keras_inits.initializers.base import Seeds
from keras_inits.initializers.orthonormal import haar

pytestmark = pytest.mark.any_keras


@pytest.fixture
def reflected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small kernels by the products of reflections that large ones are made of."""
    monkeypatch.setattr(orthonormal, "_SMALL", 0)


@pytest.fixture(params=["lapack", "reflected"])
def each_way(request: pytest.FixtureRequest) -> None:
    """Small kernels in both ways."""
    if request.param == "reflected":
        request.getfixturevalue("reflected")


def draws(rows: int, columns: int, count: int, seed: int = 0) -> np.ndarray:
    """`count` independent matrices, as groups of one call."""
    return to_numpy(haar(rows, columns, "float32", Seeds(seed), (count,)))


def error(matrix: np.ndarray) -> float:
    """|Q'Q - I| in the Frobenius norm, of the shorter side."""
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    return float(np.linalg.norm(tall.T @ tall - np.eye(tall.shape[1])))


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize(
    "shape",
    [
        *[(1, 1), (2, 2), (7, 7), (1, 9), (9, 1), (64, 5), (300, 300), (90, 700)],
        *[(64, 32), (600, 300), (40, 2000)],
    ],
)
def test_orthonormal_to_working_precision(shape: tuple[int, int]) -> None:
    """2e-6 sqrt(n): a few units in the last place per column."""
    for seed in range(3):
        matrix = to_numpy(LSUVNormal(seed=seed)(shape))
        assert error(matrix) <= 2e-6 * math.sqrt(min(shape))


@pytest.mark.parametrize("shape", [(7, 5), (70, 33), (300, 290)])
def test_float64_is_not_narrowed(shape: tuple[int, int]) -> None:
    if keras.backend.backend() == "jax":
        pytest.skip("JAX has no float64 unless it is switched on")
    assert error(to_numpy(haar(*shape, "float64", Seeds(0)))) < 1e-12


@pytest.mark.usefixtures("reflected")
@pytest.mark.parametrize(
    ("rows", "columns", "panel"), [(6, 4, 512), (19, 13, 5), (12, 12, 4), (7, 6, 5)]
)
def test_is_the_product_of_householder_reflections(
    monkeypatch: pytest.MonkeyPatch, rows: int, columns: int, panel: int
) -> None:
    """Stewart's algorithm, written plainly; the noise comes panel by panel."""
    monkeypatch.setattr(orthonormal, "_PANELS", (panel, panel))
    starts = range(0, columns, panel)
    shapes = [(rows - i, min(panel, columns - i)) for i in starts]
    total = math.ceil(sum(n * m for n, m in shapes) / 2) * 2
    numbers = iter(to_numpy(keras.random.normal((total,), seed=3)))
    noise = np.zeros((rows, columns))
    for i, (n, m) in zip(starts, shapes, strict=True):
        values = [next(numbers) for _ in range(n * m)]
        noise[i:, i : i + m] = np.reshape(values, (n, m))
    product, signs = np.eye(rows), np.ones(rows)
    for i in range(columns):
        x = np.concatenate([np.zeros(i), noise[i:, i]])
        side = 1.0 if noise[i, i] >= 0 else -1.0
        v = x.copy()
        v[i] += side * np.linalg.norm(x)
        product = product @ (np.eye(rows) - 2 * np.outer(v, v) / (v @ v))
        signs[i] = -side
    expected = (product * signs)[:, :columns]
    drawn = to_numpy(haar(rows, columns, "float32", Seeds(3)))
    np.testing.assert_allclose(expected, drawn, atol=2e-6)


@pytest.mark.parametrize(("rows", "columns"), [(70, 33), (9, 5), (12, 2)])
def test_the_qr_factor_with_a_positive_diagonal(rows: int, columns: int) -> None:
    """By LAPACK in float64, of the same noise: tall ones, and small ones."""
    noise = to_numpy(keras.random.normal((3, rows, columns), seed=3))
    factor, triangle = np.linalg.qr(noise.astype("float64"))
    diagonal = np.diagonal(triangle, axis1=-2, axis2=-1)
    expected = factor * np.sign(diagonal)[:, None, :]
    drawn = to_numpy(haar(rows, columns, "float32", Seeds(3), (3,)))
    np.testing.assert_allclose(expected, drawn, atol=4e-6)
    wide = to_numpy(haar(columns, rows, "float32", Seeds(3), (3,)))
    np.testing.assert_allclose(drawn, wide.transpose(0, 2, 1), atol=1e-7)


def test_haar_of_tall_ones_against_scipy() -> None:
    """Entries and their sum, beside the first columns of scipy's matrices."""
    ours = draws(70, 33, 800, seed=1)
    theirs = stats.ortho_group(70, seed=2).rvs(800)[:, :, :33]
    for i, j in ((0, 0), (0, 32), (69, 0), (69, 32), (35, 16)):
        assert stats.ks_2samp(ours[:, i, j], theirs[:, i, j]).pvalue > 1e-5
    sums = ours.sum(axis=(1, 2)), theirs.sum(axis=(1, 2))
    assert stats.ks_2samp(*sums).pvalue > 1e-5


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 2), (3, 3), (5, 5), (5, 2)])
def test_haar_by_its_entries(rows: int, columns: int) -> None:
    """Each squared entry follows Beta(1/2, (n - 1)/2); its sign is a fair coin."""
    values = draws(rows, columns, 6000)
    positive = (values > 0).mean(axis=0)
    assert np.abs(positive - 0.5).max() < 4.5 * 0.5 / math.sqrt(6000)
    if rows > 1:
        law = stats.beta(0.5, (rows - 1) / 2)
        for i in range(rows):
            for j in range(columns):
                assert stats.kstest(values[:, i, j] ** 2, law.cdf).pvalue > 1e-5


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("size", [2, 3, 6])
def test_haar_against_scipy(size: int) -> None:
    """Trace, its square's trace, eigenvalue angles, minors: two-sample tests."""
    ours = draws(size, size, 5000, seed=1)
    theirs = stats.ortho_group(size, seed=2).rvs(5000)

    def features(matrices: np.ndarray) -> list[np.ndarray]:
        angles = np.sort(np.abs(np.angle(np.linalg.eigvals(matrices))), axis=1)
        return [
            np.trace(matrices, axis1=1, axis2=2),
            np.trace(matrices @ matrices, axis1=1, axis2=2),
            angles[:, 0],
            angles[:, -1],
            np.diff(angles, axis=1).max(axis=1),
            matrices[:, 0, 0] * matrices[:, 1, 1]
            - matrices[:, 0, 1] * matrices[:, 1, 0],
            (matrices[:, 0] * matrices[:, -1] ** 3).sum(axis=1),
        ]

    for one, other in zip(features(ours), features(theirs), strict=True):
        # eigenvalues at 0 and pi are found within rounding: compare what is visible
        assert stats.ks_2samp(one.round(3), other.round(3)).pvalue > 1e-5
    reflections = (np.linalg.det(ours) < 0).mean()
    assert abs(reflections - 0.5) < 4.5 * 0.5 / math.sqrt(5000)


@pytest.mark.usefixtures("each_way")
def test_moments_of_the_trace() -> None:
    """E[tr Q^2k] = (2k - 1)!! for n >= 2k (Diaconis & Shahshahani 1994)."""
    traces = np.trace(draws(8, 8, 20_000, seed=4), axis1=1, axis2=2)
    for power, moment, square in ((1, 0, 1), (2, 1, 3), (3, 0, 15), (4, 3, 105)):
        allowed = 4.5 * math.sqrt((square - moment**2) / 20_000)
        assert abs((traces**power).mean() - moment) < allowed


@pytest.mark.usefixtures("each_way")
def test_invariant_under_rotation() -> None:
    """Haar's law is the one that a fixed rotation, on either side, leaves alone."""
    values = draws(4, 3, 6000, seed=5)
    left = stats.ortho_group(4, seed=6).rvs()
    right = stats.ortho_group(3, seed=7).rvs()
    turned = left @ draws(4, 3, 6000, seed=8) @ right
    for i in range(4):
        for j in range(3):
            assert stats.ks_2samp(values[:, i, j], turned[:, i, j]).pvalue > 1e-5


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_dtypes_are_rounded_only(dtype: str) -> None:
    wide = to_numpy(LSUVNormal(seed=1)((30, 20)))
    narrow = to_numpy(LSUVNormal(seed=1)((30, 20), dtype=dtype))
    assert np.abs(wide - narrow).max() < (2.0**-8 if dtype == "bfloat16" else 2.0**-11)


def test_convolutions_are_flattened_to_inputs_and_outputs() -> None:
    kernel = to_numpy(LSUVNormal(gain=2.0, seed=0)((3, 3, 4, 8)))
    assert error(kernel.reshape(36, 8) / 2) < 1e-5


def test_axes_make_the_matrix() -> None:
    """Axes given: inputs and outputs are theirs, each of the other indices apart."""
    initializer = LSUVNormal(input_axes=[1], output_axes=[3, 0])
    kernel = to_numpy(initializer((2, 9, 5, 3)))
    for group in range(5):
        matrix = kernel[:, :, group].transpose(1, 2, 0).reshape(9, 6)
        assert error(matrix) < 1e-5
    assert not np.allclose(kernel[:, :, 0], kernel[:, :, 1])


@pytest.mark.parametrize("window", [(), (3,), (4,), (3, 5), (2, 1, 3)])
def test_delta_convolution_keeps_lengths(window: tuple[int, ...]) -> None:
    """`padding="same"`, more outputs than inputs: every pixel keeps its length."""
    kernel = to_numpy(DeltaOrthogonal(seed=3)((*window, 4, 6)))
    assert np.count_nonzero(kernel) == 24
    if not window:
        return
    layer_class = [keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D]
    layer = layer_class[len(window) - 1](
        6, window, padding="same", kernel_initializer=DeltaOrthogonal(gain=2.0)
    )
    x = np.random.default_rng(0).normal(size=(2, *[6] * len(window), 4))
    y = to_numpy(layer(x.astype("float32")))
    np.testing.assert_allclose(
        2 * np.linalg.norm(x, axis=-1), np.linalg.norm(y, axis=-1), rtol=1e-5
    )
