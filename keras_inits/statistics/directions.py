"""How many directions samples lie along, which no deviation shows.

The participation ratio of a signal's principal components, `(sum of variances)^2 / sum
of their squares`: n where n directions vary alike, 1 where all samples lie on one line.
It is taken from the products of samples, `(samples, samples)`: few, whatever the width.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import ops

from keras_inits.backends import fused, read
from keras_inits.statistics.masked import Steps

Tensor = Any

# Samples that are looked at, and values of each.
SAMPLES = 64
VALUES = 1024
# From so many layers on samples may have come to lie along one line; of layers with so
# many units, by so many samples, one can tell.
DEEP, WIDE, ENOUGH = 30, 16, 16
# Signals of more values are not kept until the pass is over.
LARGE = 2**22


class LastWide:
    """The last signal of a pass that tells, until the pass is over."""

    def __init__(self) -> None:
        self._seen: tuple[Any, Tensor] | None = None

    def see(self, record: Any, z: Tensor, units: int, steps: Steps) -> None:
        """Take the place of the one before.

        Args:
            record: What is noted of the signal.
            z: A tensor `(batch, ...)`.
            units: How many there are for each position.
            steps: Those that count; where some do not, it tells nothing.
        """
        shape = tuple(z.shape)
        if units < WIDE or len(shape) < 2 or None in shape or shape[0] < ENOUGH:
            return
        if math.prod(shape) <= LARGE and steps.of(z) is None:
            self._seen = record, z

    def look(self, layers: int) -> None:
        """After the last of these layers: some samples for the record, as `samples`."""
        if self._seen is not None and layers >= DEEP:
            record, z = self._seen
            record.samples = fused(some_samples)(z)
        self._seen = None


def some_samples(z: Tensor) -> Tensor:
    """Of a signal `(batch, ...)` the first samples: `(samples, values)`."""
    samples, size = min(SAMPLES, z.shape[0]), math.prod(z.shape[1:])
    few = ops.reshape(z[:SAMPLES], (samples, size))
    return few[:, :: size // VALUES | 1]  # an odd step meets every channel


def directions_of(samples: Tensor | None) -> float | None:
    """Of what `LastWide` has kept, if anything: its participation ratio."""
    return None if samples is None else participation_ratio(*read([samples]))


def participation_ratio(samples: Any) -> float | None:
    """Of an array `(samples, values)`; None where they do not vary, or are not finite.

    Args:
        samples: Two at least.
    """
    centred = np.asarray(samples, "float64")
    largest = np.abs(centred).max(initial=0.0)
    if len(centred) < 2 or not 0.0 < largest < np.inf:  # NaN, too
        return None
    centred = centred / largest
    centred = centred - centred.mean(axis=0)
    products = centred @ centred.T
    total = float(np.trace(products))
    if not total > 0.0:
        return None
    return total**2 / float(np.sum(products**2))
