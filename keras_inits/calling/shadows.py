"""Attributes of layers replaced for a while, and put back."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import keras


@contextlib.contextmanager
def shadowed(
    attributes: Iterable[tuple[keras.layers.Layer, str, Any]],
) -> Iterator[None]:
    """Set attributes on instances, unseen by Keras's tracking; put all back after."""
    missing = object()
    before: list[tuple[dict[str, Any], str, Any]] = []
    try:
        for layer, name, value in attributes:
            own = vars(layer)
            before.append((own, name, own.get(name, missing)))
            own[name] = value
        yield
    finally:
        for own, name, value in reversed(before):
            if value is missing:
                own.pop(name, None)
            else:
                own[name] = value


def on_this_thread(layer: Any, name: str, value: Any) -> Any:
    """What stands for an attribute: `value` on this thread, itself on all others."""
    own, thread = getattr(layer, name, None), threading.get_ident()
    if not (callable(own) and callable(value)):
        return value

    def function(*args: Any, **kwargs: Any) -> Any:
        chosen = value if threading.get_ident() == thread else own
        return chosen(*args, **kwargs)

    return function
