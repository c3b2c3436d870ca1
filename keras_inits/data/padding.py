"""Steps of the data that the model's own mask leaves out, where it says so at once."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_inits.data.inputs import by_input
from keras_inits.structure.activations import is_shipped
from keras_inits.structure.takers import is_graph, takers
from keras_inits.structure.walking import walk

Array = np.ndarray[Any, Any]


def real_steps(model: keras.Model, batch: Any, path: str | None, x: Array) -> Array:
    """The values `(steps, ...)` of an input that count, or all of it as it is.

    Args:
        model: What is called.
        batch: What it is called with.
        path: Where the input is in the batch, as `array_paths` has it.
        x: The input, `(batch, time, ...)`.
    """
    if is_graph(model):
        own = (tensor for tensor, p, _ in by_input(model, batch) if p == path)
        taking = [layer for tensor in own for layer in takers(model, tensor)]
    else:  # its code alone knows: of one input there is hardly a doubt
        several = path is not None
        taking = [] if several else [y for y in walk(model) if _mask(y, x) is not None]
    # In a graph the mask itself comes out of a comparison.
    seeing = (layer for layer in taking if type(layer).__name__ != "NotEqual")
    masks = [_mask(layer, x) for layer in seeing]
    known = [mask for mask in masks if mask is not None]
    if not known or len(known) < len(masks):
        return x
    left: Array = x[np.logical_or.reduce(known)]
    return left if left.size else x


def _mask(layer: Any, x: Array) -> Array | None:
    """What it makes of data that it takes; None: it makes no mask."""
    if not is_shipped(layer) or x.ndim < 2:
        return None
    if isinstance(layer, keras.layers.Masking) and x.ndim > 2:
        found: Array = (x != layer.mask_value).any(axis=-1)
        return found
    return x != 0 if getattr(layer, "mask_zero", False) else None
