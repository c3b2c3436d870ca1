"""Models that the questions are asked of, and what every script does with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_inits import lsuv_init
from support.timing import no_gradients

Batch = Any
Subject = tuple[keras.Model, Batch]

# Keras's default would let the signal of 320 layers sink below 1e-38, where processors
# are slow: the forward pass would look dearer than it is.
START = "he_normal"


def noise(*shape: int) -> Batch:
    """Standard-normal rows."""
    return np.random.default_rng(0).standard_normal(shape, dtype="float32")


def conv_stack(
    depth: int, width: int = 32, pixels: int = 16, batch: int = 64
) -> Subject:
    """`depth` convolutions 3 x 3 with ReLU."""
    hidden = [
        layers.Conv2D(
            width, 3, padding="same", activation="relu", kernel_initializer=START
        )
        for _ in range(depth)
    ]
    shape = (pixels, pixels, width)
    return keras.Sequential([keras.Input(shape), *hidden]), noise(batch, *shape)


def dense_stack(depth: int, width: int = 512, batch: int = 64) -> Subject:
    """`depth` Dense layers with ReLU."""
    hidden = [
        layers.Dense(width, activation="relu", kernel_initializer=START)
        for _ in range(depth)
    ]
    return keras.Sequential([keras.Input((width,)), *hidden]), noise(batch, width)


def vgg_like(pixels: int = 64, batch: int = 64) -> Subject:
    """Convolutions and pooling by blocks, two wide Dense layers at the end."""
    blocks: list[Any] = [keras.Input((pixels, pixels, 3))]
    for filters, repeats in ((64, 2), (128, 2), (256, 3)):
        blocks += [
            layers.Conv2D(filters, 3, padding="same", activation="relu")
            for _ in range(repeats)
        ]
        blocks.append(layers.MaxPooling2D())
    blocks += [
        layers.Flatten(),
        layers.Dense(1024, activation="relu"),
        layers.Dense(1024, activation="relu"),
        layers.Dense(10),
    ]
    return keras.Sequential(blocks), noise(batch, pixels, pixels, 3)


def resnet50(pixels: int = 160, batch: int = 16) -> Subject:
    """ResNet50 of Keras, fresh weights, ten classes."""
    shape = (pixels, pixels, 3)
    model = keras.applications.ResNet50(weights=None, input_shape=shape, classes=10)
    return model, noise(batch, *shape)


def forward(model: keras.Model, batch: Batch) -> Any:
    """One eager forward pass: the measure of everything here."""
    with no_gradients():
        return model(batch, training=False)


def lsuv(model: keras.Model, batch: Batch) -> Any:
    """`lsuv_init`, and the kernels to wait for: JAX writes them in the background."""
    report = lsuv_init(model, batch)
    return report, [v.value for v in model.variables]


def restorer(model: keras.Model) -> Callable[[], Any]:
    """A function that puts all weights back where they are now.

    A second `lsuv_init` finds scales of 1 and writes nothing: each timed call has to
    start from weights that are not initialised yet.
    """
    weights = model.get_weights()

    def restore() -> Any:
        model.set_weights(weights)
        return [v.value for v in model.variables]

    return restore
