"""Indices that an `Embedding` has no row for are refused before the pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops
from models import normal

from keras_inits import DataError, lsuv_init, measure


def sequential() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((4,), dtype="int32"),
            layers.Embedding(10, 3, name="tokens"),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )


def functional() -> keras.Model:
    """Through what keeps values: a reshape, a cast."""
    inputs = keras.Input((4,), dtype="float32")
    h = ops.cast(layers.Reshape((2, 2))(inputs), "int32")
    h = layers.Flatten()(layers.Embedding(10, 3, name="tokens")(h))
    return keras.Model(inputs, layers.Dense(2)(h))


def within() -> keras.Model:
    """The layer is the first one of a model within the model."""
    inputs = keras.Input((4,), dtype="int32")
    embed = [layers.Embedding(10, 3, name="tokens"), layers.Flatten()]
    inner = keras.Sequential([keras.Input((4,), dtype="int32"), *embed])
    middle = keras.Sequential([keras.Input((4,), dtype="int32"), inner])
    return keras.Model(inputs, layers.Dense(2)(middle(inputs)))


MODELS = {"sequential": sequential, "functional": functional, "within": within}
VERBS = {"measure": measure, "lsuv_init": lsuv_init}


def ids(largest: int, smallest: int = 0) -> np.ndarray[Any, Any]:
    x = np.random.default_rng(0).integers(0, 10, (16, 4)).astype("int32")
    x[3, 1], x[5, 0] = largest, smallest
    return x


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_an_index_beyond_the_table_is_refused(
    verb: Callable[..., Any], make: Callable[[], keras.Model]
) -> None:
    model = make()
    before = [ops.convert_to_numpy(v) for v in model.weights]
    wanted = (
        r"'tokens' \(Embedding\) has input_dim=10.*from 0 to 9\. Received: indices "
        r"from 0 to 10 in `data`.*input_dim=11"
    )
    with pytest.raises(DataError, match=wanted):
        verb(model, ids(10))
    with pytest.raises(DataError, match=r"from -11 to 9.*Pass indices from 0 on"):
        verb(model, ids(9, -11))
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(new))


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_what_keras_takes_is_taken(
    verb: Callable[..., Any], make: Callable[[], keras.Model]
) -> None:
    """The last row, also counted from the end of the table."""
    assert verb(make(), ids(9, -10))[0].std > 0


@pytest.mark.parametrize("as_list", [False, True])
def test_of_several_inputs_the_one_is_named(as_list: bool) -> None:
    a = keras.Input((4,), name="b_words", dtype="int32")
    b = keras.Input((3,), name="a_numbers")
    h = layers.Flatten()(layers.Embedding(10, 3, name="tokens")(a))
    h = layers.Dense(2)(layers.Concatenate()([h, b]))
    inputs = [a, b] if as_list else {"b_words": a, "a_numbers": b}
    model, numbers = keras.Model(inputs, h), 50 * normal(16, 3)
    x: Any = {"a_numbers": numbers, "b_words": ids(9)}
    measure(model, [ids(9), numbers] if as_list else x)
    x["b_words"] = ids(12)
    where = r"data\[0\]" if as_list else r"data\['b_words'\]"
    with pytest.raises(DataError, match=f"from 0 to 12 in {where}"):
        measure(model, [ids(12), numbers] if as_list else x)


def test_indices_that_are_computed_are_left_to_the_model() -> None:
    inputs = keras.Input((4,), dtype="int32")
    h = layers.Flatten()(layers.Embedding(10, 3)(inputs % 10))
    model = keras.Model(inputs, layers.Dense(2)(h))
    assert measure(model, ids(500))[0].std > 0
