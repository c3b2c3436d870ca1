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
