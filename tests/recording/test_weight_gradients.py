"""The loss that `measure` differentiates is the one that `compile` and `fit` see."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from checks import changed, everything
from keras import layers, ops
from models import normal
from textbook import numpy

import keras_inits
from keras_inits import DataError, measure
from keras_inits.passes import compiled

pytestmark = pytest.mark.any_keras

X = normal(20, 4)
CLASSES = np.arange(20) % 3


def two_outputs(
    widths: tuple[int, int] = (1, 1), structure: type = list, **options: Any
) -> keras.Model:
    """Outputs `a` and `b` of one hidden layer, in a list, tuple or dict."""
    inputs = keras.Input((4,))
    hidden = layers.Dense(8, "relu", **options)(inputs)
    pair = [
        layers.Dense(width, "softmax" if width > 1 else None, name=name)(hidden)
        for name, width in zip("ab", widths, strict=True)
    ]
    named = dict(zip("ab", pair, strict=True))
    return keras.Model(inputs, named if structure is dict else structure(pair))


def one_output(units: int = 1, **options: Any) -> keras.Model:
    return keras.Sequential([keras.Input((4,)), layers.Dense(units, **options)])


def deviations(model: keras.Model, y: Any, loss: Any = None) -> dict[str, Any]:
    report = measure(model, X, y, loss=loss)
    return {row.name: row.weight_gradient_std for row in report}


def by_fit(model: keras.Model, y: Any, loss: Any = None) -> dict[str, float]:
    """What one step of plain gradient descent at rate 1 does to the kernels."""
    if loss is not None:
        model.compile("sgd", loss)
    model.optimizer.learning_rate = 1.0
    before = kernels_of(model)
    model.fit(X, y, batch_size=20, shuffle=False, verbose=0)
    after = kernels_of(model)
    return {name: float((after[name] - before[name]).std()) for name in before}


def kernels_of(model: keras.Model) -> dict[str, Any]:
    return {
        layer.name: ops.convert_to_numpy(layer.kernel).astype("float64")
        for layer in model.layers
        if hasattr(layer, "kernel")
    }


def columns(*, by_name: bool = False) -> Any:
    pair = [normal(20, 1, seed=1), normal(20, 1, seed=2)]
    return dict(zip("ab", pair, strict=True)) if by_name else pair


def mixed(*, by_name: bool = False) -> Any:
    pair = [normal(20, 1, seed=1), CLASSES]
    return dict(zip("ab", pair, strict=True)) if by_name else pair


CROSS = "sparse_categorical_crossentropy"

# Widths, structure, labels, loss
SEVERAL: dict[str, tuple[Any, type, Any, Any]] = {
    "one for all": ((1, 1), list, columns(), "mse"),
    "a list": ((1, 1), list, columns(), ["mse", "mae"]),
    "a tuple": ((1, 1), tuple, columns(), ["mse", "mae"]),
    "by name": ((1, 3), list, mixed(), {"a": "mse", "b": CROSS}),
    "all by name": ((1, 3), list, mixed(by_name=True), {"a": "mse", "b": CROSS}),
    "another order": ((1, 3), list, mixed(), {"b": CROSS, "a": "mse"}),
    "objects": ((1, 3), list, mixed(), [keras.losses.Huber(), CROSS]),
    "a dict": ((1, 3), dict, mixed(by_name=True), {"a": "mse", "b": CROSS}),
    "a dict, one for all": ((1, 1), dict, columns(by_name=True), "mse"),
    "widths": ((1, 3), list, [normal(20, 1), normal(20, 3)], "mse"),
    "one without": ((1, 1), list, columns(), ["mse", None]),
}


@pytest.mark.filterwarnings("ignore:Gradients do not exist")  # "one without": in fit
@pytest.mark.parametrize("case", SEVERAL)
def test_several_outputs_have_the_loss_of_fit(case: str) -> None:
    widths, structure, y, loss = SEVERAL[case]
    model = two_outputs(widths, structure)
    before = everything(model)
    given = deviations(model, y, loss)
    assert changed(before, model) == []
    model.compile("sgd", loss)
    assert given == pytest.approx(deviations(model, y), rel=1e-5)
    assert given == pytest.approx(by_fit(model, y), rel=1e-3, abs=1e-6)


def test_the_sum_over_the_outputs_by_hand() -> None:
    model, y = two_outputs(), columns()
    kernels = kernels_of(model)
    w, v = kernels.pop("a"), kernels.pop("b")
    [(hidden, kernel)] = kernels.items()
    z = X.astype("f8") @ kernel
    h = np.maximum(z, 0)
    errors = 2 * (h @ w - y[0]) / 20, 2 * (h @ v - y[1]) / 20
    inner = X.T.astype("f8") @ ((errors[0] @ w.T + errors[1] @ v.T) * (z > 0))
    gradients = {hidden: inner, "a": h.T @ errors[0], "b": h.T @ errors[1]}
    expected = {name: gradient.std() for name, gradient in gradients.items()}
    assert deviations(model, y, "mse") == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("y", "loss"),
    [
        (columns()[0], "mse"),
        ([*columns(), normal(20, 1)], "mse"),
        ([normal(20, 1), normal(20, 3)], {"a": "mse", "c": "mse"}),
        ([normal(20, 1), normal(20, 2)], "mse"),
        ({"a": normal(20, 1), "c": normal(20, 3)}, {"a": "mse", "b": "mse"}),
    ],
    ids=["one array", "three arrays", "loss by a wrong name", "width", "wrong name"],
)
@pytest.mark.parametrize("structure", [list, dict])
@pytest.mark.parametrize("compiled", [False, True])
def test_labels_that_do_not_fit_the_outputs(
    y: Any, loss: Any, structure: type, compiled: bool
) -> None:
    model = two_outputs((1, 3), structure)
    if compiled:
        model.compile("sgd", loss)
        loss = None
    with pytest.raises(DataError, match=r"one array of labels.*Received: y of shapes"):
        measure(model, X, y, loss=loss)


def test_two_arrays_for_one_output() -> None:
    with pytest.raises(DataError, match=r"one array of labels.*\(20, 1\)"):
        measure(one_output(), X, columns(), loss="mse")


def test_an_unknown_loss() -> None:
    with pytest.raises(DataError, match=r"loss='msee'.*Could not interpret"):
        measure(one_output(), X, normal(20, 1), loss="msee")


def square(y: Any, p: Any) -> Any:
    return ops.mean((y - p) ** 2)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32", "bool"])
def test_a_plain_function_gets_tensors(dtype: str) -> None:
    """Of the dtype that `fit` hands it."""
    model = one_output()
    y = (np.arange(20)[:, None] % 2).astype(dtype)
    expected = deviations(model, y, "mse")
    assert deviations(model, y, square) == pytest.approx(expected, rel=1e-5)
    assert expected == pytest.approx(by_fit(model, y, square), rel=1e-3)


def test_a_plain_function_of_flat_labels() -> None:
    expected = deviations(model := one_output(), normal(20, 1), "mse")
    assert deviations(model, normal(20, 1)[:, 0], square) == pytest.approx(expected)


def test_a_plain_function_of_classes() -> None:
    model = one_output(3, activation="softmax")
    expected = deviations(model, CLASSES, CROSS)

    def own(y: Any, p: Any) -> Any:
        return -ops.mean(ops.log(p) * ops.one_hot(ops.cast(y, "int32"), 3), 0) * 3

    found = deviations(model, CLASSES, lambda y, p: ops.mean(own(y, p)))
    assert found == pytest.approx(expected, rel=1e-4)


class Own(keras.Model):
    """Its `compute_loss` does the arithmetic itself."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = layers.Dense(1)

    def call(self, x: Any) -> Any:
        return self.dense(x)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, *_: Any, **__: Any
    ) -> Any:
        return ops.mean((y - y_pred) ** 2)


def test_a_compute_loss_of_its_own_gets_tensors() -> None:
    model = Own()
    model(X)
    y = np.linspace(0, 1, 20)[:, None]
    expected = deviations(model, y, "mse")
    model.compile("sgd")
    assert deviations(model, y) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "name", ["kernel_regularizer", "bias_regularizer", "activity_regularizer"]
)
@pytest.mark.parametrize("given", [True, False])
def test_regularisers_count(name: str, given: bool) -> None:
    model, y = two_outputs(**{name: keras.regularizers.L2(0.1)}), columns()
    model.compile("sgd", "mse")
    found = deviations(model, y, "mse" if given else None)
    assert found == pytest.approx(by_fit(model, y), rel=1e-3)


def test_a_regulariser_of_the_kernel_by_hand() -> None:
    model = one_output(kernel_regularizer=keras.regularizers.L2(0.5))
    y = normal(20, 1, seed=1)
    [(name, w)] = kernels_of(model).items()
    gradient = 2 * X.T.astype("f8") @ (X @ w - y) / 20 + w
    assert deviations(model, y, "mse") == pytest.approx({name: gradient.std()})


@pytest.mark.parametrize(
    ("reduction", "share"),
    [("sum_over_batch_size", 1), ("sum", 20), ("none", 1)],
)
def test_reductions(reduction: Any, share: int) -> None:
    model, y = one_output(), normal(20, 1)
    loss = keras.losses.MeanSquaredError(reduction=reduction)
    [(name, mean)] = deviations(model, y, "mse").items()
    expected = {name: share * mean}
    assert deviations(model, y, loss) == pytest.approx(expected, rel=1e-5)


MAKERS: dict[str, Callable[[], Any]] = {
    "name": lambda: keras.models.Sequential().name,
    "optimizer": lambda: keras.optimizers.SGD().name,
    "loss": lambda: keras.losses.Huber().name,
}


@pytest.mark.parametrize("maker", MAKERS)
def test_names_that_come_later_stay_as_they_are(maker: str) -> None:
    expected = MAKERS[maker]()
    keras.utils.clear_session(free_memory=False)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1)], name="named")
    measure(model, X, normal(20, 1), loss="mse")
    assert expected == MAKERS[maker]()


def test_the_models_own_loss_stays() -> None:
    model, y = two_outputs(), columns()
    model.compile("sgd", "mae")
    own = deviations(model, y)
    assert deviations(model, y, "mse") != pytest.approx(own, rel=1e-2)
    assert model.loss == "mae"
    assert own == deviations(model, y)
    monitor = keras_inits.SignalMonitor(X, y, loss=["mse", "mse"])
    model.fit(X, y, verbose=0, callbacks=[monitor])
    assert model.loss == "mae" and model.evaluate(X, y, verbose=0)


class Reconstructing(keras.Model):
    """Computes its loss of what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = layers.Dense(4, "tanh"), layers.Dense(6)

    def call(self, x: Any) -> Any:
        return self.outer(self.inner(x))

    def compute_loss(self, x: Any, y: Any, y_pred: Any, **_: Any) -> Any:
        return ops.mean(ops.square(x - y_pred))


def test_a_loss_of_the_inputs() -> None:
    model, x = Reconstructing(), normal(16, 6)
    model(x)
    expected = measure(model, x, x, loss="mse")
    model.compile("sgd")
    for one, two in zip(measure(model, x, x), expected, strict=True):
        assert one.weight_gradient_std == pytest.approx(two.weight_gradient_std)


def test_labels_of_text() -> None:
    model, x = Reconstructing(), normal(4, 6)
    model(x)
    with pytest.raises(DataError, match="Labels are numbers"):
        measure(model, x, np.array(["a", "b", "a", "b"]), loss="mse")


def copied(model: keras.Model) -> keras.Model:
    """The same in new objects, of which nothing is known yet."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def test_whatever_has_changed_since_the_last_call_counts() -> None:
    model, y = two_outputs(kernel_regularizer=keras.regularizers.L2(0.1)), columns()
    penalty = model.layers[1].kernel_regularizer
    huber, power = keras.losses.Huber(delta=0.1), [2.5]

    def own(y: Any, p: Any) -> Any:
        return ops.mean(ops.abs(y - p) ** power[0], axis=-1)

    def check(given: Any = None, **compiled: Any) -> None:
        copy = copied(model)
        if given is None:
            model.compile("sgd", **compiled)
            copy.compile("sgd", **compiled)
        found = deviations(model, y, given)
        assert found == pytest.approx(deviations(copy, y, given), rel=1e-5)
        seen.append(tuple(found.values()))

    seen: list[tuple[float, ...]] = []
    check(["mse", "mae"])
    model.set_weights([2 * w for w in model.get_weights()])
    check(["mse", "mae"])
    penalty.l2 = np.float32(0.4)
    check(["mse", "mae"])
    check(["mae", "mse"])
    check([huber, huber])
    check([huber, keras.losses.Huber(delta=2.0)])
    check([own, own])
    power[0] = 3.0
    check([own, own])
    check(loss=["mse", "mse"])
    check(loss=["mse", "mse"], loss_weights=[1.0, 0.3])
    y[0] = np.repeat(y[0], 2, axis=1)
    y[0] = (y[0] > 0).astype("int32")[:, :1]
    check(["mse", "mae"])
    assert len(set(seen)) == len(seen)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="compiled on JAX alone")
@pytest.mark.parametrize("regularised", [False, True])
def test_a_loss_of_keras_is_traced_once(
    monkeypatch: pytest.MonkeyPatch, regularised: bool
) -> None:
    options = {"kernel_regularizer": "l2"} if regularised else {}
    model, y, traces = two_outputs(**options), columns(), []
    original = compiled.Function.__call__

    def counting(self: compiled.Function, *args: Any) -> Any:
        traces.append(self)
        return original(self, *args)

    monkeypatch.setattr(compiled.Function, "__call__", counting)
    model.compile("sgd", [keras.losses.MeanSquaredError(), "mae"])
    first = deviations(model, y)
    once = len(traces)
    assert once
    assert deviations(model, y) == first
    model.set_weights([2 * w for w in model.get_weights()])
    assert deviations(model, y) != first
    assert len(traces) == once
    measure(model, X[:10], [part[:10] for part in y])
    assert len(traces) > once


class Branching(keras.Model):
    """Looks at a value: it cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = layers.Dense(1, name="inner")

    def call(self, inputs: Any) -> Any:
        output = self.inner(inputs)
        positive = float(ops.max(ops.stop_gradient(output))) > 0
        return output if positive else -output


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="no float() there")
def test_a_model_that_looks_at_values() -> None:
    model, branching, y = one_output(), Branching(), normal(20, 1)
    branching(X)
    branching.set_weights(model.get_weights())
    expected = list(deviations(model, y, "mse").values())
    for _ in range(2):
        found = deviations(branching, y, "mse")["inner"]
        assert [found] == pytest.approx(expected)


def test_a_model_without_kernels() -> None:
    model = keras.Sequential([keras.Input((4,)), layers.ReLU()])
    [row] = measure(model, X, X, loss="mse")
    assert row.weight_gradient_std is None


# What is said of gradients of 0


def findings(head: Any, *between: Any, y: Any = None, scale: float = 1.0) -> list[Any]:
    stack = [layers.Dense(16, "relu"), *between, layers.Dense(16, "relu"), head]
    model = keras.Sequential([keras.Input((6,)), *stack])
    model.layers[0].kernel.assign(scale * normal(6, 16))
    x, y = normal(64, 6), normal(64, 3) if y is None else y
    loss = "mse" if y.ndim > 1 else "sparse_categorical_crossentropy"
    return list(measure(model, x, y, loss=loss).findings)


def test_behind_a_head_of_zeros_there_is_a_gradient() -> None:
    """That of the head itself; the others follow in the next step."""
    found = findings(layers.Dense(3, kernel_initializer="zeros"))
    assert [f.severity for f in found] == ["warning"]
    assert "frozen at zero" in found[0].text


def test_where_a_gradient_is_cut_off() -> None:
    rounding = layers.Lambda(lambda x: ops.floor(4 * x))
    [found] = findings(layers.Dense(3), rounding)
    assert re.search(r"cut off: 0 up to (\S+), and \S+ at (\S+)", found.text)
    assert "rounding" in found.remedy and "stop_gradient" in found.remedy
    assert found.severity == "warning"


@pytest.mark.parametrize("structure", [list, dict])
def test_a_compiled_loss_that_was_never_used_stays_unbuilt(structure: type) -> None:
    """Its first use gives the model a metric for each output: that is for `fit`."""
    models = [two_outputs((3, 1), structure) for _ in range(2)]
    losses: Any = ["sparse_categorical_crossentropy", "mse"]
    labels: Any = [CLASSES, normal(20, 1)]
    if structure is dict:
        losses, labels = (dict(zip("ab", x, strict=True)) for x in (losses, labels))
    for model in models:
        model.compile("sgd", losses)
    looked_at, other = models
    for _ in range(2):
        report = measure(looked_at, X, labels)
        assert report[0].weight_gradient_std > 0
        assert [m.name for m in looked_at.metrics] == [m.name for m in other.metrics]
        assert looked_at.metrics_names == other.metrics_names
    keys = [set(m.fit(X, labels, verbose=0).history) for m in models]
    assert keys[0] == keys[1] == {"loss", "a_loss", "b_loss"}


@pytest.mark.parametrize("case", ["frozen", "saturated", "exact"])
def test_where_a_gradient_of_0_is_no_riddle(case: str) -> None:
    """A frozen part needs none, a saturated one is said to be so."""
    if case == "frozen":
        between = layers.Lambda(ops.stop_gradient)
        first, head = layers.Dense(16, trainable=False), layers.Dense(3)
        model = keras.Sequential([keras.Input((6,)), first, between, head])
    elif case == "saturated":
        stack = [layers.Dense(16), layers.Dense(16, "tanh"), layers.Dense(3)]
        model = keras.Sequential([keras.Input((6,)), *stack])
        model.layers[1].kernel.assign(1e4 * normal(16, 16))
    else:
        model = keras.Sequential([keras.Input((6,)), layers.Dense(3)])
        model.layers[0].kernel.assign(1e3 * normal(6, 3))
    x = normal(64, 6)
    y = numpy(model(x)) if case == "exact" else normal(64, 3)
    texts = [f"{f.text} {f.remedy}" for f in measure(model, x, y, loss="mse").findings]
    assert not any("cut off" in text for text in texts)
    assert not any("the loss is flat" in text for text in texts)


def test_where_the_loss_is_flat_since_outputs_are_large() -> None:
    """Each of the labels is the answer that the model is sure of, or of another."""
    head = layers.Dense(3, "softmax", kernel_initializer=LargeIdentity())
    found = findings(head, y=np.zeros(64, "int32"), scale=1e3)
    flat = [f for f in found if "for every kernel" in f.text]
    if keras.backend.backend() == "tensorflow":  # it finds the logits behind softmax
        assert flat == []
        return
    assert len(flat) == 1
    assert "the last layer" in flat[0].text and "lsuv_init" in flat[0].remedy


class LargeIdentity(keras.initializers.Initializer):
    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        values = np.zeros(shape, "float32")
        values[:, 1] = 1e3
        return ops.convert_to_tensor(values, dtype)
