"""What a traced pass over a model depends on.

What Python does around the tensors is traced once. Of Keras's own layers, cells and
operations all that it depends on can be seen: their attributes. Code of a user's own
may depend on anything: a global, a closure, an attribute of an attribute.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import tree

from keras_inits.selection import Selection
from keras_inits.walking import walk


class Kind(NamedTuple):
    """All that can be seen of what a trace depends on, and whether there is more."""

    key: Any
    own_code: bool


def kind_of(selection: Selection, batch: Any, *options: Any) -> Kind:
    """Every attribute of every layer, the kernels, and the shapes."""
    parts = list(_parts(selection.every))
    layers = tuple((id(x), _dtype(x), *_marks(x)) for x in parts)
    kernels = tuple(id(m.kernel) for maps in selection.maps.values() for m in maps)
    shapes = tuple((tuple(x.shape), str(x.dtype)) for x in tree.flatten(batch))
    watched = tuple(map(id, selection.watched))
    own_code = any(map(_has_own_code, parts))
    return Kind((layers, kernels, watched, shapes, options), own_code)


def _parts(every: Iterable[Any]) -> Iterator[Any]:
    """Layers, the cells of recurrent ones, operations that are no layers."""
    for layer in every:
        yield layer
        if isinstance(layer, keras.layers.RNN):
            yield from (layer.cell, *walk(layer.cell))
        for operation in getattr(layer, "operations", ()):
            if not isinstance(operation, keras.layers.Layer):
                yield operation


def _dtype(part: Any) -> str | None:
    return getattr(part, "compute_dtype", None)


def _marks(layer: Any) -> list[tuple[str, Any]]:
    """Its attributes by value or identity; of Keras's own models none has a part."""
    if isinstance(layer, keras.Model) and _of_library(type(layer)):
        return []
    return [
        (name, value if type(value) in _PLAIN else _mark(name, value))
        for name, value in vars(layer).items()
        if name not in _IGNORED
    ]


# What Keras notes at the first call of a model, and in `fit`.
_IGNORED = frozenset({"_called", "_jax_state", "history"})


def _mark(name: str, value: Any) -> Any:
    if name[0] != "_" and isinstance(value, (dict, list, np.ndarray, tuple)):
        return _readable(value)  # a scale for each channel, say
    return id(value)


def _readable(value: Any) -> Any:
    """The contents of a container of numbers; elsewhere its identity."""
    if isinstance(value, np.ndarray):
        return value.tobytes() if value.nbytes <= MOST_BYTES else id(value)
    items = tuple(value.items() if isinstance(value, dict) else enumerate(value))
    plain = all(type(x) in _PLAIN for _, x in items)
    return items if plain else id(value)


_PLAIN = frozenset({bool, int, float, str, type(None)})
# Of an array that is compared by its contents.
MOST_BYTES = 2**16


def _has_own_code(layer: Any) -> bool:
    """Whether its output depends on code that is neither Keras's nor a library's."""
    if not _of_library(type(layer)):
        return True
    if isinstance(layer, keras.Model):  # losses and metrics are not in the pass
        return False
    held = vars(layer).values()
    return any(_is_own_code(x) for x in held if type(x) not in _KNOWN)


def _is_own_code(value: Any) -> bool:
    if isinstance(value, types.FunctionType):
        return not _of_library(value)
    kind = type(value)
    if kind is types.MethodType:
        return True
    if _of_library(kind):
        _KNOWN.add(kind)
    return kind not in _KNOWN and not issubclass(kind, _NOT_IN_A_PASS)


# Types of attributes that are of a library: many attributes are of few types.
_KNOWN: set[type] = set()


_NOT_IN_A_PASS = (
    keras.constraints.Constraint,
    keras.initializers.Initializer,
    keras.regularizers.Regularizer,
)


def _of_library(x: Any) -> bool:
    return (x.__module__ or "").partition(".")[0] in _LIBRARIES


_LIBRARIES = frozenset(
    {
        *("builtins", "collections", "enum", "inspect", "threading", "weakref"),
        *("jax", "jaxlib", "keras", "keras_inits", "numpy", "tensorflow"),
    }
)
