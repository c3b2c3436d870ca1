"""Activations by name: as attributes of layers, and as layers of their own."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import keras

from keras_inits.walking import nodes_of

# What Keras's activation layers apply; None: their attribute says it.
ACTIVATION_LAYERS = {
    keras.layers.Activation: None,
    keras.layers.ELU: "elu",
    keras.layers.LeakyReLU: "leaky_relu",
    keras.layers.PReLU: "prelu",
    keras.layers.ReLU: "relu",
    keras.layers.Softmax: "softmax",
}


def activation_name(layer: Any) -> str | None:
    """What the layer applies to its pre-activation, by name."""
    named = ACTIVATION_LAYERS.get(type(layer))
    activation = getattr(layer, "activation", None)
    if named is not None or activation is None:
        return named
    if type(activation) in ACTIVATION_LAYERS:
        return activation_name(activation)
    return getattr(activation, "__name__", type(activation).__name__)


def activations_behind(every: Iterable[Any]) -> dict[int, Any]:
    """Activation layers that take what a layer puts out, by the `id` of that layer.

    Args:
        every: All layers of a model; graphs and Sequential models among them know.
    """
    found: dict[int, Any] = {}
    for graph in every:
        pairs = list(pairwise(getattr(graph, "layers", [])))
        if not isinstance(graph, keras.Sequential):
            pairs = [
                (inputs[0]._keras_history.operation, operation)
                for operation, inputs in nodes_of(graph)
                if type(operation) in ACTIVATION_LAYERS and inputs
            ]
        for before, layer in pairs:
            if type(layer) in ACTIVATION_LAYERS:
                found.setdefault(id(before), layer)
    return found
