"""Histograms of what many layers have shown, many at once."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_inits.plain_record import Histogram

Array = np.ndarray[Any, Any]

BINS = 61
# Values of a layer that are counted, at least: of more, evenly spaced ones.
COUNTED = 4096
# Values that are counted together: temporaries that stay in the cache.
TOGETHER = 2**17
EDGES = np.linspace(-1.0, 1.0, BINS + 1)


def histograms(values: Sequence[Array]) -> list[Histogram | None]:
    """One for each layer, of values that are finite; None where there are none.

    Args:
        values: Of each layer a vector in float32 or wider, see `evenly_spaced`.
    """
    found: list[Histogram | None] = [None] * len(values)
    alike: dict[Any, list[int]] = defaultdict(list)
    for i, x in enumerate(values):
        if x.size:
            alike[x.size, x.dtype].append(i)
    for (size, _), places in alike.items():
        most = max(1, TOGETHER // size)
        for at in range(0, len(places), most):
            some = places[at : at + most]
            block = np.stack([values[i] for i in some])
            reach = np.maximum(block.max(axis=1), -block.min(axis=1))
            finite = np.isfinite(reach)
            for i in np.compress(~finite, some):
                [found[i]] = histograms([values[i][np.isfinite(values[i])]])
            counted = iter(_counted(block[finite], reach[finite]))
            for i in np.compress(finite, some):
                found[i] = next(counted)
    return found


def _counted(values: Array, reach: Array) -> list[Histogram]:
    """Of each row of `(layers, values)`, from `-reach` to `reach`."""
    reach = np.maximum(reach, 1e-37)
    bins = values * (0.5 * BINS / reach)[:, None]
    bins += 0.5 * BINS
    places = bins.astype("int64")
    places += (BINS + 1) * np.arange(len(values))[:, None]
    counts = np.bincount(places.ravel(), minlength=(BINS + 1) * len(values))
    counts = counts.reshape(len(values), BINS + 1)
    counts[:, BINS - 1] += counts[:, BINS]  # the largest value belongs to the last bin
    edges = reach.astype("float64")[:, None] * EDGES
    pairs = zip(counts[:, :BINS].tolist(), edges.tolist(), strict=True)
    return [Histogram(counts=tuple(c), edges=tuple(e)) for c, e in pairs]


def evenly_spaced(rows: Any) -> Array:
    """About `COUNTED` values of `(rows, ...)` as a vector; a view where that can be."""
    values = np.ravel(rows)
    if values.dtype not in (np.float32, np.float64):
        values = values.astype("float32")
    return values[:: _step(values.size, math.prod(np.shape(rows)[1:]))]


def _step(size: int, row: int) -> int:
    """A step through so many values that leaves `COUNTED` and meets every channel."""
    step = max(1, size // COUNTED)
    while math.gcd(step, row) > 1:
        step -= 1
    return step
