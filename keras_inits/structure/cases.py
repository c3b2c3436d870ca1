"""A table of a user's: name patterns or layer classes, each with what is to be done."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_inits.errors import KerasInitsError, UnsupportedLayerError
from keras_inits.structure.walking import own_variables

Layer = Any


def is_table(cases: Any) -> bool:
    """Whether this is one, and not the config of a single object."""
    return isinstance(cases, Mapping) and "class_name" not in cases


def first(layer: Layer, cases: Mapping[Any, Any], default: Any = None) -> Any:
    """What stands beside the first key that matches."""
    return next((x for key, x in cases.items() if matches(layer, key)), default)


def matches(layer: Layer, key: Any) -> bool:
    """Whether a key means this layer.

    Raises:
        KerasInitsError: It is neither a pattern nor a class.
    """
    if isinstance(key, type):
        return isinstance(layer, key)
    if not isinstance(key, str):
        raise KerasInitsError(
            "The keys of `initializer` are name patterns or layer classes. "
            f"Received: {key!r}"
        )
    names = [layer.name, layer.path or layer.name]
    return any(fnmatch.fnmatchcase(name, key) for name in names)


def require_matches(model: keras.Model, every: Sequence[Layer], cases: Any) -> None:
    """A name that no layer has, or a table that matches none, is a slip of the pen.

    A class or a pattern may go unused: such a table serves many models.

    Raises:
        KerasInitsError: The table is empty, or a key is of a wrong type.
        UnsupportedLayerError: It has a name that no layer has, or matches none.
    """
    if not is_table(cases):
        return
    unused = [k for k in cases if not any(matches(x, k) for x in every)]
    names = [k for k in unused if isinstance(k, str) and not set(k) & set("*?[")]
    if not cases:
        raise KerasInitsError(
            "`initializer` is a table without a row. Received: {}. Its keys are name "
            "patterns or layer classes."
        )
    if names or len(unused) == len(cases):
        own = {x.name for x in every if own_variables(x)}
        known = ", ".join(sorted(own)[:20])
        raise UnsupportedLayerError(
            f"No layer of {model.name!r} matches a key of `initializer`. Received: "
            f"{(names or unused)[0]!r}. Its layers: {known}."
        )
