"""The data's row of a report counts no step that the model's mask leaves out."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from models import normal

from keras_inits import lsuv_init, measure

pytestmark = pytest.mark.any_keras

TIME = 10
X = normal(128, TIME, 6)
REAL = np.arange(TIME) < np.random.default_rng(0).integers(1, TIME, 128)[:, None]


def padded(value: float) -> np.ndarray[Any, Any]:
    return np.where(REAL[..., None], X, value).astype("float32")


class Own(keras.Model):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.mask, self.loop = layers.Masking(value), layers.LSTM(4)

    def call(self, x: Any) -> Any:
        return self.loop(self.mask(x))


def sequential(value: float) -> keras.Model:
    return keras.Sequential(
        [keras.Input((TIME, 6)), layers.Masking(value), layers.LSTM(4)]
    )


def functional(value: float) -> keras.Model:
    inputs = keras.Input((TIME, 6))
    return keras.Model(inputs, layers.LSTM(4)(layers.Masking(value)(inputs)))


def own(value: float) -> keras.Model:
    model = Own(value)
    model(padded(value))
    return model


@pytest.mark.parametrize("value", [0.0, -999.0])
@pytest.mark.parametrize("make", [sequential, functional, own])
def test_padding_is_not_counted(make: Any, value: float) -> None:
    model, x = make(value), padded(value)
    for verb in (measure, lsuv_init):
        assert not verb(model, x).findings
    row = measure(model, x).inputs
    assert row.mean == pytest.approx(X[REAL].mean(), rel=1e-5)
    assert row.std == pytest.approx(X[REAL].std(), rel=1e-5)
    assert row.output_shape == (None, TIME, 6)


def test_columns_are_those_of_the_real_steps() -> None:
    x = padded(-999.0)
    x[REAL] *= np.asarray([1, 1, 1, 1, 1, 1e3])
    [(one, mean, std), _] = measure(functional(-999.0), x).inputs.columns
    assert one == 5
    assert (mean, std) == pytest.approx(
        (x[REAL][:, 5].mean(), x[REAL][:, 5].std()), rel=1e-4
    )


@pytest.mark.parametrize("masked", [False, True])
def test_indices_that_stand_for_padding(masked: bool) -> None:
    tokens = np.random.default_rng(1).integers(1, 50, REAL.shape)
    tokens = np.where(REAL, tokens, 0).astype("int32")
    lookup = layers.Embedding(50, 8, mask_zero=masked)
    inputs = keras.Input((TIME,), dtype="int32")
    model = keras.Model(inputs, layers.LSTM(4)(lookup(inputs)))
    counted = tokens[REAL] if masked else tokens
    row = measure(model, tokens).inputs
    assert (row.mean, row.std) == pytest.approx((counted.mean(), counted.std()))


def test_what_is_also_taken_without_a_mask_counts_in_full() -> None:
    inputs = keras.Input((TIME, 6))
    parts = [layers.LSTM(4)(x) for x in (layers.Masking(-9.0)(inputs), inputs)]
    model = keras.Model(inputs, layers.Concatenate()(parts))
    x = padded(-9.0)
    assert measure(model, x).inputs.mean == pytest.approx(x.mean(), rel=1e-5)


def test_of_several_inputs_the_masked_one_is_not_blamed() -> None:
    inputs = {name: keras.Input((TIME, 6), name=name) for name in "ab"}
    parts = layers.Masking(-999.0)(inputs["a"]), inputs["b"]
    both = layers.Concatenate()([layers.LSTM(4)(x) for x in parts])
    model = keras.Model(inputs, layers.Dense(2)(both))
    row = measure(model, {"a": padded(-999.0), "b": X}).inputs
    values = np.concatenate([X[REAL].ravel(), X.ravel()])
    assert row.path is None
    assert (row.mean, row.std) == pytest.approx((values.mean(), values.std()), rel=1e-4)
    row = measure(model, {"a": padded(-999.0), "b": 100 * X}).inputs
    assert row.path == "data['b']"
