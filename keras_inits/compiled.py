"""A whole sweep as one compiled function, on JAX and TensorFlow.

The same sweep and the same visitor, traced once, for the second pass of a kind and all
after it: the search for a critical target, a monitor that measures in every epoch. On
TensorFlow tracing takes longer than an eager pass, so that the first one is eager. On
JAX, where each operation would be compiled on its own, it runs in pieces, of which
alike ones share a program; where few are alike, compiled as a whole at once.

A program serves as long as its kind of pass does; where a model has code of a user's
own, for one period: a call of a verb, or a `fit`.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
import re
import sys
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_inits.backends import read
from keras_inits.kinds import Kind
from keras_inits.pieces import Trace, run_in_pieces
from keras_inits.selection import Selection
from keras_inits.trial import Trial

Tensor = Any

# Below this number of layers, compiling operation by operation is as fast.
WORTHWHILE = 10
# How the first pass of a kind runs; all others are compiled.
FIRST = {"jax": "in pieces", "tensorflow": "eager"}


@dataclass
class Program:
    """A compiled pass, how its results lie, what its visitor noted while traced."""

    run: Any
    shapes: list[tuple[int, ...]]
    form: Form
    notes: Any

    def __call__(self, arguments: tuple[Any, ...]) -> tuple[Any, Any]:
        """Run it: results as arrays, and the notes."""
        small, stacks = self.run(*arguments)
        return self.form.of(_unpacked(small, stacks, self.shapes)), self.notes


@dataclass
class State:
    """What is known of passes of a kind: in one period where the code is a user's."""

    period: object | None
    passes: int = 0
    program: Program | None = None
    untraceable: bool = False


_STATES: weakref.WeakKeyDictionary[Any, dict[Any, State]] = weakref.WeakKeyDictionary()


def possible(selection: Selection, variables: Sequence[keras.Variable]) -> bool:
    """Whether the pass is tensor operations only, without a look at a value."""
    backend = keras.backend.backend()
    if backend not in FIRST or len(selection.maps) < WORTHWHILE or selection.opaque:
        return False
    if not all(layer.built for layer in selection.every):
        return False  # a layer built while it is traced would keep traced weights
    if keras.distribution.distribution() or _replicated(variables):
        return False
    dtypes = {keras.backend.standardize_dtype(x.compute_dtype) for x in selection.maps}
    return "float16" not in dtypes


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


def run(
    model: keras.Model,
    kind: Kind,
    variables: Sequence[keras.Variable],
    arguments: tuple[Any, ...],
    trace: Callable[..., tuple[Any, Any]],
) -> tuple[Any, Any] | None:
    """One compiled pass.

    Args:
        model: Whose pass it is.
        kind: See `kind_of`.
        variables: All that the model reads.
        arguments: First the values of the variables, then what else `trace` takes.
        trace: From a `Trial` with traced values, and the other arguments, to the
            tensors wanted and whatever is to be remembered beside them.

    Returns:
        The tensors as NumPy arrays, and what was remembered. None where a pass of this
        kind is not compiled (yet), or cannot be traced (Python control flow on values,
        a `jax.jit` of its own, ...).
    """
    states = _STATES.setdefault(model, {})
    period = (_PERIOD.get(None) or object()) if kind.own_code else None
    state = states.get(kind.key) or State(period)
    if state.period is not period and not state.untraceable:
        state = State(period)
    states[kind.key] = state
    if state.untraceable:
        return None
    function, is_first = Function(variables, trace), not state.passes
    state.passes += 1
    try:
        first = FIRST[keras.backend.backend()] if is_first else "compiled"
        if first == "eager":
            return None
        if first == "in pieces":
            found = function.in_pieces(arguments)
            if found is not None:
                return found
        state.program = state.program or _compiled(function, arguments)
        return state.program(arguments)
    except Exception:
        # Whatever it is, the eager pass meets it again and says it better.
        state.untraceable = True
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
        self._known: Trace | None = None

    def __call__(self, values: list[Tensor], *others: Any) -> list[Tensor]:
        """The tensors alone; `form` and `notes` are known afterwards."""
        if self._known is not None:
            return self._known(*sys.modules["jax"].tree.leaves((values, others)))
        tensors, self.notes = self._trace(Trial(self._variables, values), *others)
        leaves = tree.flatten(tensors)
        self.form = Form(
            tree.map_structure(lambda _: None, tensors),
            [_TENSOR if _is_tensor(leaf) else leaf for leaf in leaves],
        )
        return [leaf for leaf in leaves if _is_tensor(leaf)]

    def in_pieces(self, arguments: tuple[Any, ...]) -> tuple[Any, Any] | None:
        """Run once, on JAX: results as arrays, and the notes; None if not in pieces."""
        jax = sys.modules["jax"]
        self._known = Trace(jax.make_jaxpr(self)(*arguments))
        compile = partial(_by_xla, module=jax, more=ONCE)
        found = None
        with contextlib.suppress(Exception):  # as a whole it may be possible
            found = run_in_pieces(self._known, jax.tree.leaves(arguments), compile)
        return None if found is None else (self.form.of(read(found)), self.notes)


_TENSOR = object()


@dataclass
class Form:
    """How results lie in a structure: None and numbers among the tensors."""

    structure: Any
    leaves: list[Any]

    def of(self, arrays: Iterable[Any]) -> Any:
        """The structure, with these arrays in it."""
        found = iter(arrays)
        leaves = [next(found) if x is _TENSOR else x for x in self.leaves]
        return tree.pack_sequence_as(self.structure, leaves)


def _compiled(function: Function, arguments: tuple[Any, ...]) -> Program:
    shapes: list[tuple[int, ...]] = []

    def packed(*arguments: Any) -> tuple[Tensor, dict[str, Tensor]]:
        tensors = function(*arguments)
        shapes[:] = [tuple(x.shape) for x in tensors]
        return _packed(tensors)

    # Compiled right away: the function itself would keep the model alive for ever.
    module = sys.modules[keras.backend.backend()]
    if keras.backend.backend() == "jax":
        compiled = _by_xla(module.jit(packed).lower(*arguments), module)
    else:
        traced = module.function(packed, autograph=False, reduce_retracing=False)
        compiled = traced.get_concrete_function(*arguments)
    return Program(compiled, shapes, function.form, function.notes)


# Of XLA on a CPU. Compiled quickly, since it runs once or twice, a program also keeps
# padding out of the convolutions behind it (an image smaller than its filter becomes
# one large matrix) and ReLU's zeros out of memory. Without the library YNN convolutions
# run on all cores, but grouped ones take twice the work; reductions need it, or they
# make temporaries.
OPTIONS = {"xla_cpu_opt_preset": "CPU_OPT_PRESET_FAST_COMPILE"}
BY_YNN = ["INDIVIDUAL_DOT", "REDUCE"]


# Of what runs once: machine code is made in a third of the time, and is no slower but
# where the same code is needed for many layers.
ONCE = {"xla_backend_optimization_level": 1, "xla_cpu_use_fusion_emitters": False}


def _by_xla(lowered: Any, module: Any, more: Mapping[str, Any] | None = None) -> Any:
    if module.default_backend() == "cpu":
        grouped = re.search("feature_group_count = (?!1 )", lowered.as_text())
        types = [*BY_YNN, "INDIVIDUAL_CONVOLUTION"] if grouped else BY_YNN
        names = ",".join(f"LIBRARY_FUSION_TYPE_{name}" for name in types)
        options = {"xla_cpu_experimental_ynn_fusion_type": names, **(more or {})}
        with contextlib.suppress(Exception):  # options come and go with the versions
            return lowered.compile(compiler_options={**OPTIONS, **options})
    return lowered.compile()


# Results of at most this many values come back in one array: a transfer takes longer.
SMALL = 1024


def _packed(tensors: Sequence[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Small tensors in one vector, large ones stacked by shape."""
    dtypes = {keras.backend.standardize_dtype(x.dtype) for x in tensors}
    dtype = "float64" if "float64" in dtypes else "float32"
    small, large = [ops.zeros((0,), dtype)], defaultdict(list)
    for x in tensors:
        if math.prod(x.shape) > SMALL:
            large[str(tuple(x.shape))].append(ops.cast(x, dtype))
        else:
            small.append(ops.cast(ops.reshape(x, (-1,)), dtype))
    stacks = {shape: ops.stack(alike) for shape, alike in large.items()}
    return ops.concatenate(small), stacks


def _is_tensor(leaf: Any) -> bool:
    return leaf is not None and not isinstance(leaf, (int, float))


def _unpacked(
    small: Tensor, stacks: dict[str, Tensor], shapes: Sequence[tuple[int, ...]]
) -> Iterator[Any]:
    """What was packed, as NumPy arrays."""
    flat, at = np.asarray(small), 0
    large = {key: iter(np.asarray(x)) for key, x in stacks.items()}
    for shape in shapes:
        if str(shape) in large:
            yield next(large[str(shape)])
        else:
            size = math.prod(shape)
            yield flat[at : at + size].reshape(shape)
            at += size


def as_tensors(batch: Any) -> Any:
    """The batch as a compiled function takes it."""
    return tree.map_structure(ops.convert_to_tensor, batch)


def _replicated(variables: Sequence[keras.Variable]) -> bool:
    """Whether TensorFlow keeps a copy of a variable on each of several devices."""
    if keras.backend.backend() != "tensorflow":
        return False
    several = sys.modules["tensorflow"].distribute.DistributedValues
    return any(isinstance(v.value, several) for v in variables)
