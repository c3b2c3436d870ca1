"""Inputs that are indices into the table of an `Embedding`.

What lies outside the table is NaN on JAX, an error of the backend's own on PyTorch and
on TensorFlow, and zeros on some devices.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_inits.backends import read
from keras_inits.data.inputs import by_input
from keras_inits.distribution import is_global
from keras_inits.errors import DataError
from keras_inits.structure.activations import is_shipped
from keras_inits.structure.takers import in_order, is_graph, takers
from keras_inits.structure.walking import walk

Batch = Any

# Layers and operations that read numbers as names of something.
_LOOK_UP = frozenset(
    {
        *("CategoryEncoding", "Embedding", "HashedCrossing", "Hashing"),
        *("IntegerLookup", "OneHot", "ReversibleEmbedding", "Take"),
    }
)


def check_indices(model: keras.Model, batch: Batch) -> None:
    """Whether each `Embedding` that an input feeds has a row for every index.

    Negative indices count from the end of the table, in Keras on every backend.

    Raises:
        DataError: It has none; the layer and the index are named.
    """
    for tensor, path, array in by_input(model, batch):
        tables = [] if is_global(array) else list(_tables(model, tensor))
        if not tables:
            continue
        [values] = read([array])
        low, high = _reach(values)
        for layer in tables:
            rows = layer.input_dim
            if -rows <= low and high < rows:
                continue
            mend = "indices from 0 on"
            if high >= rows:
                mend = f"smaller ones, or build the layer with input_dim={high + 1}"
            raise DataError(
                f"Layer {layer.name!r} ({type(layer).__name__}) has input_dim={rows}: "
                f"it takes indices from 0 to {rows - 1}. Received: indices from {low} "
                f"to {high} in {path or '`data`'}, of shape {tuple(values.shape)}. "
                f"Pass {mend}."
            )


def indices_among(model: keras.Model, batch: Batch) -> list[str | None] | None:
    """Paths in the batch of all inputs that lead to a table of something.

    None where the model does not say where its inputs lead.
    """
    inputs = by_input(model, batch)
    if not inputs or not is_graph(model):
        return None
    return [path for tensor, path, _ in inputs if _leads_to_table(model, tensor)]


def _reach(values: np.ndarray[Any, Any]) -> tuple[int, int]:
    """The smallest and the largest index; fractions are cut off, as Keras does."""
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    if values.dtype.kind not in "fiu" or not values.size:
        return 0, 0
    return int(values.min()), int(values.max())


def _tables(model: Any, tensor: Any) -> Iterator[Any]:
    """Each `Embedding` that takes the values of an input tensor of a model."""
    for layer in takers(model, tensor):
        if isinstance(layer, keras.layers.Embedding) and is_shipped(layer):
            yield layer


def _leads_to_table(model: Any, tensor: Any) -> bool:
    """Whether a layer that looks something up lies anywhere behind an input."""
    if isinstance(model, keras.Sequential):
        return any(map(_looks_up, walk(model)))
    reached = {id(tensor)}
    for node in in_order(model):
        if not reached.isdisjoint(map(id, node.input_tensors)):
            reached |= set(map(id, node.output_tensors))
            operation = node.operation
            if _looks_up(operation) or any(map(_looks_up, walk(operation))):
                return True
    return False


def _looks_up(x: Any) -> bool:
    return type(x).__name__ in _LOOK_UP or isinstance(x, keras.layers.Embedding)
