"""What is wrong, in words: findings drawn from the figures of a report.

`find` asks in the order in which one trouble causes the next: a bad input, a kernel
of zeros and a dead layer make a signal vanish; a signal that vanishes or explodes
takes the gradient with it. So the first finding names the cause, and what merely
follows from it is left out.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

from keras_inits.findings import gradient, loss, scale, signal
from keras_inits.records import (
    INPUT_TYPES,
    Finding,
    LayerSignal,
    LossSignal,
    unique_names,
    without_inputs,
)

_BYPASSES = frozenset(
    {
        "Add",
        "AdditiveAttention",
        "Attention",
        "Average",
        "Concatenate",
        "GroupedQueryAttention",
        "Maximum",
        "MultiHeadAttention",
        "Multiply",
        "Subtract",
    }
)
_PROJECTIONS = frozenset({"query", "key", "value", "attention_output"})


def find(
    layers: Sequence[LayerSignal],
    *,
    plain: bool | None = None,
    losses: Sequence[LossSignal] = (),
) -> tuple[Finding, ...]:
    """The findings of a report, the cause first; none for a healthy model.

    Args:
        layers: the records, in call order; rows of type `InputLayer` describe the
            data.
        plain: whether the layers form one chain without skip connection or
            normalisation; None: judged from the records.
        losses: what the loss is given for each output.
    """
    named = zip(layers, unique_names(layers), strict=True)
    layers = [dataclasses.replace(layer, name=name) for layer, name in named]
    inputs = [x for x in layers if x.layer_type in INPUT_TYPES]
    signals = without_inputs(layers)
    plain = is_plain(signals) if plain is None else plain
    fatal = signal.not_finite(inputs, signals) or scale.same_rows(inputs)
    if fatal:
        return tuple(fatal)
    found = scale.unscaled_input(inputs, signals, plain)
    found += scale.unscaled_embedding(signals, plain)
    found += loss.mismatched(losses, signals)
    blocked = signal.frozen(signals, plain) or signal.dead(
        signals, plain, blocking=True
    )
    drift = signal.vanishing(signals, plain)
    if blocked and drift and _index(signals, blocked) <= _index(signals, drift):
        drift = []  # behind a blocked layer there is nothing left to vanish
    found += drift + blocked if drift else blocked
    found += _not_by_data(signal.exploding(signals, plain), signals, inputs, found)
    found += signal.saturated(signals)
    if not blocked or blocked[0].severity == "warning":
        if any(x.weight_gradient_std is not None for x in signals):
            found += gradient.measured(signals, losses, plain)
        elif plain:
            found += gradient.foreseen(signals)
        found += signal.dead(signals, plain, blocking=False)
    return tuple(dict.fromkeys(found))


def _not_by_data(
    grown: list[Finding],
    signals: Sequence[LayerSignal],
    inputs: Sequence[LayerSignal],
    found: Sequence[Finding],
) -> list[Finding]:
    """An explosion, unless it is as large as the input that is blamed already."""
    blamed = {x.layer for x in found}
    sizes = [math.hypot(x.mean or 0, x.std or 0) for x in inputs if x.name in blamed]
    largest = max((x.std or 0.0 for x in signals), default=0.0)
    return [] if sizes and largest <= signal.EXPLODED * max(sizes) else grown


def _index(signals: Sequence[LayerSignal], found: Sequence[Finding]) -> int:
    """Where along the chain the first of these findings is."""
    return [x.name for x in signals].index(found[0].layer or "")


def is_plain(signals: Sequence[LayerSignal]) -> bool:
    """Whether each layer seems to feed the next, and nothing else.

    Judged by layer types, by the names of attention's projections, and by whether
    the channels that one layer gives are those that the next one takes.
    """
    for layer in signals:
        if "Normalization" in layer.layer_type or layer.layer_type in _BYPASSES:
            return False
    if _PROJECTIONS <= {layer.name.split("/")[-1] for layer in signals}:
        return False
    for before, after in itertools.pairwise(signals):
        kernel, shape = after.kernel_shape, before.output_shape
        if not kernel or len(kernel) < 2 or not shape or not shape[-1]:
            continue
        # A Flatten in between multiplies the channels by the positions.
        if after.layer_type in ("Dense", "Conv2D") and kernel[-2] % shape[-1]:
            return False
    return True
