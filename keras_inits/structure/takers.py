"""Which layers take the values of a model's inputs as they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from keras_inits.linear_maps import adapter_of
from keras_inits.structure.activations import keeps_values
from keras_inits.structure.walking import walk


def is_graph(part: Any) -> bool:
    """Whether all that it does is in its graph, or in its list of layers."""
    is_model = isinstance(part, keras.Model) and (
        isinstance(part, keras.Sequential) or hasattr(part, "_nodes_by_depth")
    )
    return is_model and type(part).call.__module__.startswith("keras.")


def in_order(graph: Any) -> list[Any]:
    """The calls in a graph, none before what it takes."""
    by_depth = sorted(graph._nodes_by_depth.items(), reverse=True)
    return [node for _, nodes in by_depth for node in nodes]


def takers(part: Any, tensor: Any) -> Iterator[Any]:
    """Each layer, or operation, that takes the values of an input tensor of a model.

    What is within a model in the model counts. Nothing where it is no graph.

    Args:
        part: A model.
        tensor: One of its inputs; of a Sequential model the only one.
    """
    if not is_graph(part):
        return
    if isinstance(part, keras.Sequential):
        first = next((x for x in part.layers if not keeps_values(x)), None)
        yield from _within(first, 0)
        return
    same = {id(tensor)}
    for node in in_order(part):
        for position, taken in enumerate(node.input_tensors):
            if id(taken) in same and not keeps_values(node.operation):
                yield from _within(node.operation, position)
            elif id(taken) in same:
                same |= set(map(id, node.output_tensors))


def first_kernels(part: Any) -> Iterator[Any]:
    """Each layer with a kernel that no other one stands before, of every input.

    Args:
        part: A model. Nothing where it is no graph.
    """
    if not is_graph(part):
        return
    if isinstance(part, keras.Sequential):
        held = (x for x in part.layers if any(map(adapter_of, walk(x))))
        yield from _first_in(next(held, None))
        return
    reached = set(map(id, part.inputs))
    for node in in_order(part):
        if reached.isdisjoint(map(id, node.input_tensors)):
            continue
        if any(map(adapter_of, walk(node.operation))):
            yield from _first_in(node.operation)
        else:
            reached |= set(map(id, node.output_tensors))


def _first_in(x: Any) -> Iterator[Any]:
    if is_graph(x):
        yield from first_kernels(x)
    elif isinstance(x, keras.layers.Layer):
        yield from filter(adapter_of, walk(x))


def _within(x: Any, position: int) -> Iterator[Any]:
    """The layer itself, or those of a model within the model."""
    if is_graph(x):
        if position < len(x.inputs):
            yield from takers(x, x.inputs[position])
    elif x is not None:
        yield x
