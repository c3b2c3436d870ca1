"""Run one pass over the model and read what it has decided.

Where it pays, the whole pass is one compiled function; otherwise, and wherever a model
cannot be traced, it runs eagerly: the same sweep, the same solver.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_inits.backends import host, read
from keras_inits.backward.slopes import look_inside
from keras_inits.errors import DegenerateSignalError, KerasInitsError
from keras_inits.passes import compiled
from keras_inits.passes.kinds import kind_of
from keras_inits.passes.packing import Stays, refilled
from keras_inits.passes.programs import NOTHING, Begun, begun
from keras_inits.solving import rewritten, verdict
from keras_inits.solving.decision import NOISE, Decision, Options, apply
from keras_inits.solving.solver import Solver
from keras_inits.structure.selection import LATE, Selection
from keras_inits.sweep import TRACED, sweep
from keras_inits.weights.in_place import may_lie_beside
from keras_inits.weights.trial import Trial

Tensor = Any


VERB = "lsuv_init"


def begun_with(
    model: keras.Model, batch: Callable[[], Any], target_std: float
) -> Begun:
    """The pass over the model as it is, before anything is known of its layers."""

    def arguments() -> tuple[Any, ...]:
        return compiled.arguments_of(model, batch(), _as_tensor(target_std))

    return begun(model, VERB, arguments)


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
        last: Whether its result will be written, not compared with others.
        ahead: The first pass, where it has `begun`.
    """

    model: keras.Model
    batch: Any
    selection: Selection
    redrawn: list[tuple[keras.Variable, Tensor]]
    training: bool
    verbose: int
    last: bool
    ahead: Begun = NOTHING

    def __call__(self, options: Options) -> Solved:
        """Run it; raises where a layer cannot meet its target."""
        solved = self._run(options)
        suspected = rewritten.suspects(solved.decisions, solved.trial)
        if not suspected:
            return solved
        undone = rewritten.undone(suspected, self._check(solved), options)
        if not undone:
            return solved
        rewritten.leave(self.selection, undone)
        kept = {id(m.kernel) for maps in self.selection.maps.values() for m in maps}
        self.redrawn = [(v, x) for v, x in self.redrawn if id(v) in kept]
        return self(options)

    def _check(self, solved: Solved) -> list[Decision] | None:
        """One more pass over what a pass has made of the kernels."""
        values = rewritten.new_values(solved.decisions, solved.trial)
        again = replace(self, redrawn=values, verbose=0, last=False)
        try:
            return again._run(solved.options).decisions
        except KerasInitsError:
            return None

    def _run(self, options: Options) -> Solved:
        chosen = self.selection
        verdict.check_target((*chosen.maps, *chosen.opaque), options)
        solver, trial = self._compiled(options) or self._eager(options)
        try:
            decisions = verdict.read(solver.decisions, options, self.batch)
        except DegenerateSignalError:
            late = [d.layer for d in solver.decisions if self._begins_later(d, solver)]
            if not late:
                raise
            chosen.late.update(late)
            return self._run(options)
        return Solved(options, trial, decisions, solver.shared)

    def _begins_later(self, decision: Decision, solver: Solver) -> bool:
        """Whether a layer is called again after one call that takes nothing yet."""
        layer = decision.layer
        if layer not in solver.shared or self.selection.late[layer] >= LATE:
            return False
        mean, variance = decision.linear or decision.before
        still = bool(np.all(variance <= (NOISE * mean) ** 2))
        return still and any(host(v.value).any() for v in decision.variables)

    def _trial(self) -> Trial:
        trial = Trial(_variables(self.selection))
        for variable, value in self.redrawn:
            trial.set(variable, value)
        return trial

    def _solver(self, options: Options, trial: Trial) -> Solver:
        maps = [m for maps in self.selection.maps.values() for m in maps]
        biases = [m.bias for m in maps if m.bias is not None]
        values = read(list(map(trial.base, biases)))
        biased = {id(b) for b, x in zip(biases, values, strict=True) if x.any()}
        return Solver(
            options,
            self.selection,
            self.verbose,
            options.target_std,
            frozenset(biased),
        )

    def _eager(self, options: Options) -> tuple[Solver, Trial]:
        for disable_jit in (False, True):
            trial = self._trial()
            solver = self._solver(options, trial)
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
        solver.wide.look(len(solver.decisions))
        solver.finish(trial)
        self.selection.left.update(dict.fromkeys(traced, TRACED))
        return solver, trial

    def _compiled(self, options: Options) -> tuple[Solver, Trial] | None:
        """The same by one compiled function; None where that is not possible."""
        ahead = self.ahead.taken()
        variables = self.model.variables
        if (
            options.signal == "output"
            or self.selection.late
            or not compiled.possible(self.selection, variables)
        ):
            return None
        trial = self._trial()
        solver = self._solver(options, trial)
        arguments = ahead.arguments or (
            [trial.base(v) for v in variables],
            compiled.as_tensors(self.batch),
            _as_tensor(options.target_std),
        )
        maps = [m for maps in self.selection.maps.values() for m in maps]
        kernels = [v for m in maps for v in (m.kernel, *m.extra_kernels)]
        with_products = self.last and may_lie_beside(kernels)
        kind = kind_of(
            self.selection,
            arguments[1],
            replace(options, target_std=1.0),
            solver.biased,
            self.training,
            with_products,
        )
        found = compiled.run(
            self.model,
            VERB,
            kind,
            variables,
            arguments,
            partial(self._traced, solver, with_products),
            ahead,
        )
        if found is None:
            return None
        (tensors, seen, products), (decisions, shared, scaled, written) = found
        trial.written |= written
        solver.decisions += map(_filled, decisions, tensors)
        solver.shared.update(shared)
        # After the pass: the first call of a layer leaves marks on it.
        for decision in solver.decisions:
            apply(decision, trial)
        trial.products.update(zip(scaled, products, strict=True))
        if solver.bar is not None:
            solver.bar.update(len(decisions))
        solver.finish(trial, seen)
        return solver, trial

    def _traced(
        self,
        solver: Solver,
        with_products: bool,
        trial: Trial,
        batch: Any,
        target: Tensor,
    ) -> tuple[Any, Any]:
        visitor = replace(solver, target=target, verbose=0, decisions=[], shared={})
        sweep(
            self.model,
            batch,
            self.selection,
            visitor,
            trial,
            training=self.training,
            compiled=True,
        )
        visitor.wide.look(len(visitor.decisions))
        found = [_tensors(d) for d in visitor.decisions]
        nothing = keras.tree.map_structure(lambda _: None, found)
        bare = list(map(_filled, visitor.decisions, nothing))
        with trial:
            seen = look_inside(visitor.probes())
        scaled = list(trial.factors) if with_products else []
        products = [Stays(trial.state_mapping[key]) for key in scaled]
        notes = bare, visitor.shared, scaled, trial.written
        return (found, seen, products), notes


@functools.cache
def _one() -> Tensor:
    return ops.convert_to_tensor(1.0, "float32")


def _as_tensor(target: float) -> Tensor:
    """That of most passes takes its place on the device once."""
    return _one() if target == 1.0 else ops.convert_to_tensor(target, "float32")


# What of a decision is a tensor, a number or Moments of such.
_TENSORS = (
    *("before", "after", "linear", "bias", "scale", "shift", "gradient_gain"),
    *("share", "samples"),
)


def _tensors(decision: Decision) -> list[Any]:
    """Those of `_TENSORS`, and the rows of the probes."""
    own = [getattr(decision, name) for name in _TENSORS]
    return [own, [[probe.rows, probe.slope] for probe in decision.probes]]


def _filled(decision: Decision, tensors: list[Any]) -> Decision:
    """A copy with these tensors, as `_tensors` lists them."""
    own, kept = tensors
    probes = [
        refilled(probe, {"rows": rows, "slope": slope})
        for probe, (rows, slope) in zip(decision.probes, kept, strict=True)
    ]
    values = dict(zip(_TENSORS, own, strict=True), probes=tuple(probes))
    filled: Decision = refilled(decision, values)
    return filled


def _variables(selection: Selection) -> list[keras.Variable]:
    found: list[keras.Variable] = []
    for maps in selection.maps.values():
        for m in maps:
            found += [m.kernel, *m.extra_kernels, *([] if m.bias is None else [m.bias])]
            found += [] if m.stage is None else [m.stage.kernel]
    for variables in selection.opaque.values():
        found += variables
    return found
