"""Inputs that may be missing: `keras.Input(..., optional=True)`, and None for data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from models import normal

import keras_inits
from keras_inits import LSUV, lsuv_init, measure

# Keras 3.9 refuses None itself: in a dict of inputs, and in `fit`.
later = pytest.mark.skipif(
    keras.__version__.startswith("3.9."), reason="Keras takes no None there"
)

X, EXTRA, Y = 4 * normal(64, 6), normal(64, 6, seed=1), normal(64, 3, seed=2)


class AddExtra(layers.Layer):
    """The sum of two inputs, of which the second may be missing."""

    def call(self, x: Any, extra: Any = None) -> Any:
        return x if extra is None else x + extra

    def compute_output_spec(self, x: Any, extra: Any = None) -> Any:
        return keras.KerasTensor(x.shape)


def of_two(depth: int = 1, kind: type = dict) -> keras.Model:
    x, extra = keras.Input((6,), name="x"), keras.Input((6,), name="e", optional=True)
    h = AddExtra()(x, extra)
    for _ in range(depth):
        h = layers.Dense(3)(h)
    inputs = {"x": x, "e": extra} if kind is dict else [x, extra]
    model = keras.Model(inputs, h)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    return model


def generator() -> Iterator[Any]:
    for k in range(0, 64, 16):
        yield {"x": X[k : k + 16], "e": None}, Y[k : k + 16]


DATA: dict[str, Callable[[], Any]] = {
    "dict": lambda: {"x": X, "e": None},
    "list": lambda: [X, None],
    "rows": lambda: ({"e": None, "x": X}, Y),
    "generator": generator,
}


def deviations(model: keras.Model) -> Any:
    """Of the first layer, on `X` alone."""
    dense = next(x for x in model.layers if isinstance(x, layers.Dense))
    return (X @ keras.ops.convert_to_numpy(dense.kernel)).std()


@pytest.mark.parametrize(
    "name", [pytest.param(x, marks=[] if x == "list" else later) for x in DATA]
)
def test_a_missing_input_stays_missing(name: str) -> None:
    make, model = DATA[name], of_two(kind=list if name == "list" else dict)
    [row] = lsuv_init(model, make())
    assert row.status == "scaled"
    assert deviations(model) == pytest.approx(1.0, rel=1e-3)
    [row] = measure(model, make(), Y, samples=64)
    assert row.std == pytest.approx(1.0, rel=1e-3)
    assert row.weight_gradient_std is not None


@later
@pytest.mark.parametrize("given", [True, False], ids=["data", "none"])
def test_in_fit(given: bool) -> None:
    model, x = of_two(), {"x": X, "e": None}
    callback = LSUV(x if given else None)
    model.fit(x, Y, batch_size=64, shuffle=False, verbose=0, callbacks=[callback])
    assert callback.report is not None
    assert deviations(model) == pytest.approx(1.0, rel=1e-3)


@later
def test_compiled_it_is_another_pass_than_with_the_input() -> None:
    model = of_two(12)
    for _ in range(3):
        first = lsuv_init(model, {"x": X, "e": None})[0]
        assert deviations(model) == pytest.approx(1.0, rel=1e-3)
    assert first.scale == pytest.approx(1.0, rel=1e-3)
    for _ in range(3):
        lsuv_init(model, {"x": X, "e": 9 * EXTRA})
        assert 0.1 < deviations(model) < 0.9


@later
@pytest.mark.filterwarnings("ignore:Gradients do not exist")  # in fit, of the other
@pytest.mark.parametrize("kind", [dict, list])
def test_no_labels_for_an_output_without_a_loss(kind: type) -> None:
    inputs = keras.Input((6,))
    outputs: Any = {name: layers.Dense(3, name=name)(inputs) for name in ("p", "q")}
    loss: Any = {"p": "mse", "q": None}
    y: Any = {"p": Y, "q": None}
    if kind is list:
        outputs, loss, y = (list(z.values()) for z in (outputs, loss, y))
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.0), loss)
    model.fit(X, y, batch_size=64, verbose=0)
    report = measure(model, X, y)
    assert [report[x].weight_gradient_std == 0 for x in "pq"] == [False, True]
    assert [signal.output for signal in report.losses] == ["p"]


def test_what_is_not_optional_is_asked_for() -> None:
    with pytest.raises(keras_inits.DataError, match=r"Input 'x' .* takes data"):
        lsuv_init(of_two(), {"x": None, "e": EXTRA})
    with pytest.raises(keras_inits.DataError, match="holds no rows"):
        lsuv_init(of_two(), {"x": None, "e": None})
    with pytest.raises(keras_inits.DataError, match="not finite"):
        lsuv_init(of_two(), {"x": np.full_like(X, np.nan), "e": None})
