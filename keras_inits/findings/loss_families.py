"""Losses of a kind by their names, and what the findings about them share."""

from __future__ import annotations

from keras_inits.records import Finding, LossSignal, Severity

BINARY = ("binarycrossentropy", "binaryfocalcrossentropy")
CATEGORICAL = ("categoricalcrossentropy", "categoricalfocalcrossentropy")
SPARSE = ("sparsecategoricalcrossentropy",)
POISSON = ("poisson",)
# Regression whose labels may be standardised; the others go by ratios.
OF_ANY_SIZE = ("meansquarederror", "meanabsoluteerror", "huber", "logcosh")
RATIOS = ("meanabsolutepercentageerror", "meansquaredlogarithmicerror")
REGRESSION = (*OF_ANY_SIZE, *RATIOS)
# Sums of probabilities are 1 up to rounding, in bfloat16 too.
ROUNDING = 0.02


def is_of(row: LossSignal, *families: tuple[str, ...]) -> bool:
    """Whether the loss has a name of these families."""
    name = row.loss.lower().replace("_", "")
    return any(name in family for family in families)


def is_of_keras(row: LossSignal, *families: tuple[str, ...]) -> bool:
    """The same, and no other of that name: of crossentropies Keras tells the option."""
    return row.takes_logits is not None and is_of(row, *families)


def at(
    row: LossSignal,
    figure: float | None,
    text: str,
    remedy: str,
    severity: Severity = "error",
) -> list[Finding]:
    """What is found at an output."""
    return [
        Finding(
            layer=row.output, figure=figure, text=text, remedy=remedy, severity=severity
        )
    ]
