"""What the rows of several tables share.

A row takes the arguments of the other library, with its defaults, and returns the
equivalent initializer. A fan of the same name is the same number in every library:
each counts it in its own kernel layout.
"""

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import keras

from keras_inits import initializers as ours

Row = Callable[..., Any]
Table = MappingProxyType[str, Row]

keras_own = keras.initializers


def zeros_and_ones(zeros: str, ones: str) -> dict[str, Row]:
    return {zeros: lambda: keras_own.Zeros(), ones: lambda: keras_own.Ones()}


def symmetric(bound: float) -> Any:
    return keras_own.RandomUniform(-bound, bound)


def normal(mean: float, stddev: float) -> Any:
    return keras_own.RandomNormal(mean, stddev)


def absolute_bounds(
    mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0
) -> Any:
    return ours.BoundedNormal(mean, std, a, b)


def bounds_in_deviations(
    mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0
) -> Any:
    """Deviations of the parent law, which `std` is that of."""
    return ours.BoundedNormal(mean, std, mean + a * std, mean + b * std)


def plain(scale: float, mode: str, distribution: str) -> Any:
    """Libraries whose "normal" is not truncated."""
    if distribution == "normal":
        distribution = "untruncated_normal"
    return ours.VarianceScaling(scale, mode, distribution)  # type: ignore[arg-type]
