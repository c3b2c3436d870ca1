"""A stack of layers, and how far units stay in pairs on their way through it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_inits.errors import UnsupportedLayerError
from keras_inits.linear_maps import LinearMap, adapter_of
from keras_inits.structure.activations import activation_name, is_activation, is_shipped
from keras_inits.structure.selection import Selection
from keras_inits.structure.walking import walk

Layer = Any

# f(x) - f(-x) = (1 + slope) x holds for these alone.
HOLDS = (
    *("gelu", "leaky_relu", "relu", "silu", "softplus", "swish"),
    *("hard_silu", "hard_swish", "log_sigmoid", "sparse_plus", "squareplus"),
)


@dataclass
class Step:
    """One layer of the stack.

    Args:
        layer: The layer.
        maps: Its linear maps.
        activation: Name of what is applied to it, by itself or a layer behind it.
        slope: The slope of that below zero.
        axes: Where its channels lie when the next layer reads them, from the right.
        flat: Where they lay when they were flattened: `"last"` or `"first"` of a row,
            `"mixed"`; None: they are not.
    """

    layer: Layer
    maps: tuple[LinearMap, ...]
    activation: str | None
    slope: float
    axes: tuple[int, ...]
    flat: str | None = None

    @property
    def pairs(self) -> bool:
        return self.activation in HOLDS


def stack_of(model: keras.Model, selection: Selection) -> list[Step]:
    """Chosen layers in order, each with what is applied to it.

    What stands before the first only prepares its input, and is not looked at. Behind
    the last, activations, other heads and a user's own layers are as good.
    """
    stack: list[Step] = []
    obstacle: UnsupportedLayerError | None = None
    ends = False  # whether the stack may end where the obstacle is
    chosen = set(map(id, selection.maps))
    for item, follows in _in_order(model, set()):
        shipped = is_shipped(item)
        if item in selection.maps:
            if not follows:
                obstacle = obstacle or broken(item, "does not follow the one before")
            if stack and obstacle is not None:
                raise obstacle
            maps = selection.maps[item]
            stack.append(Step(item, maps, *_activation(item), channels_of(maps[0])))
            obstacle = None
        elif chosen & {id(x) for x in walk(item)} or isinstance(item, keras.Model):
            if shipped and not isinstance(item, _CONTAINERS):
                raise broken(item, "does more than call the layers in it")
        elif stack and obstacle is None:
            reason = _passed(item, stack[-1])
            if reason or not follows:
                obstacle = broken(item, reason or "does not follow the one before")
                applied = is_activation(item) or adapter_of(item)
                ends = not follows or not shipped or bool(applied)
    if obstacle is not None and not ends:
        raise obstacle
    return stack


def _in_order(root: Any, seen: set[int]) -> Iterator[tuple[Any, bool]]:
    """Layers and operations as they are called, each with whether it reads the last.

    A model that is no graph has its layers in the order of its attributes.
    """
    seen.add(id(root))
    graph = getattr(root, "operations", None)
    parts = root.layers if isinstance(root, keras.Sequential) else graph
    if parts is None:
        yield root, True
        parts = list(walk(root))  # of an operation: none
    known = set().union(*(_ids(part.output) for part in graph or ()))
    before = known
    for part in parts:
        follows = True
        if graph is not None:
            # A layer that another model has called before shows that one's tensors.
            follows = _ids(part.input) & known <= before | _ids(part.output)
            before = _ids(part.output)
        if id(part) not in seen:
            for item, inside in _in_order(part, seen):
                yield item, inside and follows
                follows = True


def _ids(tensors: Any) -> set[int]:
    return set(map(id, keras.tree.flatten(tensors)))


def _layers(*names: str) -> tuple[type, ...]:
    """Keras's layers of these names, for each rank; not all are in every version."""
    every = [name.format(n) for name in names for n in (1, 2, 3)]
    return tuple(getattr(keras.layers, x) for x in every if hasattr(keras.layers, x))


_CONTAINERS = (keras.Model, keras.layers.TimeDistributed)
# What leaves every unit where it is; the noise of training is not meant.
_SAME = _layers(
    *("ActivityRegularization", "AlphaDropout", "Dropout", "GaussianDropout"),
    *("GaussianNoise", "Identity", "InputLayer", "SpatialDropout{}D"),
)
# What is linear and treats every channel alike.
_BY_CHANNEL = _layers(
    *("AveragePooling{}D", "AdaptiveAveragePooling{}D", "Cropping{}D"),
    *("UpSampling{}D", "ZeroPadding{}D"),
)
_TO_CHANNELS = _layers("GlobalAveragePooling{}D")


def _passed(item: Any, step: Step) -> str | None:
    """Why units do not stay in pairs through this; what it does is noted in `step`."""
    kind, first = type(item), step.axes != (-1,)
    if item is getattr(step.layer, "activation", None) or kind in _SAME:
        return None
    if is_activation(item):
        name, slope = _activation(item)
        if step.activation in (None, "linear"):
            step.activation, step.slope = name, slope
        elif name != "linear" and not name == step.activation == "relu":
            return f"applies {name!r} to what {step.activation!r} was applied to"
    elif kind in (*_BY_CHANNEL, *_TO_CHANNELS):
        channels_first = getattr(item, "data_format", None) == "channels_first"
        if step.flat or channels_first != first:
            return "has the channels on another axis"
        step.axes = (-1,) if kind in _TO_CHANNELS else step.axes
    elif kind is keras.layers.Rescaling:
        if np.size(item.scale) != 1 or np.any(item.offset):
            return "adds an offset or scales each channel in its own way"
    elif kind is keras.layers.Flatten or len(getattr(item, "target_shape", ())) == 1:
        trailing = step.axes == tuple(range(-len(step.axes), 0))
        step.flat = step.flat or ("last" if trailing else "first")
        if getattr(item, "data_format", None) == "channels_first":
            step.flat = "mixed" if trailing else "last"  # it puts channels last
        step.axes = (-1,)
    elif kind is not keras.layers.RepeatVector or first:
        left_out = "was not chosen, and " if adapter_of(item) else ""
        return f"{left_out}is not known to be linear and to treat channels alike"
    return None


def broken(item: Any, reason: str) -> UnsupportedLayerError:
    return UnsupportedLayerError(
        f"Layer {item.name!r} ({type(item).__name__}) {reason}: it does not keep units "
        "in pairs f(h), f(-h), which a looks-linear stack is made of. Use average "
        "pooling, Flatten, one activation a layer, no normalisation and no branches; "
        "choose with layers= a stretch without it; or initialize(model) and lsuv_init."
    )


def _activation(layer: Any) -> tuple[str | None, float]:
    """Name of what is applied, and its slope below zero."""
    function, name = getattr(layer, "activation", None), activation_name(layer)
    if is_activation(function):
        return _activation(function)
    if name is None or function is not None:
        return name, 0.2 if name == "leaky_relu" else 0.0  # Keras's default slope
    for limit in ("max_value", "threshold"):
        if value := getattr(layer, limit, None):
            return f"{name}({limit}={value})", 0.0
    slope = getattr(layer, "negative_slope", 0.0)
    return "leaky_relu" if name == "relu" and slope else name, float(slope)


def channels_of(m: LinearMap, *, read: bool = False) -> tuple[int, ...]:
    """Axes of what is written, or read, that the kernel runs over, from the right."""
    equation = getattr(m.layer, "equation", None)
    if equation is None:
        rank = len(m.receptive_axes) + 2
        return tuple(a if a < 0 else a - rank for a in m.channel_axes)
    inputs, rest = equation.replace("...", "0").split(",")
    weights, outputs = rest.split("->")
    labels, axes = (inputs, m.input_axes) if read else (outputs, m.output_axes)
    return tuple(labels.index(weights[a]) - len(labels) for a in axes)
