"""Looks-linear stacks are linear, and keep lengths, at any depth."""

from __future__ import annotations

import itertools
from typing import Any

import keras
import numpy as np
import pytest
from laws import to_numpy

from keras_inits.initializers import LooksLinear

DEPTH = 200
ACTIVATIONS: dict[str, tuple[Any, float]] = {
    "relu": ("relu", 0.0),
    "gelu": ("gelu", 0.0),
    "silu": ("silu", 0.0),
    "softplus": ("softplus", 0.0),
    "leaky_relu": (lambda x: keras.ops.leaky_relu(x, negative_slope=0.3), 0.3),
}


def stack(
    activation: Any, slope: float, width: int, inputs: int, outputs: int
) -> list[keras.layers.Layer]:
    """A plain stack of Dense layers, `DEPTH` of them, the middle ones taking turns."""

    def dense(size: int, units: int, act: Any, **config: Any) -> keras.layers.Layer:
        kernel = LooksLinear(negative_slope=slope, **config)
        layer = keras.layers.Dense(units, act, kernel_initializer=kernel)
        layer.build((None, size))
        return layer

    first = dense(inputs, width, activation, mirrored_input=False)
    middle = [dense(width, width, activation) for _ in range(6)]
    last = dense(width, outputs, None, mirrored_output=False)
    turns = itertools.islice(itertools.cycle(middle), DEPTH - 2)
    return [first, *turns, last]


def run(layers: list[keras.layers.Layer], x: np.ndarray) -> np.ndarray:
    value: Any = x.astype("float32")
    for layer in layers:
        value = layer(value)
    return to_numpy(value)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_two_hundred_layers_are_one_orthonormal_map(name: str) -> None:
    """Rounding alone: 200 layers, each 2**-24 of values up to about 1 (softplus and
    GELU lose a little more where they subtract)."""
    activation, slope = ACTIVATIONS[name]
    layers = stack(activation, slope, width=16, inputs=8, outputs=8)
    matrix = run(layers, np.eye(8))
    np.testing.assert_allclose(
        np.ones(8), np.linalg.svd(matrix, compute_uv=False), atol=2e-4
    )
    x = np.random.default_rng(0).normal(size=(32, 8))
    np.testing.assert_allclose(x @ matrix, run(layers, x), atol=1e-3)
    np.testing.assert_allclose(-run(layers, x), run(layers, -x), atol=1e-3)


@pytest.mark.parametrize("name", ["relu", "leaky_relu"])
def test_odd_widths_leave_the_last_unit_out(name: str) -> None:
    activation, slope = ACTIVATIONS[name]
    layers = stack(activation, slope, width=17, inputs=7, outputs=8)
    middle = to_numpy(layers[5].kernel)
    assert not middle[-1].any()
    assert not middle[:, -1].any()
    matrix = run(layers, np.eye(7))
    np.testing.assert_allclose(
        np.ones(7), np.linalg.svd(matrix, compute_uv=False), atol=2e-4
    )


def test_blocks_are_mirrored() -> None:
    kernel = to_numpy(LooksLinear(gain=3.0)((8, 12)))
    block = kernel[:4, :6]
    np.testing.assert_array_equal(np.block([[block, -block], [-block, block]]), kernel)
    np.testing.assert_allclose(9 * np.eye(4), block @ block.T, atol=1e-5)


def test_the_slope_counts_where_an_activation_comes_before() -> None:
    first = LooksLinear(mirrored_input=False, negative_slope=0.25, seed=1)((4, 8))
    plain = LooksLinear(mirrored_input=False, seed=1)((4, 8))
    np.testing.assert_array_equal(to_numpy(plain), to_numpy(first))
    middle = LooksLinear(negative_slope=0.25, seed=1)((8, 8))
    plain = LooksLinear(seed=1)((8, 8))
    np.testing.assert_allclose(to_numpy(plain) / 1.25, to_numpy(middle), rtol=1e-6)


@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_convolutions_keep_every_pixel(activation: str) -> None:
    first = LooksLinear(mirrored_input=False)
    last = LooksLinear(mirrored_output=False)
    kernels = [first, LooksLinear(), LooksLinear(), last]
    value: Any = np.random.default_rng(0).normal(size=(2, 5, 5, 3)).astype("float32")
    before = np.linalg.norm(value, axis=-1)
    for i, kernel in enumerate(kernels):
        filters, act = (10, activation) if i < 3 else (6, None)
        layer = keras.layers.Conv2D(
            filters, 3, padding="same", activation=act, kernel_initializer=kernel
        )
        value = layer(value)
    np.testing.assert_allclose(
        before, np.linalg.norm(to_numpy(value), axis=-1), rtol=1e-4
    )


def test_einsum_dense_pairs_flattened_units() -> None:
    """Axes given here, as Keras gives them since 3.15: (a, b) in, (c, d) out."""
    first = LooksLinear(mirrored_input=False, input_axes=[0], output_axes=[1, 2])
    last = LooksLinear(mirrored_output=False, input_axes=[0, 1], output_axes=[2])
    value: Any = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
    before = np.linalg.norm(value, axis=-1)
    layers = [
        keras.layers.EinsumDense(
            "ba,acd->bcd", (3, 4), activation="gelu", kernel_initializer=first
        ),
        keras.layers.EinsumDense("bcd,cde->be", (8,), kernel_initializer=last),
    ]
    for layer in layers:
        value = layer(value)
    np.testing.assert_allclose(
        before, np.linalg.norm(to_numpy(value), axis=-1), rtol=1e-5
    )
