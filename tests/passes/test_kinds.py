"""What a compiled pass depends on is seen, by value or by an object that lives."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from models import normal

from keras_inits import measure
from keras_inits.passes import compiled, programs
from keras_inits.passes.kinds import Held, Kind, kind_of
from keras_inits.structure.selection import everything


def model_of(layer: layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((6, 6, 2)), layer, layers.Flatten()])


def kind(model: keras.Model, **attributes: Any) -> Kind:
    """With these attributes of the first layer set."""
    for name, value in attributes.items():
        setattr(model.layers[0], name, value)
    return kind_of(everything(model, None), normal(4, 6, 6, 2))


@pytest.mark.parametrize(
    ("name", "value", "same", "other"),
    [
        ("rate", np.float64(0.1), np.float64(0.1), np.float64(0.9)),
        ("rate", np.float32(0.1), np.float32(0.1), np.float32(0.9)),
        ("rate", 0.1, 0.1, 0.9),
        ("noise_shape", ((1, 2), (3, 4)), ((1, 2), (3, 4)), ((1, 2), (3, 5))),
        ("noise_shape", (1, 2), (1, 2), (2, 1)),
        ("scale", np.ones(3), np.ones(3), np.zeros(3)),
        ("scale", np.ones(3), np.ones(3), np.ones(3, "float32")),
        ("scale", np.ones((1, 3)), np.ones((1, 3)), np.ones((3, 1))),
    ],
)
def test_numbers_count_by_their_value(
    name: str, value: Any, same: Any, other: Any
) -> None:
    model = model_of(layers.Dropout(0.5))
    first = kind(model, **{name: value}).key
    assert kind(model, **{name: same}).key == first
    assert kind(model, **{name: other}).key != first


def test_a_list_that_holds_itself() -> None:
    model, endless = model_of(layers.Dropout(0.5)), []
    endless.append(endless)
    vars(model.layers[0])["thing"] = endless
    assert kind(model).key == kind(model).key


class Thing:
    """An attribute that is neither a number nor a container."""


def test_an_object_counts_by_its_identity_while_it_lives() -> None:
    model, thing = model_of(layers.Dropout(0.5)), Thing()
    key, _, objects = kind(model, thing=thing)
    assert any(x is thing for x in objects)
    assert kind(model, thing=thing).key == key
    assert kind(model, thing=Thing()).key != key
    assert Held([thing, [thing], 3]).alive()
    held = Held([Thing(), [thing]])
    gc.collect()
    assert not held.alive()


def test_classes_of_a_users_own_are_not_kept_alive() -> None:
    def class_seen_twice() -> weakref.ref[type]:
        class Own(layers.Dropout):
            pass

        class Attribute:
            pass

        model = model_of(Own(0.5))
        vars(model.layers[0])["thing"] = Attribute()
        assert kind(model).key == kind(model).key
        found.append(weakref.ref(Attribute))
        return weakref.ref(Own)

    found: list[weakref.ref[type]] = []
    found.append(class_seen_twice())
    keras.utils.clear_session(free_memory=True)
    assert [reference() for reference in found] == [None, None]


def test_only_so_many_kinds_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "MOST_STATES", 2)
    hidden = [layers.Dense(3) for _ in range(compiled.WORTHWHILE)]
    model = keras.Sequential([keras.Input((3,)), *hidden])
    seen = []
    for rows in (4, 5, 6, 5):
        measure(model, normal(rows, 3))
        seen.append(list(programs.STATES[model].values()))
    assert [len(x) for x in seen] == [1, 2, 2, 2]
    assert seen[3][0] is seen[2][1]  # the one that has not been asked for goes first
    assert seen[3][1] is seen[1][1]


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="no program of own code")
def test_a_program_goes_with_what_it_was_made_for() -> None:
    hidden = [layers.Dense(3) for _ in range(compiled.WORTHWHILE)]
    model, x = keras.Sequential([keras.Input((3,)), *hidden]), normal(6, 3)
    model.layers[0].thing = Thing()
    measure(model, x)
    [state] = programs.STATES[model].values()
    assert state.is_of(state.period)
    model.layers[0].thing = None
    gc.collect()
    assert not state.is_of(state.period)


class Stack(keras.Model):
    """A subclassed model: `compile` gives it containers that hold it."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = [layers.Dense(3) for _ in range(compiled.WORTHWHILE)]

    def call(self, x: Any) -> Any:
        for layer in self.dense:
            x = layer(x)
        return x


def test_a_compiled_model_can_be_freed() -> None:
    model, x = Stack(), normal(6, 3)
    model(x)
    model.compile("adam", "mse")
    for _ in range(2):
        measure(model, x)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
