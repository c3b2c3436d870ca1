"""What can go wrong with the signal: each check looks for one trouble."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from keras_inits.findings import remedies
from keras_inits.records import (
    Finding,
    LayerSignal,
    Severity,
    is_finite,
    kernel_input_rms,
)

# A signal below the first, or above the second, is lost. A healthy, freshly built
# ResNet50 goes down to 0.03, VGG16 to 0.002.
VANISHED = 1e-3
EXPLODED = 1e3
# Deviation between samples over deviation of all: below, samples look alike.
ALIKE = 1e-2
# Standardised data has deviation 1; images in 0..1 have 0.2 to 0.5, pixels 50 to 80.
INPUT_RMS = (1e-2, 10.0)
# Share of dead or saturated units that is worth a word, and that stops training.
WORTH_A_WORD = 0.25
DEAD = 0.9
SATURATED = 0.75


def not_finite(
    inputs: Sequence[LayerSignal], signals: Sequence[LayerSignal]
) -> list[Finding]:
    """NaN or infinity: the data, the kernel, or a signal that grew too large."""
    for row in inputs:
        if not is_finite(row.mean, row.std):
            text = f"the data given to {row.name} holds NaN or infinity"
            return [Finding.at(row, row.std, text, remedies.CLEAN_DATA)]
    for i, row in enumerate(signals):
        if is_finite(row.mean, row.std, row.output_mean, row.output_std):
            continue
        if not is_finite(row.kernel_std):
            text = f"the kernel of {row.name} holds NaN or infinity"
            return [Finding.at(row, row.kernel_std, text, remedies.redraw(row))]
        grown = exploding(signals[:i])
        if grown:
            text = f"{grown[0].text}, and overflows at {row.name}"
            first = _named(signals, grown[0].layer)
            return [Finding.at(first, grown[0].figure, text, remedies.rescale(first))]
        figures = (row.mean, row.std, row.output_mean, row.output_std)
        figure = "NaN" if any(math.isnan(x or 0.0) for x in figures) else "infinity"
        text = f"{figure} appears at {row.name}"
        return [Finding.at(row, row.std, text, remedies.NOT_FINITE)]
    return []


def unscaled_input(
    inputs: Sequence[LayerSignal], signals: Sequence[LayerSignal], plain: bool
) -> list[Finding]:
    """Data that is not of order 1, unless the first layer's signal is all the same."""
    first = next((x for x in signals if x.std is not None), None)
    if first is None or any(x.layer_type == "Embedding" for x in signals):
        return []
    if VANISHED <= (first.std or 0.0) <= INPUT_RMS[1]:
        return []  # rescaled within the model, or by LSUV
    # Normalisation inside the model copes, at the price of a slow start.
    severity: Severity = "error" if plain else "warning"
    for row in inputs:
        mean, std = row.mean or 0.0, row.std
        if std is None:
            continue
        if not INPUT_RMS[0] <= math.hypot(mean, std) <= INPUT_RMS[1]:
            wrong = "is constant" if std == 0 else "is not standardised"
            text = f"input {row.name} {wrong} (mean {mean:.3g}, std {std:.3g})"
            return [Finding.at(row, std, text, remedies.standardise(row), severity)]
    if not inputs and _input_rms(first, signals) > INPUT_RMS[1]:
        text = (
            f"the input is not standardised (the signal of {first.name}, the first "
            f"layer, has std {first.std:.3g})"
        )
        remedy = remedies.standardise(first)
        return [Finding.at(first, first.std, text, remedy, severity)]
    return []


def _input_rms(first: LayerSignal, signals: Sequence[LayerSignal]) -> float:
    """The size that the data must have had for the first layer's signal."""
    if first.kernel_std and first.kernel_shape:
        return kernel_input_rms(first)
    # Kernel unknown: kernels that are too large would go on multiplying.
    later = [x.std for x in signals if x.std]
    growth = (later[-1] / later[0]) ** (1 / max(len(later) - 1, 1))
    return (first.std or 0.0) if growth < 3 else 0.0


def frozen(signals: Sequence[LayerSignal]) -> list[Finding]:
    """A kernel of zeros, or a layer that gives zeros for an input that is not."""
    alive = True
    for i, row in enumerate(signals):
        zero = row.std == 0 and row.mean in (0, None)
        if row.kernel_std == 0 or (zero and alive and row.kernel_std is None):
            # A residual branch may start at zero on purpose: the signal goes on.
            later = signals[i + 1 :]
            goes_on = not later or any(_carries(x) for x in later)
            if row.kernel_std == 0 and row.std:
                text = f"the kernel of {row.name} is constant: its units are all equal"
            else:
                text = f"{row.name} is frozen at zero (kernel and output are 0)"
            severity: Severity = "warning" if goes_on else "error"
            return [Finding.at(row, 0.0, text, remedies.redraw(row), severity)]
        if row.std is not None:
            alive = row.std > 0 and (row.dead_fraction or 0.0) < 1
    return []


def vanishing(signals: Sequence[LayerSignal], plain: bool) -> list[Finding]:
    """A signal, or the difference between samples, that falls and stays down."""
    runs = (
        _run(signals, lambda x: x.std, lambda x: (x.std or 0.0) < VANISHED),
        _run(signals, lambda x: x.batch_std, _alike),
    )
    for kind, run in zip(("std", "alike"), runs, strict=True):
        if not run or _small_head(signals, run):
            continue
        first, last = signals[run[0]], signals[run[-1]]
        if kind == "std":
            figure = first.std or 0.0
            text = f"signal vanishes from {first.name} on (std {figure:.2g}"
            end = f"{last.std or 0.0:.2g}"
        else:
            figure = first.batch_std or 0.0
            share = figure / (first.std or math.inf)
            text = (
                f"signal vanishes from {first.name} on: samples look alike there "
                f"(deviation between samples {figure:.2g}, {100 * share:.2g} % of all"
            )
            end = f"{last.batch_std or 0.0:.2g}"
        text += f"; {end} at {last.name})" if last is not first else ")"
        remedy = remedies.rescale(first, plain=plain)
        return [
            Finding.at(first, figure, text, remedy, "error" if plain else "warning")
        ]
    return []


def _small_head(signals: Sequence[LayerSignal], run: list[int]) -> bool:
    """Whether only the last layer is small: many a head starts so on purpose."""
    return len(run) == 1 < len(signals) and _carries(signals[run[0] - 1])


def _alike(layer: LayerSignal) -> bool:
    between, over_all = layer.batch_std, layer.std
    return between is not None and bool(over_all) and between < ALIKE * (over_all or 0)


def _carries(layer: LayerSignal) -> bool:
    return (layer.std or 0.0) >= VANISHED and not _alike(layer)


def exploding(signals: Sequence[LayerSignal]) -> list[Finding]:
    """A signal a thousand times that of the first layer, and large."""
    start = next((x.std for x in signals if x.std), None)
    if start is None:
        return []
    least = EXPLODED * max(start, 1.0)
    run = _run(signals, lambda x: x.std, lambda x: (x.std or 0.0) > least)
    if not run:
        return []
    first, last = signals[run[0]], signals[run[-1]]
    text = f"signal explodes from {first.name} on (std {first.std:.2g}"
    text += f"; {last.std:.2g} at {last.name})" if last is not first else ")"
    return [Finding.at(first, first.std, text, remedies.rescale(first))]


def dead(
    signals: Sequence[LayerSignal], plain: bool, *, blocking: bool
) -> list[Finding]:
    """Units that are zero for the whole batch: they pass no gradient.

    `blocking` asks for those that stop the signal: nearly all units, or many that a
    bias has pushed below zero.
    """
    rows = [x for x in signals if (x.dead_fraction or 0.0) >= WORTH_A_WORD]
    if blocking:
        rows = [x for x in rows if (x.dead_fraction or 0.0) >= DEAD or _pushed(x)]
    if not rows:
        return []
    first = rows[0]
    share = first.dead_fraction or 0.0
    text = f"{100 * share:.0f} % of {first.name} is dead (zero for the whole batch)"
    if _pushed(first):
        text += f": mean {first.mean:.2g} is far below 0 for a std of {first.std:.2g}"
    text += _others(rows, "dead_fraction")
    severity: Severity = "error" if blocking else "warning"
    remedy = remedies.revive(first, _pushed(first), plain=plain)
    return [Finding.at(first, share, text, remedy, severity)]


def _pushed(layer: LayerSignal) -> bool:
    """Whether less than a sixth of a normal law with these figures is above zero."""
    return layer.mean is not None and layer.mean < -(layer.std or 0.0)


def saturated(signals: Sequence[LayerSignal]) -> list[Finding]:
    """Values where the activation is flat."""
    flat = [x for x in signals if (x.saturated_fraction or 0.0) >= WORTH_A_WORD]
    if not flat:
        return []
    first = flat[0]
    share = first.saturated_fraction or 0.0
    text = f"{100 * share:.0f} % of {first.name} is saturated"
    if first.std is not None:
        text += f" (std {first.std:.2g})"
    text += _others(flat, "saturated_fraction")
    severity: Severity = "error" if share >= SATURATED else "warning"
    return [Finding.at(first, share, text, remedies.unsaturate(first), severity)]


# What the checks share


def _named(signals: Sequence[LayerSignal], name: str | None) -> LayerSignal:
    return next(x for x in signals if x.name == name)


def _run(
    signals: Sequence[LayerSignal],
    measured: Callable[[LayerSignal], float | None],
    bad: Callable[[LayerSignal], bool],
) -> list[int]:
    """Indices of the bad layers at the end of the chain: a signal that recovers
    after a normalisation, or around a skip connection, is not lost."""
    run: list[int] = []
    for i in reversed(range(len(signals))):
        if measured(signals[i]) is None:
            continue
        if not bad(signals[i]):
            break
        run.insert(0, i)
    return run


def _others(rows: Sequence[LayerSignal], field: str) -> str:
    """How many further layers share the trouble, and the worst of them."""
    if len(rows) == 1:
        return ""
    worst = max(rows[1:], key=lambda x: getattr(x, field))
    more = f"{len(rows) - 1} more layer" + ("s" if len(rows) > 2 else "")
    share = f"{100 * getattr(worst, field):.0f} %"
    return f"; so are parts of {more}, up to {share} of {worst.name}"
