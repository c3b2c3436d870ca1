"""A pass that has begun ahead is read where it is the one wanted, and nowhere else."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from models import normal

import keras_inits
from keras_inits.passes import compiled, programs

ON_JAX = keras.backend.backend() == "jax"


def stack() -> keras.Model:
    keras.utils.set_random_seed(1)
    hidden = [layers.Dense(6, activation="relu") for _ in range(compiled.WORTHWHILE)]
    return keras.Sequential([keras.Input((6,)), *hidden])


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is called from here on: passes that begin, and that are read."""
    seen: list[str] = []
    original = programs.Program.results

    def results(self: Any, wait: Any) -> Any:
        seen.append("read")
        return original(self, wait)

    def told(begin: Any) -> Any:
        def function(arguments: Any) -> Any:
            seen.append("begin")
            return begin(arguments)

        return function

    def init(self: Any, begin: Any, *others: Any) -> None:
        made(self, told(begin), *others)

    made = programs.Program.__init__
    monkeypatch.setattr(programs.Program, "results", results)
    monkeypatch.setattr(programs.Program, "__init__", init)
    return seen


def eagerly(monkeypatch: pytest.MonkeyPatch, model: keras.Model, x: Any) -> list[float]:
    with monkeypatch.context() as patch:
        patch.setattr(compiled, "possible", lambda *_: False)
        return [row.std for row in keras_inits.measure(model, x)]


VERBS = pytest.mark.parametrize("verb", ["measure", "lsuv_init"])


@pytest.mark.skipif(not ON_JAX, reason="others wait for the results")
@VERBS
def test_the_pass_that_serves_begins_before_the_layers_are_known(
    begun: list[str], monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    model, x, run = stack(), normal(8, 6), getattr(keras_inits, verb)
    run(model, x)
    run(model, x)
    begun.clear()
    module = importlib.import_module(run.__module__)
    name = "everything" if verb == "measure" else "select"
    original = getattr(module, name)

    def told(*arguments: Any) -> Any:
        begun.append("layers")
        return original(*arguments)

    monkeypatch.setattr(module, name, told)
    run(model, x)
    assert begun == ["begin", "layers", "read"]


@VERBS
def test_a_stream_is_drawn_from_once_and_after_the_layers_are_known(verb: str) -> None:
    model, run = stack(), getattr(keras_inits, verb)
    x = normal(8, 6)
    for _ in range(3):
        run(model, x)
    batches = iter([x, x])
    with pytest.raises(keras_inits.UnsupportedLayerError, match="nobody"):
        run(model, batches, layers=["nobody"])
    run(model, batches, samples=8)
    assert len(list(batches)) == 1


@VERBS
def test_data_that_do_not_fit_are_refused_as_in_the_first_call(verb: str) -> None:
    model, run = stack(), getattr(keras_inits, verb)
    refusals = []
    for _ in range(2):
        with pytest.raises(keras_inits.DataError) as refusal:
            run(model, normal(8, 5))
        refusals.append(str(refusal.value))
        for _ in range(3):
            run(model, normal(8, 6))
    assert refusals[0] == refusals[1]


def test_kernels_that_are_drawn_anew_are_those_of_the_pass(
    monkeypatch: pytest.MonkeyPatch, begun: list[str]
) -> None:
    model, x = stack(), normal(8, 6)
    for _ in range(3):
        keras_inits.lsuv_init(model, x)
    begun.clear()
    report = keras_inits.lsuv_init(model, x, orthonormal=True)
    if ON_JAX:
        assert begun == ["begin", "read"]
    found = [row.std for row in keras_inits.measure(model, x)]
    assert [1.0] * len(found) == pytest.approx(found, abs=1e-4)
    expected = eagerly(monkeypatch, model, x)
    np.testing.assert_allclose([row.std for row in report], expected, rtol=1e-4)


@pytest.mark.skipif(not ON_JAX, reason="others wait for the results")
def test_a_pass_that_has_begun_holds_no_kernel_when_new_ones_are_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or all old kernels would lie beside all new ones."""
    model, x = stack(), normal(8, 6)
    for _ in range(3):
        keras_inits.lsuv_init(model, x)
    module = importlib.import_module(keras_inits.lsuv_init.__module__)
    commit, held = module.commit, []

    def told(*arguments: Any) -> Any:
        held.append(sys.getrefcount(model.layers[3].kernel.value))
        return commit(*arguments)

    monkeypatch.setattr(module, "commit", told)
    keras_inits.lsuv_init(model, x)
    monkeypatch.setattr(module, "begun_with", lambda *_: programs.NOTHING)
    keras_inits.lsuv_init(model, x)
    assert held[0] == held[1]


@VERBS
def test_what_has_changed_is_seen(
    monkeypatch: pytest.MonkeyPatch, begun: list[str], verb: str
) -> None:
    model, x = stack(), normal(8, 6)
    run = getattr(keras_inits, verb)
    for _ in range(3):
        run(model, x)
    begun.clear()
    model.layers[4].activation = keras.activations.tanh
    found = [row.std for row in run(model, x)]
    if ON_JAX:
        assert begun == ["begin", "begin", "read"]  # the first one in vain
    expected = eagerly(monkeypatch, model, x)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_other_shapes_and_weights_are_seen(
    monkeypatch: pytest.MonkeyPatch, begun: list[str]
) -> None:
    model = stack()
    for rows in (8, 8, 8, 5):
        x = normal(rows, 6) * rows
        model.layers[0].kernel.assign(model.layers[0].kernel * 2.0)
        found = [row.std for row in keras_inits.measure(model, x)]
        expected = eagerly(monkeypatch, model, x)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.skipif(not ON_JAX, reason="others wait for the results")
def test_where_each_pass_is_another_none_begins_ahead(begun: list[str]) -> None:
    model, x = stack(), normal(8, 6)
    for rate in (0.1, 0.2, 0.3, 0.4):
        model.layers[2].rate = rate
        keras_inits.measure(model, x)
    assert begun == ["begin", "read"] * 4


@pytest.mark.skipif(not ON_JAX, reason="others wait for the results")
def test_the_verbs_do_not_disturb_each_other(begun: list[str]) -> None:
    model, x = stack(), normal(8, 6)
    for _ in range(4):
        keras_inits.measure(model, x)
        keras_inits.lsuv_init(model, x)
    assert begun == ["begin", "read"] * 8
