"""Data so large that the first kernel has become too small for steps of training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_inits.backends import fetch, read
from keras_inits.findings.scale import MOVED, first_step
from keras_inits.histograms import evenly_spaced
from keras_inits.solving.decision import Decision
from keras_inits.statistics.moments import moments, widen
from keras_inits.weights.trial import Trial

Tensor = Any


def small_kernel(decisions: Sequence[Decision], trial: Trial) -> dict[int, float]:
    """The size of the first kernel, by `id` of it, where it is that small; else {}.

    Args:
        decisions: What a pass has decided.
        trial: The new kernels, not written yet.
    """
    described = ((d, d.map) for d in decisions if d.map and not d.map.lookup)
    first, m = next(described, (None, None))
    if first is None or m is None or not m.kernel.trainable:
        return {}
    kernel = m.kernel
    factors = np.square(first.scale * first.moved).mean()
    size = math.sqrt(_variance(trial.base(kernel)) * float(factors))
    small = size > 0 and first_step(size, kernel.shape) > MOVED
    return {id(kernel): size} if small else {}


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
