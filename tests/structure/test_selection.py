"""Which layers LSUV means: found by attributes, marked by an initializer."""

from __future__ import annotations

from typing import Any

import keras
import pytest
from checks import every_layer
from keras import layers
from models import MODELS, marked, nested, normal, subclassed

import keras_inits
from keras_inits import KerasInitsError, LSUVNormal
from keras_inits.structure.selection import select
from keras_inits.structure.walking import walk

LSUV_NORMAL = "lsuv_normal"


@pytest.mark.parametrize("name", MODELS)
def test_walk_yields_every_layer_once(name: str) -> None:
    model, _ = MODELS[name]()
    found = list(walk(model))
    assert len(found) == len(set(map(id, found)))
    assert found[0] is model
    expected = {id(layer) for layer in every_layer(model)}
    assert {id(layer) for layer in found} == expected


def chosen(model: keras.Model, layers_: Any = None) -> list[str]:
    return sorted(layer.name for layer in select(model, layers_).layers)


def one(layer: keras.layers.Layer, shape: tuple[int, ...] = (5, 6)) -> keras.Model:
    """`layer` behind a Dense layer that is not marked."""
    return keras.Sequential([keras.Input(shape), layers.Dense(6, name="front"), layer])


def test_marked_layers_alone_where_there_are_some() -> None:
    model, _ = marked()
    assert chosen(model) == ["asks", "asks_too"]
    assert chosen(model, lambda layer: True) == [
        "asks",
        "asks_too",
        "plain",
        "plain_too",
    ]


@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.Dense(6, kernel_initializer=LSUV_NORMAL, name="me"),
        lambda: layers.Dense(6, kernel_initializer=LSUVNormal(gain=2.0), name="me"),
        lambda: layers.LSTM(4, kernel_initializer=LSUV_NORMAL, name="me"),
        lambda: layers.RNN(
            layers.GRUCell(4, kernel_initializer=LSUV_NORMAL), name="me"
        ),
        lambda: layers.RNN(
            [layers.GRUCell(4), layers.GRUCell(4, kernel_initializer=LSUV_NORMAL)],
            name="me",
        ),
        lambda: layers.SeparableConv1D(
            4, 3, pointwise_initializer=LSUV_NORMAL, name="me"
        ),
        lambda: layers.SeparableConv1D(
            4, 3, depthwise_initializer=LSUV_NORMAL, name="me"
        ),
        lambda: layers.Conv1DTranspose(4, 3, kernel_initializer=LSUV_NORMAL, name="me"),
    ],
    ids=["string", "object", "LSTM", "cell", "second cell", "pointwise", "depth", "up"],
)
def test_a_layer_is_marked_by_any_of_its_initializers(layer: Any) -> None:
    assert chosen(one(layer())) == ["me"]


def test_attention_is_marked_in_its_projections() -> None:
    inputs = keras.Input((5, 6))
    attention = layers.MultiHeadAttention(2, 3, kernel_initializer=LSUV_NORMAL)
    x = layers.Dense(6)(inputs)
    model = keras.Model(inputs, attention(x, x))
    assert len(chosen(model)) == 4
    assert "dense" not in chosen(model)


class Custom(layers.Layer):
    """A weight made by `add_weight`, of whose initializer nothing is kept."""

    def __init__(self, initializer: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.given = [initializer]

    def build(self, shape: Any) -> None:
        self.w = self.add_weight(
            shape=(shape[-1], 6), initializer=self.given[0], name="w"
        )

    def call(self, x: Any) -> Any:
        return x @ self.w


@pytest.mark.parametrize("initializer", [LSUV_NORMAL, LSUVNormal()])
def test_a_weight_of_a_custom_layer_is_marked_when_it_is_made(initializer: Any) -> None:
    assert chosen(one(Custom(initializer, name="me"))) == ["me"]
    assert chosen(one(Custom("he_normal", name="me"))) == ["front"]


def test_a_mark_survives_saving(tmp_path: Any) -> None:
    model, x = marked()
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert chosen(again) == ["asks", "asks_too"]
    assert chosen(keras.models.clone_model(model)) == ["asks", "asks_too"]
    keras_inits.lsuv_init(again, x)


def test_what_is_frozen_or_marked_and_frozen_is_left() -> None:
    model, _ = marked()
    model.get_layer("asks").trainable = False
    selection = select(model)
    assert [layer.name for layer in selection.layers] == ["asks_too"]
    assert {x.name: why for x, why in selection.left.items()} == {"asks": "frozen"}


def test_names_match_names_and_paths() -> None:
    model, _ = nested()
    every = chosen(model)
    assert len(every) == 5
    for name in every:
        assert chosen(model, name) == [name]


def test_layers_of_a_subclass_are_found_before_they_are_called() -> None:
    model, _ = subclassed()
    assert chosen(model) == ["a", "block_0", "block_1", "block_2", "unused"]


def test_a_model_that_is_not_built() -> None:
    with pytest.raises(KerasInitsError, match="not built"):
        select(keras.Sequential([layers.Dense(3)]))


def test_a_model_without_anything_to_scale() -> None:
    model = keras.Sequential([keras.Input((6,)), layers.BatchNormalization()])
    report = keras_inits.lsuv_init(model, normal(32, 6))
    assert len(report) == 0


def test_weights_of_a_model_itself_are_reported_not_forgotten() -> None:
    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.w = self.add_weight(shape=(4, 8), initializer="lsuv_normal")
            self.head = layers.Dense(3)

        def call(self, x: Any) -> Any:
            return self.head(keras.ops.matmul(x, self.w))

    model = Own()
    model(normal(2, 4))
    found = select(model)
    assert "hold them in a layer" in found.left[model]
    assert not found.maps  # where something is marked, only that is meant


def test_a_layer_class_chooses_its_layers() -> None:
    model = keras.Sequential(
        [keras.Input((8, 2)), layers.Conv1D(3, 3), layers.Flatten(), layers.Dense(2)]
    )
    assert list(select(model, layers.Dense).maps) == [model.layers[-1]]
