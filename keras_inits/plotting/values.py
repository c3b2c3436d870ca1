"""Figures of a report as arrays to draw."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from keras_inits.records import LayerSignal, is_finite

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# Matplotlib's ticks overflow near the ends of what a float holds.
DRAWN = (1e-200, 1e200)
_SHARES = ("dead_fraction", "saturated_fraction")


def figures(layers: Iterable[LayerSignal | None], field: str) -> Floats:
    """A figure of every layer; NaN where it was not measured, infinity where it is
    NaN or infinite itself, or a share of values that are."""

    most = DRAWN[1]

    def figure(layer: LayerSignal | None) -> float:
        value: float | None = getattr(layer, field, None)
        if layer is None or value is None:
            return math.nan
        # Nothing that is NaN counts as dead or saturated.
        if field in _SHARES and not is_finite(layer.std, layer.output_std):
            return math.inf
        return max(-most, min(value, most)) if math.isfinite(value) else math.inf

    return np.array([figure(layer) for layer in layers], dtype=float)


def loggable(values: Floats) -> Floats:
    """What a logarithmic axis can show; NaN for the rest."""
    good = np.where(np.isfinite(values) & (values > 0), values, np.nan)
    return np.clip(good, *DRAWN)
