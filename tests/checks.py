"""What a test of LSUV asks again and again."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops
from textbook import Part, measured

import keras_inits

# What the package may shadow on an instance while it runs, and must take off again.
PATCHABLE = ("call", "activation", "rematerialized_call", "logit_soft_cap")


def everything(model: keras.Model) -> dict[str, bytes]:
    """Every variable of the model and of its optimizer, bit for bit."""
    variables = list(model.variables)
    if getattr(model, "optimizer", None) is not None:
        variables += model.optimizer.variables
    return {
        f"{position}: {v.path}": ops.convert_to_numpy(v).tobytes()
        for position, v in enumerate(variables)
    }


def changed(before: dict[str, bytes], model: keras.Model) -> list[str]:
    """Names of the variables whose bits are other than `before`."""
    after = everything(model)
    assert list(after)[: len(before)] == list(before)
    return [name for name in before if after[name] != before[name]]


def every_layer(root: Any) -> Iterator[keras.layers.Layer]:
    """All layers that can be reached from the attributes of `root`."""
    seen: set[int] = set()
    stack = [root]
    while stack:
        item = stack.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, keras.layers.Layer):
            yield item
            stack += [*vars(item).values(), *getattr(item, "_modules", {}).values()]
        elif isinstance(item, dict):
            stack += list(item.values())
        elif isinstance(item, (list, tuple, set)):
            stack += list(item)


def overrides(model: keras.Model) -> dict[tuple[int, str], int]:
    """Which object each patchable attribute of each layer holds."""
    return {
        (id(layer), name): id(vars(layer)[name])
        for layer in every_layer(model)
        for name in PATCHABLE
        if name in vars(layer)
    }


def kernels(model: keras.Model) -> dict[str, np.ndarray[Any, Any]]:
    """The trainable weights by path."""
    return {v.path: ops.convert_to_numpy(v).copy() for v in model.trainable_variables}


def assert_equal_weights(
    expected: keras.Model, actual: keras.Model, rtol: float = 2e-4
) -> None:
    """Weights of two models built alike; `rtol` of each weight's own size."""
    pairs = zip(expected.weights, actual.weights, strict=True)
    for position, (left, right) in enumerate(pairs):
        a, b = ops.convert_to_numpy(left), ops.convert_to_numpy(right)
        size = float(np.abs(a).max(initial=0.0))
        np.testing.assert_allclose(
            b, a, rtol=0, atol=rtol * size + 1e-30, err_msg=f"{position}: {left.path}"
        )


def assert_target(
    model: keras.Model,
    x: Any,
    layers: Collection[keras.layers.Layer] | None = None,
    *,
    target: float = 1.0,
    tolerance: float = 1e-3,
    training: bool = False,
) -> dict[keras.layers.Layer, list[Part]]:
    """Measured again by `textbook`: each map of each layer (None: all) has `target`."""
    found = measured(model, x, training, layers)
    assert found, "no layer with a linear map was called"
    off = {
        layer.name: [part.std for part in parts]
        for layer, parts in found.items()
        if any(not abs(part.std - target) <= tolerance for part in parts)
    }
    assert off == {}
    if layers is not None:
        assert set(found) == set(layers)
    return found


def only_kernels_change(
    model: keras.Model, x: Any, **options: Any
) -> keras_inits.SignalReport:
    """Runs `lsuv_init`; nothing but weights of two or more axes may change."""
    before, patched = everything(model), overrides(model)
    vectors = {f"{i}: {v.path}" for i, v in enumerate(model.variables) if v.ndim < 2}
    report = keras_inits.lsuv_init(model, x, **options)
    moved = changed(before, model)
    assert not vectors.intersection(moved)
    assert moved, "nothing was initialised"
    assert overrides(model) == patched
    return report
