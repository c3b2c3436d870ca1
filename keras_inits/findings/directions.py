"""Samples that have come to lie along one line, where no class is told from another.

Neither deviations nor gradient gains show it. A product of many kernels that are not
orthonormal keeps few directions, and every bend of an activation loses some.
"""

from __future__ import annotations

from collections.abc import Sequence

from keras_inits.findings import gradient_remedies
from keras_inits.records import Finding, LayerSignal, Severity

# With fewer directions a deep plain network starts slowly, or not at all.
FEW = 2.0
# Data with so many times as many are not to blame.
LOST = 3.0
# Layers from which most do not start; fewer find their way.
MANY = 50


def is_few(directions: float | None) -> bool:
    """Whether data that have more would be worth a look."""
    return directions is not None and directions < FEW


def collapsed(
    inputs: Sequence[LayerSignal], signals: Sequence[LayerSignal]
) -> list[Finding]:
    """Of a chain of layers whose signal is of a sound size.

    Args:
        inputs: The data's row, with the directions that they lie along.
        signals: All layers; one of the last has such a figure, too.
    """
    before = next((x.directions for x in inputs if x.directions), None)
    row = next((x for x in reversed(signals) if x.directions), None)
    if before is None or row is None or row.directions is None:
        return []
    if not is_few(row.directions) or before < LOST * row.directions:
        return []
    depth = sum(x.kernel_shape is not None for x in signals)
    text = (
        f"samples come to lie along one line: of the {before:.2g} directions of the "
        f"data {row.name} has {row.directions:.2g} (participation ratio of its "
        "principal components)"
    )
    remedy = gradient_remedies.spread_out(signals)
    severity: Severity = "error" if depth >= MANY else "warning"
    return [Finding.at(row, row.directions, text, remedy, severity)]
