"""Every weighted layer of Keras: what LSUV leaves behind, measured by other code."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
from checks import assert_target, changed, everything, kernels, only_kernels_change
from keras import layers, ops
from models import normal
from textbook import Part, depthwise, linear_twin, measured, numpy, parts_of

import keras_inits
from keras_inits import ConvergenceError, UnsupportedLayerError, lsuv_init, measure

Make = Callable[[], keras.layers.Layer]


@dataclass(frozen=True)
class Case:
    """A layer, and the shape of one row of its input (`integers`: indices below 7)."""

    make: Make
    shape: tuple[int, ...]
    integers: bool = False
    detailed: bool = False  # whether channels and centring are looked at as well
    backends: tuple[str, ...] = ("tensorflow", "jax", "torch")

    def data(self) -> np.ndarray[Any, Any]:
        """Neither centred nor of unit variance."""
        if self.integers:
            return np.random.default_rng(0).integers(0, 7, (32, *self.shape))
        return 3 * normal(32, *self.shape) + 0.5

    def build(self) -> tuple[keras.Model, keras.layers.Layer, np.ndarray[Any, Any]]:
        """A model of this layer, whose biases are not zero."""
        layer = self.make()
        dtype = "int32" if self.integers else "float32"
        model = keras.Sequential([keras.Input(self.shape, dtype=dtype), layer])
        for number, v in enumerate(model.weights):
            if v.name == "bias":
                v.assign(0.2 * normal(*v.shape, seed=number))
        return model, layer, self.data()


def conv(rank: int, suffix: str = "", **kwargs: Any) -> Make:
    """A convolution with 4 filters and a field of 3."""
    kind = getattr(layers, f"Conv{rank}D{suffix}")
    options = {"filters": 4, "kernel_size": 3, "activation": "relu"} | kwargs
    return lambda: kind(**options)


def einsum(equation: str, shape: Any, bias: str | None = None, **kwargs: Any) -> Make:
    return lambda: layers.EinsumDense(
        equation, output_shape=shape, bias_axes=bias, activation="tanh", **kwargs
    )


# TensorFlow has no kernels for grouped or channels-first convolutions on every CPU.
NOT_TF = ("jax", "torch")

CASES: dict[str, Case] = {
    "Dense": Case(lambda: layers.Dense(4, activation="relu"), (6,), detailed=True),
    "Dense on sequences": Case(lambda: layers.Dense(4, "selu"), (3, 6)),
    "Dense without bias": Case(lambda: layers.Dense(4, use_bias=False), (6,)),
    "Dense under a layer": Case(lambda: layers.Dense(4, layers.PReLU()), (6,)),
    "EinsumDense": Case(einsum("abc,cd->abd", (None, 4), "d"), (3, 6), detailed=True),
    "EinsumDense, ellipsis": Case(einsum("...x,xy->...y", 4, "y"), (3, 6)),
    "EinsumDense, two outputs": Case(
        einsum("abc,cde->abde", (None, 2, 3), "de"), (3, 6), detailed=True
    ),
    "EinsumDense, permuted outputs": Case(
        einsum("abc,cde->aebd", (3, None, 2)), (3, 6), detailed=True
    ),
    "EinsumDense, two inputs": Case(einsum("abc,bcd->ad", 4, "d"), (3, 6)),
    "EinsumDense, groups": Case(
        einsum("abc,bcd->abd", (3, 4), "bd"), (3, 6), detailed=True
    ),
    "EinsumDense, groups last": Case(
        einsum("abc,bcd->adb", (4, 3)), (3, 6), detailed=True
    ),
    "EinsumDense, channel first": Case(einsum("abc,bd->adc", (4, None), "d"), (3, 6)),
    "Conv1D": Case(conv(1), (8, 4)),
    "Conv1D, causal, dilated": Case(conv(1, padding="causal", dilation_rate=2), (8, 4)),
    "Conv2D": Case(conv(2, padding="same"), (6, 6, 4), detailed=True),
    "Conv2D, strided": Case(conv(2, strides=2), (6, 6, 4)),
    "Conv2D, dilated": Case(conv(2, dilation_rate=2), (6, 6, 4)),
    "Conv2D, grouped": Case(conv(2, groups=2), (6, 6, 4), detailed=True),
    "Conv2D, channels first": Case(
        conv(2, data_format="channels_first"), (4, 6, 6), False, True, NOT_TF
    ),
    "Conv3D": Case(conv(3), (4, 4, 4, 2)),
    "Conv1DTranspose": Case(conv(1, "Transpose", strides=2), (8, 4)),
    "Conv2DTranspose": Case(
        conv(2, "Transpose", strides=2, padding="same"), (4, 4, 3), detailed=True
    ),
    "Conv2DTranspose, channels first": Case(
        conv(2, "Transpose", data_format="channels_first"), (3, 4, 4), backends=NOT_TF
    ),
    "Conv3DTranspose": Case(conv(3, "Transpose"), (3, 3, 3, 2)),
    "DepthwiseConv1D": Case(
        lambda: layers.DepthwiseConv1D(3, activation="relu"), (8, 4)
    ),
    "DepthwiseConv2D": Case(
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=2, activation="relu"),
        (6, 6, 4),
        detailed=True,
    ),
    "SeparableConv1D": Case(
        lambda: layers.SeparableConv1D(4, 3, activation="relu"), (8, 4)
    ),
    "SeparableConv2D": Case(
        lambda: layers.SeparableConv2D(4, 3, depth_multiplier=2, strides=2),
        (6, 6, 4),
        detailed=True,
    ),
    "Embedding": Case(lambda: layers.Embedding(7, 6), (5,), integers=True),
    "SimpleRNN": Case(lambda: layers.SimpleRNN(4), (5, 6)),
    "GRU": Case(lambda: layers.GRU(4, return_sequences=True), (5, 6), detailed=True),
    "GRU, reset before": Case(lambda: layers.GRU(4, reset_after=False), (5, 6)),
    "LSTM": Case(lambda: layers.LSTM(4), (5, 6), detailed=True),
    "LSTM, backwards": Case(lambda: layers.LSTM(4, go_backwards=True), (5, 6)),
    "LSTM, unrolled": Case(lambda: layers.LSTM(4, unroll=True), (5, 6)),
    "RNN of SimpleRNNCell": Case(lambda: layers.RNN(layers.SimpleRNNCell(4)), (5, 6)),
    "RNN of GRUCell": Case(lambda: layers.RNN(layers.GRUCell(4)), (5, 6)),
    "RNN of LSTMCell": Case(lambda: layers.RNN(layers.LSTMCell(4)), (5, 6)),
    "RNN of StackedRNNCells": Case(
        lambda: layers.RNN(
            layers.StackedRNNCells([layers.LSTMCell(4), layers.GRUCell(3)])
        ),
        (5, 6),
    ),
    "RNN of a list": Case(
        lambda: layers.RNN([layers.SimpleRNNCell(4) for _ in range(3)]), (5, 6)
    ),
    "ConvLSTM1D": Case(lambda: layers.ConvLSTM1D(2, 3), (3, 6, 2)),
    "ConvLSTM2D": Case(
        lambda: layers.ConvLSTM2D(2, 3, padding="same"), (3, 4, 4, 2), detailed=True
    ),
    "ConvLSTM3D": Case(lambda: layers.ConvLSTM3D(2, 2), (2, 3, 3, 3, 2)),
    "Bidirectional": Case(
        lambda: layers.Bidirectional(layers.LSTM(4, return_sequences=True)), (5, 6)
    ),
    "Bidirectional of two": Case(
        lambda: layers.Bidirectional(
            layers.GRU(4), backward_layer=layers.SimpleRNN(4, go_backwards=True)
        ),
        (5, 6),
    ),
    "TimeDistributed of Dense": Case(
        lambda: layers.TimeDistributed(layers.Dense(4, activation="relu")), (5, 6)
    ),
    "TimeDistributed of Conv2D": Case(
        lambda: layers.TimeDistributed(layers.Conv2D(4, 3)), (2, 6, 6, 4)
    ),
}
HERE = {
    name: case
    for name, case in CASES.items()
    if keras.backend.backend() in case.backends
}
DETAILED = {name: case for name, case in HERE.items() if case.detailed}


@pytest.mark.parametrize("case", HERE.values(), ids=HERE)
def test_target_is_met_by_the_kernels_of_the_maps_alone(case: Case) -> None:
    """Recurrent kernels, depthwise stages and biases stay as they are."""
    model, _, x = case.build()
    maps = [part.kernel for parts in measured(model, x).values() for part in parts]
    before = kernels(model)
    report = only_kernels_change(model, x)
    after = kernels(model)
    moved = {path for path in before if (before[path] != after[path]).any()}
    assert moved == {kernel.path for kernel in maps}
    assert_target(model, x)
    assert {row.status for row in report} == {"scaled"}


@pytest.mark.parametrize("case", DETAILED.values(), ids=DETAILED)
def test_each_channel_meets_the_target(case: Case) -> None:
    model, _, x = case.build()
    only_kernels_change(model, x, per_channel=True, target_std=0.5)
    for parts in measured(model, x).values():
        for part in parts:
            deviations = part.channels.std(axis=0)
            np.testing.assert_allclose(deviations, 0.5, atol=1e-3)


@pytest.mark.parametrize("case", DETAILED.values(), ids=DETAILED)
def test_each_channel_is_centred(case: Case) -> None:
    model, layer, x = case.build()
    if getattr(layer, "bias", True) is None:
        with pytest.raises(UnsupportedLayerError, match="use_bias=True"):
            lsuv_init(model, x, center=True)
        return
    bias = [v for v in model.trainable_variables if v.name == "bias"]
    before = [numpy(v) for v in bias]
    lsuv_init(model, x, center=True)
    after = [numpy(v) for v in bias]
    ((_, parts),) = measured(model, x).items()
    for gate, part in enumerate(parts):
        channels = part.channels
        if len(parts) > 1:  # what is in `x W` of a gate is without its bias
            rows = after[0].reshape(-1, part.kernel.shape[-1])
            # An LSTM's forget gate rests at 1, all others at 0.
            resting = float(len(parts) == 4 and gate == 1)
            channels = channels + rows[0, part.columns] - resting
            np.testing.assert_array_equal(rows[1:], before[0].reshape(rows.shape)[1:])
        np.testing.assert_allclose(channels.mean(axis=0), 0, atol=2e-3)
        assert channels.std() == pytest.approx(1, abs=1e-3), gate
    lsuv_init(model, x, center=True)
    np.testing.assert_allclose([numpy(v) for v in bias], after, atol=1e-4)


def attention(layer: keras.layers.Layer) -> tuple[keras.Model, Any]:
    query, value = keras.Input((4, 6)), keras.Input((5, 6))
    model = keras.Model([query, value], layer(query, value))
    return model, [2 * normal(32, 4, 6), 3 * normal(32, 5, 6, seed=1)]


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.MultiHeadAttention(2, 3),
        lambda: layers.GroupQueryAttention(3, 4, 2),
    ],
    ids=["MultiHeadAttention", "GroupQueryAttention"],
)
def test_each_projection_of_attention_meets_the_target(make: Make) -> None:
    model, x = attention(make())
    report = only_kernels_change(model, x)
    found = assert_target(model, x)
    assert len(found) == 4
    assert sorted(row.name for row in report) == sorted(layer.name for layer in found)
    assert len(lsuv_init(model, x, layers=model.layers[-1].name)) == 4


@pytest.mark.parametrize("name", ["Attention", "AdditiveAttention"])
def test_the_scale_of_dot_attention_is_left_alone(name: str) -> None:
    inputs = keras.Input((4, 6))
    x = layers.Dense(6)(inputs)
    layer = getattr(layers, name)(use_scale=True)
    model = keras.Model(inputs, layer([x, x]))
    scale = [numpy(v) for v in layer.weights]
    assert scale
    lsuv_init(model, normal(32, 4, 6))
    for before, after in zip(scale, layer.weights, strict=True):
        np.testing.assert_array_equal(numpy(after), before)
    with pytest.raises(UnsupportedLayerError, match="no linear map"):
        lsuv_init(model, normal(32, 4, 6), layers=layer.name)


@pytest.mark.skipif(
    not hasattr(layers, "ReversibleEmbedding"), reason="Keras 3.13 and later"
)
@pytest.mark.parametrize("tied", [True, False])
def test_reversible_embedding(tied: bool) -> None:
    inputs = keras.Input((5,), dtype="int32")
    layer = layers.ReversibleEmbedding(7, 6, tie_weights=tied, logit_soft_cap=2.0)
    x = layers.Dense(6, name="middle", activation="relu")(layer(inputs))
    model = keras.Model(inputs, layer(x, reverse=True))
    x = np.random.default_rng(0).integers(0, 7, (32, 5))
    report = only_kernels_change(model, x)
    table = numpy(layer.embeddings)
    expected = 1 / math.sqrt(6) if tied else 1  # for the logits, a sum over 6
    assert table[x].std() == pytest.approx(expected, abs=1e-3)
    if tied:
        rows = [row for row in report if row.name == layer.name]
        assert sorted(row.status for row in rows) == ["scaled", "shared"]
        assert any("kernel of the logits" in note for note in report.notes)
    else:
        dense = model.get_layer("middle")
        hidden = np.maximum(table[x] @ numpy(dense.kernel), 0)
        logits = hidden @ numpy(layer.reverse_embeddings)
        assert logits.std() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("how", ["named", "marked"])
def test_the_depthwise_stage_is_scaled_only_when_asked_for(how: str) -> None:
    kind = "lsuv_normal" if how == "marked" else "he_normal"
    layer = layers.SeparableConv2D(
        4, 3, depthwise_initializer=kind, pointwise_initializer=kind
    )
    model = keras.Sequential([keras.Input((6, 6, 4)), layer])
    x = 5 * normal(32, 6, 6, 4)
    lsuv_init(model, x, layers=layer if how == "named" else None)
    between = depthwise(layer, layer.depthwise_kernel, x)
    assert between.std() == pytest.approx(1, abs=1e-3)
    assert parts_of(layer, x)[0].std == pytest.approx(1, abs=1e-3)


def test_spectral_normalization_is_left_alone_with_the_reason() -> None:
    wrapped = layers.SpectralNormalization(layers.Dense(6, name="normalised"))
    model = keras.Sequential([keras.Input((6,)), wrapped, layers.Dense(6)])
    before = everything(model)
    report = lsuv_init(model, normal(32, 6))
    (moved,) = changed(before, model)
    assert moved.endswith(model.layers[-1].kernel.path)
    row = report["normalised"]
    assert row.status.startswith("skipped") and "SpectralNormalization" in row.status
    with pytest.raises(UnsupportedLayerError, match="SpectralNormalization"):
        lsuv_init(model, normal(32, 6), layers="normalised")


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: layers.Dense(6), (6,)),
        (lambda: layers.EinsumDense("abc,cd->abd", (None, 4)), (3, 6)),
    ],
    ids=["Dense", "EinsumDense"],
)
def test_the_whole_map_of_a_lora_layer_is_scaled(
    make: Make, shape: tuple[int, ...]
) -> None:
    layer = make()
    model = keras.Sequential([keras.Input(shape), layer])
    layer.enable_lora(2)
    for number, v in enumerate(layer.trainable_variables):
        v.assign(normal(*v.shape, seed=number))
    x = 4 * normal(32, *shape)
    lsuv_init(model, x, layers=layer.name)
    (part,) = parts_of(layer, x)
    assert part.std == pytest.approx(1, abs=1e-3)


def test_a_quantized_layer_is_left_alone_with_the_reason() -> None:
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(6, name="int8"), layers.Dense(6, name="free")]
    )
    model.layers[0].quantize("int8")
    before = everything(model)
    x = normal(32, 6)
    report = lsuv_init(model, x)
    (moved,) = changed(before, model)
    assert moved.endswith(model.get_layer("free").kernel.path)
    assert "quantized (int8)" in report["int8"].status
    hidden = model.get_layer("int8")(x)
    (part,) = parts_of(model.get_layer("free"), hidden)
    assert part.std == pytest.approx(1, abs=1e-3)


def test_slopes_of_prelu_are_never_touched() -> None:
    model = keras.Sequential([keras.Input((6,)), layers.Dense(6), layers.PReLU()])
    model.layers[1].alpha.assign(normal(6))
    before = numpy(model.layers[1].alpha)
    for signal in ("pre_activation", "output"):
        lsuv_init(model, 7 * normal(32, 6), signal=signal)
        np.testing.assert_array_equal(numpy(model.layers[1].alpha), before)
    assert_target(model, 7 * normal(32, 6))
    with pytest.raises(UnsupportedLayerError, match="no linear map"):
        lsuv_init(model, normal(32, 6), layers=model.layers[1])


# Weighted classes of Keras that LSUV leaves alone.
LEFT_ALONE = {
    "AdditiveAttention": "one scale per feature, not a linear map",
    "Attention": "one scale, not a linear map",
    "BatchNormalization": "a scale and an offset per channel",
    "FlaxLayer": "weights of another framework",
    "GroupNormalization": "a scale and an offset per channel",
    "IntegerLookup": "a table",
    "JaxLayer": "weights of another framework",
    "LayerNormalization": "a scale and an offset per channel",
    "Normalization": "statistics of the data",
    "PReLU": "slopes of an activation",
    "RMSNormalization": "a scale per channel",
    "STFTSpectrogram": "a fixed transform",
    "SpectralNormalization": "rescales the kernel it wraps at every call",
    "StringLookup": "a table",
    "TFSMLayer": "weights of another framework",
    "TorchModuleWrapper": "weights of another framework",
}
# Covered by the layer that drives them.
CELLS = {"GRUCell", "LSTMCell", "SimpleRNNCell"}


def weighted_classes() -> set[str]:
    """Classes of `keras.layers` whose code, or that of a parent, adds weights."""
    found = set()
    for name in dir(layers):
        kind = getattr(layers, name)
        if not (isinstance(kind, type) and issubclass(kind, layers.Layer)):
            continue
        parents = kind.__mro__[: kind.__mro__.index(layers.Layer)]
        code = "".join(map(inspect.getsource, parents))
        if re.search(r"add_weight\(|Variable\(", code):
            found.add(kind.__name__)
    return found


def test_every_weighted_layer_of_keras_is_covered_or_left_alone_for_a_reason() -> None:
    covered = {name.split()[0].rstrip(",") for name in CASES}
    covered |= {"ReversibleEmbedding", *CELLS}
    assert weighted_classes() - covered - set(LEFT_ALONE) == set()
    assert covered & set(LEFT_ALONE) == set()


@pytest.mark.parametrize(
    "name", ["BatchNormalization", "GroupNormalization", "LayerNormalization", "PReLU"]
)
def test_what_is_left_alone_cannot_be_chosen(name: str) -> None:
    options = {"groups": 2} if name == "GroupNormalization" else {}
    layer = getattr(layers, name)(**options)
    model = keras.Sequential([keras.Input((6,)), layers.Dense(6), layer])
    before = everything(model)
    with pytest.raises(UnsupportedLayerError, match=layer.name):
        lsuv_init(model, normal(32, 6), layers=[layer])
    assert changed(before, model) == []


class Bilinear(layers.Layer):
    """`x1 W x2 + b` per unit: linear in `W`, and nothing Keras knows."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.activation = keras.activations.get("tanh")

    def build(self, shapes: Any) -> None:
        left, right = shapes
        shape = (left[-1], right[-1], self.units)
        self.mix = self.add_weight(shape=shape, name="mix")
        self.bias = self.add_weight(shape=(self.units,), name="bias")

    def call(self, inputs: Any) -> Any:
        left, right = inputs
        z = ops.einsum("bi,bj,ijk->bk", left, right, self.mix)
        return self.activation(z + self.bias)


def bilinear() -> tuple[keras.Model, Bilinear, list[Any]]:
    left, right = keras.Input((3,)), keras.Input((4,))
    layer = Bilinear(5)
    model = keras.Model([left, right], layer([left, right]))
    return model, layer, [normal(32, 3), 3 * normal(32, 4, seed=1)]


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Bilinear` described by an adapter, until the end of the test."""
    from keras_inits.linear_maps import registry

    monkeypatch.setattr(registry, "_ADAPTERS", dict(registry._ADAPTERS))

    @keras_inits.register_linear_map(Bilinear)
    def adapter(layer: Any) -> keras_inits.LinearMap:
        return keras_inits.LinearMap(
            layer, layer.mix, input_axes=(0, 1), output_axes=(2,), bias=layer.bias
        )


def bilinear_part(layer: Bilinear, x: list[Any]) -> Part:
    z = np.einsum("bi,bj,ijk->bk", *x, numpy(layer.mix)) + numpy(layer.bias)
    return Part(layer.mix, z)


@pytest.mark.usefixtures("registered")
def test_a_registered_layer_joins_in() -> None:
    model, layer, x = bilinear()
    report = only_kernels_change(model, x)
    assert bilinear_part(layer, x).std == pytest.approx(1, abs=1e-3)
    assert report[0].activation == "tanh"
    lsuv_init(model, x, per_channel=True, center=True)
    channels = bilinear_part(layer, x).channels
    np.testing.assert_allclose(channels.std(axis=0), 1, atol=1e-3)
    np.testing.assert_allclose(channels.mean(axis=0), 0, atol=1e-3)


@pytest.mark.usefixtures("registered")
def test_a_subclass_that_overrides_call_speaks_for_itself() -> None:
    class Other(Bilinear):
        def call(self, inputs: Any) -> Any:
            return ops.sin(inputs[0])

    left, right = keras.Input((3,)), keras.Input((4,))
    model = keras.Model([left, right], layers.Dense(2)(Other(5)([left, right])))
    report = lsuv_init(model, [normal(32, 3), normal(32, 4)])
    assert [row.layer_type for row in report if row.status == "scaled"] == ["Dense"]


class Custom(layers.Layer):
    """A user's layer with a marked weight and its own nonlinearity."""

    def build(self, shape: Any) -> None:
        self.w = self.add_weight(
            shape=(shape[-1], 6), initializer="lsuv_normal", name="w"
        )
        self.other = self.add_weight(shape=(2, 2), name="other")

    def call(self, x: Any) -> Any:
        return ops.tanh(ops.matmul(x, self.w))


def test_a_custom_layer_with_a_marked_weight_is_called_until_it_meets_the_target() -> (
    None
):
    layer = Custom()
    model = keras.Sequential([keras.Input((6,)), layers.Dense(6), layer])
    x = normal(32, 6)
    other = numpy(layer.other)
    report = lsuv_init(model, x, target_std=0.5)
    hidden = x @ numpy(model.layers[0].kernel)
    assert np.tanh(hidden @ numpy(layer.w)).std() == pytest.approx(0.5, abs=1e-3)
    np.testing.assert_array_equal(numpy(layer.other), other)
    assert [row.layer_type for row in report] == ["Custom"]
    assert report[0].iterations > 1


def test_a_custom_layer_that_cannot_meet_the_target_says_so() -> None:
    model = keras.Sequential([keras.Input((6,)), Custom(name="bounded")])
    before = everything(model)
    expected = r"'bounded' .* deviation.*smaller target_std.*register_linear_map"
    with pytest.raises(keras_inits.ConvergenceError, match=expected):
        lsuv_init(model, normal(32, 6), target_std=2.0)
    assert changed(before, model) == []


class Normalised(layers.Layer):
    """Weight normalisation: the output does not depend on the size of `w`."""

    def build(self, shape: Any) -> None:
        self.w = self.add_weight(shape=(shape[-1], 6), initializer="lsuv_normal")

    def call(self, x: Any) -> Any:
        return ops.matmul(x, self.w / ops.norm(self.w, axis=0))


@pytest.mark.parametrize("target", [0.5, 1.0, 2.0])
def test_a_custom_layer_that_normalises_its_weights_says_so(target: float) -> None:
    """No other target, and no more iterations, are advised: they do not help."""
    layer = Normalised(name="own")
    model = keras.Sequential([keras.Input((6,)), layers.Dense(6), layer])
    x, before = 1.5 * normal(32, 6), everything(model)
    expected = r"'own' .*normalises them itself.* Leave it out with layers=\.$"
    with pytest.raises(keras_inits.ConvergenceError, match=expected):
        lsuv_init(model, x, target_std=target)
    assert changed(before, model) == []
    lsuv_init(model, x, target_std=target, layers=lambda other: other is not layer)
    assert (x @ numpy(model.layers[0].kernel)).std() == pytest.approx(target, rel=1e-3)


class Underflows(Custom):
    """NaN where its weights are small, and so large that they have to be."""

    def call(self, x: Any) -> Any:
        squares = ops.sum(ops.square(self.w))
        nothing = ops.where(squares < 1e-2, float("nan"), 0.0)
        return 1e4 * ops.matmul(x, self.w) + nothing


def test_an_output_that_becomes_nan_has_not_met_its_target() -> None:
    model = keras.Sequential([keras.Input((6,)), Underflows(name="own")])
    before = everything(model)
    with pytest.raises(keras_inits.ConvergenceError, match=r"'own' .*deviation nan"):
        lsuv_init(model, normal(32, 6))
    assert changed(before, model) == []


class Product(layers.Layer):
    """As many marked weights in a row as `count` says."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def build(self, shape: Any) -> None:
        self.factors = [
            self.add_weight(shape=(6, 6), initializer="lsuv_normal", name=f"w{i}")
            for i in range(self.count)
        ]

    def call(self, x: Any) -> Any:
        for w in self.factors:
            x = ops.matmul(x, w)
        return x


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_custom_layer_that_multiplies_its_marked_weights(count: int) -> None:
    """The output follows their scale to the power of their number."""
    x, layer = 7 * normal(32, 6), Product(count)
    model = keras.Sequential([keras.Input((6,)), layer])
    [row] = lsuv_init(model, x)
    z = x.astype("float64")
    for w in layer.factors:
        z = z @ numpy(w)
    assert z.std() == pytest.approx(1, abs=1e-3)
    assert row.iterations <= 4


class Opaque(layers.Layer):
    """It computes what `register_linear_map` asks for, and is not registered."""

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(
            shape=(shape[-1], 6), initializer="lsuv_normal", name="kernel"
        )
        self.activation = keras.activations.get("tanh")

    def call(self, x: Any) -> Any:
        return self.activation(ops.matmul(x, self.kernel))


def test_what_that_error_advises_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    from keras_inits.linear_maps import registry

    monkeypatch.setattr(registry, "_ADAPTERS", dict(registry._ADAPTERS))
    x, layer = normal(32, 6), Opaque()
    model = keras.Sequential([keras.Input((6,)), layer])
    expected = r"register_linear_map\(Opaque\)"
    with pytest.raises(keras_inits.ConvergenceError, match=expected):
        lsuv_init(model, x)
    lsuv_init(model, x, target_std=0.5)
    assert numpy(model(x)).std() == pytest.approx(0.5, abs=1e-3)
    keras_inits.register_linear_map(Opaque)
    lsuv_init(model, x)
    assert (x @ numpy(layer.kernel)).std() == pytest.approx(1, abs=1e-3)


class Cell(layers.Layer):
    """A user's own recurrent cell."""

    state_size = output_size = 6

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(
            shape=(shape[-1], 6), initializer="lsuv_normal", name="kernel"
        )

    def call(self, x: Any, states: Any) -> Any:
        h = ops.tanh(ops.matmul(x, self.kernel) + states[0])
        return h, [h]


def test_a_cell_of_its_own_that_cannot_meet_the_target_says_so() -> None:
    model = keras.Sequential([keras.Input((5, 6)), layers.RNN(Cell())])
    with pytest.raises(
        keras_inits.ConvergenceError, match="smaller target_std"
    ) as error:
        lsuv_init(model, normal(32, 5, 6))
    assert "register_linear_map" not in str(error.value)  # RNN itself is Keras's


NUMPY_CONVOLUTIONS = [
    name
    for name in HERE
    if name.startswith(("Conv", "Depthwise", "Separable"))
    and "Transpose" not in name
    and "LSTM" not in name
]


@pytest.mark.parametrize("name", NUMPY_CONVOLUTIONS)
def test_the_oracle_convolves_as_keras_does(name: str) -> None:
    """NumPy in float64 against the layer itself, its activation taken off."""
    _, layer, x = HERE[name].build()
    expected = linear_twin(layer, x)
    if layer.data_format == "channels_first":
        expected = np.moveaxis(expected, 1, -1)
    (part,) = parts_of(layer, x)
    np.testing.assert_allclose(part.signal, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("equation", "shape", "axes"),
    [
        ("btc,ts->bsc", (8, 8), "c"),
        ("btc,ts->bsc", (5, 8), "c"),
        ("btc,ts->bsc", (8, 8), "s"),
        ("btc,ts->bsc", (8, 8), "sc"),
        ("abc,cde->abde", (None, 3, 4), "e"),
        ("abc,cde->abde", (None, 3, 4), "d"),
    ],
)
def test_einsum_biases_on_any_axes(
    equation: str, shape: tuple[Any, ...], axes: str
) -> None:
    layer = layers.EinsumDense(equation, shape, bias_axes=axes)
    model = keras.Sequential([keras.Input((8, 8)), layer])
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel, 0.3 * normal(*bias.shape)])
    x = normal(64, 8, 8, seed=3)
    lsuv_init(model, x)
    deviation = ops.convert_to_numpy(model(x)).std(dtype="float64")
    assert deviation == pytest.approx(1.0, abs=1e-3)


def test_each_channel_meets_the_target_beside_a_bias_of_other_axes() -> None:
    """Such a bias adds to the variance of every channel."""
    layer = layers.EinsumDense("abc,cd->abd", (8, 5), bias_axes="b")
    model = keras.Sequential([keras.Input((8, 6)), layer])
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel, 0.5 * normal(*bias.shape)])
    x = normal(64, 8, 6, seed=3)
    [row] = lsuv_init(model, x, per_channel=True)
    y = ops.convert_to_numpy(model(x))
    np.testing.assert_allclose(y.std(axis=(0, 1)), 1.0, atol=1e-3)
    assert row.std == pytest.approx(y.std(), abs=1e-4)
    layer.set_weights([kernel, 3.0 * bias + 3.0 * normal(*bias.shape)])
    with pytest.raises(ConvergenceError, match="its bias alone has deviation"):
        lsuv_init(model, x, per_channel=True)


@pytest.mark.parametrize("options", [{}, {"per_channel": True}, {"signal": "output"}])
@pytest.mark.parametrize("activation", [None, "relu"])
def test_a_kernel_that_is_a_vector_has_one_output(
    activation: Any, options: dict[str, Any]
) -> None:
    """It scores every position, as attention pooling does."""
    layer = layers.EinsumDense("abc,c->ab", (8,), "relu")
    layer.activation = keras.activations.get(activation)
    model = keras.Sequential([keras.Input((8, 6)), layer])
    x = normal(64, 8, 6)
    lsuv_init(model, x, **options)
    [row] = measure(model, x)
    y = ops.convert_to_numpy(model(x))
    assert row.output_std == pytest.approx(y.std(), rel=1e-3)
    met = row.output_std if "signal" in options else row.std
    assert met == pytest.approx(1.0, abs=2e-3)
    assert row.dead_fraction is None


@pytest.mark.parametrize("axes", ["d", "e", "b"])
def test_einsum_biases_that_are_no_channels_cannot_centre(axes: str) -> None:
    layer = layers.EinsumDense("abc,cde->abde", (6, 3, 4), bias_axes=axes)
    model = keras.Sequential([keras.Input((6, 8)), layer])
    with pytest.raises(UnsupportedLayerError, match="none for each channel"):
        lsuv_init(model, normal(64, 6, 8), center=True)


# Constraints


@pytest.mark.parametrize("signal", ["pre_activation", "output"])
def test_a_constraint_that_undoes_the_scale_is_told(signal: Any) -> None:
    """The figure is what a step of training, of rate 0, makes of the kernel."""
    model, x = constrained_stack(), normal(32, 6)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    report = lsuv_init(model, x, signal=signal)
    before = [numpy(layer.kernel) for layer in model.layers]
    model.train_on_batch(x, np.ones((32, 6), "float32"))
    after = [numpy(layer.kernel) for layer in model.layers]
    sizes = [
        np.linalg.norm(a) / np.linalg.norm(b)
        for a, b in zip(after, before, strict=True)
    ]
    [note] = [note for note in report.notes if "constraint" in note]
    assert f"by {sizes[0]:.3g} at narrow (MaxNorm), {sizes[2]:.3g} at one" in note
    assert sizes[1] == pytest.approx(1) and "wide" not in note and "free" not in note
    assert "layers=" in note


def test_constraints_that_accept_the_kernel_are_not_told() -> None:
    model, x = constrained_stack(), normal(32, 6)
    report = lsuv_init(model, x, layers=["wide", "free"])
    assert not report.notes


def test_of_many_constraints_five_are_told() -> None:
    stack = [layers.Dense(6, kernel_constraint="unit_norm") for _ in range(8)]
    model = keras.Sequential([keras.Input((6,)), *stack])
    [note] = lsuv_init(model, normal(32, 6), target_std=0.5).notes
    assert note.count("(UnitNorm)") == 5 and "(3 more)" in note


def constrained_stack() -> keras.Model:
    limits = keras.constraints.MaxNorm
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(6, kernel_constraint=limits(0.3), name="narrow"),
            layers.Dense(6, kernel_constraint=limits(99.0), name="wide"),
            layers.Dense(6, kernel_constraint="unit_norm", name="one"),
            layers.Dense(6, name="free"),
        ]
    )
