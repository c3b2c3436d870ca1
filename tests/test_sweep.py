"""One pass that stops at every linear map: what it shows, and what it leaves behind."""

from __future__ import annotations

import threading
from typing import Any

import keras
import numpy as np
import pytest
from checks import changed, everything, overrides
from keras import layers
from models import dense_stack, normal, shared
from textbook import call_order, measured, numpy

from keras_inits.calling.shadows import shadowed
from keras_inits.structure.selection import select
from keras_inits.sweep import Stop, sweep
from keras_inits.weights.commit import computed
from keras_inits.weights.trial import Trial


class Onlooker:
    """A visitor that takes notes and multiplies every signal by `factor`."""

    every_layer = every_bias = False

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor
        self.names: list[str] = []
        self.signals: list[np.ndarray[Any, Any]] = []
        self.outputs: list[tuple[int, ...]] = []
        self.again: list[str] = []

    def signal(self, stop: Stop, signal: Any) -> Any:
        self.names.append(stop.layer.name)
        self.signals.append(numpy(signal))
        assert numpy(stop.again()) == pytest.approx(self.signals[-1], abs=1e-6)
        if self.factor != 1:
            assert stop.map is not None
            stop.trial.scale(stop.map.kernel, self.factor)
        return signal * self.factor

    def output(self, stop: Stop, output: Any) -> None:
        self.outputs.append(tuple(output.shape))

    def opaque(self, stop: Stop) -> Any:
        return stop.again()

    def watched(self, layer: Any, inputs: Any, output: Any, steps: Any) -> None:
        pass

    def repeated(self, layer: Any) -> None:
        self.again.append(layer.name)


def run(model: keras.Model, x: Any, visitor: Onlooker) -> Trial:
    selection = select(model)
    variables = [m.kernel for maps in selection.maps.values() for m in maps]
    trial = Trial(variables)
    assert sweep(model, x, selection, visitor, trial) == []
    return trial


def test_stops_are_in_the_order_of_the_calls_and_show_the_pre_activation() -> None:
    model, x = dense_stack()
    expected = measured(model, x)
    visitor = Onlooker()
    before, patched = everything(model), overrides(model)
    run(model, x, visitor)
    assert visitor.names == [layer.name for layer in expected]
    for signal, parts in zip(visitor.signals, expected.values(), strict=True):
        np.testing.assert_allclose(signal, parts[0].signal, atol=1e-5)
    assert visitor.outputs == [(32, 6)] * 5
    assert changed(before, model) == []
    assert overrides(model) == patched


def test_what_the_visitor_returns_is_what_the_model_goes_on_with() -> None:
    """The same signals as in a model whose first layers are three times as large."""
    model, x = dense_stack()
    other, _ = dense_stack()
    other.set_weights(model.get_weights())
    visitor = Onlooker(3.0)
    trial = run(model, x, visitor)
    for layer, before in zip(call_order(other, x), visitor.signals, strict=True):
        np.testing.assert_allclose(
            measured(other, x)[layer][0].signal, before, rtol=1e-4, atol=1e-5
        )
        layer.kernel.assign(3 * numpy(layer.kernel))
    new = trial.changes([layer.kernel for layer in call_order(model, x)])
    for (_, value), layer in zip(new, call_order(other, x), strict=True):
        value = numpy(computed(value))
        np.testing.assert_allclose(value, numpy(layer.kernel), rtol=1e-6)


def test_a_later_call_of_a_shared_layer_sees_its_new_kernel() -> None:
    model, x = shared()
    visitor = Onlooker(3.0)
    run(model, x, visitor)
    assert visitor.names == ["front", "thrice", "last"]
    assert visitor.again == ["thrice"] * 2
    model.get_layer("front").kernel.assign(3 * numpy(model.get_layer("front").kernel))
    model.get_layer("thrice").kernel.assign(3 * numpy(model.get_layer("thrice").kernel))
    last = measured(model, x)[model.get_layer("last")][0].signal
    np.testing.assert_allclose(visitor.signals[-1], last, rtol=1e-4, atol=1e-5)


# What is seen inside the scope


def test_a_trial_is_seen_inside_and_written_nowhere() -> None:
    variable = keras.Variable(normal(2, 3))
    before = numpy(variable)
    trial = Trial([variable])
    with trial:
        trial.scale(variable, 2.0)
        np.testing.assert_array_equal(numpy(variable.value), 2 * before)
        trial.scale(variable, 4.0)
        np.testing.assert_array_equal(numpy(variable.value), 8 * before)
    np.testing.assert_array_equal(numpy(variable), before)
    ((changed_variable, value),) = trial.changes([variable])
    assert changed_variable is variable
    np.testing.assert_array_equal(numpy(computed(value)), 8 * before)


def test_a_value_that_was_set_is_scaled_from_there() -> None:
    variable = keras.Variable(normal(2, 3))
    trial = Trial([variable])
    with trial:
        trial.set(variable, keras.ops.ones((2, 3)))
        trial.scale(variable, 5.0)
        np.testing.assert_array_equal(numpy(variable.value), np.full((2, 3), 5.0))
    assert len(trial.changes([])) == 1


# Patching


def test_attributes_are_put_back_as_they_were() -> None:
    layer = layers.Dense(3)
    vars(layer)["call"] = "theirs"
    with shadowed([(layer, "call", "ours"), (layer, "other", 1)]):
        assert (vars(layer)["call"], vars(layer)["other"]) == ("ours", 1)
        with shadowed([(layer, "call", "inner")]):
            assert vars(layer)["call"] == "inner"
        assert vars(layer)["call"] == "ours"
    assert vars(layer)["call"] == "theirs"
    assert "other" not in vars(layer)


def test_attributes_are_put_back_where_patching_stops_half_way() -> None:
    layer = layers.Dense(3)

    def attributes() -> Any:
        yield layer, "call", "ours"
        raise KeyboardInterrupt("while patching")

    with (
        pytest.raises(KeyboardInterrupt, match="while patching"),
        shadowed(attributes()),
    ):
        pytest.fail("the body must not run")
    assert "call" not in vars(layer)


def test_shadowed_activations_are_not_tracked_as_layers_or_weights() -> None:
    layer = layers.Dense(3, activation=layers.PReLU())
    model = keras.Sequential([keras.Input((6,)), layer])
    model(normal(2, 6))
    count = len(model.weights)
    with shadowed([(layer, "activation", lambda x: x)]):
        assert len(model.weights) == count
    assert isinstance(layer.activation, layers.PReLU)
    assert len(model.weights) == count


def test_another_thread_sees_the_activation_while_a_layer_is_looked_at() -> None:
    """A server may answer requests with the model that is being initialised."""
    model, x = dense_stack()
    dense = model.layers[0]
    original, seen = dense.call, []

    def call(inputs: Any, training: bool | None = None) -> Any:
        def ask() -> None:
            seen.append(numpy(dense.activation(keras.ops.convert_to_tensor(-x))))

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        return original(inputs)

    vars(dense)["call"] = call
    visitor = Onlooker()
    run(model, x, visitor)
    assert visitor.signals[0].min() < 0  # here the activation was off
    for found in seen:
        np.testing.assert_array_equal(found, np.maximum(-x, 0.0))
    assert seen


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_two_directions_are_not_called_as_one(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keras on a GPU, where neither layer within is called."""
    both = layers.Bidirectional
    if not hasattr(both, f"_call_fused_{kind.lower()}"):
        pytest.skip("this Keras calls each of them")

    def fused(self: Any, sequences: Any, initial_state: Any) -> Any:
        return keras.ops.zeros((len(sequences), 8))

    monkeypatch.setattr(both, f"_call_fused_{kind.lower()}", fused)
    inner = getattr(layers, kind)(4)
    model = keras.Sequential([keras.Input((5, 6)), both(inner), layers.Dense(2)])
    x, visitor = normal(16, 5, 6), Onlooker()
    assert not numpy(model(x)).any()
    run(model, x, visitor)
    assert len(visitor.names) == 3
    assert visitor.outputs[0] == (16, 4)
    assert visitor.signals[-1].any()
    assert not numpy(model(x)).any()  # as before
