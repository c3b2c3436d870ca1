"""Activations by name: as attributes of layers, and as layers of their own."""

from __future__ import annotations

from typing import Any

import keras

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
