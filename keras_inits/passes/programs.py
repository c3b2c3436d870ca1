"""The compiled passes of a model, and for how long each of them serves.

A program serves as long as its kind of pass does; where a model has code of a user's
own, for one period: a call of a verb, or a `fit`.

To know the layers and the kind takes as long as some layers do. A device that works by
itself (JAX) need not wait for that: it begins the pass that has served before, and
where another one is wanted nobody reads its results.
"""

from __future__ import annotations

import contextlib
import contextvars
import weakref
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import keras

from keras_inits.passes.kinds import Held, Kind
from keras_inits.passes.packing import Form

Wait: TypeAlias = Callable[[], Sequence[Any]]

# Kinds of pass that are remembered of a model.
MOST_STATES = 32


@dataclass(eq=False)
class Program:
    """A compiled pass.

    Args:
        begin: From the arguments to what waits for the arrays.
        form: How these lie in the results.
        notes: What its visitor noted while it was traced.
    """

    begin: Callable[[tuple[Any, ...]], Wait]
    form: Form
    notes: Any

    def results(self, wait: Wait) -> tuple[Any, Any]:
        """Of a pass that has begun: results as arrays, and the notes."""
        return self.form.of(wait()), self.notes


@dataclass
class State:
    """What is known of passes of a kind: in one period where the code is a user's."""

    verb: str
    period: object | None
    objects: Held
    eager_passes: int = 0
    program: Program | None = None
    served: bool = False
    untraceable: bool = False

    def is_of(self, period: object | None) -> bool:
        """Whether it is known in this period, of objects that are all still there."""
        return (self.period is period or self.untraceable) and self.objects.alive()


STATES: weakref.WeakKeyDictionary[Any, dict[Any, State]] = weakref.WeakKeyDictionary()
_PERIOD: contextvars.ContextVar[object | None] = contextvars.ContextVar("period")


@contextlib.contextmanager
def one_period(mark: object | None = None) -> Iterator[None]:
    """While this lasts the code of a model's own is taken to do the same.

    Args:
        mark: Periods with the same mark are one; within another period it lasts on.
    """
    token = _PERIOD.set(_PERIOD.get(None) or mark or object())
    try:
        yield
    finally:
        _PERIOD.reset(token)


def state_of(model: keras.Model, verb: str, kind: Kind, key: Hashable) -> State:
    """What is known of passes of a kind, or a new state for it.

    Args:
        model: Whose passes they are.
        verb: What they are for.
        kind: See `kind_of`.
        key: That of the kind, and what else tells passes apart.
    """
    states = STATES.setdefault(model, {})
    period = (_PERIOD.get(None) or object()) if kind.own_code else None
    state = states.pop(key, None)
    if state is None or not state.is_of(period):
        state = State(verb, period, Held(kind.objects))
    states[key] = state  # the last one now
    if len(states) > MOST_STATES:
        del states[next(iter(states))]
    return state


@dataclass(eq=False)
class Begun:
    """A pass that has begun, if any, before it is known whether it is the right one.

    Args:
        program: The pass.
        arguments: What it was begun with.
        wait: For its arrays.
    """

    program: Program | None = None
    arguments: tuple[Any, ...] | None = None
    wait: Wait | None = None

    def taken(self) -> Begun:
        """The same; this one no longer keeps the arguments: they are all kernels."""
        taken = replace(self)
        self.program = self.arguments = self.wait = None
        return taken

    def found(self, program: Program, arguments: tuple[Any, ...]) -> tuple[Any, Any]:
        """What a program makes of these arguments, those begun with where any were."""
        if self.wait is None or program is not self.program:
            return program.results(program.begin(arguments))
        return program.results(self.wait)


NOTHING = Begun()


def begun(
    model: keras.Model, verb: str, arguments: Callable[[], tuple[Any, ...]]
) -> Begun:
    """The last pass for this verb, where it has served twice: it may well again.

    Args:
        model: Whose pass it is.
        verb: What it is for.
        arguments: What the pass will be given, if it is the right one. What it raises
            is for the pass itself to meet.
    """
    if keras.backend.backend() != "jax" or not isinstance(model, keras.layers.Layer):
        return NOTHING  # others wait for the results
    known = reversed((STATES.get(model) or {}).values())
    last = next((x for x in known if x.verb == verb), None)
    if last is None or last.program is None or not last.served:
        return NOTHING
    if last.period is not None and last.period is not _PERIOD.get(None):
        return NOTHING
    with contextlib.suppress(Exception):  # of other shapes, say
        given = arguments()
        return Begun(last.program, given, last.program.begin(given))
    return NOTHING
