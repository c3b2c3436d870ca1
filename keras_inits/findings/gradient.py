"""What can go wrong with the gradient: measured, or foreseen from the gains."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

from keras_inits.findings import gradient_remedies, remedies
from keras_inits.findings.heads import FLAT
from keras_inits.findings.kernels import enlarges, is_constant
from keras_inits.findings.remedies import redraw
from keras_inits.findings.signal import HEAD_JUMP, SQUASHING, is_flat
from keras_inits.findings.units import WORTH_A_WORD
from keras_inits.records import (
    Finding,
    LayerSignal,
    LossSignal,
    Severity,
    gain_product,
    is_finite,
)

# The contract's bounds for the product of gradient gains (squared norms).
GAIN_BOUNDS = (1e-3, 1e3)
# Beyond these, deviations differ as far as `GRADIENT_SPREAD` says: training stalls.
SEVERE = (1e-6, 1e6)
# Gradient-to-weight ratios of trained networks differ by far less between both ends.
GRADIENT_SPREAD = 1e3
# What is foreseen is a squared norm.
AGREED_SPREAD = math.sqrt(GAIN_BOUNDS[1])
_FIGURES = {
    "gradient_ratio": "gradient / weight",
    "weight_gradient_std": "gradient std",
}
# A gradient below the first is 0 a few layers on by underflow.
UNDERFLOW = 1e-20


def nowhere(signals: Sequence[LayerSignal]) -> bool:
    """Whether gradients were measured, and all of them are 0."""
    found = [x.weight_gradient_std for x in signals]
    return any(x is not None for x in found) and not any(found)


def measured(
    signals: Sequence[LayerSignal],
    losses: Sequence[LossSignal],
    plain: bool,
    *,
    explained: bool = False,
    faded: bool = False,
    product: Sequence[Finding] = (),
    known: bool = True,
    blamed: Collection[str | None] = (),
) -> list[Finding]:
    """Measured gradients: none, cut off, or a thousandfold apart at both ends.

    `explained`: the loss is said to be unfit, and what follows is no news: no gradient
    at all, or NaN. `faded`: so is a signal that fades or grows where normalisation may
    mend it, and the gradient with it. `product`: what is foreseen from the gains; where
    the measured ends agree, thirtyfold is enough for a warning. `known`: whether all
    that lies between the layers is. `blamed`: layers that are said to be too large.
    """
    rows = [x for x in signals if x.weight_gradient_std is not None]
    if nowhere(signals):
        return [] if explained else _none(rows, signals[-1], losses, plain)
    if cut := _cut([x for x in rows if x.trainable], signals, plain):
        return cut
    field = "gradient_ratio"
    if all(x.gradient_ratio is None for x in signals):
        field = "weight_gradient_std"
    # A row of a table has a gradient of its own samples alone: small, and no news.
    rows = [x for x in signals if x.layer_type != "Embedding"]
    rows = [x for x in rows if getattr(x, field) is not None]
    if not plain or any(map(is_constant, signals)):
        # Before a residual branch's kernel of zeros there is no gradient yet, nor in
        # a branch whose gate is shut.
        rows = [x for x in rows if getattr(x, field) != 0]
    for row in rows:
        if not is_finite(getattr(row, field)):
            text = f"the gradient of {row.name} is NaN or infinite"
            remedy = remedies.GRADIENT_NOT_FINITE
            return [] if explained else [Finding.at(row, math.nan, text, remedy)]
    if faded or len(rows) < 3:
        return []
    few = _end(len(rows), plain)
    near = _log_mean(getattr(x, field) for x in rows[:few])
    far = _log_mean(getattr(x, field) for x in rows[-few:])
    agrees = any(((x.figure or 0.0) > 1) == (near > far) for x in product)
    least = AGREED_SPREAD if agrees else GRADIENT_SPREAD
    if abs(near - far) <= math.log(least):
        return []
    if (large := _too_large(signals, near - far)) is not None:
        own, before = getattr(large, field), getattr(rows[0], field)
        return [] if large.name in blamed else [_made_by(large, own, before, field)]
    if near < far and (large := _flattens(rows[:few], signals)) is not None:
        return [] if large.name in blamed else [_made_flat(large, rows[-1], field)]
    severe = abs(near - far) > math.log(GRADIENT_SPREAD)
    # Of each end the layer that shows it best.
    ends = rows[:few], rows[-few:]
    pick = (min, max) if near < far else (max, min)
    first, last = (
        choose(end, key=lambda x: abs(getattr(x, field)))
        for choose, end in zip(pick, ends, strict=True)
    )
    what = _FIGURES[field]
    verb = "vanishes" if near < far else "explodes"
    low, high = getattr(first, field), getattr(last, field)
    text = (
        f"gradient {verb} towards the input ({what} {low:.2g} at {first.name}, "
        f"{high:.2g} at {last.name})"
    )
    remedy = gradient_remedies.gradient(signals, near > far, plain=plain, known=known)
    return [Finding.at(first, low, text, remedy, "error" if severe else "warning")]


def _too_large(signals: Sequence[LayerSignal], spread: float) -> LayerSignal | None:
    """The one kernel that is to blame for a gradient that explodes before it.

    One that is k times too large makes the gradient of what comes before it k times as
    large, and its own as small beside its weights.
    """
    rows = [x for x in signals if x.trainable and enlarges(x) > HEAD_JUMP]
    if not rows:
        return None
    row = max(rows, key=enlarges)
    alone = spread - 2 * math.log(enlarges(row)) <= math.log(GRADIENT_SPREAD)
    return row if spread > 0 and alone else None


def _flattens(
    end: Sequence[LayerSignal], signals: Sequence[LayerSignal]
) -> LayerSignal | None:
    """The kernel that is so large that its own gradient, or one before it, is small.

    A step moves such a kernel by little; and what it gives is out where gates, or an
    activation with bounds, are flat.
    """
    rows = [x for x in signals if x.trainable and enlarges(x) > HEAD_JUMP]
    rows = [x for x in rows if x in end or is_flat(x)]
    return max(rows, key=enlarges, default=None)


def _made_flat(row: LayerSignal, last: LayerSignal, field: str) -> Finding:
    own = getattr(row, field) or 0.0
    text = (
        f"the kernel of {row.name} is too large: it makes what it takes "
        f"{enlarges(row):.3g} times as large, and its own gradient, or that of what "
        f"comes before it, small ({_FIGURES[field]} {own:.2g} here, "
        f"{getattr(last, field):.2g} at {last.name})"
    )
    return Finding.at(row, enlarges(row), text, redraw([row]))


def _made_by(row: LayerSignal, own: float | None, before: float, field: str) -> Finding:
    figures = f"{_FIGURES[field]} {before:.2g} at the first layer"
    figures += f", {own:.2g} here" if own is not None else ""
    text = (
        f"the kernel of {row.name} is too large: it makes what it takes "
        f"{enlarges(row):.3g} times as large, and the gradient of what comes before it "
        f"({figures})"
    )
    return Finding.at(row, enlarges(row), text, redraw([row]))


def _end(layers: int, plain: bool) -> int:
    """How many layers at each end are compared.

    In a chain gradients grow steadily, and thirds show two thirds of it.
    """
    third = max(layers // 3, 1)
    return min(third, max(layers // 10, 3)) if plain else third


def _none(
    rows: Sequence[LayerSignal],
    head: LayerSignal,
    losses: Sequence[LossSignal],
    plain: bool,
) -> list[Finding]:
    """No gradient anywhere: the loss has none, or is flat for outputs so large."""
    text = "the gradient of the loss is 0 for every kernel"
    squashed = head.activation in ("sigmoid", "softmax")
    squashed |= any("crossentropy" in x.loss.lower().replace("_", "") for x in losses)
    remedy = remedies.NO_GRADIENT
    if squashed and (head.std or 0.0) > FLAT:
        text += f" (std {head.std:.2g} at {head.name}, the last layer)"
        remedy = remedies.FLAT_LOSS + remedies.rescale(head, plain=plain)
    return [Finding.at(rows[0], 0.0, text, remedy)]


def _cut(
    rows: Sequence[LayerSignal], signals: Sequence[LayerSignal], plain: bool
) -> list[Finding]:
    """Gradients of exactly 0 before a layer where they are not, for no other reason."""
    reached = [i for i, row in enumerate(rows) if row.weight_gradient_std]
    if not plain or not reached or reached[0] == 0 or any(map(is_constant, signals)):
        return []
    last, behind = rows[reached[0] - 1], rows[reached[0]]
    stuck = any(
        max(x.saturated_fraction or 0.0, x.dead_fraction or 0.0) > WORTH_A_WORD
        for x in signals
    )
    if stuck or abs(behind.weight_gradient_std or 0.0) < UNDERFLOW:
        return []
    text = (
        f"the gradient is cut off: 0 up to {last.name}, and "
        f"{behind.weight_gradient_std:.2g} at {behind.name}"
    )
    remedy = remedies.cut_between(last, behind)
    return [Finding.at(last, 0.0, text, remedy, "warning")]


def foreseen(signals: Sequence[LayerSignal], plain: bool) -> list[Finding]:
    """A product of gradient gains outside the contract's bounds."""
    rows = [x for x in signals if x.gradient_gain is not None]
    counted = rows
    if len(rows) > 1:
        head = rows[-1].gradient_gain or 0.0
        if not GAIN_BOUNDS[0] <= head <= GAIN_BOUNDS[1]:
            # A small or large head scales all gradients alike, as the loss does.
            counted = rows[:-1]
    product = gain_product(counted)
    if product is None or math.isnan(product):
        return []
    # A first kernel that is small because the data is large (or the reverse) hurts
    # only the gradient of the data, which nobody asks for; what a sigmoid at the end
    # takes off, it takes off for all.
    felt = counted[:-1] if counted[-1].activation in SQUASHING else counted
    own = (enlarges(rows[0]) or 1.0) ** 2
    if rows[0].scale is not None:  # LSUV has made it as small as the data is large
        felt, own = felt[1:], 1.0
    gain = gain_product(felt)
    corrected = 1.0 if gain is None else gain / own
    seen = (product, corrected)
    if any(GAIN_BOUNDS[0] <= x <= GAIN_BOUNDS[1] for x in seen):
        return []
    if (product > 1) != (corrected > 1):
        return []
    grows = product > 1
    factor = product if grows else (1 / product if product else math.inf)
    fold = "infinitely" if math.isinf(factor) else f"{_thousands(factor)}-fold"
    text = (
        f"gradient {'grows' if grows else 'shrinks'} {fold} (squared norm) between "
        f"{rows[-1].name} and {rows[0].name}"
    )
    mild = any(SEVERE[0] <= x <= SEVERE[1] for x in seen)
    severity: Severity = "warning" if mild else "error"
    remedy = gradient_remedies.gradient(rows, grows, plain=plain)
    return [Finding.at(rows[-1], product, text, remedy, severity)]


def _log_mean(values: Iterable[float]) -> float:
    """Mean of the logarithms; a gradient of zero counts as the smallest float."""
    logs = [math.log(max(abs(value), 1e-300)) for value in values]
    return math.fsum(logs) / len(logs)


def _thousands(value: float) -> str:
    return f"{value:,.0f}" if value < 1e6 else f"{value:.2g}"
