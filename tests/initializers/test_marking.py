"""Who asked for LSUV is known of the variable, however it came to be."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keras_inits.initializers import LSUVNormal
from keras_inits.initializers.marking import is_marked


@keras.saving.register_keras_serializable("test_marking")
class Custom(keras.layers.Layer):
    """Keeps no reference to the initializer."""

    def build(self, input_shape: tuple[int, ...]) -> None:
        size = input_shape[-1]
        self.mixing = self.add_weight(shape=(size, 4), initializer="lsuv_normal")
        self.plain = self.add_weight(shape=(size, 4), initializer="he_normal")
        self.late = keras.Variable(LSUVNormal(), shape=(size, 4), name="late")

    def call(self, x: Any) -> Any:
        return x @ (self.mixing + self.plain + self.late)


@keras.saving.register_keras_serializable("test_marking")
class Outer(keras.Model):
    """Builds its layers inside `call`, so symbolically where it is called so."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.inner = Custom()
        self.dense = keras.layers.Dense(4, kernel_initializer="lsuv_normal")

    def call(self, x: Any) -> Any:
        return self.dense(self.inner(x))


def marks(model: Any) -> list[bool]:
    return [is_marked(variable) for variable in model.weights]


def _functional() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((6,)),
            Custom(),
            keras.layers.Dense(4, kernel_initializer="lsuv_normal"),
            keras.layers.Dense(4),
        ]
    )


MARKS = [True, False, True, True, False, False, False]


def test_eager_and_symbolic_build() -> None:
    assert MARKS == marks(_functional())


def test_subclassed_model_built_by_data() -> None:
    model = Outer()
    model(np.ones((2, 6), "float32"))
    assert MARKS[:5] == marks(model)


def test_subclassed_model_built_by_a_symbolic_call() -> None:
    inputs = keras.Input((6,))
    model = keras.Model(inputs, Outer()(inputs))
    assert MARKS[:5] == marks(model)


def test_built_by_fit() -> None:
    model = Outer()
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 6), "float32"), np.ones((4, 4), "float32"), verbose=0)
    assert MARKS[:5] == marks(model)


@pytest.mark.parametrize("way", ["load", "clone", "deepcopy", "pickle", "json"])
def test_copies_are_marked_alike(way: str, tmp_path: Path) -> None:
    model = _functional()
    if way == "load":
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
    elif way == "clone":
        again = keras.models.clone_model(model)
    elif way == "deepcopy":
        again = copy.deepcopy(model)
    elif way == "pickle":
        again = pickle.loads(pickle.dumps(model))
    else:
        again = keras.models.model_from_json(model.to_json())
    assert MARKS == marks(again)


def test_a_call_for_no_variable_marks_none() -> None:
    """A layer that draws noise in a method of its own is not asking for LSUV."""
    variable = keras.Variable(np.zeros((2, 2)), dtype="float32")

    class Drawing(keras.layers.Layer):
        def draw(self) -> Any:
            return LSUVNormal()((3, 2))

    Drawing().draw()
    LSUVNormal()((3, 2))
    assert not is_marked(variable)


def test_variables_of_others_are_not_marked() -> None:
    assert not is_marked(keras.Variable("he_normal", shape=(2, 2)))
    assert is_marked(keras.Variable("lsuv_normal", shape=(2, 2)))


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX shards variables")
def test_initialised_inside_jit() -> None:
    """As Keras initialises a large sharded variable."""
    import jax

    class Sharded(type(keras.Variable("zeros", shape=(1,)))):  # type: ignore[misc]
        def _initialize_with_initializer(self, initializer: Any) -> None:
            names = ["shape", "dtype"]
            compiled = jax.jit(initializer.__call__, static_argnames=names)
            self._value = compiled(shape=self._shape, dtype=self._dtype)

    initializer = LSUVNormal()
    one, other = (Sharded(initializer, shape=(4, 4)) for _ in range(2))
    assert is_marked(one)
    assert is_marked(other)
    assert not np.array_equal(np.asarray(one.value), np.asarray(other.value))
