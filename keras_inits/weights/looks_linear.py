"""Which layers of a model are first, middle and last in a looks-linear stack."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_inits.errors import UnsupportedLayerError
from keras_inits.initializers import LooksLinear
from keras_inits.structure.selection import Selection
from keras_inits.weights.blocks import redraw
from keras_inits.weights.extras import without_lora
from keras_inits.weights.pairs import HOLDS, Step, broken, channels_of, stack_of

Tensor = Any


def looks_linear_kernels(
    model: keras.Model, selection: Selection, next_seed: Callable[[], int]
) -> list[tuple[keras.Variable, Tensor]]:
    """New kernels: mirrored where the layer before, and its own activation, pair units.

    Raises:
        UnsupportedLayerError: An activation for which it does not hold, a layer that
            is not known to keep units in pairs, or a bias that is not zero.
    """
    changes = []
    for step, before, last, positions in _checked(model, selection):
        _require_no_bias(step, last)
        draw = LooksLinear(
            mirrored_input=before is not None,
            mirrored_output=step.pairs and not last,
            negative_slope=0.0 if before is None else before.slope,
            seed=next_seed(),
        )
        value = redraw(step.maps[0], draw)
        if positions > 1:
            value = _pairs_within_positions(value, positions)
        changes.append((step.maps[0].kernel, value))
        changes += without_lora(step.maps[0])
    return changes


def suits(model: keras.Model, selection: Selection) -> bool:
    """Whether kernels could be drawn so, once biases are zero."""
    try:
        return bool(list(_checked(model, selection)))
    except UnsupportedLayerError:
        return False


def _checked(
    model: keras.Model, selection: Selection
) -> Iterator[tuple[Step, Step | None, bool, int]]:
    """Each layer, that whose units come to it in pairs, whether it is the last one.

    And at how many positions, side by side in a row.
    """
    stack = stack_of(model, selection)
    before: Step | None = None
    for step in stack:
        last = step is stack[-1]
        _require(step, last)
        yield step, before, last, 1 if before is None else _positions(before, step)
        before = step if step.pairs else None


# What trains 300 layers where looks-linear does not hold (benchmarks/depth.py).
# Kernels that are not orthonormal, Keras's own among them, do not, whatever the target.
_SMALL_TARGET = (
    'lsuv_init(model, x, target_std="critical", orthonormal=True), or target_std=0.1 '
    "from 100 layers on"
)
_INSTEAD = {
    "selu": (
        "the initializers 'looks_linear_first', 'looks_linear' in the layers, and "
        "lsuv_init(model, x, target_std=0.1) after them: together they hold nearly"
    ),
    "sigmoid": "lsuv_init(model, x, target_std=0.1, orthonormal=True, center=True)",
}


def _require(step: Step, last: bool) -> None:
    first, name = step.maps[0], step.activation
    plain = len(step.maps) == 1 and first.gates == first.groups == 1
    if not plain or first.lookup or first.group_axes or first.stride > 1:
        raise UnsupportedLayerError(
            f"Layer {step.layer.name!r} ({type(step.layer).__name__}) cannot be "
            "mirrored: looks-linear is for Dense, EinsumDense and plain convolutions. "
            "Choose with layers= those before it, or those behind it."
        )
    if name not in HOLDS and not last and name not in (None, "linear"):
        raise UnsupportedLayerError(
            f"Layer {step.layer.name!r} has activation {name!r}, for which "
            "f(x) - f(-x) is no multiple of x: a looks-linear stack is not linear "
            f"with it. It holds for {', '.join(HOLDS)}. For {name!r} use "
            f"{_INSTEAD.get(name or '', _SMALL_TARGET)}."
        )


def _require_no_bias(step: Step, last: bool) -> None:
    first = step.maps[0]
    bias = 0.0 if first.bias is None else ops.convert_to_numpy(first.bias)
    if step.pairs and not last and np.any(bias):
        raise UnsupportedLayerError(
            f"Layer {step.layer.name!r} has a bias that is not zero, which takes f(h), "
            f"f(-h) out of step. Received: up to {np.abs(bias).max():.3g}. "
            'Use bias_initializer="zeros", or assign zeros to its bias.'
        )


def _positions(before: Step, step: Step) -> int:
    """How many positions lie side by side in a row, each with the channels in order."""
    m, channels, flat = step.maps[0], before.maps[0].channels, before.flat
    rows = math.prod(m.kernel.shape[a] for a in m.input_axes)
    positions, rest = divmod(rows, channels)
    elsewhere = channels_of(m, read=True) != before.axes
    if rest or elsewhere or (positions > 1 and flat is None):
        raise broken(
            step.layer, f"does not read the {channels} units of {before.layer.name!r}"
        )
    if positions > 1 and (channels % 2 or flat == "mixed"):
        raise UnsupportedLayerError(
            f"Layer {before.layer.name!r} has {channels} channels at {positions} "
            f"positions, which flattened for {step.layer.name!r} make no two halves. "
            "Use an even number of channels, and one data_format."
        )
    return positions if flat == "last" else 1


def _pairs_within_positions(kernel: Tensor, positions: int) -> Tensor:
    """Rows `(pair, position, half)` to `(position, pair, half)`: Flatten's order."""
    value = ops.reshape(kernel, (2, positions, -1, kernel.shape[1]))
    return ops.reshape(ops.transpose(value, (1, 0, 2, 3)), kernel.shape)
