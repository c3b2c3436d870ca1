"""Whether a model is one chain, of whose every link is known what it does."""

from __future__ import annotations

from typing import Any

import keras

from keras_inits.linear_maps import adapter_of
from keras_inits.structure.activations import is_activation, is_shipped, keeps_values
from keras_inits.structure.walking import nodes_of, walk

# Layers that pick, pad or average values, whatever follows `1D`; how gains count them
# is known.
_POOLINGS = (
    *("AdaptiveAveragePooling", "AdaptiveMaxPooling", "AveragePooling", "Cropping"),
    *("GlobalAveragePooling", "GlobalMaxPooling", "MaxPooling", "UpSampling"),
    *("Masking", "ZeroPadding"),
)
# Operations that shift by a constant, where they have one tensor.
_SHIFTS = ("Add", "Subtract")


def is_plain(model: keras.Model) -> bool:
    """Whether each linear map feeds the next, and all that lies between is known.

    Products of gains along depth mean nothing where something bypasses or normalises
    the signal, nor where a layer or an operation (a factor, a user's own code) is not
    known to do neither.
    """
    chain = _chain(model)
    maps = [i for i, x in enumerate(chain) if any(map(adapter_of, walk(x)))]
    return not maps or all(map(_is_known, chain[maps[0] : maps[-1] + 1]))


def _chain(part: Any) -> list[Any]:
    """What is called one after the other; what is no chain stands for itself."""
    if type(part) is keras.layers.TimeDistributed:
        parts = [part.layer]
    elif not (isinstance(part, keras.Model) and _calls_in_order(part)):
        return [part]
    elif isinstance(part, keras.Sequential):
        parts = part.layers
    else:
        depths = sorted(part._nodes_by_depth.items(), reverse=True)
        parts = [node.operation for _, nodes in depths for node in nodes]
    return [x for item in parts for x in _chain(item)]


def _calls_in_order(model: Any) -> bool:
    """Whether it is a Sequential model, or a graph of which each node feeds the next.

    It is where each node reads one tensor, and no two lie side by side.
    """
    if not type(model).call.__module__.startswith("keras."):
        return False
    if isinstance(model, keras.Sequential):
        return True
    nodes = list(nodes_of(model))
    depths = len(getattr(model, "_nodes_by_depth", ()))
    one = all(len(node.input_tensors) <= 1 for node in nodes)
    return 0 < len(nodes) == depths and one and len(model.outputs) == 1


def _is_known(x: Any) -> bool:
    """Whether what it does to signal and gradient is counted, or is nothing."""
    name = type(x).__name__
    by_name = name.rstrip("123D") in _POOLINGS
    if isinstance(x, keras.layers.Layer) and adapter_of(x):
        return not isinstance(x, keras.layers.RNN)  # it loops
    if not isinstance(x, keras.layers.Layer):
        by_name = name in _SHIFTS
    return is_activation(x) or keeps_values(x) or (by_name and is_shipped(x))
