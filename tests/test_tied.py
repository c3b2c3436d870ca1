"""A kernel that several layers apply: an autoencoder with tied weights."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops
from models import normal
from textbook import numpy

import keras_inits
from keras_inits import initialize, lsuv_init, measure


class Transposed(layers.Layer):
    """Applies the kernel of another layer, transposed."""

    def __init__(self, other: Any, activation: str | None = None, **kw: Any) -> None:
        super().__init__(**kw)
        self.other, self.activation = other, keras.activations.get(activation)

    def build(self, shape: Any) -> None:
        width = self.other.kernel.shape[0]
        self.bias = self.add_weight(shape=(width,), initializer="zeros")

    def call(self, x: Any) -> Any:
        kernel = ops.transpose(self.other.kernel)
        return self.activation(ops.matmul(x, kernel) + self.bias)


@keras_inits.register_linear_map(Transposed)
def transposed(layer: Any) -> keras_inits.LinearMap:
    return keras_inits.LinearMap(
        layer, layer.other.kernel, input_axes=(1,), output_axes=(0,), bias=layer.bias
    )


def autoencoder() -> tuple[keras.Model, np.ndarray[Any, Any]]:
    encoder = layers.Dense(32, "tanh", name="encoder")
    inputs = keras.Input((64,))
    code = layers.Dense(32, "tanh", name="code")(encoder(inputs))
    outputs = Transposed(encoder, "sigmoid", name="decoder")(code)
    return keras.Model(inputs, outputs), 3 * normal(200, 64)


def test_measure_shows_the_signal_of_each_layer() -> None:
    model, x = autoencoder()
    for _ in range(3):  # as it is, compiled or noted, played
        report = measure(model, x, np.zeros((200, 64)), loss="mse")
        assert [r.name for r in report] == ["encoder", "code", "decoder"]
        assert [r.status for r in report] == ["measured"] * 3
        assert "called" not in str(report)
        encoder, code = model.get_layer("encoder"), model.get_layer("code")
        z = numpy(code(encoder(x))) @ numpy(encoder.kernel).T
        assert report["decoder"].std == pytest.approx(float(z.std()), rel=1e-4)
        assert report["decoder"].output_shape == (None, 64)
        gradients = [r.weight_gradient_std for r in report]
        assert gradients[0] == gradients[2] and gradients[1] > 0  # of what both hold


def test_lsuv_scales_the_kernel_for_the_first_layer() -> None:
    model, x = autoencoder()
    report = lsuv_init(model, x)
    assert [r.status for r in report] == ["scaled", "scaled", "shared"]
    after = measure(model, x)
    assert after["encoder"].std == pytest.approx(1, abs=1e-3)
    assert after["code"].std == pytest.approx(1, abs=1e-3)


def test_each_layer_is_centred_by_the_bias_that_it_adds() -> None:
    model, x = autoencoder()
    encoder, decoder = model.get_layer("encoder"), model.get_layer("decoder")
    decoder.bias.assign(normal(64))
    for _ in range(3):  # as it is, compiled or noted, played
        encoder.bias.assign(2 * normal(32))
        report = lsuv_init(model, x + 1, center=True)
        assert [r.status for r in report][2] == "shared" != report[0].status
        after = measure(model, x + 1)
        assert after["encoder"].std == pytest.approx(1, abs=1e-3)
        code = model.get_layer("code")(encoder(x + 1))
        z = numpy(code) @ numpy(encoder.kernel).T + numpy(decoder.bias)
        np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-4)
        assert report["decoder"].std == pytest.approx(float(z.std()), rel=1e-3)
        assert report["decoder"].scale == 1 and len(report["decoder"].shift) == 64
    # A layer that is called again has one bias, and keeps it.
    shared, inputs = layers.Dense(64, "tanh"), keras.Input((64,))
    model = keras.Model(inputs, layers.Dense(4)(shared(shared(inputs))))
    assert [r.status for r in lsuv_init(model, x, center=True)][-1] == "shared"


@pytest.mark.parametrize("initializer", ["auto", "lecun_normal"])
def test_initialize_draws_the_kernel_for_the_layer_that_holds_it(
    initializer: str,
) -> None:
    """Not for the one that was looked at last, of half the fan-in."""
    model, _ = autoencoder()
    initialize(model, initializer, seed=3)
    kernel = numpy(model.get_layer("encoder").kernel)
    factor = keras_inits.gain("tanh") if initializer == "auto" else 1.0
    assert kernel.std() == pytest.approx(factor / 8, rel=0.05)


def test_initialize_draws_it_for_another_that_is_asked_for() -> None:

    def is_decoder(layer: Any) -> bool:  # a name stands for what it holds, too
        return layer.name == "decoder"

    model, _ = autoencoder()
    initialize(model, "lecun_normal", layers=is_decoder, seed=3)
    kernel = numpy(model.get_layer("encoder").kernel)
    assert kernel.std() == pytest.approx(32**-0.5, rel=0.05)
