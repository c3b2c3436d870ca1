"""Every layer of a model, whatever holds it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
from keras.layers import Layer

from keras_inits.linear_maps import held_by

Holds = Callable[[Any], list[Any]]

# Layers that add, normalise, mix or loop: products along depth mean nothing there.
_BYPASSES = tuple(
    getattr(keras.layers, name)
    for name in (
        *("Add", "Average", "Concatenate", "Dot", "Maximum", "Minimum", "Multiply"),
        *("Subtract", "BatchNormalization", "GroupNormalization"),
        *("LayerNormalization", "RMSNormalization", "UnitNormalization"),
        *("MultiHeadAttention", "GroupQueryAttention", "Attention"),
        *("AdditiveAttention", "RNN"),
    )
    if hasattr(keras.layers, name)
)


def walk(root: Any) -> Iterator[Layer]:
    """Every layer below `root`, itself first, each once, by its attributes.

    Keras keeps no public list of them: `.layers` misses what sits in a subclass.
    Cells are left to the recurrent layer that drives them.
    """
    seen: set[int] = set()
    holds: dict[type, Holds | None] = {}
    stack: list[Any] = [root]
    while stack:
        item = stack.pop()
        kind = item.__class__
        if kind not in holds:  # most objects are of a few types that hold nothing
            holds[kind] = _contents(kind)
        contents = holds[kind]
        if contents is None or id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Layer):
            yield item
        stack.extend(reversed(contents(item)))


def _contents(kind: type) -> Holds | None:
    """What lists the objects that one of this type holds; None: no layers there."""
    if issubclass(kind, keras.layers.RNN):
        return lambda _: []
    if issubclass(kind, Layer):
        # On torch a Layer held by an attribute lies in `_modules`.
        return lambda x: [*getattr(x, "_modules", {}).values(), *held_by(x)]
    if issubclass(kind, dict):
        return lambda x: list(x.values())
    return list if issubclass(kind, (list, tuple, set)) else None


def is_plain(layers: Iterable[Layer]) -> bool:
    """Whether nothing bypasses or renormalises the signal among these layers.

    Judged by Keras's own layers; additions inside a user's `call` are not seen.
    """
    return not any(isinstance(layer, _BYPASSES) for layer in layers)


def own_variables(layer: Any) -> list[keras.Variable]:
    """Variables that the layer itself holds (an RNN: its cells too), not sublayers."""
    found: dict[int, keras.Variable] = {}
    stack: list[Any] = held_by(layer)
    while stack:
        item = stack.pop()
        if isinstance(item, keras.Variable):
            found[id(item)] = item
        elif isinstance(item, (list, tuple)):
            stack.extend(item)
        elif isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(layer, keras.layers.RNN) and isinstance(item, Layer):
            found.update((id(v), v) for v in item.trainable_variables)
    return list(found.values())
