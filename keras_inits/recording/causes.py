"""What a report says beside the figures: whose doing they may be."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_inits.backends import fetch
from keras_inits.findings.units import HUSHED
from keras_inits.linear_maps import LinearMap
from keras_inits.recording.recorder import Record
from keras_inits.records import LayerSignal, is_finite
from keras_inits.statistics.moments import Moments
from keras_inits.structure.activations import activations_behind
from keras_inits.structure.selection import Selection

Layer = Any
# Correlation of units and their partners: of mirrored ones -1.
ALREADY = -0.99
# Rows of a kernel that are looked at for it.
ROWS = 64
# Layers with a gamma and a beta.
NORMALISATIONS = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
)


def could_be_mirrored(selection: Selection) -> bool | None:
    """False where looks-linear kernels do not suit the model, or are those that it has.

    They pass no max pooling. Of mirrored kernels some rows of the first one show it.
    """
    pools = any("Max" in type(x).__name__ for x in selection.every)
    first = next((maps[0] for maps in selection.maps.values()), None)
    refused = pools or (first is not None and _is_mirrored(first))
    return False if refused else None


def _is_mirrored(m: LinearMap) -> bool:
    shape = m.kernel.shape
    half = shape[-1] // 2
    if m.output_axes != (len(shape) - 1,) or not half:
        return False
    rows = ops.reshape(m.kernel.value, (-1, shape[-1]))
    some = rows[:: max(1, rows.shape[0] // ROWS)]
    [one, other] = fetch([some[:, :half], some[:, half : 2 * half]])
    sizes = (one * one).sum() + (other * other).sum()
    return bool(2.0 * (one * other).sum() < ALREADY * sizes)


def normalisations(selection: Selection, records: Sequence[Record]) -> list[Layer]:
    """Whose output an activation takes that gets zeros, or of which a unit is dead."""
    asked = [
        r.map is None and (r.dead or _is_hushed(r) or _is_zero(r.signal))
        for r in records
    ]
    if not any(asked):
        return [None] * len(records)
    known = (x for x in selection.every if isinstance(x, NORMALISATIONS))
    behind = activations_behind(selection.every)
    before = {id(behind[id(x)]): x for x in known if id(x) in behind}
    several = zip(asked, records, strict=True)
    return [before.get(id(r.layer)) if ask else None for ask, r in several]


def _is_zero(signal: Moments | None) -> bool:
    return signal is not None and signal.mean == signal.variance == 0


def _is_hushed(record: Record) -> bool:
    signal, output = record.signal, record.output
    if signal is None or output is None:
        return False
    return bool(output.variance < HUSHED * HUSHED * signal.variance)


def with_normalisations(
    model: keras.Model, signals: Sequence[LayerSignal], before: Sequence[Layer]
) -> list[LayerSignal]:
    """By name where `model.get_layer` finds them; else by path."""
    own = {id(x) for x in model.layers}
    names = [x and (x.name if id(x) in own else x.path) for x in before]
    several = zip(signals, names, strict=True)
    return [dataclasses.replace(x, normalised=n) if n else x for x, n in several]


def bias_means(
    records: Sequence[Record], before: Sequence[Layer]
) -> list[float | None]:
    """Of biases that a signal contains, where a unit of the model is dead."""
    maps = [r.map if r.map is not None and r.map.in_hand else None for r in records]
    held = [getattr(x, "beta", None) for x in before]
    held = [h if m is None else m.bias for m, h in zip(maps, held, strict=True)]
    biases = [None if x is None else x.value for x in held]
    if not any(r.dead or _is_hushed(r) for r in records):
        return [None] * len(records)
    return [None if x is None else float(x.sum() / x.size) for x in fetch(biases)]


def with_broken(model: keras.Model, signals: list[LayerSignal]) -> list[LayerSignal]:
    """The first row that is not finite says which weight holds NaN or infinity."""
    for i, row in enumerate(signals):
        if not is_finite(row.mean, row.std, row.output_mean, row.output_std):
            broken = filter(_is_broken, _weights_up_to(row, model))
            path = next((v.path for v in broken), None)
            row = dataclasses.replace(row, broken=path)
            return [*signals[:i], row, *signals[i + 1 :]]
    return signals


def _weights_up_to(row: LayerSignal, model: keras.Model) -> list[keras.Variable]:
    """Of what comes before a layer, and its own; all where it has none."""
    own = [i for i, v in enumerate(model.weights) if v.path.startswith(f"{row.path}/")]
    return model.weights[: own[-1] + 1] if own else model.weights


def _is_broken(variable: keras.Variable) -> bool:
    return not np.isfinite(fetch([variable.value])[0]).all()
