"""A whole sweep compiled.

The same sweep and the same visitor, traced once. On JAX from the first pass on: run
eagerly, each operation is compiled for each shape on its own. The trace runs in pieces,
of which alike ones share a program, or as one program where few are alike. On
TensorFlow tracing takes longer than an eager pass, so that a program is made for the
second pass of a kind: the search for a critical target, and a monitor that measures in
every epoch. On PyTorch the second pass is noted, and played from then on.

Where a model has code of a user's own it is traced again for each period; on JAX the
same text of a program is not compiled twice. On PyTorch such a model is not noted.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops

from keras_inits.backends import is_hooked
from keras_inits.calling.shortcuts import has_hooks, has_modules
from keras_inits.data.arrays import each
from keras_inits.passes import xla
from keras_inits.passes.kinds import Kind
from keras_inits.passes.packing import Form, Packed, Packing
from keras_inits.passes.pieces import in_pieces
from keras_inits.passes.programs import NOTHING, Begun, Program, Wait, state_of
from keras_inits.passes.steps import Trace
from keras_inits.passes.tape import Played, layout
from keras_inits.structure.selection import Selection
from keras_inits.weights.trial import Trial

Tensor = Any
Maker: TypeAlias = Callable[[Any, tuple[Any, ...]], Any]

# Below this number of layers, compiling operation by operation is as fast.
WORTHWHILE = 10
# Passes of a kind that run eagerly before one is compiled.
PASSES = {"jax": 0, "tensorflow": 1, "torch": 1}


def possible(selection: Selection, variables: Sequence[keras.Variable]) -> bool:
    """Whether the pass is tensor operations only, and it pays to compile it."""
    if len(selection.maps) < WORTHWHILE or selection.opaque:
        return False
    dtypes = {x.compute_dtype for x in selection.maps}
    standard = map(keras.backend.standardize_dtype, dtypes)
    return "float16" not in standard and traceable(selection, variables)


def traceable(selection: Selection, variables: Sequence[keras.Variable]) -> bool:
    """Whether the backend can trace calls of the model, in this process alone."""
    if keras.backend.backend() not in PASSES:
        return False
    if not all(layer.built for layer in selection.every):
        return False  # a layer built while it is traced would keep traced weights
    if is_hooked() or any(has_hooks(x) or has_modules(x) for x in selection.every):
        return False  # who listens hears every call; modules may do anything
    return not (keras.distribution.distribution() or _replicated(variables))


def run(
    model: keras.Model,
    verb: str,
    kind: Kind,
    variables: Sequence[keras.Variable],
    arguments: tuple[Any, ...],
    trace: Callable[..., tuple[Any, Any]],
    ahead: Begun = NOTHING,
) -> tuple[Any, Any] | None:
    """One compiled pass.

    Args:
        model: Whose pass it is.
        verb: What it is for.
        kind: See `kind_of`.
        variables: All that the model reads.
        arguments: First the values of the variables, then what else `trace` takes.
        trace: From a `Trial` with traced values, and the other arguments, to the
            tensors wanted and whatever is to be remembered beside them.
        ahead: What was `begun` with these arguments.

    Returns:
        The tensors as NumPy arrays, but for those marked as `Stays`, and what was
        remembered. None where a pass of this kind is not compiled (yet), or cannot be
        traced (Python control flow on values, a `jax.jit` of its own, ...).
    """
    on_torch = keras.backend.backend() == "torch"
    if on_torch and kind.own_code:  # it may do something else next time
        return None
    key = (kind.key, layout(arguments)) if on_torch else kind.key
    state = state_of(model, verb, kind, key)
    if state.untraceable:
        return None
    if state.program is not None:
        state.served = True
        makers: Sequence[Maker] = (lambda *_: state.program,)
    elif state.eager_passes < PASSES[keras.backend.backend()]:
        state.eager_passes += 1
        return None
    else:
        makers = MAKERS[keras.backend.backend()]
    function = Function(variables, trace)
    for make in makers:
        # What is not finite is a figure like others.
        with contextlib.suppress(Exception), np.errstate(all="ignore"):
            program = make(function, arguments)
            if program is not None:
                found = ahead.found(program, arguments)
                state.program = program
                return found
    # Whatever it is, the eager pass meets it again and says it better.
    state.untraceable, state.program = True, None
    return None


class Function:
    """What is compiled: from arrays to a list of tensors.

    Args:
        variables: All that the model reads.
        trace: See `run`.
    """

    def __init__(
        self,
        variables: Sequence[keras.Variable],
        trace: Callable[..., tuple[Any, Any]],
    ) -> None:
        self._variables, self._trace = variables, trace
        self._failed = False
        self._known: Trace | None = None

    def __call__(self, values: list[Tensor], *others: Any) -> list[Tensor]:
        """The tensors alone; `form` and `notes` are known afterwards."""
        if self._known is not None:
            return self._known(*sys.modules["jax"].tree.leaves((values, others)))
        if self._failed:
            raise RuntimeError("It could not be traced.")
        self._failed = True  # unless this comes to its end
        tensors, self.notes = self._trace(Trial(self._variables, values), *others)
        self._failed = False
        self.form = Form(tensors)
        return self.form.tensors(tensors)

    def traced(self, arguments: tuple[Any, ...]) -> Trace:
        """Its trace, on JAX; from now on it is called instead."""
        self._known = Trace(sys.modules["jax"].make_jaxpr(self)(*arguments))
        return self._known


def _in_pieces(function: Function, arguments: tuple[Any, ...]) -> Program | None:
    jax = sys.modules["jax"]
    trace = function.traced(arguments)
    compile = partial(xla.once, piece=True)
    leaves = jax.tree.leaves(arguments)
    pieces = in_pieces(trace, leaves, compile)
    if pieces is None:
        return None

    def begin(arguments: tuple[Any, ...]) -> Wait:
        return pieces(jax.tree.leaves(arguments))

    return Program(begin, function.form, function.notes)


def _as_a_whole(function: Function, arguments: tuple[Any, ...]) -> Program:
    packing = Packing([])

    def packed(*arguments: Any) -> list[Tensor]:
        nonlocal packing
        tensors = function(*arguments)
        read = len(tensors) - function.form.staying
        packing = Packing(tensors[:read])
        return [*packing.pack(tensors[:read]), *tensors[read:]]

    # Compiled right away: the function itself would keep the model alive for ever.
    module = sys.modules[keras.backend.backend()]
    if keras.backend.backend() == "jax":
        lowered = module.jit(packed, keep_unused=True).lower(*arguments)
        compiled = xla.once(lowered, piece=False)
    else:
        traced = module.function(packed, autograph=False, reduce_retracing=False)
        compiled = traced.get_concrete_function(*arguments)
    packed_ones = Packed(compiled, packing, function.form.staying)
    return Program(packed_ones, function.form, function.notes)


def _noted(function: Function, arguments: tuple[Any, ...]) -> Program:
    played = Played(function, arguments)

    def begin(arguments: tuple[Any, ...]) -> Wait:
        return partial(played, arguments)

    return Program(begin, function.form, function.notes)


MAKERS: dict[str, Sequence[Maker]] = {
    "jax": (_in_pieces, _as_a_whole),
    "tensorflow": (_as_a_whole,),
    "torch": (_noted,),
}


def arguments_of(model: keras.Model, batch: Any, *others: Any) -> tuple[Any, ...]:
    """What a pass over the model as it is takes, the batch as tensors."""
    return [v.value for v in model.variables], as_tensors(batch), *others


def as_tensors(batch: Any) -> Any:
    """The batch as a compiled function takes it."""
    return each(ops.convert_to_tensor, batch)


def _replicated(variables: Sequence[keras.Variable]) -> bool:
    """Whether TensorFlow keeps a copy of a variable on each of several devices."""
    if keras.backend.backend() != "tensorflow":
        return False
    several = sys.modules["tensorflow"].distribute.DistributedValues
    return any(isinstance(v.value, several) for v in variables)
