"""Kernels that training will not leave as LSUV has scaled them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import keras

from keras_inits.backends import eager, host
from keras_inits.solving.decision import Decision
from keras_inits.weights.trial import Trial

# A constraint that moves a kernel by less, relative to its size, is not worth a word.
LITTLE = 0.01
# Layers that a note names; of a deep stack the others are counted.
NAMED = 5


def constrained(decisions: Sequence[Decision], trial: Trial) -> list[str]:
    """A note on the layers whose `kernel_constraint` does not accept the new kernel.

    Keras applies constraints after each step of the optimizer.

    Args:
        decisions: What a pass has decided.
        trial: The new kernels, not written yet.
    """
    found = list(_undone(decisions, trial))
    if not found:
        return []
    rest = len(found) - NAMED
    found[NAMED:] = [f"and so on ({rest} more)"] if rest > 0 else []
    return [
        "The first step of training applies constraints that undo the scale: they "
        f"multiply the size of the kernel by {', '.join(found)}. Loosen or leave out "
        "kernel_constraint there, or leave these layers out with layers=."
    ]


def _undone(decisions: Sequence[Decision], trial: Trial) -> Iterator[str]:
    for decision in decisions:
        for variable in decision.variables:
            constraint = getattr(variable, "constraint", None)
            if constraint is None:
                continue
            factor, moved = _effect(variable, trial)
            if moved > LITTLE:
                name = type(constraint).__name__
                yield f"{factor:.3g} at {decision.layer.name} ({name})"


def _effect(variable: keras.Variable, trial: Trial) -> tuple[float, float]:
    """What the constraint makes of the size of a kernel, and how far it moves it."""
    with eager(), trial:
        before = variable.value
        after = host(variable.constraint(before))
    before = host(before)
    size = (before**2).mean() ** 0.5
    if not size > 0:
        return 1.0, 0.0
    moved = ((after - before) ** 2).mean() ** 0.5
    return float((after**2).mean() ** 0.5 / size), float(moved / size)
