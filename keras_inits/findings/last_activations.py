"""What an output comes out of, against what its loss takes."""

from __future__ import annotations

import math

from keras_inits.findings import loss_remedies as remedies
from keras_inits.findings.loss_families import (
    BINARY,
    CATEGORICAL,
    POISSON,
    ROUNDING,
    SPARSE,
    at,
    is_of_keras,
)
from keras_inits.records import Finding, LossSignal

# What they put out is never negative: a sigmoid of that is never below 0.5.
_POSITIVE = (
    *("exponential", "hard_sigmoid", "relu", "relu6", "sigmoid", "softmax"),
    "softplus",
)
# Probabilities, which a second softmax or sigmoid takes for logits.
_SQUASHING = ("sigmoid", "softmax")
# What Keras adds to the outputs before it takes their logarithm.
EPSILON = 1e-7


def twice(row: LossSignal) -> list[Finding]:
    """A softmax or a sigmoid of what is squashed already, or is never negative."""
    by_loss = is_of_keras(row, BINARY) and bool(row.takes_logits)
    applied = (*row.activations, *(["sigmoid"] if by_loss else []))
    if not is_of_keras(row, BINARY, CATEGORICAL, SPARSE) or len(applied) < 2:
        return []
    inner, outer = applied[-2:]
    if outer == "softmax" and inner in _SQUASHING:
        units = row.units or 2
        largest = math.e / (math.e + units - 1)  # of 1 among zeros
        reach = f"no class gets more than {largest:.2g}"
    elif outer == "sigmoid" and inner in _POSITIVE:
        # A ReLU layer may have a slope below 0.
        largest, least = 0.5, 0.0 if by_loss else 0.5
        if row.output_min is None or row.output_min < least:
            return []
        reach = "it is never below 0.5"
    else:
        return []
    text = f"{row.output} is the {outer} of a {inner}: {reach}"
    if by_loss:
        text = f"{row.loss} takes the {outer} of {row.output}, a {inner}: {reach}"
    return at(row, largest, text, remedies.twice(inner, outer))


def axis(row: LossSignal) -> list[Finding]:
    """A softmax that adds up to 1 elsewhere than over the classes."""
    off = row.off_one or 0.0
    if row.activations[-1:] != ("softmax",) or row.activation != "softmax":
        return []  # behind a Dropout, in training, sums are off, too
    if row.takes_logits or off <= ROUNDING:
        return []
    if not is_of_keras(row, CATEGORICAL, SPARSE):
        return []
    text = (
        f"{row.output} is a softmax over another axis than the last, which holds the "
        f"classes of {row.loss}: their sums are up to {off:.2g} off 1"
    )
    return at(row, off, text, remedies.LAST_AXIS)


def logarithm(row: LossSignal) -> list[Finding]:
    """Outputs below zero where the loss takes their logarithm."""
    low = row.output_min or 0.0
    if not is_of_keras(row, POISSON) or low >= -EPSILON:
        return []
    text = (
        f"{row.loss} takes the logarithm of {row.output}, which puts out {low:.3g} to "
        f"{row.output_max:.3g}: below 0 it is NaN"
    )
    return at(row, low, text, remedies.POSITIVE)
