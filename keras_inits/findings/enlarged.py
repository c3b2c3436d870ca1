"""Kernels that LSUV has made thousands of times as large."""

from __future__ import annotations

from collections.abc import Sequence

from keras_inits.findings import remedies
from keras_inits.findings.kernels import enlarges
from keras_inits.findings.signal import and_so
from keras_inits.records import Finding, LayerSignal

# No start that is small on purpose is scaled by more, but for those that are to begin
# at nothing: 100 for the heads of policies (gain 0.01), some 30 for +-0.003 and muP's.
ENLARGED = 1e3
# The first one may have been scaled before, to data that were raw.
FIRST = 3e4


def rescued(signals: Sequence[LayerSignal], known: Sequence[Finding]) -> list[Finding]:
    """Kernels that LSUV has scaled from next to nothing, or for inputs that are that.

    Args:
        signals: Those scaled so far have a `kernel_std`.
        known: What is said of the data already.
    """
    rows = [x for x in signals if x.kernel_std and is_enlarged(x.scale, x.std)]
    if rows and rows[0] is signals[0] and (known or _largest(rows[0].scale) < FIRST):
        del rows[0]  # that is because of the data
    tiny = [x for x in rows if _was_tiny(x)]
    starved = [x for x in rows if x not in tiny and not _by_data(x, known)]
    found = [_all_but_zero(tiny)] if tiny else []
    if starved:
        first, factor = starved[0], _largest(starved[0].scale)
        text = (
            f"{first.name} takes next to nothing (of size {_taken(first):.2g}): its "
            f"kernel makes up for that, {factor:.3g} times as large as it was"
        )
        found.append(Finding.at(first, factor, text, remedies.STARVED, "warning"))
    return found


def _by_data(row: LayerSignal, known: Sequence[Finding]) -> bool:
    """Whether what it takes may be one of several inputs, of which that is said."""
    figures = [x.figure for x in known if x.figure]
    return any(0.1 < _taken(row) / figure < 10 for figure in figures)


def _all_but_zero(rows: Sequence[LayerSignal]) -> Finding:
    first, factor = rows[0], _largest(rows[0].scale)
    what, now = "the kernel of {} was", "it is now"
    if isinstance(first.scale, tuple):  # by gates, or by channels
        count, parts = sum(map(is_enlarged, first.scale)), len(first.scale)
        if count < parts:
            what, now = (
                f"in the kernel of {{}} {count} of {parts} parts were",
                "now up to",
            )
    text = (
        f"{what.format(first.name)} all but 0 (std "
        f"{(first.kernel_std or 0.0) / factor:.2g}): {now} {factor:.3g} times as large"
    )
    text += and_so(rows[1:], "; so it is with {}", "; so it is with {} more layers")
    remedy = remedies.small_on_purpose(rows)
    return Finding.at(first, factor, text, remedy, "warning")


def is_enlarged(
    scale: float | Sequence[float] | None, target: float | None = None
) -> bool:
    """Whether LSUV has scaled by so much that a kernel, or its input, was no more."""
    return _largest(scale) > ENLARGED * max(1.0, target or 0.0)


def _largest(scale: float | Sequence[float] | None) -> float:
    if isinstance(scale, Sequence):
        return max(scale, default=0.0)
    return scale or 0.0


def _taken(layer: LayerSignal) -> float:
    """The size of what a layer takes, from its kernel and its signal."""
    return (layer.std or 0.0) / enlarges(layer) if enlarges(layer) else 1.0


def _was_tiny(layer: LayerSignal) -> bool:
    """Whether its kernel was further from its usual size than what it takes is."""
    return enlarges(layer) / _largest(layer.scale) < _taken(layer)
