"""What an output comes out of, and how many units it has, against its loss."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, losses, ops
from models import normal

from keras_inits import SignalReport, measure
from keras_inits.records import Finding

# Of Keras's own.
pytestmark = [
    pytest.mark.any_keras,
    pytest.mark.filterwarnings("ignore:.*from_logits=True"),
    pytest.mark.filterwarnings("ignore:.*softmax over axis"),
]

X = normal(120, 10)
THREE = np.arange(120) % 3
YES = (THREE > 0).astype("float32")
SPARSE, COLUMN, BINARY = (
    losses.SparseCategoricalCrossentropy,
    losses.CategoricalCrossentropy,
    losses.BinaryCrossentropy,
)


def chain(*stack: layers.Layer) -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((10,)), *stack])


def model_of(units: int, activation: str | None) -> keras.Model:
    return chain(layers.Dense(8, "relu"), layers.Dense(units, activation, name="head"))


def only(report: SignalReport) -> Finding:
    [finding] = report.findings
    return finding


ONE_UNIT = [
    "categorical_crossentropy",
    "sparse_categorical_crossentropy",
    losses.CategoricalFocalCrossentropy(),
]


@pytest.mark.parametrize("loss", ONE_UNIT)
@pytest.mark.parametrize("activation", ["sigmoid", None])
@pytest.mark.parametrize("y", [YES, YES[:, None]], ids=["numbers", "column"])
def test_one_unit_for_two_classes(loss: Any, activation: str | None, y: Any) -> None:
    found = only(measure(model_of(1, activation), X, y, loss=loss))
    assert "one unit for each class, and head has only one" in found.text
    assert 'loss="binary_crossentropy"; or one unit for each' in found.remedy
    assert found.severity == "error"


@pytest.mark.parametrize("loss", ONE_UNIT)
def test_a_softmax_over_one_unit_is_said_once(loss: Any) -> None:
    found = only(measure(model_of(1, "softmax"), X, YES, loss=loss))
    assert "head is a softmax over 1 unit" in found.text


@pytest.mark.parametrize(
    ("y", "loss", "remedy"),
    [
        (YES, SPARSE(from_logits=True), "BinaryCrossentropy(from_logits=True); or"),
        (YES, COLUMN(from_logits=True), "BinaryCrossentropy(from_logits=True); or"),
        (THREE, SPARSE(), 'give head 3 units, activation="softmax" and loss="sparse'),
        (THREE + 1, SPARSE(), "number the classes from 0: y = y - 1"),
        (2 * YES - 1, SPARSE(), "with labels of 0 and 1: y = (y + 1) / 2"),
        (normal(120), COLUMN(), 'loss="mse"'),
        (np.eye(3)[THREE], COLUMN(), "a unit for each column of the labels: 3"),
    ],
)
def test_what_one_unit_is_to_become(y: Any, loss: Any, remedy: str) -> None:
    found = only(measure(model_of(1, None), X, y, loss=loss))
    assert "head has only one" in found.text
    assert remedy in found.remedy


def test_a_loss_of_ones_own_may_be_named_as_it_likes() -> None:
    def categorical_crossentropy(y: Any, p: Any) -> Any:
        return ops.mean(ops.square(y - p), axis=-1)

    model, y = model_of(1, "sigmoid"), YES[:, None]
    assert measure(model, X, y, loss=categorical_crossentropy).findings == ()


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("y", [THREE, THREE[:, None], 1.0 * THREE[:, None] > 0])
def test_class_numbers_on_several_binary_units(activation: str, y: Any) -> None:
    y = y.astype("float32")
    report = measure(model_of(3, activation), X, y, loss="binary_crossentropy")
    found = only(report)
    shape = str((None, *y.shape[1:]))
    assert f"head have shape {shape}, and for outputs of shape (None, 3)" in found.text
    assert "a column for each unit" in found.text
    assert 'loss="sparse_categorical_crossentropy"' in found.remedy
    assert "to_categorical(y, 3)" in found.remedy
    assert ('activation="sigmoid"' in found.remedy) == (activation == "softmax")


@pytest.mark.parametrize(
    ("units", "y", "remedy"),
    [
        (1, THREE, 'give head 3 units, activation="softmax" and loss="sparse'),
        (1, THREE + 1, "number the classes from 0: y = y - 1"),
        (2, THREE, "give head 3 units"),
        (3, np.tile(THREE[:, None], 3), "to_categorical(y, 3)"),
        (1, 255 * YES, "map them to 0..1: y = y / 255"),
        (1, 2 * YES, "map them to 0..1: y = y / 2"),
        (1, 1 + YES, "map them to 0..1: y = y - 1"),
        (1, 2 + 3 * YES, "map them to 0..1: y = (y - 2) / 3"),
        (1, 2 * YES - 1, "y = (y + 1) / 2; or take a hinge loss"),
        (1, YES * 1.5, "map them to 0..1: y = y / 1.5"),
        (3, np.arange(360).reshape(120, 3) % 256, "y = y / 255, for pixels"),
    ],
)
def test_labels_of_a_binary_loss_are_mapped_by_what_they_are(
    units: int, y: Any, remedy: str
) -> None:
    report = measure(model_of(units, "sigmoid"), X, y, loss="binary_crossentropy")
    found = only(report)
    assert remedy in found.remedy


def functional(apply: Any, units: int, activation: str | None) -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((10,))
    return keras.Model(inputs, apply(layers.Dense(units, activation)(inputs)))


def within(activation: str, behind: layers.Layer) -> keras.Model:
    """A whole model, and what is put on top of it later."""
    return chain(functional(layers.Dropout(0.1), 3, activation), behind)


# A model of three classes, and what is said of its last activation
TWICE: dict[str, tuple[Any, str]] = {
    "layer": (
        lambda: chain(layers.Dense(3, "softmax"), layers.Softmax()),
        "the softmax of a softmax: no class gets more than 0.58",
    ),
    "activation layer": (
        lambda: chain(layers.Dense(3, "softmax"), layers.Activation("softmax")),
        "the softmax of a softmax",
    ),
    "operation": (
        lambda: functional(ops.softmax, 3, "softmax"),
        "the softmax of a softmax",
    ),
    "on top of a model": (
        lambda: within("softmax", layers.Softmax()),
        "the softmax of a softmax",
    ),
    "other": (
        lambda: chain(layers.Dense(3, "sigmoid"), layers.Softmax()),
        "the softmax of a sigmoid",
    ),
    "axis": (
        lambda: chain(layers.Dense(3), layers.Softmax(axis=0)),
        "another axis than the last",
    ),
}


@pytest.mark.parametrize("case", TWICE)
def test_a_softmax_of_what_is_squashed(case: str) -> None:
    make, text = TWICE[case]
    found = only(measure(make(), X, THREE, loss="sparse_categorical_crossentropy"))
    assert text in found.text
    assert found.severity == "error"
    columns = np.eye(3, dtype="float32")[THREE]
    assert text in only(measure(make(), X, columns, loss=COLUMN())).text


@pytest.mark.parametrize("inner", ["sigmoid", "relu", "softplus"])
def test_a_sigmoid_of_what_is_never_negative(inner: str) -> None:
    model = chain(layers.Dense(1, inner), layers.Activation("sigmoid", name="p"))
    found = only(measure(model, X, YES, loss="binary_crossentropy"))
    assert found.text == f"p is the sigmoid of a {inner}: it is never below 0.5"
    assert f"leave {'one' if inner == 'sigmoid' else 'the'} {inner}" in found.remedy


def test_the_sigmoid_of_the_loss_counts() -> None:
    model = chain(layers.Dense(1, "relu", name="head"))
    found = only(measure(model, X, YES, loss=BINARY(from_logits=True)))
    assert "takes the sigmoid of head, a relu: it is never below 0.5" in found.text


def test_of_several_outputs_the_one_that_is_squashed_twice() -> None:
    inputs = keras.Input((10,))
    shares = layers.Dense(3, "softmax")(inputs)
    outputs = [layers.Softmax(name="good")(layers.Dense(3)(inputs))]
    outputs.append(layers.Softmax(name="bad")(shares))
    loss = [SPARSE(), SPARSE()]
    found = only(measure(keras.Model(inputs, outputs), X, [THREE, THREE], loss=loss))
    assert found.layer == "bad"


@pytest.mark.parametrize("activation", [None, "tanh"])
@pytest.mark.parametrize("loss", ["poisson", losses.Poisson()])
def test_the_logarithm_of_what_is_negative(activation: str | None, loss: Any) -> None:
    found = only(measure(model_of(1, activation), X, THREE, loss=loss))
    assert "takes the logarithm of head, which puts out -" in found.text
    assert "softplus" in found.remedy


class Sharpened(keras.Model):
    """A graph whose `call` does something else."""

    def call(self, x: Any) -> Any:
        return ops.log(super().call(x) + 1e-7)


def sharpened() -> keras.Model:
    inputs = keras.Input((10,))
    inner = Sharpened(inputs, layers.Dense(3, "softmax")(inputs))
    return chain(inner, layers.Softmax())


def beside() -> keras.Model:
    """A softmax of two things, one of which is a softmax."""
    inputs = keras.Input((10,))
    both = [layers.Dense(3, "softmax")(inputs), layers.Dense(3)(inputs)]
    return keras.Model(inputs, layers.Softmax()(layers.Add()(both)))


def poisson(y: Any, p: Any) -> Any:
    """Of logarithms."""
    return ops.mean(ops.exp(p) - y * p, axis=-1)


GOOD: dict[str, tuple[Any, Any, Any]] = {
    "softmax of logits": (
        lambda: within("linear", layers.Softmax()),
        *(THREE, SPARSE()),
    ),
    "temperature": (
        lambda: chain(
            layers.Dense(3, "softmax"), layers.Rescaling(20.0), layers.Softmax()
        ),
        *(THREE, SPARSE()),
    ),
    "a relu before it": (
        lambda: chain(layers.Dense(3, "relu"), layers.Softmax()),
        *(THREE, SPARSE()),
    ),
    "a call of its own": (sharpened, THREE, SPARSE()),
    "a sum": (beside, THREE, SPARSE()),
    "a leaky relu": (
        lambda: chain(
            layers.Dense(1),
            layers.ReLU(negative_slope=0.5),
            layers.Activation("sigmoid"),
        ),
        *(YES, BINARY()),
    ),
    "steps": (
        lambda: chain(layers.Reshape((5, 2)), layers.Dense(3), layers.Softmax(axis=-1)),
        *(np.tile(THREE[:, None], 5), SPARSE()),
    ),
    "many labels": (
        lambda: model_of(3, "sigmoid"),
        *(np.eye(3, dtype="float32")[THREE], BINARY()),
    ),
    "many logits": (
        lambda: model_of(3, None),
        *(np.eye(3, dtype="float32")[THREE], BINARY(from_logits=True)),
    ),
    "smoothed": (lambda: model_of(1, "sigmoid"), YES, BINARY(label_smoothing=0.1)),
    "counts": (lambda: model_of(1, "softplus"), THREE, "poisson"),
    "counts, exponential": (
        lambda: model_of(1, "exponential"),
        *(THREE, losses.Poisson()),
    ),
    "logarithms of counts": (lambda: model_of(1, None), THREE[:, None], poisson),
}


@pytest.mark.parametrize("case", GOOD)
def test_a_healthy_output_is_not_accused(case: str) -> None:
    make, y, loss = GOOD[case]
    keras.utils.set_random_seed(0)
    assert measure(make(), X, y, loss=loss).findings == ()


def test_a_dropout_behind_the_softmax_in_training() -> None:
    model = chain(layers.Dense(3, "softmax"), layers.Dropout(0.5))
    report = measure(model, X, THREE, loss=SPARSE(), training=True)
    assert not any("another axis" in finding.text for finding in report.findings)
    assert report.losses[0].activations == ("softmax",)


def silent() -> layers.Layer:
    return layers.BatchNormalization(gamma_initializer="zeros")


@pytest.mark.parametrize("deeper", [False, True])
def test_nothing_reaches_the_output_and_no_gradient_comes_back(deeper: bool) -> None:
    hidden = [layers.Dense(6, "relu", name="next")] if deeper else []
    head = layers.Dense(3, "softmax", name="head", bias_initializer="zeros")
    model = chain(layers.Dense(8, "relu"), silent(), *hidden, head)
    found = only(measure(model, X, THREE, loss=SPARSE()))
    first = "next" if deeper else "head"
    assert found.text == f"nothing reaches {first}: all that it takes is 0"
    assert found.severity == "error"


def test_a_branch_that_nothing_reaches_is_a_warning() -> None:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((10,))
    stem = layers.Dense(10)(inputs)
    branch = layers.Dense(10, name="branch")(silent()(stem))
    outputs = layers.Dense(3, "softmax")(layers.Add()([stem, branch]))
    found = only(measure(keras.Model(inputs, outputs), X, THREE, loss=SPARSE()))
    assert (found.layer, found.severity) == ("branch", "warning")


def test_a_rounded_output_is_found_beside_a_kernel_of_zeros() -> None:
    head = layers.Dense(1, kernel_initializer="zeros", name="head")
    model = chain(layers.Dense(8, "relu"), head)

    def rounding(y: Any, p: Any) -> Any:
        return ops.mean(ops.round(p), axis=-1)

    zeros, rounded = measure(model, X, THREE[:, None], loss=rounding).findings
    assert (zeros.layer, zeros.severity) == ("head", "warning")
    assert "the gradient of the loss is 0 for every kernel" in rounded.text


def test_data_of_zeros_explain_why_there_is_no_gradient() -> None:
    report = measure(model_of(3, "softmax"), 0 * X, THREE, loss=SPARSE())
    assert report.findings[0].layer == "data"
    assert not any("gradient" in finding.text for finding in report.findings)


@pytest.mark.parametrize("gap", [20.0, 40.0])
def test_a_gap_at_which_probabilities_are_clipped_is_named(gap: float) -> None:
    model = model_of(2, "softmax")
    kernel, _ = model.layers[-1].get_weights()
    model.layers[-1].set_weights([0.01 * kernel, np.array([gap, -gap])])
    report = measure(model, X, 0 * THREE + np.arange(120) % 2, loss=SPARSE())
    texts = [finding for finding in report.findings if "gradient" in finding.text]
    if keras.backend.backend() == "tensorflow":  # looks for the logits, and takes them
        assert texts == []
        return
    [found] = texts
    assert f"(std {gap:.2g} at head, the last layer)" in found.text
    assert "the loss is flat there" in found.remedy


@pytest.mark.parametrize("first", ["p", "k"])
def test_labels_in_a_dict_belong_to_their_outputs_in_any_order(first: str) -> None:
    inputs = keras.Input((10,))
    hidden = layers.Dense(8, "relu")(inputs)
    price, kind = layers.Dense(1)(hidden), layers.Dense(3, "softmax")(hidden)
    model = keras.Model(inputs, {"p": price, "k": kind})
    y, loss = {"p": 100 + YES, "k": THREE}, {"p": "mse", "k": SPARSE()}
    y = {name: y[name] for name in sorted(y, key=lambda name: name != first)}
    found = {x.output: x.labels_mean for x in measure(model, X, y, loss=loss).losses}
    assert found == {"p": pytest.approx(100 + YES.mean()), "k": pytest.approx(1.0)}
