"""The short way computes what `Layer.__call__` would, and no other call goes there."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from checks import assert_equal_weights
from keras import layers
from models import normal
from textbook import numpy

import keras_inits
from keras_inits import sweep
from keras_inits.calling import shortcuts
from keras_inits.structure.walking import PLAIN

ROWS = 32
Builder = Callable[[], tuple[keras.Model, Any]]
long_way = shortcuts.Layer.__call__


def images() -> tuple[keras.Model, Any]:
    """Branches, padding, pooling, normalisation, activations as layers."""
    inputs = x = keras.Input((8, 8, 3))
    x = layers.Rescaling(0.5)(layers.ZeroPadding2D()(x))
    x = layers.Conv2D(6, 3, activation="relu")(x)
    y = layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same")(x))
    x = layers.Add()([x, layers.ReLU()(y)])
    x = layers.Concatenate()([x, layers.Activation("tanh")(layers.Conv2D(2, 1)(x))])
    x = layers.Dropout(0.5)(layers.MaxPooling2D()(x))
    x = layers.GlobalAveragePooling2D()(x)
    outputs = layers.Dense(3, activation="softmax")(layers.LayerNormalization()(x))
    return keras.Model(inputs, outputs), normal(ROWS, 8, 8, 3)


def masked() -> tuple[keras.Model, Any]:
    """The mask of an embedding reaches the recurrent layer through plain ones."""
    inputs = keras.Input((7,), dtype="int32")
    x = layers.Embedding(11, 8, mask_zero=True)(inputs)
    x = layers.Dropout(0.1)(layers.Dense(6, activation="tanh")(x))
    x = layers.GRU(5)(layers.Add()([x, x]))
    tokens = np.random.default_rng(0).integers(0, 11, (ROWS, 7))
    tokens[:, 4:] = 0
    return keras.Model(inputs, layers.Dense(4)(x)), tokens


def mixed() -> tuple[keras.Model, Any]:
    """Layers that compute in another dtype than their variables, beside plain ones."""
    model = keras.Sequential(
        [
            keras.Input((12,)),
            layers.Dense(16, activation="relu", dtype="mixed_bfloat16"),
            layers.Dense(16, activation="relu", dtype="float32"),
            layers.Dense(4, dtype="mixed_bfloat16"),
        ]
    )
    return model, normal(ROWS, 12)


def wider() -> tuple[keras.Model, Any]:
    """What a layer takes is converted to its own dtype."""
    inputs = keras.Input((12,))
    x = layers.Dense(16, activation="relu")(inputs)
    x = layers.Dense(16, activation="relu", dtype="float16")(x)
    return keras.Model(inputs, layers.Dense(4)(x)), normal(ROWS, 12)


def regularised() -> tuple[keras.Model, Any]:
    """A layer with a loss of its own, a nested model, a layer that is called twice."""
    inputs = keras.Input((12,))
    twice = layers.Dense(12, activation="elu", activity_regularizer="l2")
    inner = keras.Sequential([keras.Input((12,)), layers.Dense(5), layers.ReLU()])
    return keras.Model(inputs, inner(twice(twice(inputs)))), normal(ROWS, 12)


with_shortcuts = pytest.mark.skipif(
    not hasattr(images()[0], "_get_operation_for_node"),
    reason="this version of Keras has no place for them",
)
BUILDERS = (images, masked, mixed, wider, regularised)


def both_ways(
    builder: Builder, monkeypatch: pytest.MonkeyPatch, verb: Callable[..., Any]
) -> list[tuple[keras.Model, Any]]:
    """The same model after the same verb, the short way and the long one."""
    found = []
    for short in (True, False):
        keras.utils.set_random_seed(1)
        model, x = builder()
        if not short:
            monkeypatch.setattr(sweep, "shortcuts", lambda every: [])
            monkeypatch.setattr(sweep, "products", lambda chosen: {})
        found.append((model, verb(model, x)))
    monkeypatch.undo()
    return found


def same(one: Any, other: Any) -> None:
    """Two reports with the same figures, whatever the layers are called.

    But for rounding: a product may be added up in another order.
    """
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        a, b = a.to_dict(), b.to_dict()
        for name in ("name", "path"):
            a.pop(name), b.pop(name)
        bins, others = a.pop("histogram", None), b.pop("histogram", None)
        assert (bins is None) == (others is None)
        if bins and others:
            assert bins["edges"] == pytest.approx(others["edges"], rel=1e-5, abs=1e-6)
            assert sum(bins["counts"]) == sum(others["counts"])
            moved = np.abs(np.subtract(bins["counts"], others["counts"])).sum()
            assert moved <= 0.01 * sum(bins["counts"])
        assert a.keys() == b.keys()
        for name, figure in a.items():
            if isinstance(figure, float) or (name == "scale" and figure is not None):
                assert figure == pytest.approx(b[name], rel=1e-5, abs=1e-6), name
            else:
                assert figure == b[name], name


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("builder", BUILDERS)
def test_both_ways_lead_to_the_same_weights_and_figures(
    builder: Builder, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def verb(model: keras.Model, x: Any) -> Any:
        return keras_inits.lsuv_init(model, x, training=training)

    (short, one), (long, other) = both_ways(builder, monkeypatch, verb)
    same(one, other)
    assert_equal_weights(short, long)


@pytest.mark.parametrize("builder", BUILDERS)
def test_both_ways_measure_the_same(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (_, one), (_, other) = both_ways(builder, monkeypatch, keras_inits.measure)
    same(one, other)


def taken(
    model: keras.Model, x: Any, monkeypatch: pytest.MonkeyPatch
) -> dict[str, bool]:
    """For each layer that could go the short way: whether it went there."""
    found: dict[str, bool] = {}
    original = shortcuts.Short._is_short

    def spied(self: Any, *args: Any) -> bool:
        found[self.layer.name] = original(self, *args)
        return found[self.layer.name]

    monkeypatch.setattr(shortcuts.Short, "_is_short", spied)
    keras_inits.measure(model, x)
    monkeypatch.undo()
    return found


@with_shortcuts
def test_plain_layers_of_a_graph_go_the_short_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, x = images()
    ways = taken(model, x, monkeypatch)
    others = (layers.InputLayer, layers.Rescaling)  # the one has a call of its own
    plain = [x.name for x in model.layers if not isinstance(x, others)]
    assert ways == dict.fromkeys(plain, True)


@with_shortcuts
def test_masks_other_dtypes_and_losses_take_the_long_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, x = masked()
    ways = taken(model, x, monkeypatch)
    short = [layer for layer in model.layers if ways.get(layer.name)]
    # Behind the recurrent layer there is no mask; JAX shows none while it traces.
    seen = keras.backend.backend() != "jax"
    assert short == (model.layers[-1:] if seen else [])
    model, x = wider()
    ways = taken(model, x, monkeypatch)
    assert list(ways.values()) == [True, False, False][: len(ways)]
    assert not taken(*mixed(), monkeypatch)
    model, x = regularised()
    assert model.layers[1].name not in taken(model, x, monkeypatch)


def test_whoever_replaces_the_call_of_layers_sees_every_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, x = images()
    seen: list[str] = []

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(self.name)
        return long_way(self, *args, **kwargs)

    monkeypatch.setattr(keras.layers.Layer, "__call__", counted)
    keras_inits.measure(model, x)
    monkeypatch.undo()
    assert {layer.name for layer in model.layers[1:]} <= set(seen)


def test_a_call_that_a_user_has_put_on_an_instance_is_called() -> None:
    stack = [layers.Dense(8), layers.Flatten(name="between"), layers.Dense(4)]
    model, x = keras.Sequential([keras.Input((6,)), *stack]), normal(ROWS, 6)
    vars(model.get_layer("between"))["call"] = lambda x: 3.0 * x
    figures = keras_inits.measure(model, x)[-1]
    expected = numpy(model(x)).std()
    assert figures.output_std == pytest.approx(expected, rel=1e-4)


@with_shortcuts
def test_an_error_on_the_short_way_names_the_layer() -> None:
    model, x = images()
    dense = model.layers[-1]

    def fail(inputs: Any, training: bool | None = None) -> Any:
        raise ZeroDivisionError("by hand")

    vars(dense)["call"] = fail
    with pytest.raises(ZeroDivisionError, match=rf"by hand(.|\n)*'{dense.name}'"):
        keras_inits.measure(model, x)


@pytest.mark.parametrize("kind", sorted(PLAIN, key=lambda kind: kind.__name__))
def test_no_plain_layer_makes_or_needs_a_mask(kind: Any) -> None:
    """`compute_mask` of none of them makes one where there was none."""
    inherited = (layers.Layer, layers.Add, layers.Concatenate)
    assert kind.compute_mask in [parent.compute_mask for parent in inherited]
    assert "mask" not in inspect.signature(kind.call).parameters or kind in (
        layers.BatchNormalization,
        layers.Softmax,
    )


def behind_glu() -> tuple[keras.Model, Any]:
    """Keras takes the output of GLU to be twice as wide as it is."""
    stack = [layers.Dense(16, activation="glu"), layers.Dense(16)]
    return keras.Sequential([keras.Input((6,)), *stack]), normal(ROWS, 6)


def test_where_shapes_are_others_than_the_graph_says_keras_checks_them() -> None:
    model, x = behind_glu()
    with pytest.raises(ValueError, match="to have value 16"):
        keras_inits.lsuv_init(model, x)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="hooks are torch's")
@pytest.mark.parametrize("everywhere", [False, True])
def test_hooks_of_torch_modules_are_run(everywhere: bool) -> None:
    import torch

    stack = [layers.Dense(8), layers.Dense(8)]
    model, x = keras.Sequential([keras.Input((6,)), *stack]), normal(ROWS, 6)

    def triple(module: Any, inputs: Any, output: Any) -> Any:
        return 3.0 * output if module is stack[0] else output

    if everywhere:
        handle = torch.nn.modules.module.register_module_forward_hook(triple)
    else:
        handle = stack[0].register_forward_hook(triple)
    keras_inits.lsuv_init(model, x)
    deviation = numpy(model(x)).std()
    handle.remove()
    assert deviation == pytest.approx(1.0, abs=2e-3)
