"""Every layer of a model, whatever holds it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
from keras.layers import Layer

from keras_inits.linear_maps import held_by
from keras_inits.records import BatchNorm

Holds = Callable[[Any], Iterable[Any]]

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

# Layers that are one operation: without layers of their own, and they make no masks.
_OPERATIONS = (
    *("Dense", "EinsumDense", "Conv1D", "Conv2D", "Conv3D"),
    *("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"),
    *("DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D"),
    *("Activation", "ELU", "LeakyReLU", "PReLU", "ReLU"),
    *("BatchNormalization", "GroupNormalization", "LayerNormalization"),
    *("RMSNormalization", "UnitNormalization", "Dropout", "Rescaling"),
    *("AveragePooling1D", "AveragePooling2D", "AveragePooling3D"),
    *("MaxPooling1D", "MaxPooling2D", "MaxPooling3D"),
    *("GlobalAveragePooling2D", "GlobalMaxPooling2D"),
    *("Cropping1D", "Cropping2D", "Cropping3D", "UpSampling1D", "UpSampling2D"),
    *("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D"),
    *("Flatten", "Permute", "RepeatVector", "Reshape"),
    *("Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract"),
)
PLAIN = frozenset(
    getattr(keras.layers, name) for name in _OPERATIONS if hasattr(keras.layers, name)
)


def walk(root: Any) -> Iterator[Layer]:
    """Every layer below `root`, itself first, each once, by its attributes.

    Keras keeps no public list of them: `.layers` misses what sits in a subclass.
    Cells are left to the recurrent layer that drives them.
    """
    seen: set[int] = set()
    # Most objects are of a few types that hold nothing, or are empty containers.
    nothing: set[type] = set()
    containers: dict[type, Holds] = {}
    stack: list[Any] = [root]
    while stack:
        item = stack.pop()
        kind = type(item)
        if kind in nothing or id(item) in seen:
            continue
        if isinstance(item, Layer):
            yield item
            held = _attributes(item)
        elif kind in containers or _learnt(kind, containers):
            held = containers[kind](item)
        else:
            nothing.add(kind)
            continue
        seen.add(id(item))
        below = [
            x
            for x in held
            if (k := type(x)) not in nothing and (k not in containers or x)
        ]
        stack.extend(reversed(below))


def _learnt(kind: type, containers: dict[type, Holds]) -> bool:
    """Whether objects of this type are containers; how they are read is noted."""
    if issubclass(kind, dict):
        containers[kind] = dict.values
    elif issubclass(kind, (list, tuple, set)):
        containers[kind] = iter
    return kind in containers


def _attributes(layer: Layer) -> Iterable[Any]:
    if isinstance(layer, keras.layers.RNN):
        return ()
    if type(layer) in PLAIN and not vars(layer).get("_layers", True):
        return ()  # Keras has tracked none
    # On torch a Layer held by an attribute lies in `_modules`.
    own = vars(layer)
    named = {**own, **_NO_BOOKS} if "_nodes_by_depth" in own else own
    return (*own.get("_modules", {}).values(), *named.values())


# What a graph notes of its operations, which it also lists.
_NO_BOOKS = dict.fromkeys(("_nodes", "_nodes_by_depth", "_operations_by_depth"))


def is_bypassed(layers: Iterable[Layer]) -> bool:
    """Whether something bypasses or renormalises the signal among these layers.

    Judged by Keras's own layers and by graphs; additions inside a user's `call` are
    not seen.
    """
    return any(isinstance(x, _BYPASSES) or _branches(x) for x in layers)


def batch_norm(layers: Iterable[Layer], training: bool) -> BatchNorm:
    """What it does in a pass among these layers."""
    if not any(isinstance(x, keras.layers.BatchNormalization) for x in layers):
        return "none"
    return "runs" if training else "rests"


def _branches(graph: Any) -> bool:
    """Whether a graph has an operation of several tensors, or a tensor read twice."""
    read: set[int] = set()
    for node in nodes_of(graph):
        tensors = set(map(id, node.input_tensors))
        if len(tensors) > 1 or not read.isdisjoint(tensors):
            return True
        read |= tensors
    return False


def nodes_of(graph: Any) -> Iterator[Any]:
    """The calls in a graph: nodes with an operation and the tensors of that call.

    A layer that is called several times has a node for each call; `layer.input` shows
    the first one alone, wherever that was.
    """
    for nodes in getattr(graph, "__dict__", {}).get("_nodes_by_depth", {}).values():
        yield from nodes


def own_variables(layer: Any) -> list[keras.Variable]:
    """Variables that the layer itself holds (an RNN: its cells too), not sublayers."""
    if isinstance(layer, keras.Model) and type(layer).__module__.startswith("keras."):
        return [*layer._trainable_variables, *layer._non_trainable_variables]
    found: dict[int, keras.Variable] = {}
    drives = isinstance(layer, keras.layers.RNN)
    # As in `walk`: a model holds many objects, of few types.
    nothing: set[type] = set()
    stack: list[Any] = held_by(layer)
    while stack:
        item = stack.pop()
        kind = type(item)
        if kind in nothing:
            continue
        if isinstance(item, keras.Variable):
            found[id(item)] = item
        elif isinstance(item, (list, tuple)):
            stack.extend(item)
        elif isinstance(item, dict):
            stack.extend(item.values())
        elif drives and isinstance(item, Layer):
            found.update((id(v), v) for v in item.trainable_variables)
        else:
            nothing.add(kind)
    return list(found.values())
