"""Which layers of a model are first, middle and last in a looks-linear stack."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from keras_inits.activations import ACTIVATION_LAYERS
from keras_inits.blocks import redraw
from keras_inits.errors import UnsupportedLayerError
from keras_inits.initializers import LooksLinear
from keras_inits.linear_maps import LinearMap
from keras_inits.selection import Selection
from keras_inits.walking import walk

Tensor = Any
Layer = Any

# f(x) - f(-x) = (1 + slope) x holds for these alone.
HOLDS = ("gelu", "leaky_relu", "relu", "silu", "softplus", "swish")


def looks_linear_kernels(
    model: keras.Model, selection: Selection, next_seed: Callable[[], int]
) -> list[tuple[keras.Variable, Tensor]]:
    """New kernels: mirrored where the layer before, and its own activation, pair units.

    Raises:
        UnsupportedLayerError: An activation for which it does not hold, or a layer
            that does not keep units in pairs.
    """
    stack = _stack(model, selection)
    changes = []
    paired, slope = False, 0.0
    for step in stack:
        last = step is stack[-1]
        _require(step, last)
        pairs = step.activation in HOLDS and not last
        draw = LooksLinear(
            mirrored_input=paired,
            mirrored_output=pairs,
            negative_slope=slope if paired else 0.0,
            seed=next_seed(),
        )
        value = redraw(step.maps[0], draw)
        if paired and step.positions > 1:
            value = _pairs_within_positions(value, step.positions)
        changes.append((step.maps[0].kernel, value))
        paired, slope = pairs, step.slope
    return changes


@dataclass
class _Step:
    """One layer of the stack.

    Args:
        layer: The layer.
        maps: Its linear maps.
        activation: Name of what is applied to it, by itself or a layer behind it.
        slope: The slope of that below zero.
        positions: Into how many positions its inputs were flattened.
    """

    layer: Layer
    maps: tuple[LinearMap, ...]
    activation: str | None
    slope: float
    positions: int


def _stack(model: keras.Model, selection: Selection) -> list[_Step]:
    """Chosen layers in order, each with what is applied to it and how it is reached."""
    stack: list[_Step] = []
    positions = 1
    for layer in walk(model):
        if layer in selection.maps:
            stack.append(
                _Step(layer, selection.maps[layer], *_activation(layer), positions)
            )
            positions = 1
        elif type(layer) in ACTIVATION_LAYERS and stack:
            if stack[-1].activation in (None, "linear"):
                stack[-1].activation, stack[-1].slope = _activation(layer)
        elif isinstance(layer, keras.layers.Flatten):
            positions = math.prod(size or 1 for size in layer.input.shape[1:-1])
        elif isinstance(layer, _BREAKS):
            raise UnsupportedLayerError(
                f"Layer {layer.name!r} ({type(layer).__name__}) does not keep units in "
                "pairs f(h), f(-h), which a looks-linear stack is made of. Use average "
                "pooling, no normalisation and no branches; or initialize(model) and "
                "lsuv_init."
            )
    return stack


_BREAKS = tuple(
    getattr(keras.layers, name)
    for name in (
        *("MaxPooling1D", "MaxPooling2D", "MaxPooling3D", "GlobalMaxPooling1D"),
        *("GlobalMaxPooling2D", "GlobalMaxPooling3D", "BatchNormalization"),
        *("LayerNormalization", "GroupNormalization", "UnitNormalization"),
        *("Add", "Average", "Concatenate", "Dot", "Maximum", "Minimum", "Multiply"),
        *("Subtract", "MultiHeadAttention", "RNN"),
    )
)


def _activation(layer: Any) -> tuple[str | None, float]:
    """Name of what is applied, and its slope below zero."""
    named = ACTIVATION_LAYERS.get(type(layer))
    function = getattr(layer, "activation", None)
    if named is None and type(function) in ACTIVATION_LAYERS:
        return _activation(function)
    if named is None:
        name = None if function is None else getattr(function, "__name__", "?")
        return name, 0.2 if name == "leaky_relu" else 0.0  # Keras's default slope
    slope = getattr(layer, "negative_slope", 0.0)
    if named == "relu" and slope:
        named = "leaky_relu"
    return named, float(slope)


# What trains 300 layers where looks-linear does not hold (benchmarks/depth.py).
_SMALL_TARGET = (
    'lsuv_init(model, x, target_std="critical"), or target_std=0.1 from 100 layers on'
)
_INSTEAD = {
    "selu": (
        "the initializers 'looks_linear_first', 'looks_linear' in the layers, and "
        "lsuv_init(model, x, target_std=0.1) after them: together they hold nearly"
    ),
    "sigmoid": "lsuv_init(model, x, target_std=0.1, center=True)",
}


def _require(step: _Step, last: bool) -> None:
    first, name = step.maps[0], step.activation
    plain = len(step.maps) == 1 and first.gates == first.groups == 1
    if not plain or first.lookup or first.group_axes or first.stride > 1:
        raise UnsupportedLayerError(
            f"Layer {step.layer.name!r} ({type(step.layer).__name__}) cannot be "
            "mirrored: looks-linear is for Dense, EinsumDense and plain convolutions. "
            "Leave it out with layers=."
        )
    if name not in HOLDS and not last and name not in (None, "linear"):
        raise UnsupportedLayerError(
            f"Layer {step.layer.name!r} has activation {name!r}, for which "
            "f(x) - f(-x) is no multiple of x: a looks-linear stack is not linear "
            f"with it. It holds for {', '.join(HOLDS)}. For {name!r} use "
            f"{_INSTEAD.get(name or '', _SMALL_TARGET)}."
        )


def _pairs_within_positions(kernel: Tensor, positions: int) -> Tensor:
    """Rows `(pair, position, half)` to `(position, pair, half)`: Flatten's order."""
    rows, columns = kernel.shape
    half = rows // positions // 2
    if half * positions * 2 != rows:
        return kernel
    value = ops.reshape(kernel, (2, positions, half, columns))
    return ops.reshape(ops.transpose(value, (1, 0, 2, 3)), (rows, columns))
