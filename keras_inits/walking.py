"""Every layer of a model, whatever holds it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import keras
from keras.layers import Layer

from keras_inits.linear_maps import held_by

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
    stack: list[Any] = [root]
    while stack:
        item = stack.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Layer):
            yield item
            if isinstance(item, keras.layers.RNN):
                continue
            stack.extend(reversed(held_by(item)))
            # On torch a Layer held by an attribute lies in `_modules`.
            stack.extend(reversed(list(getattr(item, "_modules", {}).values())))
        elif isinstance(item, dict):
            stack.extend(reversed(list(item.values())))
        elif isinstance(item, (list, tuple, set)):
            stack.extend(reversed(list(item)))


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
