"""Batch statistics as each replica of a strategy sees them, on TensorFlow.

In the first step of training a `BatchNormalization` that is not synchronised normalises
each replica's rows by themselves. A pass in training mode over the rows of all replicas
does the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_inits.distribution import on_tensorflow

Tensor = Any
Call = Callable[..., Any]


def local_statistics(
    model: keras.Model, layers: Iterable[keras.layers.Layer], training: bool
) -> list[tuple[keras.layers.Layer, str, Call]]:
    """`(layer, "call", call)` for each layer that is to see a replica at a time.

    Row `i` of a batch is taken for one of replica `i % replicas`.
    """
    count = _replicas(model) if training else 1
    if count == 1:
        return []
    return [
        (layer, "call", functools.partial(_by_replica, layer.call, count))
        for layer in layers
        if isinstance(layer, keras.layers.BatchNormalization)
        and layer.trainable
        and not layer.synchronized
    ]


def _by_replica(
    call: Call, count: int, inputs: Tensor, training: Any = None, mask: Any = None
) -> Tensor:
    outputs = []
    for replica in range(min(count, inputs.shape[0])):
        part = None if mask is None else mask[replica::count]
        outputs.append(call(inputs[replica::count], training=training, mask=part))
    order = [np.arange(inputs.shape[0])[k::count] for k in range(count)]
    back = np.argsort(np.concatenate(order))
    return ops.take(ops.concatenate(outputs), back, axis=0)


def _replicas(model: keras.Model) -> int:
    """Replicas in this process."""
    if keras.backend.backend() != "tensorflow":
        return 1
    strategy = on_tensorflow.strategy_of(model)
    if strategy is None:
        return 1
    count: int = strategy.num_replicas_in_sync // on_tensorflow.processes(strategy)
    return max(1, count)


def interleaved(parts: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Row `i` of replica `k` becomes row `i * replicas + k`, as far as rows go."""
    order = [i * len(parts) + k for k, x in enumerate(parts) for i in range(len(x))]
    return np.concatenate(parts)[np.argsort(order)]
