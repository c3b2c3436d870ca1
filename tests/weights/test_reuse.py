"""On JAX new kernels take over the memory of old ones that nobody else holds."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from models import normal
from textbook import numpy

import keras_inits
from keras_inits.weights import in_place
from keras_inits.weights.commit import assign_all
from keras_inits.weights.interrupts import undisturbed
from keras_inits.weights.trial import Product

on_jax = pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="whose memory is reused: JAX"
)


def stack(depth: int = 3) -> keras.Sequential:
    hidden = [layers.Dense(48, activation="relu") for _ in range(depth)]
    return keras.Sequential([keras.Input((48,)), *hidden])


def place(variable: keras.Variable) -> int:
    return int(variable.value.unsafe_buffer_pointer())


def variables(count: int = 4) -> list[keras.Variable]:
    return [keras.Variable(normal(3, 2, seed=seed)) for seed in range(count)]


def products(held: list[keras.Variable]) -> list[tuple[keras.Variable, Any]]:
    factors = [keras.ops.convert_to_tensor(2.0 + n, "float32") for n in range(4)]
    return [(v, Product(v.value, x)) for v, x in zip(held, factors, strict=True)]


def assert_all_written(held: list[keras.Variable], before: list[np.ndarray]) -> None:
    for n, (variable, value) in enumerate(zip(held, before, strict=True)):
        np.testing.assert_allclose(numpy(variable), (2.0 + n) * value, rtol=1e-6)


@on_jax
@pytest.mark.parametrize("depth", [3, 12, in_place.MANY + 2])
def test_a_model_takes_no_second_memory(depth: int) -> None:
    """By whichever pass: eager or compiled, begun early or not."""
    model, data = stack(depth), normal(64, 48)
    kernels = [layer.kernel for layer in model.layers]
    for _ in range(4):
        for kernel in kernels:
            kernel.assign(2.0 * kernel.value)
        before = list(map(place, kernels))
        report = keras_inits.lsuv_init(model, data)
        assert list(map(place, kernels)) == before
        assert [row.std for row in report] == pytest.approx([1.0] * depth, abs=1e-4)


def _device(x: Any) -> Any:
    return next(iter(x.devices()))


def _to_its_device(x: Any) -> Any:
    import jax

    return jax.device_put(x, _device(x))


def _as_sharded(x: Any) -> Any:
    import jax

    mesh = jax.sharding.Mesh(np.array([_device(x)]), ("one",))
    spec = jax.sharding.PartitionSpec()
    return jax.device_put(x, jax.sharding.NamedSharding(mesh, spec))


def _other_variable(x: Any) -> Any:
    variable = keras.Variable(np.zeros(x.shape, "float32"))
    variable.assign(x)
    return variable


HOLDERS: dict[str, Callable[[Any], Any]] = {
    "itself": lambda x: x,
    "variable": _other_variable,
    "device_put": _to_its_device,
    "sharded": _as_sharded,
    "data": lambda x: x.addressable_data(0),
    "numpy": np.asarray,
    "memoryview": lambda x: memoryview(np.asarray(x)),
    "dlpack": np.from_dlpack,
}


@on_jax
@pytest.mark.parametrize("holder", HOLDERS)
def test_what_somebody_holds_stays_as_it_is(holder: str) -> None:
    model, data = stack(), normal(64, 48)
    first, second, third = (layer.kernel for layer in model.layers)
    # Read by Keras, an array keeps a second one of itself.
    value, before = np.array(second.value), list(map(place, (first, third)))
    held = HOLDERS[holder](second.value)
    report = keras_inits.lsuv_init(model, data)
    assert list(map(place, (first, third))) == before
    np.testing.assert_array_equal(
        numpy(held) if holder == "variable" else np.asarray(held), value
    )
    np.testing.assert_allclose(numpy(second), report[1].scale * value, rtol=1e-5)


@on_jax
def test_a_thread_that_calls_the_model_meanwhile_finds_its_kernels() -> None:
    model, data = stack(12), normal(64, 48)
    weights, errors, done = model.get_weights(), list[str](), threading.Event()

    def serve() -> None:
        while not done.is_set():
            try:
                model(data)
            except Exception as error:
                errors.append(str(error))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        for _ in range(10):
            model.set_weights(weights)
            report = keras_inits.lsuv_init(model, data)
    finally:
        done.set()
        thread.join()
    assert not errors
    assert [row.std for row in report] == pytest.approx([1.0] * 12, abs=1e-4)


@on_jax
@pytest.mark.parametrize("waits", [True, False])
def test_a_thread_that_waits_is_in_nobodys_way(waits: bool) -> None:
    model, data = stack(), normal(64, 48)
    kernels = [layer.kernel for layer in model.layers]
    before, done = list(map(place, kernels)), threading.Event()

    def work() -> None:
        if waits:
            done.wait()
        while not done.is_set():
            time.sleep(0.01)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        time.sleep(0.1)
        report = keras_inits.lsuv_init(model, data)
    finally:
        done.set()
        thread.join()
    assert (list(map(place, kernels)) == before) == waits
    assert [row.std for row in report] == pytest.approx([1.0] * 3, abs=1e-4)


@on_jax
def test_two_variables_of_one_array() -> None:
    one, other = variables(2)
    other.assign(one.value)
    value = np.array(one.value)
    factor = keras.ops.convert_to_tensor(3.0)
    assign_all([(one, Product(one.value, factor))])
    np.testing.assert_array_equal(numpy(other), value)
    np.testing.assert_allclose(numpy(one), 3.0 * value, rtol=1e-6)


@on_jax
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("calls", [{2}, {2, 3, 4, 6}])
def test_once_begun_all_are_written(
    monkeypatch: pytest.MonkeyPatch, error: Any, late: bool, calls: set[int]
) -> None:
    """Whatever assigning raises, and how often: the error comes afterwards."""
    held = variables()
    before, changes = [np.array(v.value) for v in held], products(held)
    original, count = keras.Variable.assign, [0]

    def assign(variable: keras.Variable, value: Any) -> Any:
        count[0] += 1
        if count[0] in calls and not late:
            raise error(f"during call {count[0]}")
        result = original(variable, value)
        if count[0] in calls:
            raise error(f"during call {count[0]}")
        return result

    monkeypatch.setattr(keras.Variable, "assign", assign)
    with pytest.raises(error, match="during call 2"):
        assign_all(changes)
    monkeypatch.undo()
    assert_all_written(held, before)


@on_jax
def test_a_signal_waits_for_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    original = in_place._products

    def products_and_signal(pairs: Any, *, reuse: bool = False) -> Any:
        found = original(pairs, reuse=reuse)
        if reuse:
            signal.raise_signal(signal.SIGINT)
        return found

    def handler(*_: Any) -> None:
        raise KeyboardInterrupt("by the keyboard")

    monkeypatch.setattr(in_place, "_products", products_and_signal)
    before = signal.signal(signal.SIGINT, handler)
    model, data = stack(), normal(64, 48)
    for layer in model.layers:
        layer.bias.assign(np.full(48, 0.5, "float32"))
    try:
        with pytest.raises(KeyboardInterrupt, match="by the keyboard"):
            keras_inits.lsuv_init(model, data, center=True)
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
    monkeypatch.undo()
    for row in keras_inits.measure(model, data):
        assert row.std == pytest.approx(1.0, abs=1e-3)
        assert row.mean == pytest.approx(0.0, abs=1e-3)


@on_jax
def test_no_memory_for_one_that_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    original = in_place._products

    def no_memory(pairs: Any, *, reuse: bool = False) -> Any:
        if pairs and not reuse:
            raise MemoryError("no memory beside")
        return original(pairs, reuse=reuse)

    monkeypatch.setattr(in_place, "_products", no_memory)
    held = variables()
    before = [np.array(v.value) for v in held]
    changes = [(held[0], np.ones((3, 2), "float32")), *products(held)[1:]]
    kept = held[2].value
    with pytest.raises(MemoryError, match="beside"):
        assign_all(changes)
    for variable, value in zip(held, before, strict=True):
        np.testing.assert_array_equal(numpy(variable), value)
    del kept


@on_jax
@pytest.mark.parametrize("shape", [(3, 2), (5, 2)], ids=["alike", "others"])
def test_of_many_alike_all_are_written_or_none(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever program cannot be compiled."""
    original = in_place.fused_arithmetic
    held = [*variables(3), keras.Variable(normal(5, 2))]
    before, changes = [np.array(v.value) for v in held], products(held)
    shapes: list[list[tuple[int, ...]]] = []
    refused = [shape]

    def fused(function: Any, **options: Any) -> Any:
        def call(bases: Any, factors: Any) -> Any:
            shapes.append([x.shape for x in bases])
            if shapes[-1] == refused:
                raise MemoryError("while it is compiled")
            return original(function, **options)(bases, factors)

        return call

    monkeypatch.setattr(in_place, "MANY", 3)
    monkeypatch.setattr(in_place, "_SEEN", set())
    monkeypatch.setattr(in_place, "fused_arithmetic", fused)
    with pytest.raises(MemoryError, match="compiled"):
        assign_all(changes)
    for variable, value in zip(held, before, strict=True):
        np.testing.assert_array_equal(numpy(variable), value)
    refused.clear()
    monkeypatch.setattr(in_place, "_SEEN", set())
    one, other = (3, 2), (5, 2)
    for programs in ([[one], [other], [one], [one], [one]], [[one, one, one, other]]):
        shapes.clear()
        held = [*variables(3), keras.Variable(normal(5, 2))]  # read by nobody
        assign_all(products(held))
        assert shapes == programs
        assert_all_written(held, before)


@pytest.mark.parametrize("count", [1, 2])
def test_signals_are_heard_afterwards(count: int) -> None:
    heard: list[str] = []
    number = signal.SIGTERM
    before = signal.signal(number, lambda *_: heard.append("signal"))
    try:
        with undisturbed():
            for _ in range(count):
                signal.raise_signal(number)
            heard.append("work")
        assert heard == ["work", *["signal"] * count]
        signal.raise_signal(number)
        assert len(heard) == count + 2
    finally:
        signal.signal(number, before)


def test_another_thread_hears_no_signals() -> None:
    heard: list[str] = []

    def work() -> None:
        with undisturbed():
            heard.append("work")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert heard == ["work"]


def test_an_error_within_comes_out_and_handlers_are_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="within"), undisturbed():
        raise ValueError("within")
    assert signal.getsignal(signal.SIGINT) is before
