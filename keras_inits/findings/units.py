"""What can go wrong with single units: they are dead, or saturated."""

from __future__ import annotations

from collections.abc import Sequence

from keras_inits.findings import remedies
from keras_inits.findings.kernels import is_constant
from keras_inits.records import Finding, LayerSignal, Severity

# An output of exactly 0 is a rounded one.
NEVER_ZERO = frozenset({"exponential", "sigmoid", "softplus"})
# Share of dead or saturated units that is worth a word, and that stops training.
WORTH_A_WORD = 0.25
DEAD = 0.9
SATURATED = 0.75
# Of dead units those of zeros, so that these are the cause.
MOST = 0.8
# Deviation of an output over that of the pre-activation: below, it has no slope.
HUSHED = 1e-3


def dead(
    signals: Sequence[LayerSignal], plain: bool, *, blocking: bool
) -> list[Finding]:
    """Units that are zero for the whole batch: they pass no gradient.

    `blocking` asks for those that stop the signal: nearly all units, or many that a
    bias has pushed below zero.
    """
    rows = [x for x in signals if (x.dead_fraction or 0.0) >= WORTH_A_WORD]
    # A frozen layer is no dead one, and where nothing arrives nothing comes out.
    rows = [x for x in rows if not is_constant(x) and x.std != 0]
    # A softmax, or the output of a classifier, is rounded to 0.
    rows = [x for x in rows if x.activation != "softmax" and not _is_sure(x, signals)]
    if blocking:
        rows = [x for x in rows if (x.dead_fraction or 0.0) >= DEAD or _pushed(x)]
    if not rows:
        return []
    first = rows[0]
    share = first.dead_fraction or 0.0
    text = f"{100 * share:.0f} % of {first.name} is dead (zero for the whole batch)"
    if _pushed(first):
        text += f": mean {first.mean:.2g} is far below 0 for a std of {first.std:.2g}"
    severity: Severity = "error" if blocking else "warning"
    if _by_zeros(first):
        zeros = f"{100 * (first.zero_fraction or 0.0):.0f} %"
        text += f": the kernel is 0 for {zeros} of its units"
        remedy = f"{remedies.PRUNED}{remedies.redraw([first])}"
    else:
        by_bias = _is_by_bias(first, signals, plain)
        remedy = remedies.revive(first, _pushed(first), by_bias, plain=plain)
    text += _others(rows, "dead_fraction")
    return [Finding.at(first, share, text, remedy, severity)]


def hushed(signals: Sequence[LayerSignal], plain: bool) -> list[Finding]:
    """A layer far out on an activation that is flat there, and not zero."""
    row = next((x for x in signals[:-1] if _is_hushed(x)), None)
    if row is None:
        return []
    text = f"{row.name} lets nearly nothing through (std {row.output_std:.2g} of its "
    if row.recurrent_gain is not None:  # what is before its gates is not in hand
        text += f"output, {row.std:.2g} of W x): its gates are shut, or it is flat"
        remedy = remedies.reset([row])
    else:
        side = "below" if (row.mean or 0.0) < 0 else "above"
        text += (
            f"output): mean {row.mean:.2g} is far {side} 0 for a std of {row.std:.2g}"
        )
        by_bias = _is_by_bias(row, signals, plain)
        remedy = remedies.revive(row, True, by_bias, plain=plain)
    severity: Severity = "error" if plain else "warning"
    return [Finding.at(row, row.output_std, text, remedy, severity)]


def _is_hushed(row: LayerSignal) -> bool:
    """ELU, GELU below 0, ReLU6 above 6, a sigmoid on either side; gates shut."""
    told = (row.dead_fraction or 0.0) >= WORTH_A_WORD
    away = _pushed(row) or _raised(row) or row.recurrent_gain is not None
    if told or row.activation == "softmax" or not away:
        return False
    some = bool(row.std) and row.output_std is not None
    size = row.std or 0.0
    if row.recurrent_gain is not None:  # what gates let through is of size 1 at most
        size = min(size, 1.0)
    return some and (row.output_std or 0.0) < HUSHED * size


def _is_sure(layer: LayerSignal, signals: Sequence[LayerSignal]) -> bool:
    return layer is signals[-1] and layer.activation in NEVER_ZERO


def _pushed(layer: LayerSignal, *, without: float = 0.0) -> bool:
    """Whether less than a sixth of a normal law with these figures is above zero.

    `without`: a bias that is taken away first.
    """
    return layer.mean is not None and layer.mean - without < -(layer.std or 0.0)


def _raised(layer: LayerSignal, *, without: float = 0.0) -> bool:
    """The same above zero."""
    return layer.mean is not None and layer.mean - without > (layer.std or 0.0)


def _is_by_bias(
    layer: LayerSignal, signals: Sequence[LayerSignal], plain: bool
) -> bool:
    bias = _bias_before(layer, signals) if plain else layer.bias_mean
    off = _pushed if (layer.mean or 0.0) < 0 else _raised
    return bias is not None and not off(layer, without=bias)


def _by_zeros(layer: LayerSignal) -> bool:
    """Whether most of the units that are dead have no weight but 0."""
    return (layer.zero_fraction or 0.0) > MOST * (layer.dead_fraction or 0.0)


def _bias_before(layer: LayerSignal, signals: Sequence[LayerSignal]) -> float | None:
    """The bias in what a layer takes: its own; of an activation that before it."""
    rows = signals[: list(signals).index(layer) + 1]
    return next((x.bias_mean for x in reversed(rows) if x.kernel_shape), None)


def copies(signals: Sequence[LayerSignal], plain: bool) -> list[Finding]:
    """Units that are copies of one another, and get the same gradient ever after."""
    rows = [x for x in signals if x.copies and x.trainable and not is_constant(x)]
    if not rows:
        return _some_copies(signals)
    first = rows[0]
    text = f"the units of {first.name} are copies of one another: equal weights"
    if len(rows) > 1:
        more = f"{len(rows) - 1} more layers" if len(rows) > 2 else rows[1].name
        text += f"; so are those of {more}"
    severity: Severity = "error" if plain and first is not signals[-1] else "warning"
    return [Finding.at(first, first.kernel_std, text, remedies.redraw(rows), severity)]


def _some_copies(signals: Sequence[LayerSignal]) -> list[Finding]:
    """Units among others that are copies: the layer is narrower than it looks."""
    rows = [x for x in signals if (x.copied_fraction or 0.0) >= WORTH_A_WORD]
    rows = [x for x in rows if x.trainable and not is_constant(x)]
    if not rows:
        return []
    first = rows[0]
    share = first.copied_fraction or 0.0
    text = f"{100 * share:.0f} % of the units of {first.name} are copies of others: "
    text += "equal weights" + _others(rows, "copied_fraction")
    remedy = f"{remedies.COPIED}{remedies.redraw(rows)}"
    return [Finding.at(first, share, text, remedy, "warning")]


def saturated(signals: Sequence[LayerSignal]) -> list[Finding]:
    """Values where the activation is flat."""
    flat = [x for x in signals if (x.saturated_fraction or 0.0) >= WORTH_A_WORD]
    # What lets nothing through is told as that.
    flat = [x for x in flat if x is signals[-1] or not _is_hushed(x)]
    if not flat:
        return []
    first = flat[0]
    share = first.saturated_fraction or 0.0
    text = f"{100 * share:.0f} % of {first.name} is saturated"
    if first.std is not None:
        mean = f"mean {first.mean:.2g}, " if remedies.is_by_mean(first) else ""
        text += f" ({mean}std {first.std:.2g})"
    text += _others(flat, "saturated_fraction")
    if first is signals[-1]:
        remedy = remedies.sure(first, signals)
        return [Finding.at(first, share, text, remedy, "warning")]
    severity: Severity = "error" if share >= SATURATED else "warning"
    return [Finding.at(first, share, text, remedies.unsaturate(first), severity)]


def _others(rows: Sequence[LayerSignal], field: str) -> str:
    """How many further layers share the trouble, and the worst of them."""
    if len(rows) == 1:
        return ""
    worst = max(rows[1:], key=lambda x: getattr(x, field))
    more = f"{len(rows) - 1} more layer" + ("s" if len(rows) > 2 else "")
    share = f"{100 * getattr(worst, field):.0f} %"
    return f"; so are parts of {more}, up to {share} of {worst.name}"
