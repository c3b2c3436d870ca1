"""Threads that share layers take turns: no verb sees what another is doing to them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from models import normal

from keras_inits import KerasInitsError, initialize, lsuv_init, measure
from keras_inits.structure import turns


class Asking(layers.Layer):
    """Passes its input on; once, at its first call, does `ask`."""

    ask: Callable[[], None] | None = None

    def call(self, x: Any) -> Any:
        ask, self.ask = self.ask, None
        if ask is not None:
            ask()
        return x


class Told(threading.Condition):
    """Says when somebody has to wait for a turn."""

    def __init__(self) -> None:
        super().__init__()
        self.known = threading.Event()

    def wait_for(self, predicate: Any, timeout: float | None = None) -> bool:
        if not predicate():
            self.known.set()
        return super().wait_for(predicate, timeout)


class Beside:
    """Runs a verb in a thread, until it is done or waits for its turn."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, verb: Callable[[], Any]):
        self.freed, self.verb, self.found = Told(), verb, list[Any]()
        self.waited = False
        self.thread = threading.Thread(target=self._run)
        monkeypatch.setattr(turns, "_FREED", self.freed)

    def _run(self) -> None:
        try:
            self.found.append(self.verb())
        finally:
            self.freed.known.set()

    def ask(self) -> None:
        self.thread.start()
        self.freed.known.wait()
        self.waited = self.thread.is_alive()

    def result(self) -> Any:
        self.thread.join()
        (found,) = self.found
        return found


def stack_of(*shared: layers.Layer) -> tuple[keras.Model, Asking]:
    asking = Asking()
    parts = [layers.Dense(6, "relu"), asking, *shared, layers.Dense(4)]
    return keras.Sequential([keras.Input((6,)), *parts]), asking


def patched(model: keras.Model) -> list[str]:
    return [layer.name for layer in model.layers if "call" in vars(layer)]


@pytest.mark.parametrize("shares", ["the model", "a layer"])
def test_measure_waits_for_lsuv(shares: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shared, x = layers.Dense(6, "relu"), normal(64, 6)
    model, asking = stack_of(shared)
    other = model if shares == "the model" else stack_of(shared)[0]
    beside = Beside(monkeypatch, lambda: measure(other, x))
    asking.ask = beside.ask
    report = lsuv_init(model, x)
    found = beside.result()
    assert beside.waited
    assert [layer.status for layer in found] == ["measured"] * 3
    if other is model:
        for row, scaled in zip(found, report, strict=True):
            assert row.std == pytest.approx(scaled.std, abs=1e-4)
    assert patched(model) == [] and patched(other) == []


def test_lsuv_waits_for_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    x = normal(64, 6)
    model, asking = stack_of()
    model.layers[0].kernel.assign(np.eye(6) * 5)
    beside = Beside(monkeypatch, lambda: lsuv_init(model, x))
    asking.ask = beside.ask
    seen = measure(model, x)
    report = beside.result()
    assert beside.waited
    assert seen[0].std == pytest.approx(report[0].std_before, rel=1e-4)
    assert report[0].status == "scaled" and patched(model) == []


def test_initialize_waits_for_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    x = normal(64, 6)
    model, asking = stack_of()
    beside = Beside(monkeypatch, lambda: initialize(model, "zeros"))
    asking.ask = beside.ask
    assert min(layer.std or 0.0 for layer in measure(model, x)) > 0
    assert beside.result() is None and beside.waited
    assert measure(model, x)[0].std == 0


def test_models_without_a_common_layer_do_not_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = normal(64, 6)
    (model, asking), (other, _) = stack_of(), stack_of()
    beside = Beside(monkeypatch, lambda: measure(other, x))

    def ask() -> None:
        beside.ask()
        beside.thread.join()

    asking.ask = ask
    lsuv_init(model, x)
    assert [layer.status for layer in beside.result()] == ["measured"] * 2


def test_a_verb_may_call_another_and_a_turn_ends_with_an_error() -> None:
    model, x = stack_of()[0], normal(64, 6)

    def wide(layer: Any) -> bool:
        return measure(model, x)[0].std is not None

    lsuv_init(model, x, layers=wide)
    with pytest.raises(KerasInitsError, match="tolerance"):
        lsuv_init(model, x, tolerance=0)
    assert turns._BUSY == {}
