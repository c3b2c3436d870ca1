"""What half precisions can hold, and how a signal is brought into it."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_inits.backends import host
from keras_inits.linear_maps import LinearMap
from keras_inits.solving.decision import Options
from keras_inits.sweep import Stop

Tensor = Any


def tolerance(layer: keras.layers.Layer, options: Options) -> float:
    """Never finer than the compute dtype can hold."""
    dtype = keras.backend.standardize_dtype(layer.compute_dtype)
    # Reachable |deviation - 1|, measured: float16 3e-4, bfloat16 3e-3.
    reach = {"float16": 1e-3, "bfloat16": 8e-3}.get(dtype, 0.0)
    return max(options.tolerance, reach * options.target_std)


def finite(stop: Stop, m: LinearMap, signal: Tensor) -> tuple[Tensor, float]:
    """float16 ends at 65,504 and at 6e-8: bring the signal well inside, by the kernel.

    Returns the signal and the power of two by which the kernel has been multiplied.
    """
    moved = 1.0
    if keras.backend.standardize_dtype(signal.dtype) != "float16":
        return signal, moved
    for _ in range(8):
        largest = float(host(ops.max(ops.abs(signal))))
        if largest == 0 or 2.0**-5 < largest < float("inf"):
            break
        step = 2.0**4 if largest <= 2.0**-5 else 2.0**-4
        stop.trial.scale(m.kernel, step)
        moved *= step
        signal = stop.again()
    return signal, moved
