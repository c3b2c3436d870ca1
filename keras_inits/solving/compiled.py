"""A whole pass as one compiled function, on JAX."""

from __future__ import annotations

import copy
import sys
import weakref
from dataclasses import dataclass, replace
from typing import Any

import keras
from keras import ops, tree

from keras_inits.selection import Selection
from keras_inits.solving.decision import Decision, Options
from keras_inits.solving.solver import Solver
from keras_inits.sweep import sweep
from keras_inits.trial import Trial

Tensor = Any

# Below this number of layers, compiling operation by operation is as fast.
WORTHWHILE = 10

# What of a decision is a tensor, or Moments of tensors.
_TENSORS = ("before", "after", "linear", "bias", "scale", "shift", "gradient_gain")


@dataclass
class _Program:
    """A compiled pass with what it found while it was traced."""

    run: Any
    decisions: list[Decision]
    shared: dict[keras.layers.Layer, int]


# Compiled passes of living models: a second call of `lsuv_init`, and every step of the
# search for a critical target, finds its program again.
_PROGRAMS: weakref.WeakKeyDictionary[Any, dict[Any, _Program]] = (
    weakref.WeakKeyDictionary()
)


def possible(selection: Selection, options: Options) -> bool:
    """Whether the pass is tensor operations only, without a look at a value."""
    if keras.backend.backend() != "jax" or keras.distribution.distribution():
        return False
    if options.signal == "output" or selection.opaque:
        return False
    if len(selection.maps) < WORTHWHILE:
        return False
    if not all(layer.built for layer in selection.every):
        return False  # a layer built while it is traced would keep traced weights
    dtypes = {keras.backend.standardize_dtype(x.compute_dtype) for x in selection.maps}
    return "float16" not in dtypes


def decide(
    model: keras.Model,
    batch: Any,
    selection: Selection,
    solver: Solver,
    trial: Trial,
    training: bool,
) -> list[Decision] | None:
    """What `solver` decides at every stop, from one compiled pass.

    Returns:
        The decisions, with concrete tensors; None where the model cannot be traced
        (Python control flow on values, a `jax.jit` of its own, ...).
    """
    variables, options = model.variables, solver.options
    values = [trial.base(v) for v in variables]
    batch = tree.map_structure(ops.convert_to_tensor, batch)
    arguments = (values, batch, ops.convert_to_tensor(options.target_std, "float32"))
    programs = _PROGRAMS.setdefault(model, {})
    program = programs.get(_key(selection, solver, batch, training))
    try:
        if program is None:
            program = _trace(model, selection, solver, variables, training, arguments)
        found = program.run(*arguments)
    except Exception:
        # Whatever it is, the eager pass meets it again and says it better.
        return None
    # After the pass: the first call of a layer leaves marks on it.
    programs[_key(selection, solver, batch, training)] = program
    solver.shared.update(program.shared)
    if solver.bar is not None:
        solver.bar.update(len(program.decisions))
    return list(map(_filled, program.decisions, found))


def _filled(decision: Decision, tensors: list[Any]) -> Decision:
    """A copy with these tensors, in the order of `_TENSORS`."""
    new = copy.copy(decision)
    for name, tensor in zip(_TENSORS, tensors, strict=True):
        setattr(new, name, tensor)
    return new


def _trace(
    model: keras.Model,
    selection: Selection,
    solver: Solver,
    variables: list[keras.Variable],
    training: bool,
    arguments: tuple[Any, ...],
) -> _Program:
    program = _Program(None, [], {})

    def run(values: list[Tensor], batch: Any, target: Tensor) -> list[Any]:
        trial = Trial(variables, values)
        visitor = replace(solver, target=target, verbose=0, decisions=[], shared={})
        sweep(model, batch, selection, visitor, trial, training=training, compiled=True)
        visitor.finish(trial)
        found = [[getattr(d, name) for name in _TENSORS] for d in visitor.decisions]
        program.decisions = [
            _filled(d, [None] * len(_TENSORS)) for d in visitor.decisions
        ]
        program.shared = visitor.shared
        return found

    # Compiled right away: the function itself would keep the model alive for ever.
    program.run = sys.modules["jax"].jit(run).lower(*arguments).compile()
    return program


def _key(selection: Selection, solver: Solver, batch: Any, training: bool) -> Any:
    """All that a trace depends on: every attribute of every layer, and the shapes."""
    layers = tuple((id(x), *map(_mark, vars(x).items())) for x in selection.every)
    kernels = tuple(id(m.kernel) for maps in selection.maps.values() for m in maps)
    shapes = tuple((tuple(x.shape), str(x.dtype)) for x in tree.flatten(batch))
    options = replace(solver.options, target_std=1.0)
    return layers, kernels, shapes, options, frozenset(solver.biased), training


def _mark(item: tuple[str, Any]) -> tuple[str, Any]:
    name, value = item
    plain = value is None or isinstance(value, (bool, int, float, str))
    return name, value if plain else id(value)
