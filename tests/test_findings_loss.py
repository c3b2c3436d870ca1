"""Outputs, labels and loss that do not go together are found, and named."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, losses, ops
from models import normal

from keras_inits import DataError, LossSignal, SignalReport, measure
from keras_inits.findings import find

# Of Keras's own.
pytestmark = [
    pytest.mark.any_keras,
    pytest.mark.filterwarnings("ignore:.*from_logits=True"),
    pytest.mark.filterwarnings("ignore:.*softmax over axis"),
]

X = normal(200, 16)
CLASSES = np.arange(200) % 10
COLUMNS = np.eye(10, dtype="float32")[CLASSES]
YES = (CLASSES > 4).astype("float32")
REAL = normal(200, 1, seed=1)

SPARSE, COLUMN, BINARY = (
    losses.SparseCategoricalCrossentropy,
    losses.CategoricalCrossentropy,
    losses.BinaryCrossentropy,
)


def model_of(units: int, activation: str | None, *more: layers.Layer) -> keras.Model:
    keras.utils.set_random_seed(0)
    hidden = layers.Dense(32, "relu", kernel_initializer="he_normal")
    head = layers.Dense(units, activation, name="head")
    return keras.Sequential([keras.Input((16,)), hidden, head, *more])


# Units, activation, labels, loss; what the first finding says, and its remedy
SICK: dict[str, tuple[int, str | None, Any, Any, str, str]] = {
    "softmax twice": (
        *(10, "softmax", CLASSES, SPARSE(from_logits=True)),
        *("head puts out probabilities already", "from_logits=False"),
    ),
    "softmax twice, columns": (
        *(10, "softmax", COLUMNS, COLUMN(from_logits=True)),
        *("head puts out probabilities already", "from_logits=False"),
    ),
    "sigmoid twice": (
        *(1, "sigmoid", YES, BINARY(from_logits=True)),
        *("head puts out probabilities already", "from_logits=False"),
    ),
    "softmax never": (
        *(10, None, CLASSES, "sparse_categorical_crossentropy"),
        *("takes probabilities, and head puts out -", "from_logits=True"),
    ),
    "softmax never, columns": (
        *(10, None, COLUMNS, "categorical_crossentropy"),
        *("takes probabilities, and head puts out -", "from_logits=True"),
    ),
    "sigmoid never": (
        *(1, None, YES, "binary_crossentropy"),
        *("takes probabilities, and head puts out -", "from_logits=True"),
    ),
    "probabilities above 1": (
        *(1, "softplus", YES, "binary_crossentropy"),
        *("takes probabilities, and head puts out ", "from_logits=True"),
    ),
    "softmax never, behind a ReLU": (
        *(10, "relu", CLASSES, "sparse_categorical_crossentropy"),
        *("takes probabilities, and head puts out 0", "from_logits=True"),
    ),
    "fractions": (
        *(10, "softmax", CLASSES / 10, "sparse_categorical_crossentropy"),
        *(r"\d\d % of the labels of head are fractions \(0 to 0.9\)", "np.unique"),
    ),
    "classes from 1": (
        *(10, "softmax", CLASSES + 1, "sparse_categorical_crossentropy"),
        *("labels of head go from 1 to 10, and its 10 units", "y = y - 1"),
    ),
    "classes from -1": (
        *(10, "softmax", CLASSES - 1, SPARSE()),
        *("labels of head go from -1 to 8", r"y = y \+ 1"),
    ),
    "a class left out, one too many": (
        *(9, "softmax", np.where(CLASSES < 1, -1, CLASSES), SPARSE(ignore_class=-1)),
        *("labels of head go from 1 to 9, and its 9 units", "y = y - 1"),
    ),
    "too few units": (
        *(5, "softmax", CLASSES, "sparse_categorical_crossentropy"),
        *("its 5 units are the classes 0 to 4", "give head 10 units"),
    ),
    "-1 and 1": (
        *(1, "sigmoid", 2 * YES - 1, "binary_crossentropy"),
        *("labels of head go from -1 to 1", "hinge"),
    ),
    "classes as probabilities": (
        *(10, "sigmoid", np.tile(CLASSES[:, None], 10), "binary_crossentropy"),
        *("labels of head go from 0 to 9", "to_categorical"),
    ),
    "one class": (
        *(10, "softmax", 0 * CLASSES + 3, "sparse_categorical_crossentropy"),
        *(r"same in every row that was drawn \(3\)", "shuffle"),
    ),
    "one class, columns": (
        *(10, "softmax", 0 * COLUMNS + COLUMNS[3], "categorical_crossentropy"),
        *("same in every row that was drawn$", "shuffle"),
    ),
    "softmax of one unit": (
        *(1, "softmax", YES, "binary_crossentropy"),
        *("head is a softmax over 1 unit", "sigmoid"),
    ),
    "pixels from a sigmoid": (
        *(1, "sigmoid", 128 + 60 * REAL, "mse"),
        *("100 % of the labels of head are beyond its sigmoid", "activation=None"),
    ),
    "negative from a ReLU": (
        *(1, "relu", REAL, losses.MeanAbsoluteError()),
        *(r"\d\d % of the labels of head are beyond its relu", "activation=None"),
    ),
    "large labels": (
        *(1, None, 3e5 + 1e5 * REAL, "mse"),
        *("labels of head are not standardised", r"\(y - y.mean\(axis=0\)\)"),
    ),
}


@pytest.mark.parametrize("case", SICK)
def test_the_first_finding_names_it(case: str) -> None:
    units, activation, y, loss, text, remedy = SICK[case]
    first = measure(model_of(units, activation), X, y, loss=loss).findings[0]
    assert first.layer == "head"
    assert re.search(text, first.text), first
    assert re.search(remedy, first.remedy), first


@pytest.mark.parametrize("case", ["softmax never", "classes from 1"])
def test_the_loss_of_compile_is_looked_at(case: str) -> None:
    units, activation, y, loss, text, _ = SICK[case]
    model = model_of(units, activation)
    model.compile("sgd", loss)
    report = measure(model, X, y)
    assert re.search(text, report.findings[0].text)
    json.dumps(report.to_dict())


@pytest.mark.parametrize(
    ("units", "y", "loss"),
    [(1, YES, "binary_crossentropy"), (10, CLASSES, SPARSE())],
    ids=["sigmoid", "softmax"],
)
def test_linear_outputs_are_no_probabilities_even_between_0_and_1(
    units: int, y: Any, loss: Any
) -> None:
    model = model_of(units, None)
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([0.01 * kernel, bias + 0.5])
    report = measure(model, X, y, loss=loss)
    assert 0 < report.losses[0].output_min < report.losses[0].output_max < 1
    assert "head puts out 0." in report.findings[0].text


def own(y: Any, p: Any) -> Any:
    return ops.mean(ops.square(y - p), axis=-1)


HEALTHY: dict[str, tuple[int, str | None, Any, Any]] = {
    "classes": (10, "softmax", CLASSES, "sparse_categorical_crossentropy"),
    "classes in floats": (
        *(10, "softmax", CLASSES.astype("float32")),
        "sparse_categorical_crossentropy",
    ),
    "classes, a column": (10, "softmax", CLASSES[:, None], SPARSE()),
    "logits": (10, None, CLASSES, SPARSE(from_logits=True)),
    "columns": (10, "softmax", COLUMNS, "categorical_crossentropy"),
    "columns, logits": (10, None, COLUMNS, COLUMN(from_logits=True)),
    "positive scores": (10, "softplus", COLUMNS, "categorical_crossentropy"),
    "smoothed": (10, "softmax", COLUMNS, COLUMN(label_smoothing=0.1)),
    "binary": (1, "sigmoid", YES, "binary_crossentropy"),
    "binary, logits": (1, None, YES, BINARY(from_logits=True)),
    "many binary": (10, "sigmoid", COLUMNS, BINARY()),
    "a class left out": (
        *(10, "softmax", np.where(CLASSES < 1, -1, CLASSES)),
        SPARSE(ignore_class=-1),
    ),
    "hinge": (1, "tanh", 2 * YES - 1, "hinge"),
    "regression": (1, None, REAL, "mse"),
    "regression to 0..1": (1, "sigmoid", YES, "mse"),
    "a loss of one's own": (1, None, REAL, own),
}


@pytest.mark.parametrize("case", HEALTHY)
def test_what_goes_together_is_not_accused(case: str) -> None:
    units, activation, y, loss = HEALTHY[case]
    assert measure(model_of(units, activation), X, y, loss=loss).findings == ()


def test_a_trained_regression_to_large_labels_is_not_accused() -> None:
    model, y = model_of(1, None), 3e5 + 1e5 * REAL
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([1e5 * kernel, bias + 3e5])
    texts = [finding.text for finding in measure(model, X, y, loss="mse").findings]
    assert not any("labels" in text for text in texts)


def test_an_activation_layer_at_the_end_counts() -> None:
    model = model_of(10, None, layers.Softmax(name="shares"))
    report = measure(model, X, CLASSES, loss=SPARSE(from_logits=True))
    assert report.findings[0].layer == "shares"
    healthy = measure(model, X, CLASSES, loss=SPARSE())
    assert healthy.findings == ()
    [row] = healthy.losses
    assert (row.output, row.activation, row.units) == ("shares", "softmax", 10)


def test_the_figures_are_those_of_outputs_and_labels() -> None:
    model = model_of(3, "relu")
    y = normal(200, 3, seed=2)
    [row] = measure(model, X, y, loss="mse", samples=200).losses
    p = ops.convert_to_numpy(model(X)).astype("float64")
    assert (row.loss, row.takes_logits) == ("mean_squared_error", False)
    assert row.output_min == pytest.approx(p.min(), abs=1e-6)
    assert row.output_max == pytest.approx(p.max(), rel=1e-5)
    assert row.off_one == pytest.approx(abs(p.sum(axis=1) - 1).max(), rel=1e-5)
    assert (row.labels_min, row.labels_max) == (y.min(), y.max())
    assert row.labels_mean == pytest.approx(y.mean(dtype="f8"), rel=1e-6)
    assert row.labels_std == pytest.approx(y.std(dtype="f8"), rel=1e-6)
    assert row.labels_outside == (y < 0).mean()
    assert not row.labels_alike


@pytest.mark.parametrize("structure", [list, dict])
def test_of_several_outputs_the_one_that_is_wrong(structure: Callable) -> None:
    inputs = keras.Input((16,))
    heads = {
        "ages": layers.Dense(1, name="ages")(inputs),
        "kinds": layers.Dense(10, name="kinds")(inputs),
    }
    pick = dict if structure is dict else (lambda pairs: list(pairs.values()))
    model = keras.Model(inputs, pick(heads))
    y = pick({"ages": REAL, "kinds": CLASSES})
    good = pick({"ages": "mse", "kinds": SPARSE(from_logits=True)})
    bad = pick({"ages": "mse", "kinds": SPARSE()})
    assert measure(model, X, y, loss=good).findings == ()
    [finding] = measure(model, X, y, loss=bad).findings
    assert finding.layer == "kinds"
    names = [row.output for row in measure(model, X, y, loss=good).losses]
    assert names == ["ages", "kinds"]


class Own(keras.Model):
    """Says nothing of its outputs before it is called."""

    def __init__(self) -> None:
        super().__init__(name="own")
        self.inner = layers.Dense(10, "softmax")

    def call(self, x: Any) -> Any:
        return self.inner(x)


def test_a_model_that_knows_no_outputs() -> None:
    model = Own()
    model(X)
    report = measure(model, X, CLASSES, loss=SPARSE(from_logits=True))
    assert report.findings[0].layer == "own"
    assert measure(model, X, CLASSES, loss=SPARSE()).findings == ()


def test_labels_that_a_loss_is_not_made_for_leave_the_signal() -> None:
    report = measure(model_of(5, "softmax"), X, CLASSES, loss=SPARSE())
    assert [row.std is None for row in report] == [False, False]
    assert [row.weight_gradient_std for row in report] == [None, None]
    [row] = report.losses
    assert (row.labels_max, row.output_max) == (9.0, None)


def test_losses_are_part_of_the_report() -> None:
    model = model_of(10, None)
    bad, good = (
        measure(model, X, CLASSES, loss=SPARSE(from_logits=logits))
        for logits in (False, True)
    )
    assert bad != good
    assert bad[-1:].losses == bad.losses and bad[:1].losses == ()
    assert bad.to_dict()["losses"][0]["output"] == "head"
    same = {x: getattr(bad, x) for x in ("title", "inputs", "losses", "batch_norm")}
    again = SignalReport(bad, **same)
    assert again == bad
    assert measure(model, X).losses == ()


def test_labels_are_asked_about_before_the_signal_but_after_the_data() -> None:
    row = LossSignal(
        output="head", loss="BinaryCrossentropy", labels_min=0.0, labels_max=7.0
    )
    assert [x.layer for x in find([], losses=[row])] == ["head"]
    report = measure(
        model_of(1, "sigmoid"), 1e4 * X, 7 * YES, loss="binary_crossentropy"
    )
    assert [x.layer for x in report.findings][:2] == ["data", "head"]


def accused(report: SignalReport) -> list[str]:
    return [finding.text for finding in report.findings if finding.layer != "data"]


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="of PyTorch alone")
def test_channels_first_classes_are_counted_on_their_axis() -> None:
    y = np.arange(20 * 64).reshape(20, 8, 8) % 10
    report = measure(
        keras.Sequential([keras.Input((10, 8, 8)), layers.Dense(8)]),
        normal(20, 10, 8, 8),
        y,
        loss=SPARSE(from_logits=True, axis=1),
    )
    assert not any("classes" in text for text in accused(report))


@pytest.mark.parametrize("apply", [ops.sigmoid, keras.activations.sigmoid])
def test_an_operation_as_the_activation_of_the_output(apply: Any) -> None:
    inputs = keras.Input((16,))
    model = keras.Model(inputs, apply(layers.Dense(1)(inputs)))
    [text] = accused(measure(model, X, YES, loss=BINARY(from_logits=True)))
    assert "puts out probabilities already" in text
    assert accused(measure(model, X, YES, loss=BINARY())) == []


def test_a_linear_activation_layer_behind_a_sigmoid() -> None:
    model = model_of(1, "sigmoid", layers.Activation("linear", dtype="float32"))
    assert accused(measure(model, X, YES, loss="binary_crossentropy")) == []


class Inside(layers.Layer):
    """Its activation is not what it puts out."""

    def __init__(self) -> None:
        super().__init__()
        self.activation = keras.activations.relu
        self.inner, self.outer = layers.Dense(16), layers.Dense(1)

    def build(self, shape: Any) -> None:
        self.inner.build(shape)
        self.outer.build((None, 16))

    def call(self, x: Any) -> Any:
        return self.outer(self.activation(self.inner(x)))


def test_an_activation_inside_a_layer_bounds_nothing() -> None:
    model = keras.Sequential([keras.Input((16,)), Inside()])
    texts = accused(measure(model, X, REAL, loss="mse"))
    assert not any("beyond" in text for text in texts)


def test_labels_that_a_loss_need_not_look_at() -> None:
    def computed(y: Any, p: Any) -> Any:
        return ops.mean(ops.square(p), axis=-1)

    report = measure(model_of(1, None), X, np.zeros((200, 1)), loss=computed)
    assert accused(report) == []


@pytest.mark.parametrize("loss", ["msle", "mape"])
def test_losses_of_ratios_take_labels_of_any_size(loss: str) -> None:
    y = 1e4 * np.exp(REAL)
    assert accused(measure(model_of(1, "softplus"), X, y, loss=loss)) == []


def test_weighted_columns_keep_their_gradients() -> None:
    y = COLUMNS * (3 * normal(200, 1, seed=4))
    report = measure(model_of(10, "softmax"), X, y, loss="categorical_crossentropy")
    assert report.findings[0].severity == "warning"
    assert all(row.weight_gradient_std > 0 for row in report)


def test_nan_among_the_labels() -> None:
    y = CLASSES.astype("float32")
    y[3] = np.nan
    report = measure(model_of(3, None), X, y[:, None] + np.zeros(3), loss="mse")
    [finding] = report.findings  # and not that the gradient is NaN, too
    assert finding.text == "labels of head hold NaN or infinity"


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["data", "kernel", "labels"])
def test_a_loss_that_refuses_nan_hides_none(where: str, value: float) -> None:
    """PyTorch's binary crossentropy raises where others are NaN."""
    model, x, y = model_of(1, "sigmoid"), X.copy(), YES.copy()
    if where == "kernel":
        model.layers[0].kernel.assign(np.full((16, 32), value))
    else:
        (x if where == "data" else y)[3] = value
    [finding] = measure(model, x, y, loss="binary_crossentropy").findings
    assert "NaN or infinity" in finding.text


def test_a_loss_that_cuts_off_all_outputs_explains_why_there_is_no_gradient() -> None:
    model = model_of(10, None, layers.Activation("log_softmax"))
    report = measure(model, X, CLASSES, loss="sparse_categorical_crossentropy")
    [finding] = report.findings
    assert "takes probabilities" in finding.text


@pytest.mark.parametrize("shape", [(200, 6, 16), (200, 4, 4, 16)])
@pytest.mark.parametrize("last", [False, True])
def test_a_softmax_over_one_unit_wherever_it_is(
    shape: tuple[int, ...], last: bool
) -> None:
    head = [layers.Dense(1, name="head"), layers.Activation("softmax", name="shares")]
    head = head if last else [layers.Dense(1, "softmax", name="head")]
    model = keras.Sequential([keras.Input(shape[1:]), *head])
    [finding] = measure(model, normal(*shape)).findings
    assert f"{head[-1].name} is a softmax over 1 unit" in finding.text


def test_a_softmax_over_time_is_no_softmax_over_one_unit() -> None:
    stack = [layers.Dense(1), layers.Softmax(axis=1)]
    model = keras.Sequential([keras.Input((6, 16)), *stack])
    assert measure(model, normal(200, 6, 16)).findings == ()


# Labels whose shape the loss does not take, what it takes, and the ways out
MISSHAPED: dict[str, tuple[Any, Any, str, str]] = {
    "columns": (
        *(COLUMNS, "sparse_categorical_crossentropy", "class numbers"),
        r"losses.CategoricalCrossentropy\(\), .*argmax\(axis=-1\)",
    ),
    "soft columns, logits": (
        *(0.9 * COLUMNS + 0.01, SPARSE(from_logits=True), "class numbers"),
        r"losses.CategoricalCrossentropy\(from_logits=True\), .*argmax\(axis=-1\)",
    ),
    "numbers": (
        *(CLASSES, "categorical_crossentropy", "a column for each class"),
        r"SparseCategoricalCrossentropy\(\), .*to_categorical\(y, 10\)",
    ),
    "numbers, logits": (
        *(CLASSES, COLUMN(from_logits=True), "a column for each class"),
        r"SparseCategoricalCrossentropy\(from_logits=True\), .*to_categorical\(y, 10\)",
    ),
    "a column of numbers": (
        *(CLASSES[:, None], COLUMN(), "a column for each class"),
        r"SparseCategoricalCrossentropy\(\), .*to_categorical\(y, 10\)",
    ),
    "a column of numbers, focal": (
        *(CLASSES[:, None], losses.CategoricalFocalCrossentropy()),
        *("a column for each class", r"to_categorical\(y, 10\)"),
    ),
}


@pytest.mark.parametrize("case", MISSHAPED)
@pytest.mark.parametrize("outputs", [1, 2])
def test_labels_in_the_shape_of_the_other_loss(case: str, outputs: int) -> None:
    y, loss, takes, remedy = MISSHAPED[case]
    model, labels, each = model_of(10, "softmax"), y, loss
    if outputs == 2:
        other = layers.Dense(1, name="other")(model.layers[0].output)
        model = keras.Model(model.inputs[0], [other, *model.outputs])
        labels, each = [REAL, y], ["mse", loss]
    report = measure(model, X, labels, loss=each)
    [finding] = report.findings
    assert finding.layer == "head"
    shape = str((None, *y.shape[1:]))
    assert (
        f"head have shape {shape}, and for outputs of shape (None, 10)" in finding.text
    )
    assert report.losses[-1].loss in finding.text
    assert takes in finding.text
    assert re.search(remedy, finding.remedy), finding.remedy
    json.dumps(report.to_dict())


@pytest.mark.parametrize("case", [x for x in MISSHAPED if "focal" not in x])
def test_where_only_the_call_shows_the_shape_it_is_an_error(case: str) -> None:
    y, loss, takes, remedy = MISSHAPED[case]
    model = Own()
    model(X)
    with pytest.raises(DataError, match=rf"(?s){takes}.*{remedy}") as caught:
        measure(model, X, y.round() if y.ndim > 1 else y, loss=loss)
    assert str((None, *y.shape[1:])) in str(caught.value)


def test_labels_of_sequences_in_the_shape_of_the_other_loss() -> None:
    model = keras.Sequential([keras.Input((6, 16)), layers.Dense(3, "softmax")])
    x, y = normal(64, 6, 16), np.arange(64 * 6).reshape(6, 64).T % 3
    columns = np.eye(3, dtype="float32")[y]
    assert measure(model, x, y, loss=SPARSE()).findings == ()
    assert measure(model, x, columns, loss=COLUMN()).findings == ()
    for labels, loss in ((columns, SPARSE()), (y, COLUMN()), (y[..., None], COLUMN())):
        [finding] = measure(model, x, labels, loss=loss).findings
        assert f"have shape {(None, *labels.shape[1:])}" in finding.text


class Pair(keras.Model):
    """Puts out something beside its prediction, as its own loss knows."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = layers.Dense(1)

    def call(self, x: Any) -> Any:
        return self.inner(x), None

    def compute_loss(self, x: Any, y: Any, y_pred: Any, **_: Any) -> Any:
        return ops.mean(ops.square(y - y_pred[0]))


def test_outputs_that_are_no_tensors() -> None:
    model = Pair()
    model(X)
    model.compile("sgd", "mse")
    report = measure(model, X, REAL)
    assert report[0].weight_gradient_std > 0
    assert [row.output_max for row in report.losses] in ([], [None])
