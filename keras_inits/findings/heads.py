"""The size of a last layer, against the labels that it is trained to."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from keras_inits.findings import loss_remedies, remedies, signal
from keras_inits.findings.loss_families import BINARY, CATEGORICAL, SPARSE, is_of
from keras_inits.records import Finding, LayerSignal, LossSignal


def judged(
    found: Finding, signals: Sequence[LayerSignal], losses: Sequence[LossSignal]
) -> Finding:
    """What is asked about labels, answered where they are known."""
    row = next((x for x in losses if x.output == found.layer), None)
    row = losses[0] if row is None and len(losses) == 1 else row
    if found.remedy != remedies.LABELS or row is None:
        return found
    remedy = loss_remedies.STANDARDISE_LABELS
    if is_of(row, BINARY, CATEGORICAL, SPARSE) or _are_small(row, found):
        remedy = remedies.redraw([signal.named(signals, found.layer)])
    return dataclasses.replace(found, remedy=remedy)


def _are_small(row: LossSignal, found: Finding) -> bool:
    size = math.hypot(row.labels_mean or 0.0, row.labels_std or 0.0)
    known = row.labels_std is not None
    return known and size * signal.HEAD_JUMP < (found.figure or 0.0)
