"""A whole sweep as one compiled function, on JAX and TensorFlow.

The same sweep and the same visitor, traced once. On JAX from the first pass on: run
eagerly, each operation is compiled for each shape on its own, which takes ten times as
long as the model's own compilation. On TensorFlow tracing takes longer than an eager
pass, so that a program is made for the second pass of a kind: the search for a critical
target, and a monitor that measures in every epoch.
"""

from __future__ import annotations

import math
import sys
import weakref
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops, tree

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


# What is known of living models: a program, the number of passes without one, or None
# where the model cannot be traced.
_PROGRAMS: weakref.WeakKeyDictionary[Any, dict[Any, Program | int | None]] = (
    weakref.WeakKeyDictionary()
)


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


def run(
    model: keras.Model,
    key: Any,
    variables: Sequence[keras.Variable],
    arguments: tuple[Any, ...],
    trace: Callable[..., tuple[Any, Any]],
) -> tuple[Any, Any] | None:
    """One compiled pass.

    Args:
        model: Whose pass it is.
        key: Equal for passes of a kind, see `kind_of`.
        variables: All that the model reads.
        arguments: First the values of the variables, then what else `trace` takes.
        trace: From a `Trial` with traced values, and the other arguments, to the
            tensors wanted and whatever is to be remembered beside them.

    Returns:
        The tensors as NumPy arrays, and what was remembered. None where a pass of this
        kind is not compiled (yet), or cannot be traced (Python control flow on values,
        a `jax.jit` of its own, ...).
    """
    programs = _PROGRAMS.setdefault(model, {})
    program = programs.get(key, 0)
    if isinstance(program, int) and program < PASSES[keras.backend.backend()]:
        programs[key] = program + 1
        return None
    if program is None:
        return None
    try:
        if isinstance(program, int):
            program = _compiled(variables, arguments, trace)
        small, stacks = program.run(*arguments)
        found = _unpacked(small, stacks, program.layout)
    except Exception:
        # Whatever it is, the eager pass meets it again and says it better.
        programs[key] = None
        return None
    programs[key] = program
    return found, program.notes


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
        compiled = module.jit(function).lower(*arguments).compile()
    else:
        traced = module.function(function, autograph=False, reduce_retracing=False)
        compiled = traced.get_concrete_function(*arguments)
    return Program(compiled, *notes[-1])


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


def kind_of(selection: Selection, batch: Any, *options: Any) -> Any:
    """All that a trace depends on: every attribute of every layer, and the shapes."""
    layers = tuple(
        (id(x), *[_mark(item) for item in vars(x).items() if item[0] not in _IGNORED])
        for x in selection.every
    )
    kernels = tuple(id(m.kernel) for maps in selection.maps.values() for m in maps)
    shapes = tuple((tuple(x.shape), str(x.dtype)) for x in tree.flatten(batch))
    watched = tuple(map(id, selection.watched))
    return layers, kernels, watched, shapes, options


def as_tensors(batch: Any) -> Any:
    """The batch as a compiled function takes it."""
    return tree.map_structure(ops.convert_to_tensor, batch)


# What Keras notes at the first call of a model.
_IGNORED = frozenset({"_called"})


def _mark(item: tuple[str, Any]) -> tuple[str, Any]:
    name, value = item
    plain = value is None or isinstance(value, (bool, int, float, str))
    return name, value if plain else id(value)


def _replicated(variables: Sequence[keras.Variable]) -> bool:
    """Whether TensorFlow keeps a copy of a variable on each of several devices."""
    if keras.backend.backend() != "tensorflow":
        return False
    several = sys.modules["tensorflow"].distribute.DistributedValues
    return any(isinstance(v.value, several) for v in variables)
