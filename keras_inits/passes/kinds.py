"""What a traced pass over a model depends on.

What Python does around the tensors is traced once. Of Keras's own layers, cells and
operations all that it depends on can be seen: their attributes. Code of a user's own
may depend on anything: a global, a closure, an attribute of an attribute.
"""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import tree

from keras_inits.structure.selection import Selection
from keras_inits.structure.walking import nodes_of, walk


class Kind(NamedTuple):
    """All that can be seen of what a trace depends on.

    Args:
        key: Equal for what can share a trace, as long as `objects` are alive.
        own_code: Whether there is more to it than can be seen.
        objects: What the key names by its `id`.
    """

    key: Any
    own_code: bool
    objects: list[Any]


class Held:
    """Objects by weak reference: while all are alive, no other has their `id`.

    Lists and dicts take none. To hold them would keep alive what they hold: a model.
    """

    def __init__(self, objects: Iterable[Any]) -> None:
        self._references = [r for x in objects if (r := _reference(x)) is not None]

    def alive(self) -> bool:
        """Whether all of them are."""
        return all(reference() is not None for reference in self._references)


def _reference(x: Any) -> Callable[[], Any] | None:
    try:
        return weakref.ref(x)
    except TypeError:
        return None


def kind_of(
    selection: Selection, batch: Any, *options: Any, held: Sequence[Any] = ()
) -> Kind:
    """Every attribute of every layer, the kernels, and the shapes.

    Args:
        selection: Of the layers of a model.
        batch: Tensors of certain shapes.
        options: What else makes a difference, by value.
        held: Objects and functions that are called beside the layers.
    """
    parts = [*_parts(selection.every), *held]
    kernels = [m.kernel for maps in selection.maps.values() for m in maps]
    objects = [*parts, *kernels, *selection.watched]
    named = tuple(map(id, objects))
    layers = tuple((_dtype(x), *_marks(x, objects)) for x in parts)
    # A dict and a list of the same shapes may come in another order.
    shapes = repr(tree.map_structure(_shape_and_dtype, batch))
    constants = list(_constants(selection.every))
    layers += tuple(_mark("constant", x, objects) for x in constants)
    options = (*options, keras.config.epsilon())
    held = [*held, *constants]
    own_code = any(map(_has_own_code, parts)) or any(map(_is_own_code, held))
    return Kind((named, layers, shapes, options), own_code, objects)


def _constants(every: Iterable[Any]) -> Iterator[Any]:
    """What calls in graphs are given that is neither a tensor nor plain: functions."""
    for graph in every:
        for node in nodes_of(graph):
            for x in node.arguments._flat_arguments:
                if type(x) not in _PLAIN and not isinstance(x, keras.KerasTensor):
                    yield x


def _parts(every: Iterable[Any]) -> Iterator[Any]:
    """Layers, the cells of recurrent ones, operations that are no layers."""
    for layer in every:
        yield layer
        if isinstance(layer, keras.layers.RNN):
            yield from (layer.cell, *walk(layer.cell))
        for operation in getattr(layer, "operations", ()):
            if not isinstance(operation, keras.layers.Layer):
                yield operation


def _shape_and_dtype(x: Any) -> Any:
    return None if x is None else (tuple(x.shape), str(x.dtype))


def _dtype(part: Any) -> str | None:
    return getattr(part, "compute_dtype", None)


def _marks(layer: Any, objects: list[Any]) -> list[tuple[str, Any]]:
    """Its attributes by value or identity; of Keras's own models none has a part."""
    if isinstance(layer, keras.Model) and _of_library(type(layer)):
        return [(name, id(x)) for name, x in _replaced(layer)]
    return [
        (name, value if type(value) in _PLAIN else _mark(name, value, objects))
        for name, value in _attributes(layer).items()
        if name not in _IGNORED
    ]


_IGNORED = frozenset(
    {
        # what Keras notes at the first call of a model, and in `fit`
        *("_called", "_jax_state", "history"),
        # its books of a layer's parts, which are attributes themselves
        *("_auto_config", "_build_shapes_dict", "_inbound_nodes", "_outbound_nodes"),
        *("_layers", "_loss_ids", "_losses", "_losses_override", "_metrics"),
        *("_call_context_args", "_call_has_context_arg", "_call_signature"),
        *("_non_trainable_variables", "_seed_generators", "_trainable_variables"),
        *("_tracker", "build", "call_signature_parameters", "quantize"),
        # those of a module of torch; who has hooks is never traced
        *("_backward_hooks", "_backward_pre_hooks", "_buffers", "_forward_hooks"),
        *("_forward_hooks_always_called", "_forward_hooks_with_kwargs", "_modules"),
        *("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_parameters"),
        *("_load_state_dict_post_hooks", "_load_state_dict_pre_hooks"),
        *("_non_persistent_buffers_set", "_state_dict_hooks", "_state_dict_pre_hooks"),
    }
)


def _mark(name: str, value: Any, objects: list[Any]) -> Any:
    if isinstance(value, _READABLE) and (name[0] != "_" or isinstance(value, _FIXED)):
        contents = _contents(value)
        if contents is not None:  # a scale for each channel, say
            return contents
    objects.append(value)
    return id(value)


def _contents(value: Any, depth: int = 3) -> Any:
    """Of a number, or containers of numbers; None where that says too little."""
    if isinstance(value, (np.ndarray, np.generic)):
        few = value.nbytes <= MOST_BYTES and not value.dtype.hasobject
        return (value.shape, value.dtype.str, value.tobytes()) if few else None
    if depth == 0:  # it may hold itself
        return None
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = [(k, x if type(x) in _PLAIN else _inner(x, depth - 1)) for k, x in items]
    return None if any(x is _TOO_LITTLE for _, x in found) else (type(value), *found)


def _inner(value: Any, depth: int) -> Any:
    contents = _contents(value, depth) if isinstance(value, _READABLE) else None
    return _TOO_LITTLE if contents is None else contents


_TOO_LITTLE = object()
_FIXED = (np.generic, tuple)
_READABLE = (*_FIXED, dict, list, np.ndarray)


_PLAIN = frozenset({bool, int, float, str, type(None)})
# Of an array that is compared by its contents.
MOST_BYTES = 2**16


def _has_own_code(layer: Any) -> bool:
    """Whether its output depends on code that is neither Keras's nor a library's."""
    if not _of_library(type(layer)):
        return True
    if isinstance(layer, keras.Model):  # losses and metrics are not in the pass
        return any(_is_own_code(x) for _, x in _replaced(layer))
    held = _attributes(layer).values()
    return any(_is_own_code(x) for x in held if type(x) not in _KNOWN)


def _replaced(model: Any) -> list[tuple[str, Any]]:
    """What somebody has put in the place of a model's own methods."""
    own = vars(model)
    return [(name, own[name]) for name in ("call", "forward") if name in own]


def _attributes(part: Any) -> dict[str, Any]:
    return getattr(part, "__dict__", {})


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
        *("jax", "jaxlib", "keras", "keras_inits", "numpy", "tensorflow", "torch"),
    }
)
