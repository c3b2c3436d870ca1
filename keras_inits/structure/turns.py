"""Threads take turns: a layer is looked at, or changed, by one verb at a time.

A pass replaces the `call` of layers and puts it back. Two at once would put back each
other's, for good.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar, cast

import keras
from keras.layers import Layer

from keras_inits.structure.walking import walk

Verb = TypeVar("Verb", bound=Callable[..., Any])

# `id` of each layer that a verb is busy with -> its thread. Models that share no layer
# do not wait for each other.
_BUSY: dict[int, int] = {}
_FREED = threading.Condition()
# The model that this thread has the turn of, and its layers.
_HELD: ContextVar[tuple[Any, list[Layer]]] = ContextVar("held", default=(None, []))


def in_turn(verb: Verb) -> Verb:
    """A verb that waits until no other thread's is busy with a layer of its model."""

    @functools.wraps(verb)
    def wrapper(model: Any, *args: Any, **kwargs: Any) -> Any:
        with _turn(model):
            return verb(model, *args, **kwargs)

    return cast(Verb, wrapper)


def layers_of(model: keras.Model) -> list[Layer]:
    """Every layer of a model; within a turn of its own they are known already."""
    held, known = _HELD.get()
    return list(known if held is model else walk(model))


@contextlib.contextmanager
def _turn(model: Any) -> Iterator[None]:
    """Have the layers of a model; within it this thread may take another turn."""
    known = list(walk(model)) if isinstance(model, keras.Model) else []
    layers, me, taken = set(map(id, known)), threading.get_ident(), set[int]()
    token = _HELD.set((model, known))
    try:
        with _FREED:
            _FREED.wait_for(lambda: all(_BUSY.get(x, me) == me for x in layers))
            taken = layers - _BUSY.keys()
            _BUSY.update(dict.fromkeys(taken, me))
        yield
    finally:
        _HELD.reset(token)
        with _FREED:
            for x in taken:
                _BUSY.pop(x, None)
            _FREED.notify_all()
