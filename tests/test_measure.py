"""`measure`: figures recomputed by NumPy, nothing changed, no error of its own."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import keras
import numpy as np
import pytest
from checks import changed, everything, overrides
from keras import layers, ops
from models import MODELS, normal
from scipy.optimize import brentq

import keras_inits
from keras_inits import measure
from keras_inits.recording.recorder import SATURATION
from keras_inits.statistics.moments import spread

Array = np.ndarray[Any, Any]


def numpy(x: Any) -> Array:
    return np.asarray(ops.convert_to_numpy(x), "float64")


def sequential(*stack: Any, inputs: int = 16) -> keras.Model:
    return keras.Sequential([keras.Input((inputs,)), *stack])


def first_finding(model: keras.Model, x: Any, **options: Any) -> str:
    findings = measure(model, x, **options).findings
    assert findings, "nothing was found"
    return findings[0].text


# The figures


def figures(z: Array, y: Array) -> dict[str, float]:
    """What a row says of a Dense layer: pre-activation `z`, output `y`."""
    return {
        "mean": z.mean(),
        "std": z.std(),
        "output_mean": y.mean(),
        "output_std": y.std(),
        "dead_fraction": (y == 0).all(axis=tuple(range(y.ndim - 1))).mean(),
        "batch_std": math.sqrt(z.var(axis=0).mean()),
    }


def assert_figures(row: Any, z: Array, y: Array) -> None:
    for name, expected in figures(z, y).items():
        assert getattr(row, name) == pytest.approx(expected, rel=1e-4, abs=1e-6), name


def test_figures_of_dense_layers_are_those_that_numpy_finds() -> None:
    x = 3 * normal(50, 16) + 0.3
    model = sequential(
        layers.Dense(16, "relu", bias_initializer=keras.initializers.Constant(-2.5)),
        layers.Dense(16, "tanh"),
        layers.Dense(16),
    )
    report = measure(model, x)
    h = x.astype("float64")
    assert (report.inputs.mean, report.inputs.std) == pytest.approx((h.mean(), h.std()))
    activations = (lambda z: np.maximum(z, 0), np.tanh, lambda z: z)
    for row, layer, f in zip(report, model.layers, activations, strict=True):
        z = h @ numpy(layer.kernel) + numpy(layer.bias)
        h = f(z)
        assert_figures(row, z, h)
        assert row.output_shape == (None, 16)
        assert row.parameters == 16 * 17
        assert row.kernel_std == pytest.approx(numpy(layer.kernel).std(), 1e-4)
        assert row.status == "measured"
    beyond = np.abs(pre_activation(model, x, 1)) > SATURATION["tanh"]
    assert 0 < beyond.mean() == pytest.approx(report[1].saturated_fraction)
    assert report[0].saturated_fraction is None


def test_a_dead_unit_is_a_channel_that_is_zero_everywhere() -> None:
    layer = layers.Conv2D(4, 3, activation="relu")
    model = keras.Sequential([keras.Input((6, 6, 3)), layer])
    layer.bias.assign([-100.0, 0.0, -100.0, -100.0])
    x = normal(8, 6, 6, 3)
    [row] = measure(model, x)
    y = numpy(model(x))
    assert (y == 0).mean() > 0.75
    assert row.dead_fraction == 0.75


class Negated(layers.Layer):
    """Its activation does not come last."""

    def __init__(self) -> None:
        super().__init__()
        self.activation = keras.activations.relu

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_weight((4, 4), initializer="identity")

    def call(self, inputs: Any) -> Any:
        return -self.activation(inputs @ self.kernel)


def test_what_an_own_layer_puts_out_is_looked_at_itself() -> None:
    model = keras.Sequential([keras.Input((4,)), Negated()])
    data = np.abs(normal(16, 4))
    data[0] = 0.0  # the maximum of its output is zero
    [row] = measure(model, data, layers=lambda _: True)
    assert row.dead_fraction == 0.0


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_a_signal_of_zeros_in_half_precision(dtype: str) -> None:
    hidden = layers.Dense(8, "relu", kernel_initializer="zeros", dtype=dtype)
    model = keras.Sequential([keras.Input((4,)), hidden, layers.Dense(2, dtype=dtype)])
    report = measure(model, normal(64, 4))
    assert [row.std for row in report] == [0.0, 0.0]
    assert sum(report[0].histogram.counts) == 64 * 8


@pytest.mark.parametrize(("activation", "dead"), [("relu", 1.0), ("tanh", 0.0)])
def test_a_unit_that_is_never_positive_is_not_dead(
    activation: str, dead: float
) -> None:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4, activation)])
    model.set_weights([np.eye(4), np.zeros(4)])
    data = -np.abs(normal(16, 4))
    data[0] = 0.0  # its maximum is zero
    assert measure(model, data)[0].dead_fraction == dead


@pytest.mark.parametrize("pixels", [(4, 6), (48, 64)], ids=["few", "many"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_a_channel_is_dead_where_it_is_zero_at_every_pixel(
    activation: str, pixels: tuple[int, int]
) -> None:
    shape = (*pixels, 3)
    hidden = layers.Conv2D(5, 1, activation=activation)
    model = keras.Sequential([keras.Input(shape), hidden])
    kernel = normal(1, 1, 3, 5)
    kernel[..., 1] = kernel[..., 3] = 0.0
    hidden.set_weights([kernel, np.zeros(5)])
    x = normal(60, *shape)
    x[1:, 1:] = 0.0  # all but one row of pixels of one sample
    assert measure(model, x)[0].dead_fraction == pytest.approx(2 / 5)


def test_a_channel_that_lives_in_the_last_sample_alone_is_not_dead() -> None:
    hidden = layers.Conv2D(3, 1, activation="relu")
    model = keras.Sequential([keras.Input((96, 128, 3)), hidden])
    hidden.set_weights([np.eye(3)[None, None], np.zeros(3)])
    x = np.zeros((64, 96, 128, 3), "float32")
    x[:, 0, 0, 0] = x[-1, 5, 7, 1] = 1.0
    assert measure(model, x)[0].dead_fraction == pytest.approx(1 / 3)


def test_data_in_bfloat16_are_looked_at() -> None:
    x = 300 * normal(64, 8)
    model = keras.Sequential([keras.Input((8,), dtype="bfloat16"), layers.Dense(4)])
    inputs = measure(model, ops.cast(x, "bfloat16")).inputs
    assert inputs.std == pytest.approx(x.std(), rel=0.01)


def test_activation_layers_show_what_they_are_given_and_put_out() -> None:
    model = sequential(layers.Dense(16), layers.ReLU(), layers.Activation("tanh"))
    x = 9 * normal(64, 16)
    report = measure(model, x)
    z = pre_activation(model, x, 0)
    assert [row.layer_type for row in report] == ["Dense", "ReLU", "Activation"]
    assert_figures(report[1], z, np.maximum(z, 0))
    assert_figures(report[2], np.maximum(z, 0), np.tanh(np.maximum(z, 0)))
    beyond = np.maximum(z, 0) > SATURATION["tanh"]
    assert report[2].saturated_fraction == pytest.approx(beyond.mean())
    assert [row.activation for row in report] == ["linear", "relu", "tanh"]


APPLIED: dict[str, tuple[Callable[[Any], Any], Callable[[], layers.Layer]]] = {
    "Relu": (ops.relu, layers.ReLU),
    "ReLU": (keras.activations.relu, layers.ReLU),
    "LeakyRelu": (lambda h: ops.leaky_relu(h, 0.3), lambda: layers.LeakyReLU(0.3)),
    "Tanh": (ops.tanh, lambda: layers.Activation("tanh")),
    "Softmax": (ops.softmax, layers.Softmax),
}


@pytest.mark.parametrize("kind", APPLIED)
def test_operations_are_shown_as_activation_layers_are(kind: str) -> None:
    apply, layer = APPLIED[kind]

    def measured(act: Callable[[Any], Any]) -> Any:
        keras.utils.set_random_seed(3)
        inputs = h = keras.Input((16,))
        for _ in range(10):  # as many as are worthwhile to compile
            h = act(layers.Dense(16)(h))
        model, x = keras.Model(inputs, h), 3 * normal(64, 16)
        measure(model, x)  # the second pass may be a compiled one
        return measure(model, x)

    operations, like_layers = measured(apply), measured(lambda h: layer()(h))
    fields = ("mean", "std", "output_std", "dead_fraction", "saturated_fraction")
    for row, other in zip(operations, like_layers, strict=True):
        assert row.layer_type == (kind if row.kernel_shape is None else "Dense")
        assert (row.activation, row.parameters) == (other.activation, other.parameters)
        assert (row.output_shape, row.trainable) == (other.output_shape, True)
        for field in (*fields, "gradient_gain"):
            value = getattr(other, field)
            expected = value and pytest.approx(value, rel=1e-3)
            assert getattr(row, field) == expected, field
    assert len({row.path for row in operations}) == 20


def test_an_activation_layer_inside_a_layer_has_no_row_of_its_own() -> None:
    model = sequential(
        layers.Dense(16, layers.LeakyReLU(0.5)), layers.Dense(16, layers.ReLU())
    )
    x = normal(64, 16)
    report = measure(model, x)
    assert [row.layer_type for row in report] == ["Dense", "Dense"]
    z = x.astype("f8") @ numpy(model.layers[0].kernel)
    assert_figures(report[0], z, np.where(z > 0, z, z / 2))
    assert report[0].output_std != report[1].output_std
    assert [row.activation for row in report] == ["leaky_relu", "relu"]


def pre_activation(model: keras.Model, x: Any, index: int) -> Array:
    """`W x + b` of the Dense layer at `index`."""
    h = keras.Model(model.inputs[0], model.layers[index].input)(x) if index else x
    layer = model.layers[index]
    return numpy(h) @ numpy(layer.kernel) + numpy(layer.bias)


@pytest.mark.parametrize("units", [3, 8, 9, 15, 768])
def test_a_histogram_sees_every_channel(units: int) -> None:
    """Of many values only some are counted: none of the channels is left out."""
    model = keras.Sequential([keras.Input((units,)), layers.Dense(units)])
    sizes = np.where(np.arange(units) % 3 == 1, 5.0, 0.01)
    model.layers[0].kernel.assign(np.diag(sizes))
    x = normal(20_000 // units + 1, units)
    histogram = measure(model, x, samples=len(x))[0].histogram
    assert histogram is not None
    centres = (np.array(histogram.edges[1:]) + np.array(histogram.edges[:-1])) / 2
    weights = np.array(histogram.counts) / sum(histogram.counts)
    assert sum(histogram.counts) >= 4096
    expected = (x * sizes).std()
    assert np.sqrt((weights * centres**2).sum()) == pytest.approx(expected, rel=0.1)


def test_histogram_counts_the_pre_activations() -> None:
    model = sequential(layers.Dense(16, "relu"))
    x = normal(64, 16)
    z = pre_activation(model, x, 0)
    histogram = measure(model, x)[0].histogram
    assert histogram is not None
    assert sum(histogram.counts) == z.size
    expected, _ = np.histogram(z, histogram.edges)
    assert np.abs(expected - np.array(histogram.counts)).sum() <= 4  # at the edges
    assert histogram.edges[-1] == pytest.approx(np.abs(z).max(), 1e-4)


SLOPES = {
    "tanh": (lambda z: 1 / np.cosh(z) ** 2, 1.0),
    "sigmoid": (lambda z: 1 / (2 * np.cosh(z / 2)) ** 2, 0.25),
    "softsign": (lambda z: 1 / (1 + abs(z)) ** 2, 1.0),
}


@pytest.mark.parametrize("name", sorted(SLOPES))
def test_saturation_begins_where_the_slope_is_a_hundredth_of_its_maximum(
    name: str,
) -> None:
    slope, largest = SLOPES[name]
    limit = brentq(lambda z: slope(z) - 0.01 * largest, 0.1, 50)
    assert SATURATION[name] == pytest.approx(limit, abs=1e-3)


def test_of_nan_no_unit_is_dead_and_no_value_saturated() -> None:
    model = keras.Sequential(
        [keras.Input((5,)), layers.Dense(4, "relu"), layers.Dense(4, "tanh")]
    )
    model.layers[0].kernel.assign(np.full((5, 4), np.nan, "float32"))
    first, second = measure(model, normal(32, 5))
    assert np.isnan(first.dead_fraction) and np.isnan(second.saturated_fraction)
    assert measure(model, normal(32, 5)).to_dict()["layers"][0]["dead_fraction"] is None


@pytest.mark.parametrize("kind", [layers.LSTM, layers.GRU, layers.SimpleRNN])
def test_of_gates_no_saturation_is_said(kind: Any) -> None:
    """What the state adds to `W x`, and each gate's own activation, is not seen."""
    model = keras.Sequential([keras.Input((7, 5)), kind(4), layers.Dense(3)])
    report = measure(model, 30 * normal(32, 7, 5))
    assert report[0].saturated_fraction is None
    assert report[0].std > 10


@pytest.mark.parametrize("name", ["hard_sigmoid", "hard_tanh"])
def test_hard_activations_are_saturated_where_they_are_constant(name: str) -> None:
    f = keras.activations.get(name)

    def at(z: float) -> float:
        return float(numpy(f(ops.convert_to_tensor([z], "float32")))[0])

    limit = SATURATION[name]
    for side in (-1, 1):
        assert at(side * limit) == at(side * (limit + 1))
        assert at(side * (limit - 0.01)) != at(side * (limit + 1))


def test_every_limit_is_tested() -> None:
    assert set(SATURATION) == {*SLOPES, "hard_sigmoid", "hard_tanh"}


def test_rows_are_in_the_order_of_the_calls_and_later_calls_leave_none() -> None:
    model, x = MODELS["shared"]()
    report = measure(model, x)
    assert [row.name for row in report] == ["front", "thrice", "last"]


def test_frozen_layers_are_measured_and_uncalled_ones_named() -> None:
    model, x = MODELS["subclassed"]()
    model.blocks[0].trainable = False
    report = measure(model, x)
    assert report["block_0"].std is not None
    assert report["unused"].status == "skipped: not called"
    assert report["unused"].std is None


def test_only_the_layers_asked_for() -> None:
    model, x = MODELS["shared"]()
    report = measure(model, x, layers=["last"])
    assert [row.name for row in report] == ["last"]
    with pytest.raises(keras_inits.UnsupportedLayerError, match="no layer 'lost'"):
        measure(model, x, layers="lost")


def test_samples_limits_the_rows() -> None:
    model, x = sequential(layers.Dense(16)), normal(64, 16)
    z = pre_activation(model, x[::8], 0)
    assert measure(model, x, samples=8)[0].std == pytest.approx(z.std(), 1e-4)


def test_training_mode_is_passed_on() -> None:
    x = 5 * normal(64, 16)
    model = sequential(layers.BatchNormalization(), layers.Dense(16))
    quiet, trained = measure(model, x), measure(model, x, training=True)
    assert quiet[0].std == pytest.approx(5 * trained[0].std, rel=0.1)


def test_data_may_come_from_a_generator() -> None:
    def batches() -> Iterator[Any]:
        yield x[:32], x[:32]
        yield x[32:], x[32:]

    model, x = sequential(layers.Dense(16)), normal(64, 16)
    assert measure(model, batches())[0].std == measure(model, x)[0].std


# Nothing changes


def compiled() -> keras.Model:
    """Moving statistics, seeds, metrics, an optimizer."""
    model = sequential(
        layers.Dense(16, "tanh"),
        layers.BatchNormalization(),
        layers.Dropout(0.5),
        layers.Dense(3),
    )
    model.compile("adam", "mse", metrics=["mae"])
    return model


def test_nothing_is_changed() -> None:
    model, x, y = compiled(), normal(64, 16), normal(64, 3)
    before, patched = everything(model), overrides(model)
    measure(model, x, y, training=True)
    assert changed(before, model) == []
    assert overrides(model) == patched


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_kind_of_model_can_be_measured(name: str) -> None:
    model, x = MODELS[name]()
    before = everything(model)
    report = measure(model, x)
    assert changed(before, model) == []
    assert any(row.std for row in report)
    json.dumps(report.to_dict(), allow_nan=False)
    assert str(report)


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf, 3e38])
@pytest.mark.parametrize("where", ["data", "kernel"])
def test_a_sick_signal_is_shown_and_not_an_error(value: float, where: str) -> None:
    model, x = compiled(), normal(64, 16)
    if where == "data":
        x[3] = value
    else:
        kernel = numpy(model.layers[0].kernel)
        kernel[2] = value
        model.layers[0].kernel.assign(kernel.astype("float32"))
    report = measure(model, x, normal(64, 3))
    text = json.dumps(report.to_dict(), allow_nan=False)
    assert str(report)
    assert report.findings or value == 0
    if math.isnan(value):
        assert math.isnan(report[0].std)
        assert '"std": null' in text
        assert "NaN" in report.findings[0].text


# Gradients


def loss_by_hand(kernels: list[Array], biases: list[Array], x: Array, y: Array) -> Any:
    h = x
    for kernel, bias in itertools.islice(zip(kernels, biases, strict=True), 2):
        h = np.tanh(h @ kernel + bias)
    return np.mean((h - y) ** 2)


def differences(kernels: list[Array], biases: list[Array], x: Array, y: Array) -> Any:
    """Central differences in float64, value by value."""
    step, gradients = 1e-6, []
    for kernel in kernels:
        gradient = np.zeros_like(kernel)
        for index in np.ndindex(kernel.shape):
            kept = kernel[index]
            kernel[index] = kept + step
            above = loss_by_hand(kernels, biases, x, y)
            kernel[index] = kept - step
            below = loss_by_hand(kernels, biases, x, y)
            kernel[index] = kept
            gradient[index] = (above - below) / (2 * step)
        gradients.append(gradient)
    return gradients


def test_gradients_are_those_of_finite_differences() -> None:
    model = sequential(layers.Dense(5, "tanh"), layers.Dense(3, "tanh"), inputs=4)
    x, y = normal(20, 4), normal(20, 3, seed=1)
    report = measure(model, x, y, loss="mse")
    kernels = [numpy(layer.kernel) for layer in model.layers]
    biases = [numpy(layer.bias) for layer in model.layers]
    gradients = differences(kernels, biases, x.astype("f8"), y.astype("f8"))
    for row, kernel, gradient in zip(report, kernels, gradients, strict=True):
        assert row.weight_gradient_std == pytest.approx(gradient.std(), rel=1e-4)
        ratio = gradient.std() / kernel.std()
        assert row.gradient_ratio == pytest.approx(ratio, rel=1e-4)


def test_the_loss_is_the_models_own_unless_given() -> None:
    x, y = normal(20, 4), np.arange(20) % 3
    model = sequential(layers.Dense(3, "softmax"), inputs=4)
    with pytest.raises(keras_inits.DataError, match="not compiled with one"):
        measure(model, x, y)
    named = measure(model, x, y, loss="sparse_categorical_crossentropy")
    instance = measure(model, x, y, loss=keras.losses.SparseCategoricalCrossentropy())
    model.compile("sgd", "sparse_categorical_crossentropy")
    own = measure(model, x, y)
    logits = x.astype("f8") @ numpy(model.layers[0].kernel)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    gradient = x.T.astype("f8") @ (p - np.eye(3)[y]) / 20
    for report in (named, instance, own):
        found = report[0].weight_gradient_std
        assert found == pytest.approx(gradient.std(), rel=1e-4)


def test_labels_follow_the_rows_that_are_drawn() -> None:
    model = sequential(layers.Dense(3), inputs=4)
    x, y = normal(64, 4), normal(64, 3, seed=1)
    some = measure(model, x, y, loss="mse", samples=8)[0].weight_gradient_std
    expected = measure(model, x[::8], y[::8], loss="mse")[0].weight_gradient_std
    assert some == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("rows", [8, 100])
def test_labels_need_one_row_for_each_row_of_the_data(rows: int) -> None:
    model = sequential(layers.Dense(3), inputs=4)
    with pytest.raises(keras_inits.DataError, match="one row for each row"):
        measure(model, normal(64, 4), normal(rows, 3), loss="mse", samples=8)


def test_a_kernel_that_the_loss_does_not_see_has_no_gradient() -> None:
    model, x = MODELS["several"]()
    first = keras.Model(model.inputs, model.outputs[1])
    report = measure(model, x, layers=[layer.name for layer in layers_with(model)])
    assert len(report) == 4
    unseen = [layer.name for layer in layers_with(model) if layer not in first.layers]
    both = keras.Model(model.inputs, model.outputs)
    both.compile("sgd", loss=["mse", "mse"], loss_weights=[0.0, 1.0])
    rows = measure(both, x, [normal(32, 6), normal(32, 6)])
    for row in rows:
        assert (row.weight_gradient_std == 0) == (row.name in unseen), row.name


def layers_with(model: keras.Model) -> list[Any]:
    return [layer for layer in model.layers if hasattr(layer, "kernel")]


def test_a_kernel_of_zeros_has_a_gradient_and_no_ratio() -> None:
    model = sequential(
        layers.Dense(3, kernel_initializer="zeros"),
        layers.Dense(3),
        layers.Dense(3),
        inputs=4,
    )
    report = measure(model, normal(20, 4), normal(20, 3), loss="mse")
    assert report[0].weight_gradient_std > 0
    assert report[0].gradient_ratio is None
    assert report.findings[0].layer == report[0].name


@pytest.mark.parametrize("compiled", [False, True])
def test_a_signal_whose_square_is_no_number_of_float32(compiled: bool) -> None:
    """1e-24 is one, 1e-48 is not: deviations are right all the same."""
    small = keras.initializers.RandomNormal(stddev=2.5e-5, seed=0)
    stack = [layers.Dense(16, "tanh", kernel_initializer=small) for _ in range(6)]
    model, x = sequential(*stack, layers.Dense(8, "relu")), normal(64, 16)
    expected, gains, z = [], [], numpy(x)
    for layer in model.layers:
        z = np.tanh(z) if expected else z
        z = z @ numpy(layer.kernel)
        expected.append(z.std())
        gains.append((numpy(layer.kernel) ** 2).sum() / layer.units)
    assert expected[-2] < 1e-22
    before = everything(model)
    for _ in range(3 if compiled else 1):  # TensorFlow: from the second call on
        report = measure(model, x)
    assert changed(before, model) == []
    assert [row.std for row in report] == pytest.approx(expected, rel=1e-4, abs=0)
    found = [row.gradient_gain for row in report[:-1]]
    assert found == pytest.approx(gains[:-1], rel=1e-3, abs=0)
    positive = np.maximum(z, 0)
    last = report[-1]
    assert last.output_std == pytest.approx(positive.std(), rel=1e-4, abs=0)
    assert last.batch_std == pytest.approx(z.var(axis=0).mean() ** 0.5, 1e-4, abs=0)
    assert report[2].kernel_std == pytest.approx(numpy(stack[2].kernel).std(), 1e-4)


@pytest.mark.parametrize("shape", [(16,), (4, 4, 3)])
def test_a_deviation_between_samples_far_below_that_of_all(
    shape: tuple[int, ...],
) -> None:
    """Sigmoids make samples alike; what is left is no difference of two variances."""
    convolve = partial(layers.Conv2D, 8, 3, padding="same", activation="sigmoid")
    dense = partial(layers.Dense, 16, "sigmoid")
    stack = [convolve() if len(shape) > 1 else dense() for _ in range(12)]
    model = keras.Sequential([keras.Input(shape), *stack])
    x = normal(64, *shape)
    signal, expected = x, []
    for layer in stack:
        layer.activation = keras.activations.linear
        z = numpy(layer(signal)).astype("float64")
        layer.activation = keras.activations.sigmoid
        signal = numpy(layer(signal))
        expected.append(math.sqrt(z.var(axis=0).mean()))
    assert expected[6] < 2e-4
    for _ in range(3):  # eager, compiled, played
        found = [row.batch_std for row in measure(model, x)]
        assert found[:7] == pytest.approx(expected[:7], rel=2e-2, abs=0)


@pytest.mark.parametrize("rows", [256, 8192])
@pytest.mark.parametrize("between", [0.0, 1e-4, 1e-2])
def test_a_deviation_between_many_rows_of_a_large_mean(
    rows: int, between: float
) -> None:
    """Units of means near 3: their own rounding is no deviation."""
    units = 3 + normal(1, 64)
    x = (units + between * normal(rows, 64, seed=1)).astype("float32")
    wide = x.astype("float64")
    *_, found = spread(ops.convert_to_tensor(x))
    expected = wide.var(axis=0).mean()
    assert float(found) == pytest.approx(expected, rel=1e-2, abs=1e-11)
    *_, found = spread(ops.convert_to_tensor(x.reshape(rows, 4, 4, 4)))
    assert float(found) == pytest.approx(expected, rel=1e-2, abs=1e-11)


def test_a_kernel_too_large_for_its_square_goes_without_a_warning() -> None:
    model = sequential(*(layers.Dense(16, "relu") for _ in range(12)))
    model.layers[2].kernel.assign(np.full((16, 16), 1e20))
    for _ in range(3):
        with np.errstate(all="raise"):
            assert measure(model, normal(32, 16)).findings


# What is said


def deep(count: int, activation: str | None, **options: Any) -> list[Any]:
    return [layers.Dense(16, activation, **options) for _ in range(count)]


def test_a_stack_of_sigmoids_vanishes() -> None:
    model = sequential(*deep(12, "sigmoid"), layers.Dense(3))
    assert "signal vanishes from" in first_finding(model, normal(64, 16))


def test_a_linear_stack_explodes() -> None:
    wide = keras.initializers.RandomNormal(stddev=1.0)
    model = sequential(*deep(10, None, kernel_initializer=wide))
    text = first_finding(model, normal(64, 16))
    assert "signal explodes from" in text
    # The first layer beyond a thousandfold: 4 per layer, so about the sixth.
    names = [layer.name for layer in model.layers]
    assert text.split("from ")[1].split(" ")[0] in names[4:8]


def test_units_that_a_bias_has_killed_are_dead() -> None:
    model = sequential(*deep(4, "relu"), layers.Dense(3))
    model.layers[1].bias.assign(np.full(16, -50.0, "float32"))
    text = first_finding(model, normal(64, 16))
    assert f"100 % of {model.layers[1].name} is dead" in text


def test_pixels_of_0_to_255_are_said_to_be_unscaled() -> None:
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            layers.Flatten(),
            layers.Dense(16, "relu"),
            layers.Dense(3),
        ]
    )
    x = np.random.default_rng(0).integers(0, 256, (64, 4, 4, 1)).astype("float32")
    [finding, *_] = measure(model, x).findings
    assert "input data is not standardised (mean 1" in finding.text
    assert "Rescaling" in finding.remedy


def test_a_layer_frozen_at_zero_is_named() -> None:
    model = sequential(*deep(5, "relu"), layers.Dense(3))
    model.layers[2].kernel.assign(np.zeros((16, 16), "float32"))
    model.layers[2].trainable = False
    [finding, *_] = measure(model, normal(64, 16)).findings
    assert finding.layer == model.layers[2].name
    assert "zero" in finding.text


def test_after_lsuv_it_is_well() -> None:
    x = 100 * normal(64, 16)
    model = sequential(*deep(6, "relu"), layers.Dense(3))
    keras_inits.lsuv_init(model, x)
    report = measure(model, x)
    assert report.findings == ()
    assert "Healthy: std 1.000 to 1.000" in str(report)


def residual_network() -> tuple[keras.Model, Any]:
    """As ResNet50: bottlenecks with BatchNormalization, 12 of them."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(16, 3, padding="same", use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    for _ in range(12):
        y = layers.Conv2D(8, 1, use_bias=False)(x)
        y = layers.ReLU()(layers.BatchNormalization()(y))
        y = layers.Conv2D(8, 3, padding="same", use_bias=False)(y)
        y = layers.ReLU()(layers.BatchNormalization()(y))
        y = layers.BatchNormalization()(layers.Conv2D(16, 1, use_bias=False)(y))
        x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(10, "softmax")(x)
    return keras.Model(inputs, x), normal(16, 8, 8, 3)


def transformer() -> tuple[keras.Model, Any]:
    """Pre-norm, 4 blocks, freshly built."""
    tokens = keras.Input((10,), dtype="int32")
    x = layers.Embedding(50, 16)(tokens)
    for _ in range(4):
        y = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(2, 8)(y, y)])
        y = layers.LayerNormalization()(x)
        y = layers.Dense(16)(layers.Dense(64, "gelu")(y))
        x = layers.Add()([x, y])
    x = layers.Dense(50)(layers.LayerNormalization()(x))
    data = np.random.default_rng(0).integers(0, 50, (16, 10))
    return keras.Model(tokens, x), data


@pytest.mark.parametrize("build", [residual_network, transformer])
def test_what_is_said_of_healthy_architectures_is_short(build: Any) -> None:
    model, x = build()
    report = measure(model, x)
    assert [f.text for f in report.findings if f.severity == "error"] == []
    assert len(report.findings) <= 1
    assert not report.plain


def test_a_loss_without_labels() -> None:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    with pytest.raises(keras_inits.DataError, match=r"needs labels.*loss='mse'"):
        measure(model, normal(8, 4), loss="mse")


# Labels go with the rows that were drawn


def batches_of(x: np.ndarray[Any, Any]) -> Iterator[np.ndarray[Any, Any]]:
    yield from (x[i : i + 50] for i in range(0, len(x), 50))


class Batches(keras.utils.PyDataset):
    def __init__(self, x: np.ndarray[Any, Any]) -> None:
        super().__init__()
        self.x = x

    def __len__(self) -> int:
        return len(self.x) // 50

    def __getitem__(self, index: int) -> Any:
        return self.x[50 * index : 50 * (index + 1)]


SOURCES: dict[str, Callable[[Any], Any]] = {
    "array": lambda x: x,
    "dataset": Batches,
    "dict": lambda x: {"x": x},
    "generator": batches_of,
    "list": lambda x: [x],
}


def labelled(source: str) -> tuple[keras.Model, Any, Any]:
    keras.utils.set_random_seed(0)
    x = np.sort(normal(1000, 6), axis=0)  # sorted: rows that do not go together show
    y = (x @ np.arange(1.0, 7.0, dtype="float32"))[:, None]
    inputs = keras.Input((6,), name="x")
    structure: Any = {"dict": {"x": inputs}, "list": [inputs]}.get(source, inputs)
    return keras.Model(structure, layers.Dense(1)(inputs)), x, y


@pytest.mark.parametrize("source", SOURCES)
def test_labels_of_the_rows_that_were_drawn(source: str) -> None:
    model, x, y = labelled(source)
    streamed = source in ("dataset", "generator")
    chosen = np.arange(256) if streamed else np.arange(256) * 1000 // 256
    w, b = map(ops.convert_to_numpy, model.layers[1].weights)
    error = x[chosen] @ w + b - y[chosen]
    expected = np.std(2 * x[chosen].T @ error / 256)
    data = SOURCES[source](x)
    [row] = measure(model, data, y, loss="mse")
    assert row.weight_gradient_std == pytest.approx(expected, rel=1e-4)
    monitor = keras_inits.SignalMonitor(SOURCES[source](x), y, loss="mse")
    model.compile("sgd", "mse")
    monitor.set_model(model)
    monitor.on_epoch_begin(0)
    assert monitor.report is not None
    assert monitor.report[0].weight_gradient_std == pytest.approx(expected, rel=1e-4)


def test_labels_in_a_tuple() -> None:
    model, x, y = labelled("array")
    found = [measure(model, x, labels, loss="mse")[0] for labels in (y, (y,))]
    assert found[0] == found[1]


@pytest.mark.parametrize("source", SOURCES)
def test_too_few_labels(source: str) -> None:
    model, x, y = labelled(source)
    with pytest.raises(keras_inits.DataError, match="one row for each row"):
        measure(model, SOURCES[source](x), y[:200], loss="mse")


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("binary_crossentropy", keras.losses.BinaryCrossentropy()),
        ("hinge", keras.losses.Hinge()),
        ("mae", keras.losses.MeanAbsoluteError()),
        ("poisson", keras.losses.Poisson()),
    ],
)
def test_flat_labels_are_those_of_a_column(name: str, loss: Any) -> None:
    """As `fit` takes them; a bare function of Keras would compare all with all."""
    keras.utils.set_random_seed(0)
    x = normal(64, 4)
    y = (x[:, 0] > 0).astype("float32")
    model = sequential(layers.Dense(1, activation="sigmoid"), inputs=4)
    found = [
        measure(model, x, labels, loss=by)[0].weight_gradient_std
        for labels in (y, y[:, None])
        for by in (name, loss)
    ]
    assert found[0] and found == pytest.approx([found[-1]] * 4, rel=1e-5)


@pytest.mark.parametrize("value", [0.05, 0.1, 0.25, 0.7])
def test_a_constant_kernel_has_no_deviation(value: float) -> None:
    """Whatever its sum is rounded to; the first one is named."""
    equal = {"kernel_initializer": keras.initializers.Constant(value)}
    dense = [layers.Dense(64, activation="tanh", **equal) for _ in range(3)]
    report = measure(sequential(*dense, layers.Dense(2), inputs=20), normal(64, 20))
    assert report[0].kernel_std == 0.0
    assert report.findings[0].text.startswith(f"the kernel of {dense[0].name} is const")


class Branches(keras.Model):
    """A layer in a branch that closes over its input, and one in a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = layers.Dense(4, activation="tanh")
        self.loop = layers.Dense(4)

    def call(self, x: Any) -> Any:
        x = ops.cond(ops.mean(x) < 1e9, lambda: self.branch(x), lambda: x)
        return ops.fori_loop(0, 2, lambda i, y: self.loop(y), x)


def test_layers_in_branches_and_loops() -> None:
    model, x = Branches(), 7 * normal(50, 4)
    model(x)
    report = keras_inits.lsuv_init(model, x)
    z = x @ ops.convert_to_numpy(model.branch.kernel)
    assert z.std() == pytest.approx(1.0, rel=1e-3)
    shown = {row.name: row.std for row in measure(model, x)}
    assert shown[model.branch.name] == pytest.approx(z.std(), rel=1e-4)
    assert shown[model.loop.name] == pytest.approx(1.0, rel=1e-3)
    assert {row.name for row in report} == set(shown)


def two_inputs() -> keras.Model:
    a, b = keras.Input((6,)), keras.Input((3,))
    x = [layers.Dense(8, activation="relu")(z) for z in (a, b)]
    return keras.Model([a, b], layers.Dense(4)(layers.Concatenate()(x)))


def test_the_input_that_is_off_is_named() -> None:
    model, a, b = two_inputs(), normal(32, 6), normal(32, 3)
    assert not keras_inits.measure(model, [a, b]).findings
    first = keras_inits.measure(model, [a, 1e6 * b]).findings[0]
    assert "input data[1] is not standardised" in first.text
    b[0, 0] = np.nan
    [first] = keras_inits.measure(model, [a, b]).findings
    assert first.text == "input data[1] holds NaN or infinity in column 0"


def heads(
    count: int, units: int = 4, activation: str | None = None, scale: float = 1.0
) -> keras.Model:
    keras.utils.set_random_seed(3)
    inputs = keras.Input((8,))
    hidden = layers.Dense(64, "relu", name="hidden")(inputs)
    make = [layers.Dense(units, activation, name=f"head_{i}") for i in range(count)]
    model = keras.Model(inputs, [head(hidden) for head in make])
    for head in make:
        head.kernel.assign(scale * head.kernel)
    return model


@pytest.mark.parametrize(
    ("options", "severities"),
    [
        ({"scale": 0.0}, ["warning"]),
        ({"scale": 1e-4}, []),
        ({"scale": 200.0, "units": 1, "activation": "sigmoid"}, ["warning"]),
        ({"scale": 20.0, "activation": "softmax"}, []),
        ({"scale": 1000.0, "activation": "softmax"}, ["warning"]),
    ],
    ids=["zeros", "tiny", "sure sigmoid", "sure softmax", "large softmax"],
)
def test_heads_are_judged_one_by_one(
    options: dict[str, Any], severities: list[str]
) -> None:
    for count in (1, 2, 3):
        found = measure(heads(count, **options), normal(256, 8)).findings
        assert [x.severity for x in found] == count * severities
        expected = [f"head_{i}" for i in range(count)] if severities else []
        assert sorted(str(x.layer) for x in found) == expected


def test_rows_say_which_outputs_their_layers_lead_to() -> None:
    inputs = keras.Input((8,))
    trunk = layers.Dense(8, "relu", name="trunk")(inputs)
    block = keras.Sequential([layers.Dense(8, "relu", name="inside")], name="block")
    branch = block(trunk)
    ends = [layers.Dense(2, name=n)(x) for n, x in zip("ab", 2 * [branch], strict=True)]
    ends.append(layers.Activation("tanh", name="c")(layers.Dense(2, name="d")(trunk)))
    model = keras.Model(inputs, dict(zip("xyz", ends, strict=True)))
    expected = {
        "trunk": (),
        "inside": ("a", "b"),
        **{"a": ("a",), "b": ("b",), "c": ("c",), "d": ("c",)},
    }
    x = normal(64, 8)
    for report in (measure(model, x), keras_inits.lsuv_init(model, x)):
        rows = {row.name: row.outputs for row in report}
        assert rows == {name: expected[name] for name in rows}
        assert len(rows) >= 5
        json.dumps(report.to_dict())
    single = keras.Model(inputs, ends[0])
    assert all(row.outputs == () for row in measure(single, x))


def test_of_one_value_there_is_no_deviation() -> None:
    model = sequential(layers.Dense(1), inputs=1)
    model.layers[0].kernel.assign([[0.7]])
    report = measure(model, np.ones((1, 1), "float32"))
    assert report.findings == ()
    assert (report[0].std, report[0].output_std) == (None, None)
    assert report[0].mean == pytest.approx(0.7)
    model.layers[0].kernel.assign([[0.0]])
    first = first_finding(model, np.ones((1, 1), "float32"))
    assert "frozen at zero" in first


@pytest.mark.parametrize("bias", [0.0, -9.0])
def test_a_squeeze_that_is_dead_says_by_what(bias: float) -> None:
    inputs = keras.Input((8,))
    hidden = layers.Dense(16, "relu")(inputs)
    squeeze = layers.Dense(2, "relu", name="squeeze")
    gate = layers.Dense(16, "sigmoid")(squeeze(hidden))
    gated = layers.Multiply()([hidden, gate])
    model = keras.Model(inputs, layers.Dense(2)(gated))
    low = -0.3 - 0.01 * normal(16, 2) if bias == 0 else 0.01 * normal(16, 2)
    squeeze.set_weights([low, np.full(2, bias, "float32")])
    report = measure(model, normal(64, 8))
    [finding] = report.findings
    assert finding.layer == "squeeze"
    assert report["squeeze"].bias_mean == pytest.approx(bias)
    assert ("bias_initializer" in finding.remedy) == (bias < 0)
    assert ('layers=["squeeze"]' in finding.remedy) == (bias == 0)


def normalised(activation: Any = None, **options: Any) -> keras.Model:
    normalisation = layers.BatchNormalization(name="bn", **options)
    activation = layers.ReLU(name="act") if activation is None else activation
    return sequential(layers.Dense(32), normalisation, activation, layers.Dense(3))


def typed(remedy: str, model: keras.Model) -> None:
    """The lines of a remedy that are for now."""
    exec(remedy.split("or now: ")[1], {"model": model})


PUSHED = keras.initializers.Constant(-8.0)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"gamma_initializer": "zeros"}, "nothing reaches act: all that it takes is 0"),
        ({"beta_initializer": PUSHED}, "100 % of act is dead"),
    ],
    ids=["gamma", "beta"],
)
def test_what_normalisation_silences_its_remedy_mends(
    options: Any, text: str, training: bool
) -> None:
    model, x = normalised(**options), normal(64, 16)
    [finding] = measure(model, x, training=training).findings
    assert (finding.layer, finding.severity) == ("act", "error")
    assert text in finding.text
    [name] = options
    assert name in finding.remedy and 'get_layer("bn")' in finding.remedy
    typed(finding.remedy, model)
    assert measure(model, x, training=training).findings == ()


@pytest.mark.parametrize(
    "activation",
    [
        lambda: layers.ReLU(),
        lambda: layers.PReLU(),
        lambda: layers.Activation("tanh"),
        lambda: layers.Activation("relu"),
    ],
)
def test_an_activation_is_never_to_be_drawn_again(activation: Any) -> None:
    model = normalised(activation(), gamma_initializer="zeros")
    for finding in measure(model, normal(64, 16)).findings:
        assert "keras_inits.initialize" not in finding.remedy
    custom = sequential(layers.Dense(32), layers.Rescaling(0.0), activation())
    [finding] = measure(custom, normal(64, 16)).findings
    assert "nothing reaches" in finding.text
    assert "what comes before" in finding.remedy


def test_one_row_is_its_own_mean() -> None:
    [finding] = measure(normalised(), normal(1, 16), training=True).findings
    assert "pass more rows" in finding.remedy
    assert measure(normalised(), normal(64, 16), training=True).findings == ()


def test_a_normalisation_inside_a_layer_goes_by_its_path() -> None:
    inner = keras.Sequential(
        [
            keras.Input((32,)),
            layers.BatchNormalization(beta_initializer=PUSHED, name="bn"),
            layers.ReLU(),
        ],
        name="inner",
    )
    model = sequential(layers.Dense(32), inner, layers.Dense(3))
    [finding] = measure(model, normal(64, 16)).findings
    assert "it is the beta of " in finding.remedy and "inner/bn" in finding.remedy
    assert "get_layer" not in finding.remedy


def test_one_row_tells_nothing_of_dead_units() -> None:
    model = sequential(layers.Dense(16, "relu"), layers.Dense(2))
    report = measure(model, normal(1, 16))
    assert report.findings == ()
    assert report[0].dead_fraction is None
    assert measure(model, normal(2, 16))[0].dead_fraction is not None
    image = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Conv2D(4, 3, activation="relu")]
    )
    assert measure(image, normal(1, 8, 8, 1))[0].dead_fraction is not None


@pytest.mark.parametrize("units", [1, 3])
def test_a_head_of_one_unit_is_not_blamed_for_samples_alike(units: int) -> None:
    stack = [layers.Dense(24, "sigmoid", name=f"a{i}") for i in range(10)]
    model = sequential(*stack, layers.Dense(units))
    first = measure(model, normal(128, 16)).findings[0]
    assert re.match(r"signal vanishes from a[345] on: samples look alike", first.text)
    assert "center=True" in first.remedy
    keras_inits.lsuv_init(model, normal(128, 16), center=True)
    assert not any(
        "vanishes" in x.text for x in measure(model, normal(128, 16)).findings
    )


def test_rows_that_are_nearly_the_same_are_so_from_the_first_layer_on() -> None:
    stack = [layers.Dense(24, "tanh", name=f"a{i}") for i in range(4)]
    x = np.repeat(normal(1, 16), 128, axis=0) + 1e-5 * normal(128, 16)
    text = first_finding(sequential(*stack, layers.Dense(1)), x)
    assert "vanishes from a0 on: samples look alike" in text


@pytest.mark.parametrize("units", [1, 3])
@pytest.mark.parametrize(
    ("activation", "bias"), [("elu", -9.0), ("gelu", -5.0), ("silu", -14.0)]
)
def test_where_a_bias_hushes_an_activation_that_is_never_zero(
    activation: str, bias: float, units: int
) -> None:
    low = layers.Dense(24, activation, name="low")
    model = sequential(layers.Dense(24, "tanh"), low, layers.Dense(units))
    low.bias.assign(np.full(24, bias))
    x = normal(128, 16)
    [finding] = measure(model, x).findings
    assert (finding.layer, finding.severity) == ("low", "error")
    assert "lets nearly nothing through" in finding.text
    assert 'bias_initializer="zeros"' in finding.remedy
    low.bias.assign(np.zeros(24))
    assert measure(model, x).findings == ()


def test_a_beta_hushes_an_elu_as_well() -> None:
    model = normalised(layers.ELU(name="act"), beta_initializer=PUSHED)
    [finding] = measure(model, normal(64, 16)).findings
    assert finding.layer == "act" and "it is the beta of bn" in finding.remedy
    typed(finding.remedy, model)
    assert measure(model, normal(64, 16)).findings == ()


def half_dead(*between: Any) -> keras.Model:
    """Twelve of its 16 units are dead."""
    first = layers.Dense(16, "relu", name="first")
    model = sequential(first, *between, layers.Dense(4))
    kernel = 0.1 * np.abs(normal(16, 16))
    first.kernel.assign(np.where(np.arange(16) < 12, -kernel, kernel))
    return model


def test_looks_linear_is_offered_where_it_is_accepted_and_new() -> None:
    x = np.abs(normal(64, 16))
    plain, model = half_dead(), half_dead(layers.Reshape((4, 4)), layers.MaxPooling1D())
    [finding] = measure(plain, x).findings
    assert "looks_linear" in finding.remedy
    keras_inits.initialize(plain, "looks_linear")
    [finding] = measure(model, x).findings
    assert "% of first is dead" in finding.text
    assert "looks_linear" not in finding.remedy and "center=True" in finding.remedy
    with pytest.raises(keras_inits.UnsupportedLayerError):
        keras_inits.initialize(model, "looks_linear")


def test_looks_linear_is_not_offered_again() -> None:
    """Of columns that are always the same, one unit of each pair is dead."""
    x = normal(64, 16)
    x[:, 3:] = 7.0
    model = sequential(layers.Dense(16, "relu"), layers.Dense(1))
    keras_inits.initialize(model, "looks_linear", seed=0)
    findings = measure(model, x).findings
    assert any("is dead" in x.text for x in findings)
    assert not any("looks_linear" in x.remedy for x in findings)


def test_a_large_target_of_lsuv_is_not_the_datas() -> None:
    model = sequential(layers.Dense(16, "relu"), layers.Dense(4))
    x = normal(64, 16)
    assert keras_inits.lsuv_init(model, x, target_std=20.0).findings == ()
    chosen = [model.layers[-1].name]
    assert keras_inits.lsuv_init(model, x, layers=chosen).findings == ()


def test_rows_that_are_all_the_same() -> None:
    model = keras.Sequential([keras.Input((6,)), layers.Dense(4), layers.Dense(4)])
    [first] = keras_inits.measure(model, np.repeat(normal(1, 6), 9, 0)).findings
    assert "rows of input data are all the same" in first.text
    assert not keras_inits.measure(model, normal(1, 6)).inputs.batch_std


@pytest.mark.parametrize("which", ["dense_b/bias", "norm/gamma"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_the_weight_that_is_not_finite_is_named(which: str, value: float) -> None:
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(5, name="dense_a"),
            layers.LayerNormalization(name="norm"),
            layers.Dense(5, activation="relu", name="dense_b"),
            layers.Dense(4),
        ]
    )
    [weight] = [v for v in model.weights if v.path.endswith(which)]
    weight.assign(np.full(weight.shape, value))
    [first] = keras_inits.measure(model, normal(32, 6)).findings
    assert f"{which} holds NaN or infinity" in first.text


def test_a_shared_layer_says_how_often_it_is_called() -> None:
    inputs = h = keras.Input((16,))
    shared = layers.Dense(16, "tanh", name="again")
    for _ in range(5):
        h = shared(h)
    model = keras.Model(inputs, layers.Dense(2)(h))
    report = measure(model, normal(32, 16))
    note = "again is called 5 times: its row is of the first call."
    assert report.notes == (note,)
    assert note in str(report)


def test_a_gradient_of_nothing_is_found() -> None:
    model = sequential(layers.Dense(8, "relu"), layers.Dense(2))

    def rounded(y: Any, p: Any) -> Any:
        return ops.mean(ops.round(p))

    report = measure(model, normal(32, 16), normal(32, 2), loss=rounded)
    assert "gradient of the loss is 0 for every kernel" in report.findings[0].text
    assert "argmax" in report.findings[0].remedy


def test_samples_that_rounding_alone_parts_are_not_given_a_figure() -> None:
    stack = [layers.Dense(64, "sigmoid") for _ in range(12)]
    report = measure(sequential(*stack), normal(64, 16))
    text = report.findings[0].text
    assert "samples look alike" in text and re.search(r"; below \d\S*e-07", text)


@pytest.mark.parametrize("units", [1, 3])
def test_rounding_is_no_deviation(units: int) -> None:
    bias = keras.initializers.Constant(0.1)
    zeros = layers.Dense(units, kernel_initializer="zeros", bias_initializer=bias)
    model = sequential(layers.Dense(32, "tanh"), zeros)
    for _ in range(3):
        row = measure(model, normal(64, 16))[-1]
        assert (row.std, row.output_std, row.batch_std) == (0.0, 0.0, 0.0)
        assert "is constant" in first_finding(model, normal(64, 16))
    zeros.bias.assign(np.full((units,), 1e5))
    zeros.kernel.assign(np.full((32, units), 0.1))  # little beside that, but something
    assert measure(model, normal(64, 16))[-1].std > 0


def test_a_tiny_kernel_is_no_constant_one() -> None:
    model = sequential(layers.Dense(32, "tanh", bias_initializer="normal"))
    kernel = 1e-23 * np.random.default_rng(1).normal(size=(16, 32))
    model.layers[0].kernel.assign(kernel)
    report = measure(model, normal(64, 16))
    assert report[-1].kernel_std == pytest.approx(kernel.std(), rel=1e-4, abs=0.0)
    assert not any("constant" in finding.text for finding in report.findings)


def test_a_report_on_noise_says_so() -> None:
    model = sequential(layers.Dense(4))
    assert "standard-normal noise" in str(measure(model, None))
    assert "noise" not in str(measure(model, normal(8, 16)))


def test_layers_that_a_bias_saturates_are_centred() -> None:
    """A scale leaves the bias as it is."""
    bias = keras.initializers.Constant(-4.0)
    first = layers.Dense(32, "tanh", bias_initializer=bias, name="pushed")
    model = keras.Sequential([keras.Input((16,)), first, layers.Dense(4)])
    first.kernel.assign(1.5 * first.kernel)
    x = normal(128, 16)

    def saturated() -> list[str]:
        found = measure(model, x).findings
        return [f.remedy for f in found if "pushed is saturated" in f.text]

    assert [x.split(";")[0] for x in saturated()] == [
        "keras_inits.lsuv_init(model, x, center=True)"
    ]
    keras_inits.lsuv_init(model, x)
    assert saturated()
    keras_inits.lsuv_init(model, x, center=True)
    assert not saturated()


def test_a_head_that_its_mean_saturates_is_centred() -> None:
    """Distances are positive: behind them lies a mean that no scale takes off."""
    inputs = keras.Input((16,))
    distance = keras.ops.sqrt(keras.ops.sum(inputs**2, axis=1, keepdims=True))
    head = layers.Dense(1, "sigmoid", name="alike")
    model, x = keras.Model(inputs, head(distance)), normal(128, 16)

    def saturated() -> list[str]:
        found = measure(model, x).findings
        return [f"{f}" for f in found if "alike is saturated (mean " in f.text]

    keras_inits.lsuv_init(model, x)
    [told] = saturated()
    assert "before training, keras_inits.lsuv_init(model, x, center=True)" in told
    keras_inits.lsuv_init(model, x)
    assert saturated()
    keras_inits.lsuv_init(model, x, center=True)
    assert not saturated()


def stuck(kind: str, bias: float) -> keras.Model:
    """A stack of which the first layer is far out on its activation."""
    keras.utils.set_random_seed(0)
    start = keras.initializers.Constant(bias)
    named = {"bias_initializer": start, "name": "stuck"}
    if kind == "layer":
        first = [layers.Dense(32, bias_initializer=start)]
        first += [layers.ReLU(max_value=6.0, name="stuck")]
    elif kind == "within":
        first = [layers.Dense(32, layers.ReLU(max_value=6.0, name="within"), **named)]
    else:
        first = [layers.Dense(32, kind, **named)]
    rest = [layers.Dense(32, "relu6"), layers.Dense(4)]
    return keras.Sequential([keras.Input((16,)), *first, *rest])


@pytest.mark.parametrize(
    ("kind", "bias", "side"),
    [
        *(
            ("relu6", 12.0, "above"),
            ("layer", 12.0, "above"),
            ("within", 12.0, "above"),
        ),
        *(("sigmoid", 14.0, "above"), ("tanh", -9.0, "below")),
    ],
)
def test_a_layer_that_is_flat_on_either_side_is_the_cause(
    kind: str, bias: float, side: str
) -> None:
    """Behind it samples look alike, and no gradient comes through."""
    model, x = stuck(kind, bias), normal(128, 16)
    report = measure(model, x, normal(128, 4), loss="mse")
    assert report["stuck"].saturated_fraction == 1.0
    finding = report.findings[0]
    assert (finding.layer, finding.severity) == ("stuck", "error")
    assert f"is far {side} 0 for a std of" in finding.text
    assert finding.remedy.startswith('start from bias_initializer="zeros", or centre')
    keras_inits.lsuv_init(model, x, center=True)
    assert not measure(model, x, normal(128, 4), loss="mse").findings


@pytest.mark.parametrize("kind", ["relu6", "layer", "within"])
def test_relu6_is_saturated_above_six_alone(kind: str) -> None:
    model, x = stuck(kind, 0.0), normal(128, 16)
    assert measure(model, x)["stuck"].saturated_fraction == 0.0
    dense = model.layers[0]
    dense.kernel.assign(20 * numpy(dense.kernel))
    z = x @ numpy(dense.kernel)
    report = measure(model, x)
    assert report["stuck"].saturated_fraction == pytest.approx((z > 6).mean(), abs=1e-3)
    assert "of stuck is saturated" in report.findings[0].text


def gated(*, normalised: bool) -> keras.Model:
    """A residual block in which half of the units are dead by their bias."""
    inputs = keras.Input((16,))
    h = layers.Dense(16, name="first")(inputs)
    h = layers.BatchNormalization()(h) if normalised else h
    gate = layers.Dense(16, name="gate", bias_initializer=HALF_DEAD)(h)
    return keras.Model(inputs, layers.Dense(4)(layers.Add()([layers.ReLU()(gate), h])))


def HALF_DEAD(shape: Any, dtype: Any = None) -> Any:
    return keras.ops.where(keras.ops.arange(shape[0]) < 8, -9.0, 9.0)


@pytest.mark.parametrize(
    ("normalised", "training"), [(False, False), (False, True), (True, True)]
)
def test_nobody_is_sent_to_a_normalisation_that_runs_or_is_not_there(
    normalised: bool, training: bool
) -> None:
    model, x = gated(normalised=normalised), normal(64, 16)
    [dead] = measure(model, x, training=training).findings
    assert "50 % of re_lu" in dead.text
    assert "BatchNormalization" not in dead.remedy
    code = dead.remedy.split(": ", 1)[1]
    exec(code, {"keras_inits": keras_inits, "model": model, "x": x})
    assert measure(model, x, training=training).findings == ()


def test_where_normalisation_rests_its_remedy_says_to_run_it() -> None:
    model, x = gated(normalised=True), normal(64, 16)
    [dead] = measure(model, x).findings
    assert "measure(model, x, training=True)" in dead.remedy


def test_an_explosion_without_normalisation_is_scaled() -> None:
    inputs = h = keras.Input((16,))
    for _ in range(20):
        h = layers.Add()([h, layers.Dense(16, kernel_initializer="he_normal")(h)])
    model, x = keras.Model(inputs, layers.Dense(4)(h)), normal(64, 16)
    [exploding] = measure(model, x).findings
    assert exploding.remedy == "keras_inits.lsuv_init(model, x)"
    assert "BatchNormalization" not in str(measure(model, x))
    keras_inits.lsuv_init(model, x)
    assert measure(model, x).findings == ()


@pytest.mark.parametrize(("bias", "option"), [(0.0, "target_std=0.5"), (1.5, "center")])
def test_what_saturates_at_deviation_one_is_not_scaled_to_one(
    bias: float, option: str
) -> None:
    stack = [layers.Dense(64, "hard_tanh", name=f"h{i}") for i in range(3)]
    model, x = sequential(*stack, layers.Dense(4)), normal(256, 16)
    for layer in stack:
        layer.bias.assign(ops.full((64,), bias))
    keras_inits.lsuv_init(model, x)
    [saturated] = measure(model, x).findings
    assert "is saturated" in saturated.text and option in saturated.remedy
    code = saturated.remedy.split("; ")[0]
    exec(code, {"keras_inits": keras_inits, "model": model, "x": x})
    left = [row.saturated_fraction for row in measure(model, x)[:3]]
    assert max(left) < (0.1 if option.startswith("target") else 0.35)
