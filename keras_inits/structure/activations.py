"""Activations by name: of layers, as layers of their own, and as operations."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import keras
from keras import tree

from keras_inits.structure.walking import nodes_of

# What Keras's activation layers apply; None: their attribute says it.
ACTIVATION_LAYERS = {
    keras.layers.Activation: None,
    keras.layers.ELU: "elu",
    keras.layers.LeakyReLU: "leaky_relu",
    keras.layers.PReLU: "prelu",
    keras.layers.ReLU: "relu",
    keras.layers.Softmax: "softmax",
}

# Classes of operations in lower case: `ops.relu(h)` is a `Relu`. Not `glu`: it halves
# the channels.
_OPERATIONS = {
    name.replace("_", ""): name
    for name, function in vars(keras.activations).items()
    if inspect.isfunction(function) and name != "glu"
}

# Layers and operations that leave each value as it is, wherever it goes; the noise of
# training is not meant.
_SAME_VALUES = frozenset(
    {
        *("ActivityRegularization", "AlphaDropout", "Dropout", "GaussianDropout"),
        *("GaussianNoise", "Identity", "InputLayer", "SpatialDropout1D"),
        *("SpatialDropout2D", "SpatialDropout3D"),
        *("Flatten", "Permute", "RepeatVector", "Reshape"),
        *("Cast", "ExpandDims", "Moveaxis", "Squeeze", "Swapaxes", "Transpose"),
    }
)


# Layers that put out what their own activation gives.
_OWN_ACTIVATION = frozenset(
    getattr(keras.layers, name)
    for name in (
        *("Dense", "EinsumDense", "Conv1D", "Conv2D", "Conv3D", "SeparableConv1D"),
        *("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose", "SeparableConv2D"),
        *("DepthwiseConv1D", "DepthwiseConv2D"),
    )
)


def operation_name(x: Any) -> str | None:
    """Name of the activation that an operation is; None for layers and the rest.

    `keras.activations.relu(h)` and `ops.relu(h)` leave one in a graph.
    """
    if isinstance(x, keras.layers.Layer) or not isinstance(x, keras.Operation):
        return None
    return _OPERATIONS.get(type(x).__name__.lower()) if is_shipped(x) else None


def is_activation(x: Any) -> bool:
    """Whether it is an activation layer of Keras's, or such an operation."""
    return type(x) in ACTIVATION_LAYERS or operation_name(x) is not None


def is_shipped(x: Any) -> bool:
    """Whether its class is Keras's own."""
    return type(x).__module__.startswith("keras.")


def keeps_values(x: Any) -> bool:
    """Whether what it puts out are the values that it takes, in whatever shape."""
    return type(x).__name__ in _SAME_VALUES and is_shipped(x)


def activation_name(layer: Any) -> str | None:
    """What the layer applies to its pre-activation, by name."""
    named = ACTIVATION_LAYERS.get(type(layer)) or operation_name(layer)
    activation = getattr(layer, "activation", None)
    if named is not None or activation is None:
        return named
    if type(activation) in ACTIVATION_LAYERS:
        return activation_name(activation)
    return getattr(activation, "__name__", type(activation).__name__)


def activations_behind(every: Iterable[Any]) -> dict[int, Any]:
    """Activations that take what a layer puts out, by the `id` of that layer.

    Dropout may lie between them, and whatever else leaves the values as they are.

    Args:
        every: All layers of a model; graphs and Sequential models among them know.
    """
    found: dict[int, Any] = {}
    for graph in every:
        for before, behind in _pairs(graph):
            if is_activation(behind):
                found.setdefault(id(before), behind)
    return found


def _pairs(graph: Any) -> Iterator[tuple[Any, Any]]:
    """Each layer or operation of one tensor, behind the one whose values it takes."""
    if isinstance(graph, keras.Sequential):
        yield from pairwise(x for x in graph.layers if not keeps_values(x))
        return
    nodes = [node for node in nodes_of(graph) if len(node.input_tensors) == 1]
    same = [node for node in nodes if keeps_values(node.operation)]
    taken = {id(y): x.input_tensors[0] for x in same for y in x.output_tensors}
    for node in nodes:
        tensor = node.input_tensors[0]
        while id(tensor) in taken:
            tensor = taken[id(tensor)]
        yield tensor._keras_history.operation, node.operation


def applied_last(model: Any, tensor: Any = None) -> tuple[str, ...]:
    """Activations that a model ends with, each taking what the one before it gives.

    In the order of their calls, down to the layer whose own is the first; () where
    the model does not say what it calls.

    Args:
        model: A Sequential model, or a graph.
        tensor: One of its outputs. None: the only one.
    """
    names: list[str] = []
    for operation in _backwards(model, tensor):
        name = activation_name(operation) if is_shipped(operation) else None
        if is_activation(operation) or type(operation) in _OWN_ACTIVATION:
            if name not in (None, "linear"):
                names.insert(0, str(name))
        elif not keeps_values(operation):
            break
        if type(operation) in _OWN_ACTIVATION:
            break
    return tuple(names)


def put_out_by(model: Any, tensor: Any = None) -> Any:
    """The layer, or the operation, that computes an output; None where it is unsure.

    What keeps the values, as a Flatten behind it, is passed over. Arguments are those
    of `applied_last`.
    """
    return next((x for x in _backwards(model, tensor) if not keeps_values(x)), None)


def _backwards(model: Any, tensor: Any = None) -> Iterator[Any]:
    """What is called in front of an output, the last first; None where that is unsure.

    Of a model within, what it calls, where its `call` is that of Keras.
    """
    calls = getattr(type(model), "call", None)
    nodes = {id(y): node for node in nodes_of(model) for y in node.output_tensors}
    if not (isinstance(model, keras.Model) and calls.__module__.startswith("keras.")):
        yield model
    elif isinstance(model, keras.Sequential):
        for layer in reversed(model.layers):
            yield from _backwards(layer)
    else:
        outputs = tree.flatten(model.outputs) if nodes else []
        tensor = outputs[0] if tensor is None and len(outputs) == 1 else tensor
        while (node := nodes.get(id(tensor))) is not None and not node.is_input:
            yield from _backwards(node.operation)
            tensor = node.input_tensors[0] if len(node.input_tensors) == 1 else None
        if node is None:
            yield None
