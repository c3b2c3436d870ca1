"""Weights as a twin has them: a layer made again from its config, and built anew."""

from __future__ import annotations

import random
from typing import Any

import keras

from keras_inits.errors import UnsupportedLayerError
from keras_inits.structure.naming import Layers, named_layers
from keras_inits.structure.walking import own_variables, walk

Layer = Any
Changes = list[tuple[keras.Variable, Any]]


def reset_values(model: keras.Model, layers: Layers, seed: int | None) -> Changes:
    """Every weight, biases and statistics included, by its own initializer.

    Args:
        model: A built model.
        layers: Names, layers, a class or a predicate; None: all.
        seed: Rules the draws, and the generator is put back after them.

    Raises:
        UnsupportedLayerError: A layer is unknown, quantized, or its config does not
            make it again.
    """
    wanted = list(walk(model)) if layers is None else named_layers(model, layers)
    state = random.getstate()
    try:
        if seed is not None:
            random.seed(seed)
        return [change for layer in wanted for change in _twin_values(layer)]
    finally:
        if seed is not None:
            random.setstate(state)


def _twin_values(layer: Layer) -> Changes:
    if getattr(layer, "quantization_mode", None):
        raise UnsupportedLayerError(
            f"Layer {layer.name!r} ({type(layer).__name__}) is quantized "
            f"({layer.quantization_mode}): its weights cannot be drawn again. Leave it "
            "out with layers=."
        )
    own = [v for v in own_variables(layer) if "seed_generator" not in v.path]
    adapted = hasattr(layer, "adapt")  # statistics of the data, no weights
    if not own or adapted or isinstance(layer, keras.Model):
        return []
    try:
        twin = type(layer).from_config(layer.get_config())
        twin.build_from_config(layer.get_build_config())
        twins = [v for v in own_variables(twin) if "seed_generator" not in v.path]
    except Exception as error:
        raise UnsupportedLayerError(
            f"Layer {layer.name!r} ({type(layer).__name__}) cannot be made again from "
            f"its config, so its weights cannot be reset: {error}. Implement "
            "get_config, or leave it out with layers=."
        ) from error
    if [tuple(v.shape) for v in own] != [tuple(v.shape) for v in twins]:
        raise UnsupportedLayerError(
            f"Layer {layer.name!r} ({type(layer).__name__}), made again from its "
            f"config, has weights of other shapes. Received: "
            f"{[tuple(v.shape) for v in own]} and {[tuple(v.shape) for v in twins]}. "
            "Leave it out with layers=."
        )
    return [(v, t.value) for v, t in zip(own, twins, strict=True)]
