"""A whole sweep as one compiled function, on JAX and TensorFlow.

The same sweep and the same visitor, traced once. On JAX from the first pass on: run
eagerly, each operation is compiled for each shape on its own, which takes ten times as
long as the model's own compilation. On TensorFlow tracing takes longer than an eager
pass, so that a program is made for the second pass of a kind: the search for a critical
target, and a monitor that measures in every epoch.

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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_inits.kinds import Kind
from keras_inits.selection import Selection
from keras_inits.trial import Trial

Tensor = Any

# Below this number of layers, compiling operation by operation is as fast.
WORTHWHILE = 10
# Passes of a kind that run eagerly before one is compiled.
PASSES = {"jax": 0, "tensorflow": 1}


@dataclass
class Program:
    """A compiled pass, how its results lie, what its visitor noted while traced."""

    run: Any
    layout: Any
    notes: Any


@dataclass
class State:
    """What is known of passes of a kind: in one period where the code is a user's."""

    period: object | None
    eager_passes: int = 0
    program: Program | None = None
    untraceable: bool = False


_STATES: weakref.WeakKeyDictionary[Any, dict[Any, State]] = weakref.WeakKeyDictionary()


def possible(selection: Selection, variables: Sequence[keras.Variable]) -> bool:
    """Whether the pass is tensor operations only, without a look at a value."""
    backend = keras.backend.backend()
    if backend not in PASSES or len(selection.maps) < WORTHWHILE or selection.opaque:
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
    if state.program is None and state.eager_passes < PASSES[keras.backend.backend()]:
        state.eager_passes += 1
        return None
    try:
        state.program = state.program or _compiled(variables, arguments, trace)
        small, stacks = state.program.run(*arguments)
        return _unpacked(small, stacks, state.program.layout), state.program.notes
    except Exception:
        # Whatever it is, the eager pass meets it again and says it better.
        state.untraceable = True
        return None


def _compiled(
    variables: Sequence[keras.Variable],
    arguments: tuple[Any, ...],
    trace: Callable[..., tuple[Any, Any]],
) -> Program:
    notes: list[Any] = []

    def function(
        values: list[Tensor], *others: Any
    ) -> tuple[Tensor, dict[str, Tensor]]:
        tensors, noted = trace(Trial(variables, values), *others)
        small, large, layout = _packed(tensors)
        notes.append((layout, noted))
        return small, large

    # Compiled right away: the function itself would keep the model alive for ever.
    module = sys.modules[keras.backend.backend()]
    if keras.backend.backend() == "jax":
        compiled = _by_xla(module.jit(function).lower(*arguments), module)
    else:
        traced = module.function(function, autograph=False, reduce_retracing=False)
        compiled = traced.get_concrete_function(*arguments)
    return Program(compiled, *notes[-1])


# Of XLA on a CPU. Compiled quickly, since it runs once or twice, a program also keeps
# padding out of the convolutions behind it (an image smaller than its filter becomes
# one large matrix) and ReLU's zeros out of memory. Without the library YNN convolutions
# run on all cores, but grouped ones take twice the work; reductions need it, or they
# make temporaries.
OPTIONS = {"xla_cpu_opt_preset": "CPU_OPT_PRESET_FAST_COMPILE"}
BY_YNN = ["INDIVIDUAL_DOT", "REDUCE"]


def _by_xla(lowered: Any, module: Any) -> Any:
    if module.default_backend() == "cpu":
        grouped = re.search("feature_group_count = (?!1 )", lowered.as_text())
        types = [*BY_YNN, "INDIVIDUAL_CONVOLUTION"] if grouped else BY_YNN
        names = ",".join(f"LIBRARY_FUSION_TYPE_{name}" for name in types)
        options = {**OPTIONS, "xla_cpu_experimental_ynn_fusion_type": names}
        with contextlib.suppress(Exception):  # options come and go with the versions
            return lowered.compile(compiler_options=options)
    return lowered.compile()


# Results of at most this many values come back in one array: a transfer takes longer.
SMALL = 1024


def _packed(tensors: Any) -> tuple[Tensor, dict[str, Tensor], Any]:
    """Small tensors in one vector, large ones stacked by shape; where each is."""
    leaves = tree.flatten(tensors)
    found = filter(_is_tensor, leaves)
    dtypes = {keras.backend.standardize_dtype(x.dtype) for x in found}
    dtype = "float64" if "float64" in dtypes else "float32"
    small, large, shapes = [ops.zeros((0,), dtype)], defaultdict(list), []
    for leaf in leaves:
        shapes.append(tuple(leaf.shape) if _is_tensor(leaf) else leaf)
        if _is_tensor(leaf) and math.prod(leaf.shape) > SMALL:
            large[str(shapes[-1])].append(ops.cast(leaf, dtype))
        elif _is_tensor(leaf):
            small.append(ops.cast(ops.reshape(leaf, (-1,)), dtype))
    stacks = {shape: ops.stack(alike) for shape, alike in large.items()}
    layout = tree.map_structure(lambda _: None, tensors), shapes
    return ops.concatenate(small), stacks, layout


def _is_tensor(leaf: Any) -> bool:
    return leaf is not None and not isinstance(leaf, (int, float))


def _unpacked(small: Tensor, stacks: dict[str, Tensor], layout: Any) -> Any:
    """What was packed, as NumPy arrays; None and numbers as they were."""
    structure, shapes = layout
    flat, at = np.asarray(small), 0
    large = {key: iter(np.asarray(x)) for key, x in stacks.items()}
    leaves = []
    for shape in shapes:
        if not isinstance(shape, tuple):
            leaves.append(shape)
        elif str(shape) in large:
            leaves.append(next(large[str(shape)]))
        else:
            size = math.prod(shape)
            leaves.append(flat[at : at + size].reshape(shape))
            at += size
    return tree.pack_sequence_as(structure, leaves)


def as_tensors(batch: Any) -> Any:
    """The batch as a compiled function takes it."""
    return tree.map_structure(ops.convert_to_tensor, batch)


def _replicated(variables: Sequence[keras.Variable]) -> bool:
    """Whether TensorFlow keeps a copy of a variable on each of several devices."""
    if keras.backend.backend() != "tensorflow":
        return False
    several = sys.modules["tensorflow"].distribute.DistributedValues
    return any(isinstance(v.value, several) for v in variables)
