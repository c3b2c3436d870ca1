"""A pass in pieces, of which alike ones are compiled once: JAX.

XLA compiles every layer of a model, alike or not, and all of them before the first one
runs. Here a traced pass is cut before each product with a kernel. Pieces that do the
same on the same shapes share a program, and each runs as soon as its own is there.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from keras_inits.backends import loaded, read
from keras_inits.passes.packing import Packing
from keras_inits.passes.steps import Step, Trace, Variable

Tensor = Any


@dataclass(eq=False)
class Piece:
    """Some steps of a trace, in their order.

    Args:
        steps: These steps.
        inputs: What they read and do not make.
        outputs: What they make and others read.
        results: What they make and the function returns.
        last: Inputs that nobody reads after them.
    """

    steps: list[Step]
    inputs: list[Variable]
    outputs: list[Variable]
    results: list[Variable]
    last: list[Variable]

    def __call__(self, *arguments: Tensor) -> list[Tensor]:
        """From the inputs to the outputs, and the results in few arrays."""
        values = dict(zip(self.inputs, arguments, strict=True))
        for step in self.steps:
            step(values)
        results = self.packing().pack([values[v] for v in self.results])
        return [*(values[v] for v in self.outputs), *results]

    def packing(self) -> Packing:
        """How the results lie in arrays."""
        return Packing([v.aval for v in self.results])

    def key(self) -> Hashable:
        """Equal for pieces that do the same."""
        made = [*self.outputs, None, *self.results]
        return _key(self.steps, self.inputs, made)


def _key(
    steps: Iterable[Step], inputs: Iterable[Variable], outputs: Iterable[Any]
) -> Hashable:
    """Equal for steps that do the same, variables numbered as they turn up."""
    numbers: dict[Variable, int] = {}

    def name(x: Any) -> Hashable:
        if x is None:
            return None
        if isinstance(x, Variable):
            return numbers.setdefault(x, len(numbers)), x.aval
        return x.aval, np.asarray(x.val).tobytes()

    def names(several: Iterable[Any]) -> Hashable:
        return tuple(map(name, several))

    def row(x: Step) -> Hashable:
        what = x.primitive, _comparable(x.parameters), _comparable(x.context)
        return what, names(x.read), names(x.made)

    rows = tuple(map(row, steps))
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
    wanted = {x: None for x in trace.results if isinstance(x, Variable)}
    groups = _groups(trace, wanted)
    read = [dict.fromkeys(v for x in steps for v in x.variables) for steps in groups]
    made = [dict.fromkeys(v for x in steps for v in x.made) for steps in groups]
    reader = {v: i for i, names in enumerate(read) for v in names}
    pieces = []
    for i, steps in enumerate(groups):
        inputs = [v for v in read[i] if v not in made[i]]
        outputs = [v for v in made[i] if reader.get(v, i) > i]
        results = [v for v in made[i] if v in wanted]
        last = [v for v in inputs if reader[v] == i and v not in wanted]
        pieces.append(Piece(steps, inputs, outputs, results, last))
    return pieces


def _groups(trace: Trace, wanted: Iterable[Variable]) -> list[list[Step]]:
    """A step goes to the first group that it can be in, wherever it was written.

    What is asked of all layers at the end is so asked of each beside it.
    """
    groups: list[list[Step]] = [[]]
    place: dict[Variable, int] = {}
    for step in trace.needed(wanted):
        if step.begins and groups[-1]:
            groups.append([])
        here = len(groups) - 1
        at = max((place[v] for v in step.variables if v in place), default=here)
        at = here if step.begins else at
        groups[at].append(step)
        place.update((v, at) for v in step.made)
    return [steps for steps in groups if steps]


class Ready:
    """A piece to be run. It has no steps: they may hold functions of the model's own.

    Args:
        piece: The piece.
        packing: How its results lie in arrays.
        program: What computes it, once it is compiled.
    """

    def __init__(self, piece: Piece, packing: Packing, program: Future[Any]) -> None:
        self.inputs, self.last = piece.inputs, piece.last
        self.outputs, self.results = piece.outputs, piece.results
        self.packing, self.program = packing, program

    def __call__(self, values: dict[Variable, Tensor]) -> list[Tensor]:
        """Adds the outputs to the values, and returns the results in few arrays."""
        arguments = [values[v] for v in self.inputs]
        for v in self.last:  # its memory may be used again
            del values[v]
        found, n = self.program.result()(*arguments), len(self.outputs)
        values.update(zip(self.outputs, found[:n], strict=True))
        return found[n:]


class InPieces:
    """A traced function, ready to run piece by piece.

    Args:
        trace: Of the function.
        pieces: Its pieces.
    """

    def __init__(self, trace: Trace, pieces: list[Ready]) -> None:
        self._arguments, self._constants = trace.arguments, trace.constants
        self._results, self._pieces = trace.results, pieces

    def __call__(self, arguments: Sequence[Tensor]) -> Callable[[], list[Any]]:
        """Begin: wait for each program, run it, not for what it computes.

        What this returns waits for that: for what the function returns, as numbers and
        NumPy arrays.
        """
        values = dict(self._constants)
        values.update(zip(self._arguments, arguments, strict=True))
        try:
            packed = [piece(values) for piece in self._pieces]
        except BaseException:
            for piece in self._pieces:
                piece.program.cancel()
            raise
        return partial(self._results_of, values, packed)

    def _results_of(
        self, values: dict[Variable, Any], packed: list[list[Tensor]]
    ) -> list[Any]:
        # One after the other: while a piece is unpacked, the next ones are computed.
        for piece, several in zip(self._pieces, packed, strict=True):
            found = piece.packing.unpack(read(several))
            values.update(zip(piece.results, found, strict=True))
        named = [values[x] if isinstance(x, Variable) else x.val for x in self._results]
        # An argument, or a literal, may be a result, too.
        return [x if isinstance(x, _READ) else read([x])[0] for x in named]


# What is in memory already.
_READ = (float, np.ndarray)


def in_pieces(
    trace: Trace,
    arguments: Sequence[Tensor],
    compile: Callable[[Any], Callable[..., list[Tensor]]],
) -> InPieces | None:
    """The traced function, its programs being compiled in the background.

    Args:
        trace: Of the function.
        arguments: Tensors as it will be called with.
        compile: From what `jax.jit(...).lower(...)` makes to a program.

    Returns:
        None where that would not pay, since few pieces are alike; where the function
        has side effects; where an argument is on another device.
    """
    pieces = pieces_of(trace)
    keys = [piece.key() for piece in pieces]
    few = 2 * len(set(keys)) > len(keys)
    if few or trace.has_effects or _are_elsewhere(arguments):
        return None
    programs: dict[Hashable, tuple[Packing, Future[Any]]] = {}
    pool = ThreadPoolExecutor(thread_name_prefix="keras_inits")
    try:
        for key, piece in zip(keys, pieces, strict=True):
            if key not in programs:
                program = pool.submit(compile, _lowered(piece))
                programs[key] = piece.packing(), program
    finally:
        pool.shutdown(wait=False)  # of new work: what is submitted is done
    ready = [Ready(x, *programs[key]) for x, key in zip(pieces, keys, strict=True)]
    return InPieces(trace, ready)


def _lowered(piece: Piece) -> Any:
    jax, avals = loaded(), [v.aval for v in piece.inputs]
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in avals]
    # Every input is an argument of the program, so that its text says all about it.
    return jax.jit(piece, keep_unused=True).lower(*shapes)


def _are_elsewhere(arguments: Sequence[Tensor]) -> bool:
    """Whether one has been put on another device than pieces run on, or on several."""
    here = loaded().numpy.zeros(()).sharding.device_set
    places = (getattr(x, "sharding", None) for x in arguments)
    return any(x is not None and x.device_set != here for x in places)
