"""What is wrong between outputs, labels and loss: no initialisation mends that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from keras_inits.findings import last_activations
from keras_inits.findings import loss_remedies as remedies
from keras_inits.findings.data_remedies import clean_labels
from keras_inits.findings.loss_families import (
    BINARY,
    CATEGORICAL,
    OF_ANY_SIZE,
    REGRESSION,
    ROUNDING,
    SPARSE,
    at,
    is_of,
    is_of_keras,
)
from keras_inits.records import Finding, LayerSignal, LossSignal, Severity

# What activations put out.
RANGES = {
    "hard_sigmoid": (0.0, 1.0),
    "hard_tanh": (-1.0, 1.0),
    "relu": (0.0, math.inf),
    "relu6": (0.0, 6.0),
    "sigmoid": (0.0, 1.0),
    "softmax": (0.0, 1.0),
    "softplus": (0.0, math.inf),
    "softsign": (-1.0, 1.0),
    "tanh": (-1.0, 1.0),
}

# Activations whose output is cut off; others may be scores, which Keras adds up to 1.
_CUT_OFF = ("linear", "relu", "relu6")
# Share of labels outside what the activation puts out that is no accident.
OUTSIDE = 0.01
# Labels so many times as large as the outputs: the first steps go into their scale.
LARGE_LABELS = 30.0


def mismatched(
    losses: Sequence[LossSignal],
    signals: Sequence[LayerSignal],
    *,
    several: bool = False,
) -> list[Finding]:
    """The first of each output's troubles, outputs in their order.

    Args:
        losses: what the loss is given for each output.
        signals: the layers' rows.
        several: whether the data are several arrays.
    """
    found = _single_unit(signals)
    blamed = {x.layer for x in found}
    nan = partial(_nan, several=several or len(losses) > 1)
    before = (nan, columns, _one_unit, _classes, _logits)
    applied = (last_activations.axis, last_activations.twice)
    after = (last_activations.logarithm, _targets, _range, _alike, _scale)
    for row in losses:
        answers = (ask(row) for ask in (*before, *applied, *after))
        first = next(filter(None, answers), [])
        if not (row.output in blamed and _one_unit(row)):
            found += first
    return found


def _single_unit(signals: Sequence[LayerSignal]) -> list[Finding]:
    for row in signals:
        shape = row.output_shape or ()
        # A Softmax layer may add up along another axis: over time, say.
        last = row.layer_type != "Softmax" or len(shape) == 2
        if row.activation == "softmax" and last and shape[1:][-1:] == (1,):
            text = f"{row.name} is a softmax over 1 unit: it puts out 1 for any input"
            return [Finding.at(row, 1.0, text, remedies.SINGLE_UNIT)]
    return []


def unusable(row: LossSignal) -> bool:
    """Whether the loss is given labels that it is not made for: some backends stop."""
    unfit = columns(row) or _one_unit(row) or _classes(row)
    return bool(unfit or (is_of(row, BINARY) and _targets(row)))


def _nan(row: LossSignal, several: bool = False) -> list[Finding]:
    low, high = row.labels_min or 0.0, row.labels_max or 0.0
    if math.isfinite(low) and math.isfinite(high):
        return []
    text = f"labels of {row.output} hold NaN or infinity"
    return at(row, math.nan, text, clean_labels(several))


def columns(row: LossSignal) -> list[Finding]:
    """Class numbers where the loss takes a column for each class, or the reverse."""
    y, shape = row.labels_shape, row.output_shape
    if y is None or shape is None or len(shape) < 2 or row.units == 1:
        return []
    same = len(y) == len(shape)
    numbers = y[-1] == 1 if same else len(y) == len(shape) - 1
    if is_of(row, SPARSE) and same and not numbers:
        takes = f"class numbers, {shape[:-1]}"
    elif is_of(row, CATEGORICAL) and numbers:
        takes = f"a column for each class, {shape}"
    elif is_of_keras(row, BINARY) and numbers:
        takes = f"a column for each unit, {shape}"
    else:
        return []
    text = (
        f"labels of {row.output} have shape {y}, and for outputs of shape {shape} "
        f"{row.loss} takes {takes}"
    )
    return at(row, None, text, remedies.other_crossentropy(row))


def _one_unit(row: LossSignal) -> list[Finding]:
    """Units to choose from, and only one of them."""
    if row.units != 1 or row.output_shape is None or _nan(row):
        return []
    if not is_of_keras(row, CATEGORICAL, SPARSE) or len(row.output_shape) < 2:
        return []
    if is_of(row, SPARSE) and row.labels_fractional:
        return []  # whatever the units, these are no classes
    text = (
        f"{row.loss} takes one unit for each class, and {row.output} has only one: its "
        "share of the whole is 1, whatever it puts out"
    )
    return at(row, 1.0, text, remedies.one_unit(row))


def _classes(row: LossSignal) -> list[Finding]:
    """Class numbers that no unit stands for."""
    low, high, units = row.labels_min, row.labels_max, row.units
    if not is_of(row, SPARSE) or low is None or high is None or units is None:
        return []
    fit = 0 <= low and high < units and not row.labels_fractional
    if fit or _nan(row):
        return []
    if row.labels_fractional:
        text = (
            f"{100 * row.labels_fractional:.0f} % of the labels of {row.output} are "
            f"fractions ({low:.4g} to {high:.4g}), and classes are numbered 0 to "
            f"{units - 1}: the rest is cut off"
        )
        return at(row, row.labels_fractional, text, remedies.NUMBER_CLASSES)
    text = (
        f"labels of {row.output} go from {low:.6g} to {high:.6g}, and its {units} "
        f"units are the classes 0 to {units - 1}"
    )
    return at(row, low if low < 0 else high, text, remedies.classes(row))


def _logits(row: LossSignal) -> list[Finding]:
    """Probabilities where the loss takes logits, or the reverse."""
    low, high, off = row.output_min, row.output_max, row.off_one
    if row.takes_logits is None or low is None or high is None or off is None:
        return []
    between = low >= 0 and high <= 1
    several = is_of(row, SPARSE, CATEGORICAL) and (row.units or 2) > 1
    if row.takes_logits:
        sums = several and between and off < ROUNDING
        sigmoid = is_of(row, BINARY) and between and row.activation == "sigmoid"
        if not (sums or sigmoid):
            return []
        text = (
            f"{row.loss} takes logits, and {row.output} puts out probabilities "
            "already (on JAX and PyTorch they are squashed twice)"
        )
        return at(row, high, text, remedies.SQUASHED_TWICE)
    binary = is_of(row, BINARY)
    open_ended = row.activation in _CUT_OFF
    outside = low < 0 or (binary and high > 1 + ROUNDING)
    unfit = binary and (outside or open_ended)
    unfit = unfit or (several and (outside or (open_ended and off > ROUNDING)))
    if not unfit:
        return []
    text = (
        f"{row.loss} takes probabilities, and {row.output} puts out {low:.3g} to "
        f"{high:.3g}: what lies outside 0..1 is cut off, and has no gradient there"
    )
    return at(row, low if low < 0 else high, text, remedies.NOT_SQUASHED)


def _targets(row: LossSignal) -> list[Finding]:
    """Labels that are no probabilities, where the loss takes those."""
    low, high = row.labels_min, row.labels_max
    if not is_of(row, BINARY, CATEGORICAL) or low is None or high is None:
        return []
    if (low >= -ROUNDING and high <= 1 + ROUNDING) or _nan(row):
        return []
    text = (
        f"labels of {row.output} go from {low:.4g} to {high:.4g}, and {row.loss} takes "
        "probabilities, 0 to 1"
    )
    # Columns weighted by a reward are well defined.
    severity: Severity = "error" if is_of(row, BINARY) else "warning"
    remedy = remedies.not_probabilities(row)
    return at(row, low if low < 0 else high, text, remedy, severity)


def _range(row: LossSignal) -> list[Finding]:
    """Labels that the activation cannot put out."""
    bounds, share = RANGES.get(row.activation or ""), row.labels_outside or 0.0
    if not is_of(row, REGRESSION) or bounds is None or share <= OUTSIDE:
        return []
    low, high = bounds
    reach = f"{low:g} to {high:g}" if math.isfinite(high) else f"{low:g} and more"
    text = (
        f"{100 * share:.0f} % of the labels of {row.output} are beyond its "
        f"{row.activation}: they go from {row.labels_min:.4g} to "
        f"{row.labels_max:.4g}, and it puts out {reach}"
    )
    return at(row, share, text, remedies.OUT_OF_RANGE)


def _alike(row: LossSignal) -> list[Finding]:
    """Nothing to tell apart."""
    known = is_of(row, BINARY, CATEGORICAL, SPARSE, REGRESSION)
    if not (known and row.labels_alike):  # others may not look at them
        return []
    which = f" ({row.labels_max:.4g})" if row.labels_min == row.labels_max else ""
    text = f"the labels of {row.output} are the same in every row that was drawn{which}"
    return at(row, row.labels_max, text, remedies.LABELS_ALIKE, "warning")


def _scale(row: LossSignal) -> list[Finding]:
    """Regression to numbers that are far larger than what comes out."""
    low, high = row.output_min, row.output_max
    if not is_of(row, OF_ANY_SIZE) or low is None or high is None:
        return []
    mean, std = row.labels_mean or 0.0, row.labels_std or 0.0
    largest = max(abs(low), abs(high), 1.0)
    size = math.hypot(mean, std)
    if not math.isfinite(size) or size <= LARGE_LABELS * largest:
        return []
    text = (
        f"the labels of {row.output} are not standardised (mean {mean:.3g}, std "
        f"{std:.3g}; its outputs reach {largest:.2g})"
    )
    return at(row, size, text, remedies.STANDARDISE_LABELS, "warning")
