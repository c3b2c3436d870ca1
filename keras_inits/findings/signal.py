"""What can go wrong with the signal: each check looks for one trouble."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from keras_inits.findings import data_remedies, remedies
from keras_inits.findings.kernels import (
    enlarges,
    has_several,
    is_constant,
    kernel_input_rms,
)
from keras_inits.records import Finding, LayerSignal, Severity, is_finite

# A signal below the first, or above the second, is lost. A healthy, freshly built
# ResNet50 goes down to 0.03, VGG16 to 0.002.
VANISHED = 1e-3
EXPLODED = 1e3
# Deviation between samples over deviation of all: below, samples look alike.
ALIKE = 1e-2
# Of the size of a signal, what its own rounding leaves of a deviation.
RESOLVED = 1e-6
# Squares of such values are near the end of float32.
LARGEST = 1e15
# A head this much larger than what it takes is so by its own kernel.
HEAD_JUMP = 30.0
# A signal of this size, out of a kernel that makes it so, is none of a sound network.
OVERSIZED = 1e2
# Of a signal of this deviation a sigmoid is flat for more than half (beyond 6).
SHUT = 10.0
# Last activations whose outputs are of no size of their own.
SQUASHING = ("sigmoid", "softmax")


def not_finite(
    inputs: Sequence[LayerSignal],
    signals: Sequence[LayerSignal],
    *,
    labelled: bool = False,
) -> list[Finding]:
    """NaN or infinity: the data, the kernel, or a signal that grew too large."""
    for row in inputs:
        if not is_finite(row.mean, row.std):
            where = data_remedies.in_columns([i for i, _, _ in row.columns])
            text = f"input {row.name} holds NaN or infinity{where}"
            remedy = data_remedies.clean_data(row.path, labelled=labelled)
            return [Finding.at(row, row.std, text, remedy)]
    for i, row in enumerate(signals):
        if is_finite(row.mean, row.std, row.output_mean, row.output_std):
            continue
        if not is_finite(row.kernel_std):
            text = f"the kernel of {row.name} holds NaN or infinity"
            return [Finding.at(row, row.kernel_std, text, remedies.RESET)]
        grown = exploding(signals[:i])
        if grown:
            text = f"{grown[0].text}; its variance overflows at {row.name}"
            first = named(signals, grown[0].layer)
            return [Finding.at(first, grown[0].figure, text, remedies.rescale(first))]
        large = next((x for x in inputs if (x.std or 0.0) > LARGEST), None)
        if large is not None:
            text = (
                f"input {large.name} is too large for float32 (std {large.std:.3g}): "
                f"its variance overflows at {row.name}"
            )
            return [
                Finding.at(large, large.std, text, data_remedies.standardise(large))
            ]
        if row.broken:
            text = f"{row.broken} holds NaN or infinity, as {row.name} shows"
            return [Finding.at(row, math.nan, text, remedies.RESET)]
        figures = (row.mean, row.std, row.output_mean, row.output_std)
        figure = "NaN" if any(math.isnan(x or 0.0) for x in figures) else "infinity"
        text = f"{figure} appears at {row.name}"
        return [Finding.at(row, row.std, text, remedies.not_finite(row))]
    return []


def frozen(signals: Sequence[LayerSignal], plain: bool) -> list[Finding]:
    """Kernels of zeros or of one value, or a layer that gets or gives zeros only."""
    alive = True
    # A dead layer, wherever it is called, may be what gives another one nothing.
    killed = any(map(_kills, signals))
    for i, row in enumerate(signals):
        zero = row.std == 0 and row.mean in (0, None)
        # A residual branch may start at zero on purpose: the signal goes on.
        later = signals[i + 1 :]
        goes_on = not later or any(_carries(x) for x in later)
        severity: Severity = "warning" if goes_on else "error"
        drawn = row.kernel_std is None and not _is_activation(row)
        if is_constant(row) or (zero and alive and drawn):
            alike = list(filter(is_constant, later))
            moves = bool(row.std or row.mean)
            still = [x for x in alike if moves or not (x.std or x.mean)]
            more = and_so(still, "; so is {}", "; so are {} more layers")
            rest = [x for x in alike if x not in still]
            more += and_so(
                rest, "; the kernel of {} is constant", "; {} more kernels are constant"
            )
            if is_constant(row) and moves:
                same = f"it gives {row.mean:.2g} in every row"
                same = "its units are all equal" if has_several(row) else same
                text = f"the kernel of {row.name} is constant: {same}"
                severity = "error" if plain and later else severity
            else:
                text = f"{row.name} is frozen at zero (kernel and output are 0)"
            remedy = remedies.redraw([row, *alike])
            return [Finding.at(row, 0.0, text + more, remedy, severity)]
        if zero and alive and not killed and (i > 0 or _is_activation(row)):
            text = f"nothing reaches {row.name}: all that it takes is 0"
            return [Finding.at(row, 0.0, text, remedies.look_before(row), severity)]
        if row.std is not None:
            alive = row.std > 0 and (row.dead_fraction or 0.0) < 1
    return []


def _kills(row: LayerSignal) -> bool:
    """Whether it is given something, and gives zeros."""
    return bool(row.std) and (row.dead_fraction or 0.0) >= 1


def and_so(rows: Sequence[LayerSignal], one: str, several: str) -> str:
    """What is said of further layers: the name of one, how many there are."""
    if not rows:
        return ""
    return several.format(len(rows)) if len(rows) > 1 else one.format(rows[0].name)


def vanishing(signals: Sequence[LayerSignal], plain: bool) -> list[Finding]:
    """A signal, or the difference between samples, that falls and stays down."""
    runs = {
        "std": _run(signals, lambda x: x.std, lambda x: (x.std or 0.0) < VANISHED),
        "alike": _run(signals, _between_units, _alike),
    }
    # What begins first is the cause of the other.
    for kind, run in sorted(runs.items(), key=lambda item: item[1][:1]):
        if not run or _small_head(signals, run):
            continue
        first, last = signals[run[0]], signals[run[-1]]
        if kind == "std":
            figure, remedy = first.std or 0.0, remedies.rescale(first, plain=plain)
            text = f"signal vanishes from {first.name} on (std {figure:.2g}"
            end = f"{last.std or 0.0:.2g}"
        else:
            figure, remedy = first.batch_std or 0.0, remedies.part(first, plain=plain)
            text = (
                f"signal vanishes from {first.name} on: samples look alike there "
                f"(deviation between samples {_between(first)}, "
                f"{_between(first, percent=True)} % of all"
            )
            end = _between(last)
        text += f"; {end} at {last.name})" if last is not first else ")"
        severity: Severity = "error" if plain else "warning"
        return [Finding.at(first, figure, text, remedy, severity)]
    return []


def _between(row: LayerSignal, *, percent: bool = False) -> str:
    """The deviation between samples: float32 tells no more than a millionth."""
    all_of_it = row.std or 0.0
    unit = (100 / all_of_it if all_of_it else 0.0) if percent else 1.0
    figure = row.batch_std or 0.0
    floor = RESOLVED * math.hypot(row.mean or 0.0, all_of_it)
    return f"{'' if figure >= floor else 'below '}{unit * max(figure, floor):.2g}"


def _small_head(signals: Sequence[LayerSignal], run: list[int]) -> bool:
    """Whether only the last kernel is small: many a head starts so on purpose."""
    if len(run) != 1 or run[0] == 0:
        return False
    before, head = signals[run[0] - 1], signals[run[0]]
    if any(map(_is_one_unit, signals[run[0] + 1 :])):
        return False
    return _carries(before) and kernel_input_rms(head) >= VANISHED


def _alike(layer: LayerSignal) -> bool:
    between, over_all = layer.batch_std, layer.std
    return between is not None and bool(over_all) and between < ALIKE * (over_all or 0)


def _between_units(layer: LayerSignal) -> float | None:
    """The deviation between samples; None of one unit that has hardly any.

    It differs from no other unit, and so follows what comes before it.
    """
    size = math.hypot(layer.mean or 0.0, layer.std or 0.0)
    faint = (layer.std or 0.0) < max(ALIKE * size, VANISHED)
    return None if _is_one_unit(layer) and faint else layer.batch_std


def _is_one_unit(layer: LayerSignal) -> bool:
    shape = layer.output_shape or ()
    return len(shape) > 1 and all(n == 1 for n in shape[1:])


def _carries(layer: LayerSignal) -> bool:
    return (layer.std or 0.0) >= VANISHED and not _alike(layer)


def exploding(signals: Sequence[LayerSignal], plain: bool = True) -> list[Finding]:
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
    if run[0] > 0 and last is first:  # a head, trained to labels of that size?
        before = signals[run[0] - 1].std or math.inf
        if (first.std or 0.0) > HEAD_JUMP * before:
            text = f"the output of {first.name} is large (std {first.std:.2g})"
            squashed = first.activation in SQUASHING
            remedy = remedies.redraw([first]) if squashed else remedies.LABELS
            return [Finding.at(first, first.std, text, remedy, "warning")]
    severity: Severity = "error" if plain else "warning"
    remedy = remedies.rescale(first, plain=plain)
    return [Finding.at(first, first.std, text, remedy, severity)]


def oversized(signals: Sequence[LayerSignal]) -> list[Finding]:
    """Kernels so large that steps no longer move them, whatever normalises behind.

    Not of a head without a squashing activation: its labels may be of that size.
    Recurrent ones multiply at every step, whatever the signal is.
    """
    looping = [x for x in signals if (x.recurrent_gain or 0.0) > HEAD_JUMP]
    looping = [x for x in looping if x.trainable]
    if looping:
        first = looping[0]
        text = (
            f"the recurrent kernel of {first.name} is too large: it makes the state "
            f"{first.recurrent_gain:.3g} times as large at every step"
        )
        text += and_so(
            looping[1:], "; so does that of {}", "; so do those of {} more layers"
        )
        remedy = remedies.reset(looping)
        return [Finding.at(first, first.recurrent_gain, text, remedy, "warning")]
    rows = [x for x in signals if x.trainable and enlarges(x) > HEAD_JUMP]
    rows = [x for x in rows if (x.std or 0.0) > OVERSIZED or _shuts_gates(x)]
    if rows and rows[-1] is signals[-1] and rows[-1].activation not in SQUASHING:
        rows = rows[:-1]
    if not rows:
        return []
    first = rows[0]
    text = (
        f"the kernel of {first.name} is too large: it makes what it takes "
        f"{enlarges(first):.3g} times as large (std {first.std:.2g})"
    )
    text += and_so(rows[1:], "; so does that of {}", "; so do those of {} more layers")
    return [Finding.at(first, first.std, text, remedies.redraw(rows), "warning")]


def _shuts_gates(layer: LayerSignal) -> bool:
    """Whether the gates of a recurrent layer are flat for most of what they get."""
    return layer.recurrent_gain is not None and (layer.std or 0.0) > SHUT


def is_flat(layer: LayerSignal) -> bool:
    """Whether a layer's signal is mostly out where its activation, or gates, are."""
    return _shuts_gates(layer) or (layer.saturated_fraction or 0.0) > 0.5


# What the checks share


def _is_activation(layer: LayerSignal) -> bool:
    """Whether a row is of an activation by itself, with no kernel to be drawn."""
    bare = layer.parameters == 0 or layer.activation == "prelu"
    return bare and layer.kernel_shape is None


def named(signals: Sequence[LayerSignal], name: str | None) -> LayerSignal:
    """The record of this name."""
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
