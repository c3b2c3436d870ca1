"""Which outputs of a model each layer leads to."""

from __future__ import annotations

import keras
from keras.layers import Layer

from keras_inits.structure.walking import walk


def outputs_led_to(model: keras.Model) -> dict[Layer, tuple[str, ...]]:
    """By layer the names of the outputs that need it, where it is not all of them.

    Args:
        model: A model; of one without a graph, or with one output, nothing is said.
    """
    names = dict.fromkeys(getattr(model, "output_names", None) or [])
    outputs = getattr(model, "outputs", None) or []
    if len(names) < 2 or len(names) != len(outputs):
        return {}
    led: dict[Layer, list[str]] = {}
    for name, output in zip(names, outputs, strict=True):
        # Nameless, it would shift the names of others.
        graph = keras.Function(model.inputs, output, name="to_one_output")
        for layer in walk(graph.operations):
            led.setdefault(layer, []).append(name)
    return {layer: tuple(own) for layer, own in led.items() if len(own) < len(names)}
