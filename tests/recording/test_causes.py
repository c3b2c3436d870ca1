"""Units that are copies of one another; where looks-linear is not proposed."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import keras_inits
from keras_inits import measure


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def columns(shape: tuple[int, ...], apart: float) -> np.ndarray[Any, Any]:
    """A kernel whose columns differ by a share of their size."""
    one, noise = normal(*shape[:-1], 1), np.random.default_rng(1).normal(size=shape)
    return (0.3 * (one + apart * noise)).astype("float32")


@pytest.mark.parametrize("apart", [0.0, 1e-5, 1e-4])
@pytest.mark.parametrize("kind", ["Dense", "Conv1D", "EinsumDense"])
def test_units_that_are_copies_are_named(kind: str, apart: float) -> None:
    made = {
        "Dense": lambda: layers.Dense(12, "relu", name="twins"),
        "Conv1D": lambda: layers.Conv1D(12, 3, activation="relu", name="twins"),
        "EinsumDense": lambda: layers.EinsumDense(
            "btc,cd->btd", (None, 12), bias_axes="d", activation="relu", name="twins"
        ),
    }
    twins, head = made[kind](), layers.Dense(4, name="head")
    model = keras.Sequential([keras.Input((6, 8)), twins, head])
    x = normal(64, 6, 8)
    assert measure(model, x).findings == ()

    twins.kernel.assign(columns(tuple(twins.kernel.shape), apart))
    report = measure(model, x)
    assert [row.copies for row in report] == [True, False]
    [found] = report.findings
    assert (found.layer, found.severity) == ("twins", "error")
    assert found.text == "the units of twins are copies of one another: equal weights"
    assert (
        found.remedy
        == 'draw its kernel: keras_inits.initialize(model, layers=["twins"])'
    )

    twins.trainable = False  # a filter that is meant
    assert measure(model, x).findings == ()
    twins.trainable = True
    keras_inits.initialize(model, layers=["twins"])
    assert measure(model, x).findings == ()


def test_a_model_that_started_from_constants_shows_it_after_training() -> None:
    start = {"kernel_initializer": keras.initializers.Constant(0.1)}
    hidden = [layers.Dense(12, "tanh", **start, name=f"a{i}") for i in range(2)]
    model = keras.Sequential([keras.Input((8,)), *hidden, layers.Dense(3, name="head")])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(normal(64, 8), normal(64, 3), epochs=2, verbose=0)
    report = measure(model, normal(64, 8))
    assert all(row.kernel_std > 0 for row in report)
    # What comes back from the head, which was drawn, takes the second layer apart.
    assert [row.copies for row in report] == [True, False, False]
    assert report.findings[0].layer == "a0"


@pytest.mark.parametrize(
    "what", ["columns", "biases", "two of them", "zeros", "infinity"]
)
def test_units_that_differ_are_no_copies(what: str) -> None:
    layer = layers.Dense(12, "relu")
    model = keras.Sequential([keras.Input((128,)), layer, layers.Dense(4)])
    kernel = columns((128, 12), 1e-2 if what == "columns" else 0.0)
    if what == "two of them":
        kernel[:, 1:-1] = normal(128, 10)
    if what == "infinity":
        kernel[:, -1] = np.inf
    if what == "zeros":  # in the rows that are looked at first
        kernel = np.concatenate([0 * normal(64, 12), normal(64, 12)])
        kernel = kernel.reshape(2, 64, 12).swapaxes(0, 1).reshape(128, 12)
    layer.kernel.assign(kernel)
    if what == "biases":
        layer.bias.assign(normal(12))
    assert not measure(model, normal(64, 128))[0].copies


@pytest.mark.parametrize(
    "options", [{"max_value": 6.0}, {"threshold": 0.5}, {"negative_slope": 0.1}]
)
def test_looks_linear_is_proposed_where_accepted(options: dict[str, Any]) -> None:
    shift = keras.initializers.Constant(30.0 if "max_value" in options else -30.0)
    first = layers.Dense(12, bias_initializer=shift)
    model = keras.Sequential(
        [keras.Input((8,)), first, layers.ReLU(**options), layers.Dense(4)]
    )
    report = measure(model, normal(64, 8))
    first.bias.assign(0 * first.bias)
    accepted = "negative_slope" in options
    assert (report.mirrors is None) == accepted
    if accepted:
        keras_inits.initialize(model, "looks_linear")
        return
    assert report.findings
    assert "looks_linear" not in " ".join(x.remedy for x in report.findings)
    with pytest.raises(keras_inits.UnsupportedLayerError, match="is no multiple of x"):
        keras_inits.initialize(model, "looks_linear")
