"""What to do about gradients that grow or shrink with depth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from keras_inits.findings.remedies import (
    MIRRORED,
    NOT_THROUGH,
    OR_BYPASSES,
    PAIRED,
    RELU_LIKE,
    SIGMOID_LIKE,
    rescale,
)
from keras_inits.records import LayerSignal

SOFTMAX_INSIDE = (
    "a softmax of many units leaves each nearly the same share of 1: give all layers "
    'but the last one another activation, as activation="relu"'
)
# Deviations of layers that LSUV has scaled differ by less.
ALIKE = 1.1


def gradient(rows: Sequence[LayerSignal], grows: bool, *, plain: bool = True) -> str:
    """For gradients that grow or shrink with depth: what fits the activation."""
    if 2 * sum(row.activation == "softmax" for row in rows[:-1]) > len(rows[:-1]):
        return SOFTMAX_INSIDE + OR_BYPASSES
    # The last layer's softmax or linear activation says nothing about the stack, nor do
    # linear layers whose activations are layers behind them.
    names = Counter(row.activation or "linear" for row in rows)
    bent = Counter({k: n for k, n in names.items() if k not in ("linear", "softmax")})
    names = bent if bent and 2 * bent.total() >= names["linear"] else names
    common = names.most_common(1)[0][0]
    # Units do not stay in pairs, and what is not linear is beside the kernels.
    if not plain and (common in RELU_LIKE or common == "linear"):
        return rescale(rows[0], plain=False)
    if common in RELU_LIKE:
        convolved = any(row.layer_type.startswith("Conv") for row in rows)
        return MIRRORED + (NOT_THROUGH if convolved else "") + OR_BYPASSES
    if common in SIGMOID_LIKE:
        return f"keras_inits.lsuv_init(model, x, center=True){OR_BYPASSES}"
    if common == "linear":
        if any(row.layer_type.startswith("Conv") for row in rows):
            return f'keras_inits.initialize(model, "delta_orthogonal"){OR_BYPASSES}'
        return f'keras_inits.initialize(model, "lsuv_normal"){OR_BYPASSES}'
    if grows:
        how = 'target_std="critical", orthonormal=True'  # Gaussian ones blur samples
        return f"keras_inits.lsuv_init(model, x, {how}){OR_BYPASSES}"
    if plain and is_scaled(rows):
        return PAIRED + OR_BYPASSES
    return f"keras_inits.lsuv_init(model, x){OR_BYPASSES}"


def is_scaled(rows: Sequence[LayerSignal]) -> bool:
    """Whether LSUV would change nothing: the deviations of all layers are the same.

    The head may be another one. An activation by itself has that of what it takes.
    """
    stds = [row.std or 0.0 for row in rows[:-1] if row.std is not None]
    return len(stds) > 1 and 0 < max(stds) < ALIKE * min(stds)
