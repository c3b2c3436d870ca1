"""What an adapter says of a layer, checked by counting what the layer does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops
from textbook import numpy, parts_of

import keras_inits
from keras_inits import LinearMap, UnsupportedLayerError, register_linear_map
from keras_inits.linear_maps import adapter_of, linear_maps, registry

Make = Callable[[], keras.layers.Layer]

# Layer, shape of one row, number of kernel entries that one output sums over, and of
# outputs that one input feeds (of each gate or group), where padding does not cut.
COUNTS: dict[str, tuple[Make, tuple[int, ...], float, float]] = {
    "Dense": (lambda: layers.Dense(4), (6,), 6, 4),
    "EinsumDense": (
        lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 3)),
        (5, 6),
        6,
        6,
    ),
    "EinsumDense, two inputs": (
        lambda: layers.EinsumDense("abc,bcd->ad", 4),
        (5, 6),
        30,
        4,
    ),
    "EinsumDense, groups": (
        lambda: layers.EinsumDense("abc,bcd->abd", (5, 4)),
        (5, 6),
        6,
        4,
    ),
    "EinsumDense, a sum over steps": (
        lambda: layers.EinsumDense("abc,cd->ad", 4),
        (5, 6),
        30,
        4,
    ),
    "EinsumDense, a sum beside an ellipsis": (
        lambda: layers.EinsumDense("...bc,cd->...d", 4),
        (5, 6),
        30,
        4,
    ),
    "EinsumDense, an ellipsis at the end": (
        lambda: layers.EinsumDense("abc...,bd->ad...", (4, 3)),
        (6, 5, 3),
        30,
        4,
    ),
    "Conv1D": (lambda: layers.Conv1D(4, 3), (9, 6), 18, 12),
    "Conv2D": (lambda: layers.Conv2D(4, (3, 2)), (7, 7, 6), 36, 24),
    "Conv2D, grouped": (lambda: layers.Conv2D(4, 3, groups=2), (7, 7, 6), 27, 18),
    "Conv3D": (lambda: layers.Conv3D(4, 2), (4, 4, 4, 3), 24, 32),
    "Conv1DTranspose": (lambda: layers.Conv1DTranspose(4, 3), (9, 6), 18, 12),
    "Conv2DTranspose": (
        lambda: layers.Conv2DTranspose(4, 4, strides=2, padding="same"),
        (8, 8, 6),
        24,
        64,
    ),
    "DepthwiseConv1D": (lambda: layers.DepthwiseConv1D(3), (9, 6), 3, 3),
    "DepthwiseConv2D": (
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=2),
        (7, 7, 6),
        9,
        18,
    ),
    "SimpleRNN": (lambda: layers.SimpleRNN(4), (5, 6), 6, 4),
    "GRU": (lambda: layers.GRU(4), (5, 6), 6, 4),
    "LSTM": (lambda: layers.LSTM(4), (5, 6), 6, 4),
    "ConvLSTM1D": (lambda: layers.ConvLSTM1D(4, 3), (2, 9, 6), 18, 12),
}


def built(make: Make, shape: tuple[int, ...]) -> Any:
    layer = make()
    layer.build((None, *shape))
    return layer


@pytest.mark.parametrize("name", COUNTS)
def test_fan_in_is_what_a_kernel_of_ones_sums_over(name: str) -> None:
    make, shape, fan_in, fan_out = COUNTS[name]
    layer = built(make, shape)
    (found,) = linear_maps(layer)
    assert (found.fans.fan_in, found.fans.fan_out) == (fan_in, fan_out)
    found.kernel.assign(np.ones(found.kernel.shape, "float32"))
    for part in parts_of(layer, np.ones((1, *shape), "float32")):
        middle = part.signal
        for axis in range(1, middle.ndim - 1):  # away from the rim
            keep = range(2, middle.shape[axis] - 2)
            if len(keep) >= 2:
                middle = middle.take(list(keep), axis)
        assert middle.mean() == pytest.approx(fan_in)


def test_embeddings_read_one_row() -> None:
    layer = layers.Embedding(7, 6)
    layer.build()
    (found,) = linear_maps(layer)
    assert found.fans == (1, 6)
    assert found.kernel is layer.embeddings and found.bias is None


def test_separable_convolution_is_two_maps_in_a_row() -> None:
    layer = built(lambda: layers.SeparableConv2D(4, 3, depth_multiplier=2), (7, 7, 6))
    depthwise, pointwise = linear_maps(layer)
    assert depthwise.kernel is layer.depthwise_kernel
    assert pointwise.kernel is layer.pointwise_kernel
    assert depthwise.fans == (9, 18)
    assert pointwise.fans == (12, 4)
    assert (depthwise.bias, pointwise.bias) == (None, layer.bias)


@pytest.mark.parametrize("name", COUNTS)
def test_a_vector_of_channels_scales_kernel_and_signal_alike(name: str) -> None:
    make, shape, _, _ = COUNTS[name]
    layer = built(make, shape)
    (found,) = linear_maps(layer)
    x = np.random.default_rng(0).standard_normal((2, *shape)).astype("float32")
    signals = []
    factors = np.linspace(0.5, 2, found.channels).astype("float32")
    for scaled in (False, True):
        if scaled:
            view = numpy(found.kernel_view(ops.convert_to_tensor(factors)))
            found.kernel.assign(numpy(found.kernel) * view)
        parts = parts_of(layer, x)
        signals.append(np.concatenate([p.channels for p in parts], axis=-1))
    np.testing.assert_allclose(signals[1], signals[0] * factors, rtol=1e-4, atol=1e-5)


# register_linear_map


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(registry, "_ADAPTERS", dict(registry._ADAPTERS))
    yield


class Mine(layers.Layer):
    """`activation(x @ kernel + bias)`, with attributes of these names."""

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(shape[-1], 4), name="kernel")
        self.bias = self.add_weight(shape=(4,), name="bias")
        self.activation = keras.activations.get("relu")

    def call(self, x: Any) -> Any:
        return self.activation(ops.matmul(x, self.kernel) + self.bias)


def test_a_layer_with_kernel_bias_and_activation_needs_only_its_name() -> None:
    layer = built(Mine, (6,))
    assert adapter_of(layer) is None
    register_linear_map(Mine)
    (found,) = linear_maps(layer)
    assert (found.kernel, found.bias) == (layer.kernel, layer.bias)
    assert found.fans == (6, 4)
    model = keras.Sequential([keras.Input((6,)), layer])
    x = np.random.default_rng(0).standard_normal((32, 6)).astype("float32")
    keras_inits.lsuv_init(model, x)
    z = x @ numpy(layer.kernel) + numpy(layer.bias)
    assert z.std() == pytest.approx(1, abs=1e-3)


def test_a_subclass_is_described_by_its_parent_unless_it_overrides_call() -> None:
    register_linear_map(Mine)

    class Same(Mine):
        pass

    class Other(Mine):
        def call(self, x: Any) -> Any:
            return x

    class Wider(layers.Dense):
        pass

    class Standardised(layers.Conv2D):
        def convolution_op(self, inputs: Any, kernel: Any) -> Any:
            return super().convolution_op(inputs, kernel / ops.std(kernel))

    class Centred(layers.Dense):
        @property
        def kernel(self) -> Any:
            return self._kernel - 1.0

    assert adapter_of(Standardised(3, 3)) is None
    assert adapter_of(Centred(3)) is None
    assert adapter_of(Same()) is not None
    assert adapter_of(Other()) is None
    assert adapter_of(Wider(3)) is not None


def test_an_adapter_replaces_an_earlier_one() -> None:
    @register_linear_map(Mine)
    def first(layer: Any) -> LinearMap:
        return LinearMap(layer, layer.kernel, input_axes=(0,), output_axes=(1,))

    @register_linear_map(Mine)
    def second(layer: Any) -> tuple[LinearMap, ...]:
        return ()

    assert adapter_of(Mine()) is second
    assert first is not second
    assert linear_maps(built(Mine, (6,))) == ()


@pytest.mark.parametrize("received", [3, "Dense", int, layers.Dense(3)])
def test_only_classes_of_layers_can_be_registered(received: Any) -> None:
    with pytest.raises(UnsupportedLayerError, match=r"Received: layer_class="):
        register_linear_map(received)


def test_a_layer_without_a_kernel_needs_an_adapter() -> None:
    class Bare(layers.Layer):
        def build(self, shape: Any) -> None:
            self.kernel = self.add_weight(shape=(3,), name="kernel")

    register_linear_map(Bare)
    with pytest.raises(UnsupportedLayerError, match=r"'bare.*two axes.*Decorate"):
        linear_maps(built(Bare, (6,)))


def test_layers_without_a_linear_map() -> None:
    for layer in (layers.BatchNormalization(), layers.PReLU(), layers.Dropout(0.1)):
        assert linear_maps(layer) == ()
