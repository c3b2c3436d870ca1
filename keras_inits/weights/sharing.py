"""Whether somebody else holds the array of a variable, or may be about to: JAX."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any

import keras

from keras_inits.backends import loaded

Array = Any


def unshared(variables: Sequence[keras.Variable]) -> list[keras.Variable]:
    """Those whose array nobody would miss, all of them on the same devices.

    Neither another variable nor a name of the user's holds it, and no other array lies
    in its memory (`jax.device_put` to where it is makes one). Views, as NumPy's, need
    no care: JAX counts them, and copies what they look at. While another thread runs
    there are none: it may be about to take one, to call the model.
    """
    if not _others_wait():
        return []
    alone = [v for v in variables if _references(v) == _of_one_owner()]
    try:
        devices = [v.value.sharding.device_set for v in alone]
        alone = [v for v, x in zip(alone, devices, strict=True) if x == devices[0]]
        taken = _others(alone)
        return [v for v in alone if _place(v.value) not in taken]
    except Exception:  # deleted meanwhile, or a JAX that does not say where arrays lie
        return []


def _others(variables: Sequence[keras.Variable]) -> set[int]:
    """Where other arrays lie that could be of the same memory, by their shapes."""
    if not variables:
        return set()
    arrays = [v.value for v in variables]
    own = set(map(id, arrays))
    for x in arrays:
        if _is_spread(x):  # JAX keeps an array for each of its parts
            own.update(id(part.data) for part in x.addressable_shards)
    shapes = {x.shape for x in arrays}
    platform = next(iter(arrays[0].sharding.device_set)).platform
    every = loaded().live_arrays(platform)
    return {_place(x) for x in every if x.shape in shapes and id(x) not in own}


def _place(array: Array) -> int:
    part = array.addressable_shards[0].data if _is_spread(array) else array
    return int(part.unsafe_buffer_pointer())


def _is_spread(array: Array) -> bool:
    return len(array.sharding.device_set) > 1


def _others_wait() -> bool:
    """Whether every other thread waits for something outside of Keras and JAX."""
    frames = sys._current_frames()
    return all(
        _waits(frame) for key, frame in frames.items() if key != threading.get_ident()
    )


def _waits(frame: FrameType | None) -> bool:
    innermost = _library(frame)
    libraries: set[str] = set()
    while frame is not None:
        libraries.add(_library(frame))
        frame = frame.f_back
    return innermost in _WAITING and libraries.isdisjoint(_BUSY)


def _library(frame: FrameType | None) -> str:
    name = frame.f_globals.get("__name__") if frame is not None else None
    return str(name).partition(".")[0]


# Libraries in which threads wait: for work, a socket, a notebook's next cell.
_WAITING = frozenset(
    {
        *("asyncio", "concurrent", "ipykernel", "multiprocessing", "queue"),
        *("selectors", "socket", "socketserver", "threading", "tornado", "zmq"),
    }
)
_BUSY = frozenset({"jax", "keras"})


def _references(variable: Any) -> int:
    return sys.getrefcount(variable.value)


class _Owner:
    """Holds a value as a variable does."""

    def __init__(self) -> None:
        self._value = object()

    @property
    def value(self) -> object:
        return self._value


@functools.cache
def _of_one_owner() -> int:
    """What Python counts where the variable alone holds its value."""
    return _references(_Owner())
