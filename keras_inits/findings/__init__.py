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
from collections.abc import Callable, Iterable, Sequence

from keras_inits.findings import (
    directions,
    enlarged,
    gradient,
    heads,
    kernels,
    loss,
    remedies,
    scale,
    signal,
    units,
)
from keras_inits.findings.gradient_remedies import is_scaled
from keras_inits.records import (
    INPUT_TYPES,
    BatchNorm,
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
    chain: bool | None = None,
    losses: Sequence[LossSignal] = (),
    mirrors: bool | None = None,
    batch_norm: BatchNorm | None = None,
) -> tuple[Finding, ...]:
    """The findings of a report, the cause first; none for a healthy model.

    Args:
        layers: the records, in call order; rows of type `InputLayer` describe the
            data.
        plain: whether the layers form one chain without skip connection or
            normalisation; None: judged from the records.
        chain: whether all that lies between them is known; None: as `plain`.
        losses: what the loss is given for each output.
        mirrors: False: looks-linear initialisation is refused, or has been done.
        batch_norm: what BatchNormalization did in the pass; None: not known.
    """
    named = zip(layers, unique_names(layers), strict=True)
    layers = [dataclasses.replace(layer, name=name) for layer, name in named]
    inputs = [x for x in layers if x.layer_type in INPUT_TYPES]
    signals = without_inputs(layers)
    plain = is_plain(signals) if plain is None else plain
    fatal = signal.not_finite(inputs, signals, labelled=bool(losses))
    fatal = fatal or scale.same_rows(inputs)
    if fatal:
        return tuple(fatal)
    found = scale.unscaled_input(inputs, signals, plain)
    found += enlarged.rescued(signals, found)
    found += scale.unscaled_embedding(signals, plain)
    # Of several inputs together, none has a shape.
    several = any(x.path or x.output_shape is None for x in inputs)
    unfit = loss.mismatched(losses, signals, several=several)
    found += unfit
    chains = _chains(signals)
    nowhere = gradient.nowhere(signals)
    lost = _merged(_lost(rows, plain) for rows in chains)
    lost = [_through(x, signals) for x in lost] if nowhere else lost
    found += lost
    found += units.copies(signals, plain)
    large = _merged(map(signal.oversized, chains))
    grown = [(signal.exploding(rows, plain), rows) for rows in chains]
    exploded = _merged(_not_by_data(*each, inputs, found) for each in grown)
    exploded = [heads.judged(x, signals, losses) for x in exploded]
    # Along a plain chain the explosion itself says where it begins.
    large = [] if plain and exploded else large
    found += large or exploded
    sure = _merged(map(heads.sure, chains))
    sure = [x for x in sure if x.layer not in {y.layer for y in found}]
    flat = _merged(map(units.saturated, chains))
    found += sure + [x for x in flat if x.layer not in {y.layer for y in sure}]
    blocked = _merged(_blocked(rows, plain) for rows in chains)
    if all(x.severity == "warning" for x in blocked):
        foreseen, known = [], plain if chain is None else chain
        if known and not (large or sure):
            foreseen = gradient.foreseen(signals, plain)
        if any(x.weight_gradient_std is not None for x in signals):
            # Where nothing comes through, no gradient does.
            causes = unfit + (lost if nowhere else [])
            explained = any(x.severity == "error" for x in causes)
            faded = bool(large) or (not plain and any(map(_drifts, chains)))
            unequal = gradient.measured(
                signals,
                losses,
                plain,
                explained=explained,
                faded=faded,
                product=foreseen,
                known=known,
                blamed={x.layer for x in exploded},
            )
            again = {x.layer for x in unequal}  # with what it does to gradients
            found = [x for x in found if not (x in sure and x.layer in again)]
            found += unequal
        else:
            found += foreseen
        if known and all(x.severity == "warning" for x in found):
            found += directions.collapsed(inputs, signals)
        found += _merged(units.dead(x, plain, blocking=False) for x in chains)
    if mirrors is False:
        scaled = is_scaled(signals)
        found = _reworded(found, lambda x: remedies.unmirrored(x, scaled))
    if batch_norm in ("runs", "none"):
        running = batch_norm == "runs"
        found = _reworded(found, lambda x: remedies.awake(x, running))
    return tuple(dict.fromkeys(found))


def _reworded(found: list[Finding], change: Callable[[str], str]) -> list[Finding]:
    return [dataclasses.replace(x, remedy=change(x.remedy)) for x in found]


def _chains(signals: list[LayerSignal]) -> list[list[LayerSignal]]:
    """For each output the layers that lead to it, so that its own come last."""
    names = dict.fromkeys(name for x in signals for name in x.outputs)
    return [
        [x for x in signals if not x.outputs or name in x.outputs] for name in names
    ] or [signals]


def _merged(found: Iterable[list[Finding]]) -> list[Finding]:
    """What one check has found along each chain; of one layer the first."""
    first: dict[str | None, Finding] = {}
    for finding in itertools.chain.from_iterable(found):
        first.setdefault(finding.layer, finding)
    return list(first.values())


def _blocked(signals: Sequence[LayerSignal], plain: bool) -> list[Finding]:
    """A layer that lets nothing through."""
    return (
        signal.frozen(signals, plain)
        or units.dead(signals, plain, blocking=True)
        or units.hushed(signals, plain)
    )


def _lost(signals: Sequence[LayerSignal], plain: bool) -> list[Finding]:
    """Where a signal is lost, little by little or at once."""
    blocked, drift = _blocked(signals, plain), signal.vanishing(signals, plain)
    if blocked and drift and _index(signals, blocked) <= _index(signals, drift):
        drift = []  # behind a blocked layer there is nothing left to vanish
    return drift + blocked


def _drifts(signals: Sequence[LayerSignal]) -> bool:
    """Whether a signal vanishes or explodes, the size of a head apart."""
    found = signal.vanishing(signals, False) + signal.exploding(signals, False)
    return any(x.remedy != remedies.LABELS for x in found)


def _through(found: Finding, signals: Sequence[LayerSignal]) -> Finding:
    """An error where it stops all of a signal: kernels of zeros still learn."""
    row = signal.named(signals, found.layer)
    stops = row.std == 0 and not kernels.is_constant(row)
    return dataclasses.replace(found, severity="error") if stops else found


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
