"""What can be told of a kernel from its row."""

from __future__ import annotations

import math

from keras_inits.records import LayerSignal


def enlarges(layer: LayerSignal) -> float:
    """How many times as large a kernel makes what it takes; 0 where nobody knows."""
    if layer.layer_type == "Embedding" or not layer.kernel_std:
        return 0.0
    shape = layer.kernel_shape or ()
    own = layer.layer_type.startswith("Depthwise")  # a channel for each unit
    return layer.kernel_std * math.sqrt(math.prod(shape[: -2 if own else -1]))


def is_constant(layer: LayerSignal) -> bool:
    """Whether all weights of a kernel are equal, so that its units are, too.

    One weight, or one unit, always is; depthwise units see channels of their own.
    """
    # Of several rows that give one value, not of the one row there is.
    still = not layer.std and (not layer.mean or layer.batch_std == 0)
    return layer.kernel_std == 0 and (has_several(layer) or still)


def has_several(layer: LayerSignal) -> bool:
    """Whether a kernel has several units that see the same."""
    shape = layer.kernel_shape or (2, 2)
    return shape[-1] > 1 and not layer.layer_type.startswith("Depthwise")


def kernel_input_rms(layer: LayerSignal) -> float:
    """Root mean square of a layer's input, from its kernel and its signal; else 1."""
    if not (layer.kernel_std and layer.kernel_shape and layer.std):
        return 1.0
    fan_in = math.prod(layer.kernel_shape[:-1])
    return layer.std / (layer.kernel_std * math.sqrt(fan_in))
