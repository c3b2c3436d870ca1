"""What can be wrong before the first layer: the scale of data and of embeddings."""

from __future__ import annotations

import math
from collections.abc import Sequence

from keras_inits.findings import data_remedies, remedies
from keras_inits.findings.kernels import kernel_input_rms
from keras_inits.findings.signal import VANISHED, exploding, named
from keras_inits.records import Finding, LayerSignal, Severity

# Standardised data has deviation 1; images in 0..1 have 0.2 to 0.5, pixels 50 to 80.
INPUT_RMS = (1e-2, 10.0)
# Keras's learning rate, which is Adam's first step; deviations that it may move the
# first signal by: 0.8 with 784 standardised inputs, 67 with as many pixels in 0..255.
ADAM_STEP = 1e-3
MOVED = 3.0
# ... and by less than this nothing is learnt; with one standardised input it is 1e-3.
STUCK = 1e-4
# Vectors of an embedding; Keras draws them with 0.03.
EMBEDDING_STD = (1e-4, 1e2)


def same_rows(inputs: Sequence[LayerSignal]) -> list[Finding]:
    """Data of which each sample is every other."""
    for row in inputs:
        if row.batch_std == 0 and (row.std or row.mean):
            text = f"the rows of input {row.name} are all the same"
            return [Finding.at(row, 0.0, text, data_remedies.DIFFERENT_ROWS)]
    return []


def unscaled_input(
    inputs: Sequence[LayerSignal], signals: Sequence[LayerSignal], plain: bool
) -> list[Finding]:
    """Data that is not of order 1, or that the first kernel alone makes so."""
    if any(x.layer_type == "Embedding" for x in signals):
        # Indices are of any size.
        inputs = [x for x in inputs if not x.indices]
        signals = [x for x in signals if inputs and x.layer_type != "Embedding"]
    first = next((x for x in signals if x.std is not None), None)
    if first is None:
        return []
    size = math.hypot(first.mean or 0.0, first.std or 0.0)
    idle = next((x for x in inputs if x.unadapted), None)
    if idle is not None:
        return [_not_adapted(idle, again=first.scale is not None)]
    if VANISHED <= (first.std or 0.0) and size <= INPUT_RMS[1]:  # by model, or by LSUV
        large = [x for x in inputs if _is_felt(x, signals)]
        if not large:
            return _made_up_for(inputs, signals, first)
        inputs = large
    # Normalisation inside the model copes, at the price of a slow start.
    severity: Severity = "error" if plain else "warning"
    for row in inputs:
        mean, std = row.mean or 0.0, row.std
        if std is None:
            continue
        if not INPUT_RMS[0] <= math.hypot(mean, std) <= INPUT_RMS[1]:
            wrong = "is constant" if std == 0 else "is not standardised"
            figures = f"mean {mean:.3g}, std {std:.3g}{_by_column(row)}"
            text = f"input {row.name} {wrong} ({figures})"
            return [
                Finding.at(row, std, text, data_remedies.standardise(row), severity)
            ]
    # A signal that LSUV has scaled says nothing of the input.
    told = not inputs and first.scale is None
    if told and _input_rms(first, signals) > INPUT_RMS[1]:
        text = (
            f"the input is not standardised (the signal of {first.name}, the first "
            f"layer, has std {first.std:.3g})"
        )
        remedy = data_remedies.standardise(first)
        return [Finding.at(first, first.std, text, remedy, severity)]
    return []


def _not_adapted(row: LayerSignal, *, again: bool) -> Finding:
    """A layer of the model's own that is to standardise the data."""
    figures = f"mean {row.mean or 0.0:.3g}, std {row.std or 0.0:.3g}{_by_column(row)}"
    text = (
        f"{row.unadapted} has not been adapted: it passes input {row.name} on as it "
        f"is, not standardised ({figures})"
    )
    return Finding.at(row, row.std, text, data_remedies.adapt(row, again=again))


def _by_column(row: LayerSignal) -> str:
    """Where columns differ, two that show it."""
    kind = data_remedies.column_of(row)
    each = (f"{kind} {i!r}: mean {m:.3g}, std {s:.3g}" for i, m, s in row.columns)
    return "".join(f"; {text}" for text in each)


def _made_up_for(
    inputs: Sequence[LayerSignal], signals: Sequence[LayerSignal], first: LayerSignal
) -> list[Finding]:
    """Large data that nothing scales before a first kernel, which is small instead.

    A step of Adam's is as large for every weight, whatever that multiplies. Tiny data
    that the first kernel makes up for are not learnt from, likewise.
    """
    if len(inputs) != 1 or not inputs[0].std:
        return []
    [row] = inputs
    # One of several inputs may be what a later layer takes.
    taking = [first] if row.path is None else signals
    found = (_made_up_by(layer, row) for layer in taking)
    return next(filter(None, found), [])


def _made_up_by(first: LayerSignal, row: LayerSignal) -> list[Finding]:
    if not (first.kernel_std and first.trainable):
        return []
    size = math.hypot(row.mean or 0.0, row.std or 0.0)
    moved = first_step(first.kernel_std, first.kernel_shape or ())
    large = size > INPUT_RMS[1] and moved > MOVED
    small = size < INPUT_RMS[0] and moved < STUCK
    if not (large or small) or not _is_of(size, first):
        return []
    figures = f"mean {row.mean:.3g}, std {row.std:.3g}{_by_column(row)}"
    by = f"may move its signal by {moved:.2g} deviations"
    by = by if large else f"moves its signal by no more than {moved:.2g} deviations"
    text = (
        f"input {row.name} is not standardised ({figures}): the kernel of {first.name} "
        f"makes up for that (std {first.kernel_std:.2g}), and the first step of Adam, "
        f"{ADAM_STEP:g} for each weight, {by}"
    )
    return [Finding.at(row, row.std, text, data_remedies.standardise(row), "warning")]


def first_step(kernel_std: float, shape: Sequence[int]) -> float:
    """Deviations that Adam's first step may move the signal of such a kernel by."""
    return ADAM_STEP * math.sqrt(math.prod(shape[:-1])) / kernel_std


def _is_of(size: float, layer: LayerSignal) -> bool:
    """Whether a layer may take what is of this size, by its kernel and signal."""
    return 0.1 * size < kernel_input_rms(layer) < 10 * size


def _is_felt(row: LayerSignal, signals: Sequence[LayerSignal]) -> bool:
    """Whether a later layer takes this one of several inputs as it is, and shows it.

    Either the signal explodes there, or no layer before gives what it takes.
    """
    if row.path is None:
        return False
    size = math.hypot(row.mean or 0.0, row.std or 0.0)
    felt = [named(signals, x.layer) for x in exploding(signals)[:1]]
    low, high = INPUT_RMS
    for layer in signals:
        own = math.hypot(layer.mean or 0.0, layer.std or 0.0)
        taken = kernel_input_rms(layer)
        if min(own, taken) > 3 * high or 0 < max(own, taken) < low / 3:
            felt.append(layer)
        low, high = min(low, own or low), max(high, own)
    return any(_is_of(size, layer) for layer in felt)


def unscaled_embedding(signals: Sequence[LayerSignal], plain: bool) -> list[Finding]:
    """Vectors far from every usual scale; what comes behind is measured by them."""
    for row in signals:
        std = row.output_std if row.output_std is not None else row.std
        if row.layer_type != "Embedding" or not std:
            continue
        if not EMBEDDING_STD[0] <= std <= EMBEDDING_STD[1]:
            text = f"the vectors of {row.name} are far from order 1 (std {std:.2g})"
            severity: Severity = "error" if plain else "warning"
            return [Finding.at(row, std, text, remedies.redraw([row]), severity)]
    return []


def _input_rms(first: LayerSignal, signals: Sequence[LayerSignal]) -> float:
    """The size that the data must have had for the first layer's signal."""
    if first.kernel_std and first.kernel_shape:
        return kernel_input_rms(first)
    # Kernel unknown: kernels that are too large would go on multiplying.
    later = [x.std for x in signals if x.std]
    growth = (later[-1] / later[0]) ** (1 / max(len(later) - 1, 1))
    return (first.std or 0.0) if growth < 3 else 0.0
