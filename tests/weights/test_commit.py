"""New weights are written all or none."""

from __future__ import annotations

from functools import partial
from typing import Any

import keras
import numpy as np
import pytest
from models import normal
from textbook import numpy

from keras_inits.weights.commit import assign_all
from keras_inits.weights.trial import Product


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


@pytest.mark.parametrize("again", [(), (4,), (5, 6, 7)])
def test_an_interrupt_during_the_rollback_leaves_nothing_half_done(
    monkeypatch: pytest.MonkeyPatch, again: tuple[int, ...]
) -> None:
    """The first interrupt undoes; only the one that was raised comes out."""
    held = variables()
    before = [numpy(v) for v in held]
    original, count = keras.Variable.assign, [0]

    def assign(self: keras.Variable, value: Any) -> Any:
        count[0] += 1
        if count[0] in again:
            raise KeyboardInterrupt("once more")
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


def products(held: list[keras.Variable]) -> list[tuple[keras.Variable, Any]]:
    factors = [keras.ops.convert_to_tensor(2.0 + n, "float32") for n in range(4)]
    return [(v, Product(v.value, x)) for v, x in zip(held, factors, strict=True)]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_products(dtype: str) -> None:
    held = variables(dtype)
    before, tensors = [numpy(v) for v in held], [v.value for v in held]
    assign_all(products(held))
    for n, (variable, value) in enumerate(zip(held, before, strict=True)):
        np.testing.assert_allclose(numpy(variable), (2.0 + n) * value, rtol=1e-2)
    if keras.backend.backend() == "torch":  # one tensor for the life of a variable
        assert all(v.value is x for v, x in zip(held, tensors, strict=True))


def test_a_product_of_another_value_is_no_product_of_the_variable() -> None:
    variable, other = variables()[:2]
    factor = keras.ops.convert_to_tensor(2.0)
    assign_all([(variable, Product(other.value, factor))])
    np.testing.assert_array_equal(numpy(variable), 2.0 * numpy(other))


def test_no_product_where_another_value_cannot_be_written() -> None:
    held = variables()
    before = [numpy(v) for v in held]
    changes = products(held)
    changes[2] = (held[2], np.ones((5, 5), "float32"))
    with pytest.raises(ValueError, match="shape"):
        assign_all(changes)
    for variable, value in zip(held, before, strict=True):
        np.testing.assert_array_equal(numpy(variable), value)


on_torch = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="in its own memory: torch"
)


@on_torch
@pytest.mark.parametrize("late", [False, True])
def test_products_in_place_are_all_formed_before_an_interrupt_goes_on(
    late: bool,
) -> None:
    from torch.overrides import TorchFunctionMode

    count = [0]

    class Interrupting(TorchFunctionMode):
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            count[0] += getattr(function, "__name__", "") == "mul_"
            if count[0] == 2 and not late:
                count[0] += 1
                raise KeyboardInterrupt("during the second")
            result = function(*args, **(kwargs or {}))
            if count[0] == 2:
                count[0] += 1
                raise KeyboardInterrupt("after the second")
            return result

    held = variables()
    before = [numpy(v) for v in held]
    changes = products(held)
    with Interrupting(), pytest.raises(KeyboardInterrupt, match="the second"):
        assign_all(changes)
    for n, (variable, value) in enumerate(zip(held, before, strict=True)):
        np.testing.assert_allclose(numpy(variable), (2.0 + n) * value, rtol=1e-6)


def test_nothing_to_write() -> None:
    assign_all([])


def test_biases_stay_where_kernels_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt after the last assignment, and before the first product."""
    held = variables()
    before = [numpy(v) for v in held]

    def mixed() -> list[tuple[keras.Variable, Any]]:
        return [(held[0], 5 * before[0].astype("float32")), *products(held)[1:]]

    def interrupt(self: Any) -> None:
        raise KeyboardInterrupt("between")

    kind = {"torch": "InMemory", "jax": "InReusedMemory"}.get(keras.backend.backend())
    if kind is not None:
        monkeypatch.setattr(f"keras_inits.weights.in_place.{kind}.__call__", interrupt)
        with pytest.raises(KeyboardInterrupt, match="between"):
            assign_all(mixed())
        for variable, value in zip(held, before, strict=True):
            np.testing.assert_array_equal(numpy(variable), value)
        monkeypatch.undo()
    assign_all(mixed())
    for n, (variable, value) in enumerate(zip(held, before, strict=True)):
        factor = 5.0 if n == 0 else 2.0 + n
        np.testing.assert_allclose(numpy(variable), factor * value, rtol=1e-6)


def test_a_scope_of_the_user_keeps_what_is_assigned() -> None:
    held = variables()
    before = [numpy(v) for v in held]
    changes = products(held)
    with keras.StatelessScope():
        assign_all(changes)
        inside = numpy(held[1])
    np.testing.assert_allclose(inside, 3.0 * before[1], rtol=1e-6)
    for variable, value in zip(held, before, strict=True):
        np.testing.assert_array_equal(numpy(variable), value)
