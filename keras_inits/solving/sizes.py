"""What the new kernels tell of data and of the old ones: sizes that a report needs.

They are read where the report has something to say of them, and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_inits.backends import fetch, read
from keras_inits.data.arrays import arrays_of
from keras_inits.data.normalizers import has_normalizer
from keras_inits.distribution import is_global
from keras_inits.findings.enlarged import FIRST, is_enlarged
from keras_inits.findings.scale import INPUT_RMS, MOVED, STUCK, first_step
from keras_inits.histograms import evenly_spaced
from keras_inits.solving.decision import Decision
from keras_inits.statistics.moments import moments, widen
from keras_inits.structure.takers import first_kernels
from keras_inits.weights.trial import Trial

Tensor = Any

# Values of one of several inputs that are looked at, in whole rows.
GLIMPSE = 2**14


class Sizes(NamedTuple):
    """Deviations of new kernels.

    Args:
        of: By `id` of the kernel, those that are to be said.
        data: Whether one that takes data is of a size that these are to be looked at.
    """

    of: dict[int, float]
    data: bool


def telling_sizes(
    model: keras.Model,
    decisions: Sequence[Decision],
    trial: Trial,
    target: float,
    every: Iterable[keras.layers.Layer],
    batch: Any,
) -> Sizes:
    """Of kernels that make up for their data, and of those that were all but 0.

    The first kernel takes data. Where one of several inputs is far from order 1, any of
    the others may be what takes it.

    Args:
        model: What the pass has called.
        decisions: What it has decided.
        trial: The new kernels, not written yet.
        target: The deviation of their signals.
        every: All layers of the model.
        batch: What the model was called with.
    """
    found: dict[int, float] = {}
    for d in decisions:
        factor = d.scale * d.moved
        most = factor if isinstance(factor, float) else float(np.max(factor))
        if is_enlarged(most, target) and not _scaled_to_data(model, d, most):
            # Channels may differ by as much: of the kernel as it is to be.
            new = trial.scaled(d.variables[0])
            found[id(d.variables[0])] = math.sqrt(_variance(new))
    taking = [d for d in decisions if d.map and not d.map.lookup]
    taking = taking if _one_is_raw(batch) else taking[:1]
    adapts, data = has_normalizer(every), False
    for d in taking:
        assert d.map is not None
        kernel = d.map.kernel
        if not kernel.trainable:
            continue
        size = found.get(id(kernel)) or _new_size(d, kernel, trial)
        moved = first_step(size, kernel.shape) if size > 0 else 1.0
        telling = not STUCK < moved < MOVED
        if telling:
            found[id(kernel)] = size
        data = data or telling or (adapts and _takes_raw(d, size))
    return Sizes(found, data)


def _scaled_to_data(model: keras.Model, d: Decision, factor: float) -> bool:
    """Whether it may only be back from what data were that were raw once.

    The very first row is judged by the report.
    """
    return factor < FIRST and any(x is d.layer for x in first_kernels(model))


def _one_is_raw(batch: Any) -> bool:
    """Whether one of several inputs is far from order 1, at a glance."""
    arrays = arrays_of(batch)
    return len(arrays) > 1 and not all(map(_is_usual, arrays))


def _is_usual(x: Any) -> bool:
    size = math.prod(x.shape[1:])
    if not size or not len(x) or is_global(x):
        return True
    [values] = read([x[:: math.ceil(len(x) * size / GLIMPSE)]])
    if values.dtype.kind not in "fiu":  # nor are they numbers
        return True
    low, high = INPUT_RMS
    square = np.mean(np.square(values, dtype="float64"))
    return bool(low * low <= square <= high * high)


def _takes_raw(first: Decision, size: float) -> bool:
    """Whether what a layer takes is far from order 1, by its kernel and its signal."""
    assert first.map is not None
    if first.map.positions is None:  # its fan-in is not known
        return False
    seen = first.linear or first.before
    square = float(np.mean(np.square(seen.mean) + seen.variance))
    factor = float(np.sqrt(np.square(first.scale).mean()))
    unit = size / factor * math.sqrt(first.map.fans.fan_in)
    low, high = INPUT_RMS
    return size > 0 and not 3 * low < math.sqrt(square) / unit < high / 3


def _new_size(decision: Decision, kernel: keras.Variable, trial: Trial) -> float:
    factors = np.square(decision.scale * decision.moved).mean()
    return math.sqrt(_variance(trial.base(kernel)) * float(factors))


def _variance(kernel: Tensor) -> float:
    """Of evenly spaced values, where no device has to be asked: it is busy."""
    if _in_memory(kernel):
        [values] = read([kernel])
        values = evenly_spaced(values).astype("float64")
        values -= values.mean()
        return float(values.dot(values)) / values.size
    [variance] = fetch([moments(widen(kernel)).variance])
    return float(variance)


def _in_memory(tensor: Tensor) -> bool:
    """Whether one CPU has it: to read it copies nothing, and waits for nothing else."""
    devices = tensor.devices() if hasattr(tensor, "devices") else [tensor.device]
    return len(devices) == 1 and "cpu" in str(*devices).lower()
