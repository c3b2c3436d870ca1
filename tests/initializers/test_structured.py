"""Kernels of a fixed structure, each against what it is for."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import pytest
from laws import FIXED, Record, check_law, gaussian, to_numpy
from scipy import linalg, stats

import keras_inits.initializers as inits
from keras_inits.initializers.base import Seeds
from keras_inits.initializers.orthonormal import haar

pytestmark = pytest.mark.any_keras


@pytest.mark.parametrize("record", FIXED, ids=lambda record: record.name)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_no_chance_in_it(record: Record, dtype: str) -> None:
    shape = (3, 2, 4)
    first, second = (record.build()(shape, dtype=dtype) for _ in range(2))
    np.testing.assert_array_equal(to_numpy(first), to_numpy(second))
    assert dtype == keras.backend.standardize_dtype(first.dtype)
    assert shape == tuple(first.shape)


@pytest.mark.parametrize("window", [(2,), (3,), (4,), (2, 3), (3, 1), (2, 2, 3)])
def test_orthogonal_convolutions_keep_the_norm(window: tuple[int, ...]) -> None:
    """Periodic borders, so its transfer matrix at every frequency is an isometry."""
    kernel = to_numpy(inits.ConvolutionOrthogonal(gain=2.0, seed=1)((*window, 3, 5)))
    assert np.abs(kernel).max(axis=(-1, -2)).min() > 1e-3  # every tap is in use
    axes = tuple(range(len(window)))
    transfer = np.fft.fftn(kernel, s=[6] * len(window), axes=axes).reshape(-1, 3, 5)
    gram = transfer @ transfer.conj().transpose(0, 2, 1)
    # What an orthonormal factor of size 5 may be off by in float32, times gain^2.
    atol = 2.0**2 * 2e-6 * np.sqrt(5)
    np.testing.assert_allclose(
        gram, np.broadcast_to(4 * np.eye(3), gram.shape), atol=atol
    )


def two_taps(draw: np.ndarray, coins: np.ndarray) -> list[np.ndarray]:
    """[P, I - P], P the projection on the columns that the coins chose."""
    chosen = draw[:, coins < 0.5]
    projection = chosen @ chosen.T
    return [projection, np.eye(len(draw)) - projection]


@pytest.mark.parametrize("window", [(3, 3), (4, 2), (2, 2, 3)])
def test_orthogonal_convolutions_are_those_of_the_paper(
    window: tuple[int, ...],
) -> None:
    """Xiao et al., algorithm 1, written plainly, on the same random numbers: an
    orthonormal map, then two taps along each axis in turn until none is too short."""
    inputs, outputs, seeds = 2, 4, Seeds(5)
    taps = {(0,) * len(window): to_numpy(haar(inputs, outputs, "float32", seeds))}
    for size in range(1, max(window)):
        for axis in range(len(window)):
            if size >= window[axis]:
                continue
            draw = to_numpy(haar(outputs, outputs, "float32", seeds))
            coins = to_numpy(keras.random.uniform((outputs,), seed=seeds.next()))
            longer: dict[tuple[int, ...], Any] = {}
            for place, value in taps.items():
                for step, factor in enumerate(two_taps(draw, coins)):
                    to = (*place[:axis], place[axis] + step, *place[axis + 1 :])
                    longer[to] = longer.get(to, 0) + value @ factor
            taps = longer
    kernel = to_numpy(inits.ConvolutionOrthogonal(seed=5)((*window, inputs, outputs)))
    for place in np.ndindex(*window):
        np.testing.assert_allclose(taps[place], kernel[place], atol=1e-5)


@pytest.mark.parametrize("outputs", [41, 64, 131])
def test_convolution_orthogonal_of_many_channels(outputs: int) -> None:
    """It keeps the norm of every signal: its taps together are isometries."""
    kernel = to_numpy(inits.ConvolutionOrthogonal(seed=1)((3, 3, 40, outputs)))
    total = sum(np.linalg.norm(kernel[i, j]) ** 2 for i in range(3) for j in range(3))
    assert total == pytest.approx(40, rel=1e-4)
    assert np.abs(kernel).max() < 1


def test_orthogonal_is_the_law_of_keras() -> None:
    """Same matrix, by the same convention, up to the law (tested as Haar's)."""
    kernel = to_numpy(inits.Orthogonal(gain=3.0)((3, 3, 4, 5))).reshape(36, 5)
    np.testing.assert_allclose(9 * np.eye(5), kernel.T @ kernel, atol=1e-5)
    wide = to_numpy(inits.Orthogonal()((5, 40)))
    np.testing.assert_allclose(np.eye(5), wide @ wide.T, atol=1e-5)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 3, 4])
@pytest.mark.parametrize("groups", [1, 2])
def test_dirac_passes_its_input_through(rank: int, size: int, groups: int) -> None:
    if groups > 1 and keras.backend.backend() == "tensorflow" and rank != 2:
        pytest.skip("TensorFlow on CPU has no such convolution")
    layers = [keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D]
    layer = layers[rank - 1](
        4,
        size,
        padding="same",
        groups=groups,
        kernel_initializer=inits.Dirac(groups=groups),
    )
    x = np.random.default_rng(0).normal(size=(2, *[5] * rank, 4)).astype("float32")
    np.testing.assert_allclose(x, to_numpy(layer(x)), atol=1e-6)


@pytest.mark.parametrize("law", [inits.Dirac, inits.ZerO])
@pytest.mark.parametrize(("inputs", "outputs"), [(6, 4), (4, 6)])
def test_axes_of_fixed_kernels_may_lie_anywhere(
    law: Any, inputs: int, outputs: int
) -> None:
    """`(outputs / 2, window, inputs, 2)`: the matrix, at the middle of the window."""
    kernel = to_numpy(
        law(gain=3.0, input_axes=[2], output_axes=[0, -1])((outputs // 2, 5, inputs, 2))
    )
    matrix = to_numpy(law(gain=3.0)((inputs, outputs)))
    taps = kernel.transpose(1, 2, 0, 3).reshape(5, inputs, outputs)
    np.testing.assert_array_equal(matrix, taps[2])
    assert not taps[[0, 1, 3, 4]].any()


def test_dirac_pads_with_zeros() -> None:
    kernel = to_numpy(inits.Dirac(groups=2, gain=3.0)((3, 2, 6)))
    assert not kernel[[0, 2]].any()
    expected = np.array([[3, 0, 0, 3, 0, 0], [0, 3, 0, 0, 3, 0]])
    np.testing.assert_array_equal(expected, kernel[1])


@pytest.mark.parametrize(
    ("inputs", "outputs"), [(4, 4), (6, 3), (3, 8), (3, 5), (300, 700)]
)
def test_zero_is_identity_or_hadamard(inputs: int, outputs: int) -> None:
    kernel = to_numpy(inits.ZerO(gain=2.0)((inputs, outputs)))
    if inputs >= outputs:
        np.testing.assert_array_equal(2 * np.eye(inputs, outputs), kernel)
    else:
        size = 2 ** math.ceil(math.log2(outputs))
        matrix = linalg.hadamard(size)[:inputs, :outputs]
        np.testing.assert_allclose(2 * matrix / size**0.5, kernel, rtol=1e-6)
    conv = to_numpy(inits.ZerO(gain=2.0)((3, 4, inputs, outputs)))
    np.testing.assert_array_equal(kernel, conv[1, 1])
    conv[1, 1] = 0
    assert not conv.any()


def test_zero_takes_no_more_memory_than_its_kernel() -> None:
    """As for an output over a vocabulary: all of Sylvester's matrix, of size 2**17,
    would take 128 GiB."""
    kernel = to_numpy(inits.ZerO()((3, 100_000)))
    expected = linalg.hadamard(2**10)[:3, :1000] * 2.0 ** (-17 / 2)
    np.testing.assert_allclose(kernel[:, :1000], expected, rtol=1e-6)


@pytest.mark.parametrize("stride", [2, 3, 4])
@pytest.mark.parametrize("channels", [1, 3])
def test_bilinear_is_upsampling(stride: int, channels: int) -> None:
    x = np.random.default_rng(0).normal(size=(2, 5, 6, channels)).astype("float32")
    layer = keras.layers.Conv2DTranspose(
        channels,
        2 * stride - stride % 2,
        strides=stride,
        padding="same",
        kernel_initializer="bilinear_upsampling",
    )
    expected = keras.layers.UpSampling2D(stride, interpolation="bilinear")(x)
    inner = slice(stride, -stride)
    np.testing.assert_allclose(
        to_numpy(expected)[:, inner, inner],
        to_numpy(layer(x))[:, inner, inner],
        atol=1e-5,
    )


def test_forget_gate_bias_opens_the_forget_gate() -> None:
    layer = keras.layers.LSTM(
        3, unit_forget_bias=False, bias_initializer=inits.ForgetGateBias(1.0)
    )
    theirs = keras.layers.LSTM(3, unit_forget_bias=True)
    for lstm in (layer, theirs):
        lstm.build((None, 2, 2))
    np.testing.assert_array_equal(to_numpy(theirs.cell.bias), to_numpy(layer.cell.bias))


def test_log_odds_bias_gives_the_prior() -> None:
    layer = keras.layers.Dense(
        2,
        activation="sigmoid",
        kernel_initializer="zeros",
        bias_initializer=inits.LogOddsBias([0.02, 0.7]),
    )
    y = to_numpy(layer(np.ones((1, 3), "float32")))
    np.testing.assert_allclose([[0.02, 0.7]], y, rtol=1e-5)


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.55, 1.0])
def test_sparse_normal(sparsity: float) -> None:
    values = to_numpy(inits.SparseNormal(sparsity, stddev=2.0, seed=1)((600, 41)))
    zeros = (values == 0).sum(axis=1)
    assert (zeros == math.ceil(sparsity * 41)).all()
    if 0 < sparsity < 1:
        share = (values == 0).mean(axis=0)  # no output is preferred
        expected = math.ceil(sparsity * 41) / 41
        assert np.abs(share - expected).max() < 4.5 * (0.25 / 600) ** 0.5
    if sparsity < 1:
        check_law(values[values != 0], gaussian(2.0))


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.55, 1.0])
def test_sparse_for_each_output(sparsity: float) -> None:
    initializer = inits.SparseNormal(sparsity, stddev=2.0, seed=1, per="output")
    kernel = to_numpy(initializer((3, 41, 200)))
    zeros = (kernel == 0).sum(axis=(0, 1))
    assert (zeros == math.ceil(sparsity * 3 * 41)).all()
    if 0 < sparsity < 1:
        share = (kernel == 0).mean(axis=-1)  # no input is preferred
        expected = math.ceil(sparsity * 3 * 41) / (3 * 41)
        assert np.abs(share - expected).max() < 4.5 * (0.25 / 200) ** 0.5
    if sparsity < 1:
        check_law(kernel[kernel != 0], gaussian(2.0))


@pytest.mark.parametrize("per", ["input", "output"])
def test_sparse_with_axes(per: Any) -> None:
    """`(outputs, 3 matrices, inputs, outputs)`: for each unit of each matrix."""
    law = inits.SparseNormal(0.3, seed=1, per=per, input_axes=[2], output_axes=[0, 3])
    zeros = to_numpy(law((4, 3, 50, 10))) == 0
    if per == "input":
        assert (zeros.sum(axis=(0, 3)) == 12).all()
    else:
        assert (zeros.sum(axis=2) == 15).all()
    axis = 2 if per == "input" else (0, 3)
    assert len(np.unique(zeros.sum(axis=axis))) > 5  # but not the other way round


def test_deepnorm_alpha() -> None:
    """alpha = (2N)^(1/4), for the kernels' gain of (8N)^(-1/4)."""
    assert inits.DeepNorm(layers=8).alpha == pytest.approx(2.0)


def test_siren_keeps_the_law_of_its_preactivations() -> None:
    """Deviation about 1 in every layer after the first (theorem 1.8 of the paper)."""
    x: Any = np.random.default_rng(0).uniform(-1, 1, (512, 2)).astype("float32")
    for i in range(6):
        kernel = inits.Siren(first=i == 0, seed=i)((x.shape[-1], 256))
        z = 30 * (x @ to_numpy(kernel))
        if i:
            assert np.std(z) == pytest.approx(1, abs=0.15)
        x = np.sin(z)


@pytest.mark.parametrize("floatx", ["bfloat16", "float16"])
def test_zeros_lie_anywhere_whatever_floatx_says(floatx: str) -> None:
    """Among equal chances the first come first: in bfloat16 there are 128 of them."""
    before = keras.config.floatx()
    try:
        keras.config.set_floatx(floatx)
        kernel = inits.SparseNormal(0.001, stddev=1.0, seed=1)((500, 4096), "float32")
    finally:
        keras.config.set_floatx(before)
    places = np.argwhere(to_numpy(kernel) == 0)[:, 1]
    assert len(places) == 500 * 5
    assert stats.kstest((places + 0.5) / 4096, "uniform").pvalue > 1e-4
