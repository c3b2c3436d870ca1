"""Run one pass over the model and read what it has decided.

On JAX the whole pass is compiled as one function, since an eager pass compiles every
operation for every shape on its own, which takes ten times as long as the model's own
compilation. Everywhere else, and wherever a model cannot be traced, it runs eagerly:
the same sweep, the same solver.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import keras

from keras_inits.selection import Selection
from keras_inits.solving import compiled, verdict
from keras_inits.solving.decision import Decision, Options, apply
from keras_inits.solving.solver import Solver
from keras_inits.sweep import sweep
from keras_inits.trial import Trial

Tensor = Any


@dataclass
class Solved:
    """A pass that met its target; nothing is written yet."""

    options: Options
    trial: Trial
    decisions: list[Decision]
    shared: dict[keras.layers.Layer, int]


@dataclass
class OnePass:
    """One forward pass, for any target.

    Args:
        model: A built model.
        batch: What it is called with.
        selection: The layers to solve for.
        redrawn: Kernels that are drawn anew before the pass, with their values.
        training: The mode the layers run in.
        verbose: Whether to show a progress bar.
    """

    model: keras.Model
    batch: Any
    selection: Selection
    redrawn: list[tuple[keras.Variable, Tensor]]
    training: bool
    verbose: int

    def __call__(self, options: Options) -> Solved:
        """Run it; raises where a layer cannot meet its target."""
        solver, trial = self._compiled(options) or self._eager(options)
        decisions = verdict.read(solver.decisions, options)
        return Solved(options, trial, decisions, solver.shared)

    def _trial(self) -> Trial:
        trial = Trial(_variables(self.selection))
        for variable, value in self.redrawn:
            trial.set(variable, value)
        return trial

    def _solver(self, options: Options) -> Solver:
        return Solver(options, self.selection, self.verbose, options.target_std)

    def _eager(self, options: Options) -> tuple[Solver, Trial]:
        for disable_jit in (False, True):
            trial, solver = self._trial(), self._solver(options)
            traced = sweep(
                self.model,
                self.batch,
                self.selection,
                solver,
                trial,
                training=self.training,
                disable_jit=disable_jit,
            )
            if not traced:
                break
        solver.finish(trial)
        for layer in traced:
            self.selection.left[layer] = "called inside a traced function"
        return solver, trial

    def _compiled(self, options: Options) -> tuple[Solver, Trial] | None:
        """The same by one compiled function; None where that is not possible."""
        if not compiled.possible(self.selection, options):
            return None
        trial, solver = self._trial(), self._solver(options)
        decisions = compiled.decide(
            self.model, self.batch, self.selection, solver, trial, self.training
        )
        if decisions is None:
            return None
        for decision in decisions:
            apply(decision, trial)
        return replace(solver, decisions=decisions), trial


def _variables(selection: Selection) -> list[keras.Variable]:
    found: list[keras.Variable] = []
    for maps in selection.maps.values():
        for m in maps:
            found += [m.kernel, *m.extra_kernels, *([] if m.bias is None else [m.bias])]
    for variables in selection.opaque.values():
        found += variables
    return found
