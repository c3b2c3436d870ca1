"""Batches and new kernels where the model's own are: `keras.distribution` on JAX.

A large kernel lies on several devices, a part on each, and must never lie on one.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_inits.distribution.peers import current_peers, peers_of

Tensor = Any


def is_global(x: Any) -> bool:
    """Whether parts of an array belong to other processes."""
    return not getattr(x, "is_fully_addressable", True)


def shared_batch(model: keras.Model, batch: Any) -> Any:
    """One batch for all devices, in the layout that `fit` gives it.

    Of several processes the first one's counts. A batch that is global already (the one
    that `fit` draws) stays as it is.
    """
    distribution = keras.distribution.distribution()
    if keras.backend.backend() != "jax" or distribution is None:
        return batch
    if any(map(is_global, tree.flatten(batch))):
        return batch
    current = current_peers()
    with contextlib.nullcontext(current) if current else peers_of(model) as peers:
        if peers is not None:
            batch = tree.map_structure(_on_host, batch)
            batch = peers.first_object(batch, "has a batch")
    return tree.map_structure(lambda x: _laid_out(distribution, x), batch)


def _on_host(x: Any) -> Any:
    return None if x is None else ops.convert_to_numpy(x)


def _laid_out(distribution: Any, x: Any) -> Any:
    if x is None:  # an optional input that is missing
        return None
    x = np.asarray(ops.convert_to_numpy(x))
    if x.dtype.kind not in "biufV" or not len(x):
        return x  # text stays on the host
    layout = distribution.get_data_layout(x.shape)
    mesh = layout.device_mesh
    parts = dict(zip(mesh.axis_names, mesh.shape, strict=True)).get(layout.axes[0], 1)
    # Equal parts only; what is left of few rows goes to every device.
    rows = len(x) - len(x) % parts
    if rows:
        x = x[:rows]
    else:
        layout = keras.distribution.TensorLayout([None] * x.ndim, mesh)
    return keras.distribution.distribute_tensor(ops.convert_to_tensor(x), layout)


def placed(variable: keras.Variable, draw: Callable[[], Tensor]) -> Tensor:
    """What `draw` draws, made where `variable` is, each device its own part."""
    if keras.backend.backend() != "jax":
        return draw()
    sharding = getattr(variable.value, "sharding", None)
    if sharding is None or sharding.is_fully_replicated:
        return draw()
    return sys.modules["jax"].jit(draw, out_shardings=sharding)()


def laid_out_like(variable: keras.Variable, value: Tensor) -> Tensor:
    """A new value in the layout of the old one, whoever has chosen that."""
    sharding = getattr(variable.value, "sharding", None)
    if sharding is None or getattr(value, "sharding", sharding) == sharding:
        return value
    return sys.modules["jax"].device_put(value, sharding)
