"""Deep and real networks: a stack of 40 convolutions, and Keras's own models."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from checks import assert_equal_weights, assert_target, changed, everything, overrides
from keras import layers
from models import normal, twice
from textbook import textbook_lsuv

from keras_inits import lsuv_init

pytestmark = pytest.mark.any_keras


def conv_stack(depth: int = 40) -> tuple[keras.Model, Any]:
    """Plain: no normalisation, no skips."""
    stack = [
        layers.Conv2D(4, 3, padding="same", activation="relu") for _ in range(depth)
    ]
    return keras.Sequential([keras.Input((6, 6, 4)), *stack]), normal(16, 6, 6, 4)


def test_forty_convolutions_as_the_textbook_has_them() -> None:
    """The textbook takes two passes a layer; float32 rounding adds up over depth."""
    (expected, x), (actual, _) = twice(conv_stack)
    report = lsuv_init(actual, x)
    assert [row.status for row in report] == ["scaled"] * 40
    assert_target(actual, x)
    passes = textbook_lsuv(expected, x)
    assert passes > 80
    assert_equal_weights(expected, actual)


# Smallest valid inputs; ten classes keep the head small.
FAMILIES: dict[str, dict[str, Any]] = {
    "ResNet50": {},
    "MobileNet": {"alpha": 0.25},
    "MobileNetV2": {"alpha": 0.35},
    "MobileNetV3Small": {"minimalistic": True},
    "VGG16": {},
}
# Where each operation on each shape is a program to compile, one is a minute's work.
SAMPLE = ["VGG16"] if keras.backend.backend() == "jax" else list(FAMILIES)


@pytest.mark.parametrize("family", SAMPLE)
def test_applications(family: str) -> None:
    model = getattr(keras.applications, family)(
        weights=None, input_shape=(32, 32, 3), classes=10, **FAMILIES[family]
    )
    x = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype("float32")
    before, patched = everything(model), overrides(model)
    chosen = {id(v): f"{i}: {v.path}" for i, v in enumerate(model.variables)}
    report = lsuv_init(model, x)
    assert_target(model, x)
    moved = set(changed(before, model))
    kernels = {chosen[id(v)] for v in model.trainable_variables if v.ndim > 1}
    assert moved <= kernels
    assert overrides(model) == patched
    assert {row.status for row in report} == {"scaled"}
