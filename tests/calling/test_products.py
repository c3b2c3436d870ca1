"""The backend's own operations compute what `layer.call` does, and no other's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from models import normal
from textbook import numpy

import keras_inits
from keras_inits.calling.products import Product, products
from keras_inits.linear_maps import LinearMap, linear_maps

ROWS = 32


def products_of(layer: Any) -> dict[Any, Product]:
    return products({layer: linear_maps(layer)})


eagerly = pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="on JAX a pass is compiled"
)


@eagerly
@pytest.mark.parametrize("shape", [(12,), (3, 12), (2, 3, 12)])
@pytest.mark.parametrize("bias", [False, True])
def test_the_product_is_what_call_computes(shape: tuple[int, ...], bias: bool) -> None:
    layer = layers.Dense(5, use_bias=bias, bias_initializer="normal")
    x = keras.ops.convert_to_tensor(normal(ROWS, *shape))
    expected = numpy(layer(x))
    product = products_of(layer)[layer]
    assert product.takes((x,), {}) and product.takes((x,), {"training": True})
    # But for rounding: it may be added up in another order.
    np.testing.assert_allclose(numpy(product(x)), expected, rtol=1e-5, atol=2e-6)


@eagerly
@pytest.mark.parametrize(
    ("what", "argument"),
    [
        ("a vector", normal(12)),
        ("an array", None),
        ("another dtype", normal(ROWS, 12).astype("float64")),
        ("integers", np.ones((ROWS, 12), "int32")),
    ],
)
def test_other_arguments_go_to_call(what: str, argument: Any) -> None:
    layer = layers.Dense(5)
    layer.build((None, 12))
    product = products_of(layer)[layer]
    if argument is None:
        assert not product.takes((normal(ROWS, 12),), {}), what
    else:
        assert not product.takes((keras.ops.convert_to_tensor(argument),), {}), what
    x = keras.ops.convert_to_tensor(normal(ROWS, 12))
    assert not product.takes((x, x), {}) and not product.takes((x,), {"mask": x})


class Doubling(layers.Dense):
    """A Dense layer of a user's own."""

    def call(self, inputs: Any, training: Any = None) -> Any:
        return 2 * super().call(inputs)


def doubled_on_the_instance() -> layers.Layer:
    layer = layers.Dense(12)
    layer.call = lambda inputs: 2 * layers.Dense.call(layer, inputs)
    return layer


def of_another_policy() -> layers.Layer:
    layer = layers.Dense(12)
    layer.build((None, 12))
    layer.dtype_policy = "float64"  # its variables stay as they are
    return layer


def with_lora() -> layers.Layer:
    layer = layers.Dense(12)
    layer.build((None, 12))
    layer.enable_lora(2)
    layer.lora_kernel_b.assign(normal(2, 12))
    return layer


def quantized() -> layers.Layer:
    layer = layers.Dense(12)
    layer.build((None, 12))
    layer.quantize("int8")
    return layer


@eagerly
@pytest.mark.parametrize(
    "maker",
    [
        lambda: Doubling(12),
        doubled_on_the_instance,
        of_another_policy,
        with_lora,
        quantized,
        lambda: layers.Dense(12, dtype="mixed_bfloat16"),
        lambda: layers.Dense(12, dtype="bfloat16"),
        lambda: layers.EinsumDense("ab,bc->ac", 12, bias_axes="c"),
    ],
)
def test_other_layers_are_called(maker: Callable[..., Any]) -> None:
    layer = maker()
    keras.Sequential([keras.Input((12,)), layer])
    assert products_of(layer) == {}


@eagerly
def test_who_replaces_the_call_of_dense_sees_every_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = keras.Sequential([keras.Input((12,)), layers.Dense(12), layers.Dense(3)])
    seen: list[Any] = []
    original = layers.Dense.call

    def counting(self: Any, inputs: Any, training: Any = None) -> Any:
        seen.append(self)
        return original(self, inputs)

    monkeypatch.setattr(layers.Dense, "call", counting)
    keras_inits.lsuv_init(model, normal(ROWS, 12))
    assert seen == model.layers


@eagerly
def test_an_adapter_of_a_users_own_is_heeded() -> None:
    """Here the activation stays on while the layer shows its signal."""
    layer = layers.Dense(12, activation="relu")
    layer.build((None, 12))
    own = LinearMap(
        layer, layer.kernel, (0,), (1,), bias=layer.bias, off={}, activation=lambda z: z
    )
    assert products({layer: (own,)}) == {}
    assert layer in products_of(layer)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="devices of torch")
def test_a_tensor_on_another_device_goes_to_call() -> None:
    torch = pytest.importorskip("torch")
    layer = layers.Dense(12)
    layer.build((None, 12))
    elsewhere = torch.empty((ROWS, 12), device="meta")
    assert not products_of(layer)[layer].takes((elsewhere,), {})


class Shifting(layers.Wrapper):
    """While the layer is called, it sees another kernel."""

    def call(self, inputs: Any) -> Any:
        own, kernel = vars(self.layer), self.layer._kernel
        own["_kernel"] = keras.ops.convert_to_tensor(kernel) + 0.5
        try:
            return self.layer(inputs)
        finally:
            own["_kernel"] = kernel


@pytest.mark.parametrize(
    ("layer", "size"),
    [(layers.Dense(5), (6,)), (layers.Conv2D(5, 3), (8, 8, 3))],
    ids=["Dense", "Conv2D"],
)
def test_a_layer_whose_kernel_is_swapped_is_called(layer: Any, size: Any) -> None:
    layer.build((None, *size))
    model = keras.Sequential([keras.Input(size), Shifting(layer)])
    x = normal(ROWS, *size)
    [row] = keras_inits.measure(model, x)
    assert row.std == pytest.approx(numpy(model(x)).std(), rel=1e-4)


# Convolutions


on_torch = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="elsewhere `call` copies nothing"
)
CONVOLUTIONS: list[tuple[Any, dict[str, Any], tuple[int, ...]]] = [
    (kind, {"kernel_size": field, **options}, (*size, 4))
    for kind, size, field in (
        (layers.Conv2D, (9, 8), (3, 2)),
        (layers.DepthwiseConv2D, (9, 8), (3, 2)),
        (layers.Conv3D, (5, 6, 7), (2, 3, 4)),
    )
    for options in (
        {},
        {"padding": "same"},
        {"padding": "same", "strides": 2},
        {"padding": "same", "strides": 3, "use_bias": False},
        {"strides": 2},
        {"padding": "same", "dilation_rate": 2},
        {"dilation_rate": (1, 2, 1)[: len(size)]},
        {"depth_multiplier": 3} if kind is layers.DepthwiseConv2D else {"groups": 2},
    )
]


def convolution(kind: Any, options: dict[str, Any], size: tuple[int, ...]) -> Any:
    filters = {} if kind is layers.DepthwiseConv2D else {"filters": 6}
    layer = kind(**filters, **options, bias_initializer="normal")
    layer.build((None, *size))
    return layer


@on_torch
@pytest.mark.parametrize(("kind", "options", "size"), CONVOLUTIONS)
def test_a_convolution_is_what_call_computes(
    kind: Any, options: dict[str, Any], size: tuple[int, ...]
) -> None:
    layer = convolution(kind, options, size)
    x = keras.ops.convert_to_tensor(normal(ROWS, *size))
    product = products_of(layer)[layer]
    assert product.takes((x,), {"training": False}) and not product.takes((x[0],), {})
    found = product(x)
    np.testing.assert_allclose(numpy(found), numpy(layer(x)), rtol=1e-4, atol=1e-5)
    other = keras.ops.transpose(x, (0, *range(len(size) - 1, 0, -1), len(size)))
    turned = convolution(kind, options, tuple(other.shape[1:]))
    turned.set_weights(layer.get_weights())
    z = products_of(turned)[turned](other)
    np.testing.assert_allclose(numpy(z), numpy(turned(other)), rtol=1e-4, atol=1e-5)


@on_torch
def test_between_convolutions_nothing_is_copied() -> None:
    """What one puts out lies in memory as the next one takes it, and its ReLU's too."""
    layer = convolution(layers.Conv2D, {"kernel_size": 3}, (8, 8, 4))
    z = products_of(layer)[layer](keras.ops.convert_to_tensor(normal(ROWS, 8, 8, 4)))
    assert z.is_contiguous() and keras.activations.relu(z).is_contiguous()


class Widened(layers.Conv2D):
    """A convolution of a user's own."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        return 2 * super().convolution_op(inputs, kernel)


def with_an_operation_of_its_own() -> layers.Layer:
    layer = layers.Conv2D(4, 3)
    vars(layer)["convolution_op"] = lambda inputs, kernel: 0 * inputs
    return layer


def convolution_with_lora() -> layers.Layer:
    layer = layers.Conv2D(4, 3)
    layer.build((None, 8, 8, 8))
    layer.enable_lora(2)
    return layer


@pytest.mark.parametrize(
    "maker",
    [
        lambda: Widened(4, 3),
        with_an_operation_of_its_own,
        convolution_with_lora,
        lambda: layers.Conv2D(4, 3, data_format="channels_first"),
        lambda: layers.Conv2D(4, 3, dtype="mixed_bfloat16"),
        lambda: layers.Conv2DTranspose(4, 3),
        lambda: layers.SeparableConv2D(4, 3),
    ],
)
def test_other_convolutions_are_called(maker: Callable[..., Any]) -> None:
    layer = maker()
    if not layer.built:
        layer.build((None, 8, 8, 8))
    assert products_of(layer) == {}


@on_torch
def test_who_replaces_the_operation_of_convolutions_sees_every_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stack = [layers.Conv2D(4, 3), layers.Conv2D(4, 3)]
    model = keras.Sequential([keras.Input((8, 8, 3)), *stack])
    seen: list[Any] = []
    original = layers.Conv2D.convolution_op

    def counting(self: Any, inputs: Any, kernel: Any) -> Any:
        seen.append(self)
        return original(self, inputs, kernel)

    monkeypatch.setattr(layers.Conv2D, "convolution_op", counting)
    keras_inits.lsuv_init(model, normal(ROWS, 8, 8, 3))
    assert seen == stack
