"""What half precisions can hold, and how a signal is brought into it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_inits.backends import host
from keras_inits.errors import ConvergenceError
from keras_inits.linear_maps import LinearMap
from keras_inits.solving.decision import Decision, Options
from keras_inits.statistics.moments import widen
from keras_inits.sweep import Stop
from keras_inits.weights.trial import Trial

Tensor = Any
LARGEST = 65_504.0  # of float16


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
    if keras.backend.standardize_dtype(signal.dtype) != "float16" or stop.bias_only:
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


def require_room(decisions: Sequence[Decision], trial: Trial) -> None:
    """Refuse a kernel that float16, in which its layer computes, cannot hold.

    Raises:
        ConvergenceError: It names the first one.
    """
    for decision in decisions:
        for variable in decision.variables:
            types = decision.layer.compute_dtype, variable.dtype
            if "float16" not in map(keras.backend.standardize_dtype, types):
                continue
            values = widen(trial.base(variable)) * trial.factors.get(id(variable), 1.0)
            largest = float(host(ops.max(ops.abs(values))))
            if largest > LARGEST:
                raise ConvergenceError(
                    f"{decision.where}: what it takes is so small that its kernel "
                    f"would hold {largest:.3g} to meet the target, and float16 ends at "
                    f"{LARGEST:,.0f}. Standardise the data (deviation 1), or compute "
                    'in another dtype: keras.config.set_dtype_policy("mixed_bfloat16").'
                )
