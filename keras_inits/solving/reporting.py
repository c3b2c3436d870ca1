"""Decisions as the rows of a report."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_inits.data.input_rows import input_row, with_directions
from keras_inits.findings.directions import is_few
from keras_inits.records import LayerSignal
from keras_inits.report import SignalReport
from keras_inits.solving.decision import Decision, Options
from keras_inits.solving.sizes import Sizes
from keras_inits.solving.verdict import has_moved
from keras_inits.statistics.directions import directions_of
from keras_inits.statistics.moments import Moments
from keras_inits.structure.chains import is_plain
from keras_inits.structure.heads import outputs_led_to
from keras_inits.structure.selection import Selection, covers
from keras_inits.structure.walking import batch_norm, is_bypassed


def report(
    model: keras.Model,
    selection: Selection,
    decisions: Sequence[Decision],
    shared: dict[keras.layers.Layer, int],
    options: Options,
    *,
    training: bool,
    batch: Any,
    data: Any,
    sizes: Sizes,
) -> SignalReport:
    """One row per decision in the order of the calls, then what was left out.

    The data are looked at where `sizes` says so.
    """
    led = outputs_led_to(model)
    rows = [_row(decision, led.get(decision.layer, ())) for decision in decisions]
    inputs = None
    if sizes.data or any(is_few(row.directions) for row in rows):
        inputs = with_directions(input_row(model, batch, data), model, batch)
    for i, decision in enumerate(decisions):
        if size := sizes.of.get(id(decision.variables[0])):
            rows[i] = dataclasses.replace(rows[i], kernel_std=size)
    rows += [_bare(layer, "shared") for layer in shared]
    decided = {id(d.layer) for d in decisions} | {id(layer) for layer in shared}
    left = {layer: reason for layer, reason in selection.left.items()}
    for layer in selection.layers:
        if id(layer) not in decided:
            left.setdefault(layer, "not called")
    rows += [_bare(layer, f"skipped: {reason}") for layer, reason in left.items()]
    notes = sorted({d.map.note for d in decisions if d.map and d.map.note})
    notes += [
        f"What counts of {layer.name} is its call {1 + n}: what it takes before, such "
        "as a state that starts at 0, does not vary."
        for layer, n in selection.late.items()
        if n
    ]
    return SignalReport(
        rows,
        target_std=options.target_std,
        title=f"LSUV of {model.name!r}",
        notes=tuple(notes),
        plain=is_plain(model),
        bypassed=is_bypassed(selection.every),
        batch_norm=batch_norm(selection.every, training),
        inputs=inputs,
        whole=covers(selection, [*(d.layer for d in decisions), *shared]),
    )


def _bare(layer: keras.layers.Layer, status: str) -> LayerSignal:
    return LayerSignal(
        name=layer.name,
        layer_type=type(layer).__name__,
        parameters=layer.count_params() if layer.built else None,
        status=status,
        path=layer.path,
    )


def _row(decision: Decision, outputs: tuple[str, ...]) -> LayerSignal:
    layer = decision.layer
    activation = getattr(layer, "activation", None)
    status = "scaled" if has_moved(decision) else "unchanged"
    status = "shared" if decision.bias_only else status
    if decision.silent_channels:
        total = decision.linear if decision.linear is not None else decision.before
        count = np.size(total.variance)
        status += f", {decision.silent_channels} of {count} channels do not vary"
    mean_before, std_before = _overall(decision, decision.before, decision.moved)
    mean, std = _overall(decision, decision.after)
    return LayerSignal(
        name=layer.name,
        layer_type=type(layer).__name__,
        output_shape=decision.output_shape,
        mean_before=mean_before,
        std_before=std_before,
        mean=mean,
        std=std,
        scale=_compact(decision.scale * decision.moved),
        shift=None if decision.shift is None else _compact(decision.shift),
        iterations=decision.iterations,
        gradient_gain=decision.gradient_gain,
        parameters=layer.count_params(),
        status=status,
        kernel_shape=tuple(decision.variables[0].shape),
        activation=getattr(activation, "__name__", None)
        or (None if activation is None else type(activation).__name__),
        path=layer.path,
        outputs=outputs,
        directions=directions_of(decision.samples),
    )


def _overall(
    decision: Decision, seen: Moments, moved: float = 1.0
) -> tuple[float, float]:
    """One mean and deviation, over all channels; gates are pooled within themselves."""
    means, variances = seen
    if isinstance(means, float):
        return means / moved, math.sqrt(variances) / moved
    gates = decision.map.gates if decision.map is not None else 1
    between = np.reshape(means, (gates, -1)).var(axis=1)
    variance = variances.mean() + between.mean()
    return float(means.mean()) / moved, math.sqrt(variance) / moved


def _compact(values: Any) -> float | tuple[float, ...]:
    if isinstance(values, float):
        return values
    flat = np.ravel(values)
    return float(flat[0]) if flat.size == 1 else tuple(map(float, flat))
