"""The size of a last layer, against the labels that it is trained to."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from keras_inits.findings import loss_remedies, remedies, signal
from keras_inits.findings.kernels import enlarges
from keras_inits.findings.loss_families import BINARY, CATEGORICAL, SPARSE, is_of
from keras_inits.findings.units import WORTH_A_WORD
from keras_inits.records import Finding, LayerSignal, LossSignal

# Deviation of logits: a sigmoid is flat beyond 6, to 1 % of its slope.
SURE = 6.0
# Keras clips probabilities at 1e-7: -log of that.
FLAT = -math.log(1e-7)


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


def sure(signals: Sequence[LayerSignal]) -> list[Finding]:
    """Logits so large that a softmax, or a sigmoid, is sure of every sample.

    By a kernel that no initialisation draws, or by what sums and products make of
    layers that are of another size. Of a trained head neither is so.
    """
    rows = [x for x in signals if x.std]
    if not rows:
        return []
    last = rows[-1]
    squashed = last.activation if last.activation in signal.SQUASHING else last.squashed
    size = last.std or 0.0
    if squashed is None or size <= SURE:
        return []
    own = _kernel_of(last, rows)
    if own is not None:
        if not own.trainable or enlarges(own) <= signal.HEAD_JUMP:
            return []
        text = (
            f"the kernel of {own.name} is too large: it makes what it takes "
            f"{enlarges(own):.3g} times as large, and the {squashed} of that is sure "
            f"of every sample (std {size:.2g})"
        )
        remedy = remedies.redraw([own])
        return [Finding.at(own, size, text, remedy, "warning")]
    if (last.saturated_fraction or 0.0) >= WORTH_A_WORD:
        return []  # which says as much
    before = max((x.std or 0.0 for x in rows if x.kernel_shape), default=math.inf)
    least = SURE if squashed == "sigmoid" else FLAT
    if size <= max(least, remedies.SUMMED * before):
        return []
    text = (
        f"what {last.name} takes or adds up is too large for a {squashed} (std "
        f"{size:.2g}): the layers before it give {before:.2g} at most"
    )
    return [Finding.at(last, size, text, remedies.sure(last, rows), "warning")]


def _kernel_of(last: LayerSignal, rows: Sequence[LayerSignal]) -> LayerSignal | None:
    """The layer whose kernel makes the logits, where nothing lies between."""
    if last.kernel_shape is not None:
        return last
    row = rows[-2] if len(rows) > 1 else last
    same = math.isclose(row.std or 0.0, last.std or 0.0, rel_tol=1e-3)
    return row if row.kernel_shape is not None and same else None
