"""LSUV as the paper writes it: plain, slow, and the oracle of the tests.

Nothing here knows of keras_inits. A forward pass records what each layer is called
with; the pre-activation is then computed from that input alone, in float64 NumPy
wherever that takes a few lines, and by a linear twin of the layer where it does not
(transposed convolutions).

    for each layer, in the order of the calls:
        repeat: forward the batch; stop where |Std(W x + b) - 1| is small enough
                W <- W / Std(W x + b)
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import ops, tree

Array = np.ndarray[Any, Any]

GATES = {
    keras.layers.SimpleRNNCell: 1,
    keras.layers.GRUCell: 3,
    keras.layers.LSTMCell: 4,
}
CONV = tuple(getattr(keras.layers, f"Conv{rank}D") for rank in (1, 2, 3))
TRANSPOSE = tuple(getattr(keras.layers, f"Conv{rank}DTranspose") for rank in (1, 2, 3))
DEPTHWISE = tuple(getattr(keras.layers, f"DepthwiseConv{rank}D") for rank in (1, 2))
SEPARABLE = tuple(getattr(keras.layers, f"SeparableConv{rank}D") for rank in (1, 2))


@dataclass
class Call:
    """One call of one layer, and what it returned."""

    layer: keras.layers.Layer
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any = None


@dataclass
class Part:
    """One linear map: its kernel (or a gate's columns of it) and its signal."""

    kernel: keras.Variable
    signal: Array
    columns: slice = field(default_factory=lambda: slice(None))
    channel_axes: tuple[int, ...] = (-1,)

    @property
    def std(self) -> float:
        return float(self.signal.std())

    @property
    def channels(self) -> Array:
        """The signal as `(everything else, channels)`."""
        rank = self.signal.ndim
        last = range(rank - len(self.channel_axes), rank)
        moved = np.moveaxis(self.signal, self.channel_axes, tuple(last))
        return moved.reshape(-1, int(np.prod([moved.shape[a] for a in last])))


def numpy(x: Any) -> Array:
    """In float64, whatever it was."""
    if keras.backend.standardize_dtype(x.dtype) in ("float16", "bfloat16"):
        x = ops.cast(x, "float32")
    return np.asarray(ops.convert_to_numpy(x)).astype("float64")


@contextlib.contextmanager
def recorded() -> Iterator[list[Call]]:
    """All calls of all layers, in the order in which they begin."""
    original = keras.layers.Layer.__call__
    both, names = keras.layers.Bidirectional, ("lstm", "gru")
    # On a GPU Keras would run both directions past the layers within.
    apart = {f"_can_attempt_fused_{x}": lambda *args, **kwargs: False for x in names}
    before = {name: vars(both).get(name) for name in apart}
    calls: list[Call] = []

    def call(self: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        entry = Call(self, args, kwargs)
        calls.append(entry)
        entry.output = original(self, *args, **kwargs)
        return entry.output

    keras.layers.Layer.__call__ = call
    for name, function in apart.items():
        setattr(both, name, function)
    try:
        yield calls
    finally:
        keras.layers.Layer.__call__ = original
        for name, method in before.items():
            delattr(both, name) if method is None else setattr(both, name, method)


def forward(model: keras.Model, x: Any, training: bool = False) -> list[Call]:
    """One eager pass that leaves every variable as it was.

    In inference mode none changes; in training mode statistics and seeds do.
    """
    held = model.variables if training else []
    before = [(v, ops.convert_to_numpy(v).copy()) for v in held]
    with contextlib.ExitStack() as stack:
        if keras.backend.backend() == "torch":
            import torch

            stack.enter_context(torch.no_grad())
        calls = stack.enter_context(recorded())
        model(x, training=training)
    for variable, value in before:
        if ops.convert_to_numpy(variable).tobytes() != value.tobytes():
            variable.assign(value)
    return calls


def linear_twin(layer: Any, x: Any) -> Array:
    """`W x + b` by a new layer of the same class, without activation, in float32."""
    config = layer.get_config()
    config.update(activation=None, dtype="float32", name=f"{layer.name}_twin")
    twin = type(layer).from_config(config)
    twin.build(tuple(x.shape))
    twin.set_weights([numpy(w) for w in layer.weights])
    return numpy(twin(ops.cast(x, "float32")))


def biased(signal: Array, layer: Any) -> Array:
    """`signal + b`, where the layer has a bias."""
    return signal if layer.bias is None else signal + numpy(layer.bias)


def windows(layer: Any, x: Any) -> Array:
    """What the kernel lies on: `(batch, *out, channels, *field)`, channels last."""
    rank = len(layer.kernel_size)
    x = numpy(x)
    if layer.data_format == "channels_first":
        x = np.moveaxis(x, 1, -1)
    reach = [
        (k - 1) * d + 1
        for k, d in zip(layer.kernel_size, layer.dilation_rate, strict=True)
    ]
    padding = [(0, 0)] * x.ndim
    for axis, (size, step) in enumerate(zip(reach, layer.strides, strict=True), 1):
        if layer.padding == "causal":
            padding[axis] = (size - 1, 0)
        elif layer.padding == "same":
            length = x.shape[axis]
            total = max((math.ceil(length / step) - 1) * step + size - length, 0)
            padding[axis] = (total // 2, total - total // 2)
    axes = tuple(range(1, rank + 1))
    seen = np.lib.stride_tricks.sliding_window_view(np.pad(x, padding), reach, axes)
    every = slice(None)
    steps = [slice(None, None, s) for s in layer.strides]
    gaps = [slice(None, None, d) for d in layer.dilation_rate]
    return seen[(every, *steps, every, *gaps)]


def convolved(layer: Any, x: Any) -> Array:
    """A plain or grouped convolution, without its bias."""
    kernel, field = numpy(layer.kernel), windows(layer, x)
    rank = len(layer.kernel_size)
    width, filters = kernel.shape[-2], kernel.shape[-1] // layer.groups
    groups = []
    for group in range(layer.groups):
        part = np.take(field, range(group * width, (group + 1) * width), -rank - 1)
        weights = kernel[..., group * filters : (group + 1) * filters]
        inputs = (*range(-rank, 0), -rank - 1)
        groups.append(np.tensordot(part, weights, (inputs, tuple(range(rank + 1)))))
    return np.concatenate(groups, axis=-1)


def depthwise(layer: Any, kernel: Any, x: Any) -> Array:
    """Each channel by its own kernels, without a bias."""
    weights, field = numpy(kernel), windows(layer, x)
    rank = len(layer.kernel_size)
    flat = field.reshape(*field.shape[:-rank], -1)
    weights = weights.reshape(-1, *weights.shape[rank:])
    signal = np.einsum("...ck,kcm->...cm", flat, weights)
    return signal.reshape(*signal.shape[:-2], -1)


def convolution_part(layer: Any, x: Any) -> Part:
    """Any convolution but a transposed one; channels last, whatever the layer has."""
    if isinstance(layer, CONV):
        return Part(layer.kernel, biased(convolved(layer, x), layer))
    if isinstance(layer, DEPTHWISE):
        return Part(layer.kernel, biased(depthwise(layer, layer.kernel, x), layer))
    between = depthwise(layer, layer.depthwise_kernel, x)
    pointwise = numpy(layer.pointwise_kernel).reshape(between.shape[-1], -1)
    return Part(layer.pointwise_kernel, biased(between @ pointwise, layer))


def gate_parts(cell: Any, x: Array) -> list[Part]:
    """`x W` of every gate of a cell; biases belong to the gates, not to `x W`."""
    gates = next((n for kind, n in GATES.items() if isinstance(cell, kind)), 0)
    if not gates:
        return []
    units = cell.kernel.shape[-1] // gates
    parts = []
    for gate in range(gates):
        columns = slice(gate * units, (gate + 1) * units)
        parts.append(Part(cell.kernel, (x @ numpy(cell.kernel))[..., columns], columns))
    return parts


def recurrent_parts(layer: Any, sequences: Any) -> list[Part]:
    """Of every cell in turn: stacked cells see what the ones before put out."""
    cells = list(getattr(layer.cell, "cells", [layer.cell]))
    parts = []
    for position, cell in enumerate(cells):
        parts += gate_parts(cell, numpy(sequences))
        if position + 1 < len(cells):
            sequences = keras.layers.RNN(cell, return_sequences=True)(sequences)
    return parts


def frames_parts(layer: Any, sequences: Any) -> list[Part]:
    """The input convolution of a ConvLSTM, frame by frame."""
    cell = layer.cell
    kind = getattr(keras.layers, f"Conv{cell.rank}D")
    twin = kind(
        4 * cell.filters,
        cell.kernel_size,
        strides=cell.strides,
        padding=cell.padding,
        data_format=cell.data_format,
        dilation_rate=cell.dilation_rate,
        use_bias=False,
    )
    frames = ops.reshape(sequences, (-1, *sequences.shape[2:]))
    twin.build(tuple(frames.shape))
    twin.set_weights([numpy(cell.kernel)])
    signal = numpy(twin(frames))
    if cell.data_format == "channels_first":
        signal = np.moveaxis(signal, 1, -1)
    parts = []
    for gate in range(4):
        columns = slice(gate * cell.filters, (gate + 1) * cell.filters)
        parts.append(Part(cell.kernel, signal[..., columns], columns))
    return parts


def parts_of(layer: Any, x: Any) -> list[Part]:
    """The linear maps of one call of `layer` on `x`; none where it has none."""
    kinds = keras.layers
    if isinstance(layer, kinds.TimeDistributed):
        return parts_of(layer.layer, ops.reshape(x, (-1, *x.shape[2:])))
    if isinstance(layer, kinds.Dense):
        signal = numpy(x) @ numpy(layer.kernel)
        return [Part(layer.kernel, biased(signal, layer))]
    if isinstance(layer, kinds.EinsumDense):
        signal = np.einsum(layer.equation, numpy(x), numpy(layer.kernel))
        labels, weights = layer.equation.split("->")[1], layer.equation.split(",")[1]
        ahead = -len(labels) if labels.startswith("...") else 0
        axes = (labels.index(x) + ahead for x in labels if x in weights.split("->")[0])
        return [Part(layer.kernel, biased(signal, layer), channel_axes=(*axes,))]
    if isinstance(layer, kinds.Embedding):
        rows = numpy(layer.embeddings)[numpy(x).astype(int)]
        return [Part(layer.embeddings, rows)]
    if isinstance(layer, (*CONV, *DEPTHWISE, *SEPARABLE)):
        return [convolution_part(layer, x)]
    if isinstance(layer, TRANSPOSE):
        axis = -1 if layer.data_format == "channels_last" else 1
        return [Part(layer.kernel, linear_twin(layer, x), channel_axes=(axis,))]
    if hasattr(getattr(layer, "cell", None), "rank"):
        return frames_parts(layer, x)
    if isinstance(layer, kinds.RNN):
        return recurrent_parts(layer, x)
    return []


def measured(
    model: keras.Model,
    x: Any,
    training: bool = False,
    only: Collection[keras.layers.Layer] | None = None,
) -> dict[keras.layers.Layer, list[Part]]:
    """The maps of every layer at its first call, in the order of the calls."""
    found: dict[keras.layers.Layer, list[Part]] = {}
    for call in forward(model, x, training):
        holder = call.layer
        if isinstance(holder, keras.layers.TimeDistributed):
            holder = holder.layer
        if holder in found or (only is not None and holder not in only):
            continue
        inputs = tree.flatten(call.args or list(call.kwargs.values()))
        if parts := parts_of(call.layer, inputs[0]):
            found[holder] = parts
    return found


def call_order(model: keras.Model, x: Any) -> list[keras.layers.Layer]:
    """Layers with a linear map, in the order of their first calls."""
    return list(measured(model, x))


def textbook_lsuv(
    model: keras.Model,
    x: Any,
    *,
    layers: Collection[keras.layers.Layer] | None = None,
    target_std: float = 1.0,
    tolerance: float = 1e-6,
    max_iterations: int = 10,
    training: bool = False,
) -> int:
    """Initialise `model` as the paper does; returns the number of forward passes."""
    passes = 1
    for layer in call_order(model, x):
        if layers is not None and layer not in layers:
            continue
        for _ in range(max_iterations):
            parts = measured(model, x, training, [layer])[layer]
            passes += 1
            if all(abs(part.std - target_std) < tolerance for part in parts):
                break
            for part in parts:
                kernel = numpy(part.kernel)
                kernel[..., part.columns] *= target_std / part.std
                part.kernel.assign(kernel.astype("float32"))
    return passes
