"""What to do about gradients that grow or shrink with depth."""

from __future__ import annotations

import itertools
import statistics
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
# A signal that stays within this while its gradient grows is bent by what lies between.
BOUNDED = 30.0
# Growth of the gradient for each layer that a smaller signal would lessen.
STEEP = 2.0
# Deviations of layers that LSUV has scaled differ by less.
ALIKE = 1.1


def gradient(
    rows: Sequence[LayerSignal], grows: bool, *, plain: bool = True, known: bool = True
) -> str:
    """For gradients that grow or shrink with depth: what fits the activation.

    `known`: whether all that lies between the layers is.
    """
    if 2 * sum(row.activation == "softmax" for row in rows[:-1]) > len(rows[:-1]):
        return SOFTMAX_INSIDE + OR_BYPASSES
    common = _common(rows)
    # Units do not stay in pairs, and what is not linear is beside the kernels.
    if not plain and (common in RELU_LIKE or common == "linear"):
        return rescale(rows[0], plain=False)
    if common == "linear" and grows and not known and (target := _shallow(rows)):
        return (
            "what lies between the layers is steep for a signal of this size: "
            f"keras_inits.lsuv_init(model, x, target_std={target:.1g})"
        )
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


def spread_out(rows: Sequence[LayerSignal]) -> str:
    """For samples that have come to lie along one line."""
    common = _common(rows)
    convolved = any(row.layer_type.startswith("Conv") for row in rows)
    if common in RELU_LIKE:
        return MIRRORED + (NOT_THROUGH if convolved else "") + OR_BYPASSES
    if convolved and common not in SIGMOID_LIKE:
        return (
            'keras_inits.initialize(model, "delta_orthogonal"), then '
            f"keras_inits.lsuv_init(model, x, target_std=0.1){OR_BYPASSES}"
        )
    how = "target_std=0.1, orthonormal=True"
    how += ", center=True" if common in SIGMOID_LIKE else ""
    return f"keras_inits.lsuv_init(model, x, {how}){OR_BYPASSES}"


def _common(rows: Sequence[LayerSignal]) -> str:
    """The activation of most layers."""
    # The last layer's softmax or linear activation says nothing about the stack, nor do
    # linear layers whose activations are layers behind them.
    names = Counter(row.activation or "linear" for row in rows)
    bent = Counter({k: n for k, n in names.items() if k not in ("linear", "softmax")})
    names = bent if bent and 2 * bent.total() >= names["linear"] else names
    return names.most_common(1)[0][0]


def _shallow(rows: Sequence[LayerSignal]) -> float | None:
    """The size of a signal at which what bends it, bounded and steep, does so first.

    Of f(k z) with f of size 1, sin(30 z) say, the mean slope is about k where it bends,
    and a layer that makes f's size 1 the signal's s multiplies gradients by k s: the
    target is 1/k. Where the signal grows with the gradient, or neither does, None.
    """
    seen = [x for x in rows if x.weight_gradient_std and x.std]
    stds = [x.std or 0.0 for x in seen]
    steps = [
        (x.weight_gradient_std or 0.0) / (y.weight_gradient_std or 1.0)
        for x, y in itertools.pairwise(seen)
    ]
    if not steps or max(stds) > BOUNDED * min(stds):
        return None
    growth = statistics.median(steps)
    return statistics.median(stds) / growth if growth > STEEP else None


def is_scaled(rows: Sequence[LayerSignal]) -> bool:
    """Whether LSUV would change nothing: the deviations of all layers are the same.

    The head may be another one. An activation by itself has that of what it takes.
    """
    stds = [row.std or 0.0 for row in rows[:-1] if row.std is not None]
    return len(stds) > 1 and 0 < max(stds) < ALIKE * min(stds)
