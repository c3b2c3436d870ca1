"""New weights are written all or none."""

from __future__ import annotations

from functools import partial
from typing import Any

import keras
import numpy as np
import pytest
from models import normal
from textbook import numpy

from keras_inits.commit import assign_all


def variables(dtype: str = "float32") -> list[keras.Variable]:
    return [
        keras.Variable(normal(3, 2, seed=seed), dtype=dtype, name=f"v{seed}")
        for seed in range(4)
    ]


def test_all_are_written() -> None:
    held = variables()
    new = [normal(3, 2, seed=10 + n) for n in range(4)]
    assign_all(list(zip(held, new, strict=True)))
    for variable, value in zip(held, new, strict=True):
        np.testing.assert_array_equal(numpy(variable), value)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("position", range(4))
def test_none_is_written_where_one_fails(position: int, dtype: str) -> None:
    held = variables(dtype)
    before = [numpy(v) for v in held]
    changes: list[tuple[keras.Variable, Any]] = [(v, 2 * v) for v in held]
    changes[position] = (held[position], np.ones((5, 5), "float32"))
    with pytest.raises(ValueError, match="shape"):
        assign_all(changes)
    for variable, value in zip(held, before, strict=True):
        np.testing.assert_array_equal(numpy(variable), value)


def test_an_interrupt_during_the_rollback_leaves_nothing_half_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first interrupt undoes; only the one that was raised comes out."""
    held = variables()
    before = [numpy(v) for v in held]
    original, count = keras.Variable.assign, [0]

    def assign(self: keras.Variable, value: Any) -> Any:
        count[0] += 1
        if count[0] == 3:
            raise KeyboardInterrupt("during the third")
        return original(self, value)

    with monkeypatch.context() as patch:
        patch.setattr(keras.Variable, "assign", assign)
        with pytest.raises(KeyboardInterrupt, match="third"):
            assign_all([(v, 3 * v) for v in held])
    for variable, value in zip(held, before, strict=True):
        np.testing.assert_array_equal(numpy(variable), value)


def test_values_that_are_computed_when_they_are_written() -> None:
    held = variables()
    before = [numpy(v) for v in held]
    assign_all([(v, partial(lambda v: 3 * v.value, v)) for v in held])
    for variable, value in zip(held, before, strict=True):
        np.testing.assert_allclose(numpy(variable), 3 * value, rtol=1e-6)


def test_all_are_put_back_when_a_later_value_cannot_be_computed() -> None:
    held = variables()
    before = [numpy(v) for v in held]

    def fail() -> None:
        raise ValueError("out of numbers")

    changes: list[Any] = [(v, 3 * v) for v in held[:-1]]
    with pytest.raises(ValueError, match="out of numbers"):
        assign_all([*changes, (held[-1], fail)])
    for variable, value in zip(held, before, strict=True):
        np.testing.assert_array_equal(numpy(variable), value)


def test_nothing_to_write() -> None:
    assign_all([])
