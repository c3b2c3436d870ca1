"""Run one pass and read what it has recorded: compiled where that pays, or eagerly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import keras

from keras_inits.backends import fetch, read
from keras_inits.backward.slopes import look_inside
from keras_inits.data.refusals import require_steps
from keras_inits.histograms import evenly_spaced
from keras_inits.passes import compiled
from keras_inits.passes.kinds import kind_of
from keras_inits.passes.packing import refilled
from keras_inits.passes.programs import NOTHING, Begun, begun
from keras_inits.recording.recorder import Record, Recorder
from keras_inits.statistics.moments import UNDERFLOW, Moments, underflows
from keras_inits.structure.selection import LATE, Selection
from keras_inits.sweep import TRACED, sweep
from keras_inits.weights.trial import Trial

VERB = "measure"


def begun_with(model: keras.Model, batch: Callable[[], Any]) -> Begun:
    """The pass, before anything is known of the layers."""
    return begun(model, VERB, lambda: compiled.arguments_of(model, batch()))


def recorded(
    model: keras.Model,
    batch: Any,
    selection: Selection,
    training: bool,
    ahead: Begun = NOTHING,
) -> Recorder:
    """What each stop of one pass shows, in NumPy.

    Args:
        model: A built model.
        batch: What it is called with.
        selection: The layers to stop at.
        training: The mode the layers run in.
        ahead: The pass, where it has `begun`.
    """
    recorder = _compiled(model, batch, selection, training, ahead)
    if recorder is None:
        recorder = _eager(model, batch, selection, training)
    recorder = _in_numpy(recorder)
    for record in recorder.records:
        require_steps(record.layer, record.share)
    late = [r.layer for r in recorder.records if _begins_later(r, recorder, selection)]
    if late:
        selection.late.update(late)
        return recorded(model, batch, selection, training)
    if any(map(_underflows, recorder.records)):
        precise = _eager(model, batch, selection, training, in_float64=True)
        recorder = _in_numpy(precise)
    return recorder


def _begins_later(record: Record, recorder: Recorder, selection: Selection) -> bool:
    """Whether a layer is called again, after one call that takes zeros."""
    again = record.layer in recorder.repeats and selection.late[record.layer] < LATE
    signal, kernel = record.signal, record.kernel
    if not again or signal is None or kernel is None:
        return False
    zeros = signal.mean == signal.variance == 0
    return zeros and bool(kernel.mean**2 + kernel.variance > 0)


def _underflows(record: Record) -> bool:
    """Whether its signal or its kernel is too small for squares in float32."""
    if record.kernel is not None and record.kernel.variance < UNDERFLOW:
        assert record.map is not None
        [kernel] = read([record.map.kernel.value])
        if underflows(record.kernel, kernel):
            return True
    return underflows(record.signal, record.values)


def _in_numpy(recorder: Recorder) -> Recorder:
    records = recorder.records
    # Not in float64: there are many.
    rows = iter(read([x for r in records for x in (r.rows, r.values, r.samples)]))
    figures = [getattr(r, name) for r in records for name in _FIGURES]
    parts = [part for x in figures for part in _parts(x)]
    if not all(x is None or isinstance(x, float) for x in parts):
        parts = fetch(parts)
    arrays = iter(parts)
    found = (_whole(x, [next(arrays) for _ in _parts(x)]) for x in figures)
    columns = ([*(next(found) for _ in _FIGURES), *islice(rows, 3)] for _ in records)
    filled = list(map(_filled, records, columns))
    for record in filled:
        if record.share and record.saturated is not None:  # what is left out is not
            record.saturated = record.saturated / record.share
        if record.values is None:
            record.values = evenly_spaced(record.rows)
    return Recorder(records=filled, repeats=recorder.repeats)


def _eager(
    model: keras.Model,
    batch: Any,
    selection: Selection,
    training: bool,
    in_float64: bool = False,
) -> Recorder:
    kernels = [m.kernel for maps in selection.maps.values() for m in maps]
    for disable_jit in (False, True):
        recorder, trial = Recorder(in_float64), Trial(kernels)
        mode = {"training": training, "disable_jit": disable_jit}
        traced = sweep(model, batch, selection, recorder, trial, **mode)
        if not traced:
            break
    recorder.wide.look(len(recorder.records))
    recorder.finish(trial)
    selection.left.update(dict.fromkeys(traced, TRACED))
    return recorder


# What of a record is a tensor, or Moments of tensors.
_FIGURES = (
    *("signal", "batch_variance", "output", "dead", "saturated"),
    *("gradient_gain", "kernel", "slope", "share"),
)
_TENSORS = (*_FIGURES, "rows", "values", "samples")


def _filled(record: Record, tensors: list[Any]) -> Record:
    filled: Record = refilled(record, dict(zip(_TENSORS, tensors, strict=True)))
    return filled


def _parts(x: Any) -> Sequence[Any]:
    return x if isinstance(x, Moments) else [x]


def _whole(x: Any, parts: Sequence[Any]) -> Any:
    return Moments(*parts) if isinstance(x, Moments) else parts[0]


def _compiled(
    model: keras.Model,
    batch: Any,
    selection: Selection,
    training: bool,
    ahead: Begun,
) -> Recorder | None:
    """The same by one compiled function; None where that is not possible."""
    ahead = ahead.taken()
    variables = model.variables
    if selection.late or not compiled.possible(selection, variables):
        return None

    def trace(trial: Trial, batch: Any) -> tuple[Any, Any]:
        recorder = Recorder()
        sweep(
            model, batch, selection, recorder, trial, training=training, compiled=True
        )
        recorder.wide.look(len(recorder.records))
        found = [[getattr(r, name) for name in _TENSORS] for r in recorder.records]
        bare = [_filled(r, [None] * len(_TENSORS)) for r in recorder.records]
        with trial:
            seen = look_inside(recorder.probes())
        return (found, seen), (bare, recorder.repeats)

    arguments = ahead.arguments or compiled.arguments_of(model, batch)
    kind = kind_of(selection, arguments[1], VERB, training)
    found = compiled.run(model, VERB, kind, variables, arguments, trace, ahead)
    if found is None:
        return None
    (tensors, seen), (bare, repeats) = found
    recorder = Recorder(records=list(map(_filled, bare, tensors)), repeats=repeats)
    recorder.finish(Trial(()), seen)
    return recorder
