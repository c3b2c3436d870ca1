"""What a traced pass over a model depends on.

What Python does around the tensors is traced once. Of Keras's own layers, cells and
operations all that it depends on can be seen: their attributes. Code of a user's own
may depend on anything: a global, a closure, an attribute of an attribute.
"""

from __future__ import annotations

import operator
import types
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
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
    layers, own = zip(*(_seen(x, objects) for x in parts), strict=True)
    # A dict and a list of the same shapes may come in another order.
    shapes = repr(tree.map_structure(_shape_and_dtype, batch))
    constants = list(_constants(selection.every))
    layers += tuple(_mark("constant", x, objects) for x in constants)
    options = (*options, keras.config.epsilon())
    held = [*held, *constants]
    own_code = any(own) or any(map(_is_own_code, held))
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


def _seen(part: Any, objects: list[Any]) -> tuple[Any, bool]:
    """Its attributes by value or identity, and whether code of a user's own is in it.

    Of Keras's own models no attribute has a part in a pass.
    """
    library = _of_library(type(part))
    if isinstance(part, keras.Model) and library:
        replaced = [(x, vars(part)[x]) for x in _METHODS if x in vars(part)]
        own_code = any(_is_own_code(x) for _, x in replaced)
        return tuple((name, id(x)) for name, x in replaced), own_code
    own = getattr(part, "__dict__", {})
    form = _form_of(part, own)
    held = form.held(own)
    objects += held
    marks = [_mark(name, own[name], objects) for name in form.readable]
    own_code = not library or form.own_code
    own_code = own_code or not all(_of_library(own[x]) for x in form.functions)
    return (_dtype(part), form, form.plain(own), *map(id, held), *marks), own_code


# What somebody may have put in the place of a model's own.
_METHODS = ("call", "forward")


@dataclass(eq=False)
class _Form:
    """How attributes of these names and types are read: many parts have the same.

    Args:
        plain: The numbers and strings among them, which count by value.
        held: Those that count by identity.
        readable: Names of containers of numbers, which count by value if they can.
        functions: Names of those whose own module says whose code they are.
        own_code: Whether the type of another one is a user's.
    """

    plain: Callable[[dict[str, Any]], tuple[Any, ...]]
    held: Callable[[dict[str, Any]], tuple[Any, ...]]
    readable: tuple[str, ...]
    functions: tuple[str, ...]
    own_code: bool


def _form_of(part: Any, own: dict[str, Any]) -> _Form:
    key = (*own, *map(type, own.values()))
    forms = _FORMS.get(type(part))
    form = None if forms is None else forms.get(key)
    if form is None:
        form = _learnt(own)
        # Classes of a user's own would be kept alive by it.
        if all(_of_library(x) for x in key if isinstance(x, type)):
            _FORMS.setdefault(type(part), {})[key] = form
    return form


def _learnt(own: dict[str, Any]) -> _Form:
    kinds = {name: type(x) for name, x in own.items()}
    counts = {name: x for name, x in kinds.items() if name not in _IGNORED}
    plain = [name for name, x in counts.items() if x in _PLAIN]
    readable = tuple(name for name, x in counts.items() if _is_readable(name, x))
    held = [name for name in counts if name not in {*plain, *readable}]
    functions = tuple(n for n, x in kinds.items() if x is types.FunctionType)
    rest = [x for x in kinds.values() if x is not types.FunctionType]
    own_code = any(map(_is_own_type, rest))
    same = *plain, None, *held, None, *readable, None, *functions, own_code
    form = _Form(_values(plain), _values(held), readable, functions, own_code)
    return _SAME.setdefault(same, form)


def _values(names: Sequence[str]) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
    if len(names) > 1:
        return operator.itemgetter(*names)
    return lambda own: tuple(own[name] for name in names)


# By the class, then the names and types of the attributes; by what they come to.
_FORMS: weakref.WeakKeyDictionary[type, dict[Any, _Form]] = weakref.WeakKeyDictionary()
_SAME: dict[tuple[Any, ...], _Form] = {}

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


def _is_readable(name: str, kind: type) -> bool:
    return issubclass(kind, _READABLE) and (name[0] != "_" or issubclass(kind, _FIXED))


def _mark(name: str, value: Any, objects: list[Any]) -> Any:
    if _is_readable(name, type(value)):
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


def _is_own_code(value: Any) -> bool:
    if isinstance(value, types.FunctionType):
        return not _of_library(value)
    return _is_own_type(type(value))


def _is_own_type(kind: type) -> bool:
    if kind is types.MethodType:
        return True
    return not _of_library(kind) and not issubclass(kind, _NOT_IN_A_PASS)


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
