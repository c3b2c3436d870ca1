"""Figures of a torch tensor on a GPU, where a launch takes as long as a sum.

Mean and variance are one kernel there, by Welford's update: nothing cancels.
"""

from __future__ import annotations

from typing import Any

import keras

from keras_inits.backends import loaded


def has(x: Any) -> bool:
    """Whether a tensor is one of torch on a GPU; not of none, of which torch warns."""
    if keras.backend.backend() != "torch" or not isinstance(x, loaded().Tensor):
        return False
    return bool(x.device.type == "cuda" and x.numel())


def mean_and_variance(x: Any) -> tuple[Any, Any]:
    """Over all values."""
    variance, mean = loaded().var_mean(x.detach(), correction=0)
    return mean, variance


def spread(x: Any) -> tuple[Any, Any, Any]:
    """Mean, variance of the units' means, mean of their variances over the rows."""
    variances, means = loaded().var_mean(x.detach(), 0, correction=0)
    return *mean_and_variance(means), variances.mean()
