"""A pass run in pieces, of which alike ones are compiled once: JAX.

XLA compiles every layer of a model, alike or not, and all of them before the first one
runs. Here a traced pass is cut before each product with a kernel. Pieces that do the
same on the same shapes share a program, and each runs as soon as its own is there.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_inits.backends import loaded

Tensor = Any

# Products with a kernel, and loops: a piece begins with each.
_BEGINNINGS = frozenset({"conv_general_dilated", "dot_general", "scan", "while"})
# Equations that only call what they hold; nobody differentiates here.
_CALLS = frozenset({"custom_jvp_call", "custom_vjp_call", "jit", "pjit"})
_HELD = ("call_jaxpr", "fun_jaxpr", "jaxpr")


class Variable:
    """A tensor of the trace.

    Args:
        aval: Its shape and dtype.
    """

    def __init__(self, aval: Any) -> None:
        self.aval = aval


@dataclass(eq=False)
class Step:
    """One operation. What it reads are variables, and literals, which have a `val`."""

    primitive: Any
    parameters: dict[str, Any]
    context: Any
    read: list[Any]
    made: list[Variable]

    @property
    def begins(self) -> bool:
        """Whether it is a product of more than vectors, or a loop."""
        wide = any(len(x.aval.shape) > 1 for x in self.read)
        return wide and self.primitive.name in _BEGINNINGS

    @property
    def variables(self) -> list[Variable]:
        """What it reads, without literals."""
        return [x for x in self.read if isinstance(x, Variable)]

    def __call__(self, values: dict[Variable, Tensor]) -> None:
        """Adds what it makes to the values."""
        read = [values[x] if isinstance(x, Variable) else x.val for x in self.read]
        bound = self.primitive.get_bind_params(self.parameters)
        # Versions of JAX differ in what they return.
        functions, named = ((), bound) if isinstance(bound, dict) else bound
        with self.context.manager:  # options of JAX that held around it
            found = self.primitive.bind(*functions, *read, **named)
        several = self.primitive.multiple_results
        values.update(zip(self.made, found if several else [found], strict=True))


class Trace:
    """A traced function as steps; functions that it calls are steps in their place.

    Args:
        closed: What `jax.make_jaxpr` makes.
    """

    def __init__(self, closed: Any) -> None:
        self._closed = closed
        self.steps: list[Step] = []
        self.has_effects = bool(closed.effects)
        self.constants: dict[Variable, Tensor] = {}
        self.arguments = [Variable(v.aval) for v in closed.jaxpr.invars]
        self.results = self._add(closed, self.arguments)

    def _add(self, closed: Any, arguments: Sequence[Any]) -> list[Any]:
        jaxpr = closed.jaxpr
        known = dict(zip(jaxpr.invars, arguments, strict=True))
        for v, constant in zip(jaxpr.constvars, closed.consts, strict=True):
            known[v] = Variable(v.aval)
            self.constants[known[v]] = constant

        def named(x: Any) -> Any:
            return x if hasattr(x, "val") else known[x]

        for equation in jaxpr.eqns:
            read, held = list(map(named, equation.invars)), _held(equation)
            if held is not None:
                made = self._add(held, read)
            else:
                made = [Variable(v.aval) for v in equation.outvars]
                what = equation.primitive, equation.params, equation.ctx
                self.steps.append(Step(*what, read, made))
            known.update(zip(equation.outvars, made, strict=True))
        return list(map(named, jaxpr.outvars))

    def __call__(self, *arguments: Tensor) -> list[Tensor]:
        """What the function returns. XLA compiles it faster so than step by step."""
        from jax.extend.core import jaxpr_as_fun

        found: list[Tensor] = jaxpr_as_fun(self._closed)(*arguments)
        return found

    def given(self, arguments: Sequence[Tensor]) -> dict[Variable, Tensor]:
        """The values that are known before the first step."""
        named = zip(self.arguments, arguments, strict=True)
        return {**self.constants, **dict(named)}

    def returned(self, values: dict[Variable, Tensor]) -> list[Tensor]:
        """The results, by the values after the last step."""
        return [values[x] if isinstance(x, Variable) else x.val for x in self.results]

    def needed(self) -> list[Step]:
        """Without the steps whose results nobody reads."""
        wanted = {x for x in self.results if isinstance(x, Variable)}
        found = []
        for step in reversed(self.steps):
            if not wanted.isdisjoint(step.made):
                found.append(step)
                wanted.update(step.variables)
        return found[::-1]


def _held(equation: Any) -> Any:
    """The function that an equation does nothing but call, or None."""
    if equation.primitive.name not in _CALLS:
        return None
    held = (equation.params.get(name) for name in _HELD)
    return next((x for x in held if hasattr(x, "consts")), None)


@dataclass(eq=False)
class Piece:
    """Some steps of a trace, in their order.

    Args:
        steps: These steps.
        inputs: What they read and do not make.
        outputs: What they make and others read.
        last: Inputs that nobody reads after them.
    """

    steps: list[Step]
    inputs: list[Variable]
    outputs: list[Variable]
    last: list[Variable]

    def __call__(self, *arguments: Tensor) -> list[Tensor]:
        """From the inputs to the outputs."""
        values = dict(zip(self.inputs, arguments, strict=True))
        for step in self.steps:
            step(values)
        return [values[v] for v in self.outputs]

    def key(self) -> Hashable:
        """Equal for pieces that do the same."""
        return _key(self.steps, self.inputs, self.outputs)


def _key(
    steps: Iterable[Step], inputs: Iterable[Variable], outputs: Iterable[Any]
) -> Hashable:
    """Equal for steps that do the same, variables numbered as they turn up."""
    numbers: dict[Variable, int] = {}

    def name(x: Any) -> Hashable:
        if isinstance(x, Variable):
            return numbers.setdefault(x, len(numbers)), x.aval
        return x.aval, np.asarray(x.val).tobytes()

    def names(several: Iterable[Any]) -> Hashable:
        return tuple(map(name, several))

    rows = tuple(
        (x.primitive, *map(_comparable, (x.parameters, x.context)), *row)
        for x in steps
        for row in [(names(x.read), names(x.made))]
    )
    return names(inputs), rows, names(outputs)


def _comparable(parameter: Any) -> Hashable:
    """By what it says; what cannot be compared is like nothing but itself."""
    if isinstance(parameter, dict):
        return tuple((k, _comparable(x)) for k, x in parameter.items())
    if isinstance(parameter, (list, tuple)):
        return type(parameter), tuple(map(_comparable, parameter))
    if hasattr(parameter, "consts") and not parameter.consts:  # of a loop, a branch
        body = Trace(parameter)
        constants = tuple(map(id, body.constants.values()))
        given = [*body.arguments, *body.constants]
        return constants, _key(body.steps, given, body.results)
    try:
        hash(parameter)
    except TypeError:
        return id(parameter)
    return type(parameter), parameter


def pieces_of(trace: Trace) -> list[Piece]:
    """All steps that are needed, by pieces that run one after the other."""
    groups = _groups(trace)
    read = [dict.fromkeys(v for x in steps for v in x.variables) for steps in groups]
    made = [dict.fromkeys(v for x in steps for v in x.made) for steps in groups]
    reader = {v: i for i, names in enumerate(read) for v in names}
    reader |= {x: len(groups) for x in trace.results if isinstance(x, Variable)}
    pieces = []
    for i, steps in enumerate(groups):
        inputs = [v for v in read[i] if v not in made[i]]
        outputs = [v for v in made[i] if reader.get(v, i) > i]
        last = [v for v in inputs if reader[v] == i]
        pieces.append(Piece(steps, inputs, outputs, last))
    return pieces


def _groups(trace: Trace) -> list[list[Step]]:
    """A step goes to the first group that it can be in, wherever it was written.

    What is asked of all layers at the end is so asked of each beside it.
    """
    groups: list[list[Step]] = [[]]
    place: dict[Variable, int] = {}
    for step in trace.needed():
        if step.begins and groups[-1]:
            groups.append([])
        here = len(groups) - 1
        at = max((place[v] for v in step.variables if v in place), default=here)
        at = here if step.begins else at
        groups[at].append(step)
        place.update((v, at) for v in step.made)
    return groups if groups[-1] else groups[:-1]


def run_in_pieces(
    trace: Trace,
    arguments: Sequence[Tensor],
    compile: Callable[[Any], Callable[..., list[Tensor]]],
) -> list[Tensor] | None:
    """What the traced function returns.

    Args:
        trace: Of the function.
        arguments: Tensors.
        compile: From what `jax.jit(...).lower(...)` makes to a program.

    Returns:
        Tensors. None where that would not pay, since few pieces are alike; where the
        function has side effects; where an argument is on another device.
    """
    pieces = pieces_of(trace)
    keys = [piece.key() for piece in pieces]
    few = 2 * len(set(keys)) > len(pieces)
    if few or trace.has_effects or _are_elsewhere(arguments):
        return None
    values = trace.given(arguments)
    with ThreadPoolExecutor() as pool:
        try:
            programs: dict[Hashable, Future[Any]] = {}
            for key, piece in zip(keys, pieces, strict=True):
                if key not in programs:
                    programs[key] = pool.submit(compile, _lowered(piece))
            for key, piece in zip(keys, pieces, strict=True):
                found = programs[key].result()(*[values[v] for v in piece.inputs])
                for v in piece.last:  # its memory may be used again
                    del values[v]
                values.update(zip(piece.outputs, found, strict=True))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return trace.returned(values)


def _lowered(piece: Piece) -> Any:
    jax, avals = loaded(), [v.aval for v in piece.inputs]
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in avals]
    return jax.jit(piece).lower(*shapes)


def _are_elsewhere(arguments: Sequence[Tensor]) -> bool:
    """Whether one has been put on another device than pieces run on, or on several."""
    here = loaded().numpy.zeros(()).sharding.device_set
    places = (getattr(x, "sharding", None) for x in arguments)
    return any(x is not None and x.device_set != here for x in places)
