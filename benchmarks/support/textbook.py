"""LSUV as the paper prints it: a forward pass for each layer and each step.

    for each layer l:
        while |Std(B_l) - 1| >= tolerance and t < t_max:
            forward a mini-batch through the network
            W_l <- W_l / Std(B_l)

No orthonormal start: here the question is what the passes cost.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from support.models import forward


def textbook_lsuv(
    model: keras.Model, batch: Any, tolerance: float = 1e-3, t_max: int = 10
) -> int:
    """Scale the kernels of a plain stack; returns the number of forward passes."""
    passes = 0
    for layer in model.layers:
        activation = layer.activation
        seen: list[Any] = []

        def recording(z: Any, activation: Any = activation, seen: Any = seen) -> Any:
            seen.append(z)
            return activation(z)

        layer.activation = recording
        for _ in range(t_max):
            forward(model, batch)
            passes += 1
            deviation = float(ops.std(seen.pop()))
            if abs(deviation - 1) < tolerance:
                break
            layer.kernel.assign(layer.kernel / deviation)
        layer.activation = activation
    return passes
