"""`Normalization` layers that nobody has adapted: they pass the data on as they are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from keras_inits.backends import read
from keras_inits.data.inputs import by_input
from keras_inits.structure.activations import is_shipped
from keras_inits.structure.takers import is_graph, takers
from keras_inits.structure.walking import walk


def has_normalizer(every: Iterable[Any]) -> bool:
    """Whether a layer among these is to be adapted to data, or has been."""
    return any(map(_is_adaptable, every))


def unadapted(model: keras.Model, batch: Any, path: str | None) -> str | None:
    """The layer that is to normalise an input and passes it on as it is, if one is so.

    By name where `model.get_layer` finds it; else by path.

    Args:
        model: What is called.
        batch: What it is called with.
        path: Where the input is in the batch, as `array_paths` has it.
    """
    if is_graph(model):
        own = (tensor for tensor, p, _ in by_input(model, batch) if p == path)
        taking = [x for tensor in own for x in takers(model, tensor)]
    else:  # its code alone knows: of one input there is hardly a doubt
        taking = [] if path else list(walk(model))
    for layer in filter(_is_adaptable, taking):
        # Not `layer.mean`: of a symbolic build of Keras's it may have no values.
        mean, variance = read([v.value for v in layer.weights[:2]])
        if not mean.any() and (variance == 1).all():
            return layer.name if layer in model.layers else layer.path
    return None


def _is_adaptable(x: Any) -> bool:
    """Whether it starts from mean 0 and variance 1, which are no user's."""
    known = isinstance(x, keras.layers.Normalization) and is_shipped(x) and x.built
    return known and x.input_mean is None and not x.invert
