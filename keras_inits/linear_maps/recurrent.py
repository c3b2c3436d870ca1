"""Recurrent layers: the input part `x @ W` of every gate.

A cell runs inside the backend's loop, where nothing can be looked at. Its input part
needs no loop: it is a linear map of the whole sequence at once. So the map belongs to
the layer that is called, `keras.layers.RNN` or one of its kin, and the kernel to the
cell. Recurrent kernels stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_inits.linear_maps.base import LinearMap, Tensor, own_weight
from keras_inits.linear_maps.registry import register_linear_map

# Gates fused along the last axis of a cell's kernel (Keras's layout: LSTM i, f, c, o;
# GRU z, r, h).
CELL_GATES = {
    keras.layers.SimpleRNNCell: 1,
    keras.layers.GRUCell: 3,
    keras.layers.LSTMCell: 4,
}


def _cell_map(
    layer: Any, cell: Any, sequence: Callable[..., Tensor], gates: int
) -> LinearMap:
    kernel, bias = own_weight(cell, "kernel"), own_weight(cell, "bias")

    def input_part(*args: Any, **kwargs: Any) -> Tensor:
        x = sequence(*args, **kwargs)
        return ops.matmul(x, ops.cast(kernel, x.dtype))

    return LinearMap(
        layer,
        kernel,
        input_axes=(0,),
        output_axes=(1,),
        gates=gates,
        bias=bias,
        resting_bias=_resting_bias(cell, kernel.shape[-1]),
        bias_rows=0 if bias is None or len(bias.shape) == 1 else bias.shape[0],
        owner=cell,
        probe=input_part,
    )


def _resting_bias(cell: Any, width: int) -> np.ndarray[Any, Any] | None:
    """1 on the forget gate, the second of four, where the cell was made with that."""
    if not getattr(cell, "unit_forget_bias", False):
        return None
    bias = np.zeros(width, "float32")
    bias[width // 4 : width // 2] = 1.0
    return bias


def _gates(cell: Any) -> int:
    for cell_class, gates in CELL_GATES.items():
        # A cell that overrides `call` may use its kernel in any way.
        if isinstance(cell, cell_class) and type(cell).call is cell_class.call:
            return gates
    return 0


def _own_input(sequences: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return sequences


def _after(layer: Any, cells: list[Any]) -> Callable[..., Tensor]:
    """The sequence that the cell behind `cells` receives.

    Runs the cells in front as an RNN of their own, under the weights of the moment.
    Its name is fixed so that the numbering of the user's next layers stays as it is.
    """

    def sequence(
        sequences: Tensor,
        initial_state: Any = None,
        mask: Tensor | None = None,
        training: bool = False,
    ) -> Tensor:
        front = keras.layers.RNN(
            cells if len(cells) > 1 else cells[0],  # a list of one fails on JAX
            return_sequences=True,
            go_backwards=layer.go_backwards,
            unroll=layer.unroll,
            dtype=layer.dtype_policy,
            name=f"{layer.name}_front",
        )
        state = None if initial_state is None else list(initial_state)[: len(cells)]
        if state is not None and len(cells) == 1:
            state = keras.tree.flatten(state)
        found = front(sequences, initial_state=state, mask=mask, training=training)
        # In the order of the steps, as the mask is.
        turned = layer.go_backwards and mask is not None
        return ops.flip(found, axis=1) if turned else found

    return sequence


def recurrent(layer: Any) -> tuple[LinearMap, ...]:
    """One map for each cell: stacked cells see what the cells before them put out."""
    cell = layer.cell
    if not isinstance(cell, keras.layers.StackedRNNCells):
        gates = _gates(cell)
        return (_cell_map(layer, cell, _own_input, gates),) if gates else ()
    cells = list(cell.cells)
    maps = []
    for position, inner in enumerate(cells):
        if not _gates(inner):
            continue
        sequence = _after(layer, cells[:position]) if position else _own_input
        maps.append(_cell_map(layer, inner, sequence, _gates(inner)))
    return tuple(maps)


def convolutional_lstm(layer: Any) -> LinearMap:
    """Kernel `(*field, inputs, 4 filters)`: a convolution of every frame."""
    cell = layer.cell
    kernel, rank = own_weight(cell, "kernel"), cell.rank

    def input_part(sequences: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return ops.conv(
            ops.reshape(sequences, (-1, *sequences.shape[2:])),
            ops.cast(kernel, sequences.dtype),
            strides=list(cell.strides),
            padding=cell.padding,
            dilation_rate=list(cell.dilation_rate),
            data_format=cell.data_format,
        )

    return LinearMap(
        layer,
        kernel,
        receptive_axes=tuple(range(rank)),
        input_axes=(rank,),
        output_axes=(rank + 1,),
        channel_axes=(-1,) if cell.data_format == "channels_last" else (1,),
        gates=4,
        bias=own_weight(cell, "bias"),
        resting_bias=_resting_bias(cell, kernel.shape[-1]),
        owner=cell,
        probe=input_part,
    )


for _class in ("RNN", "SimpleRNN", "GRU", "LSTM"):
    register_linear_map(getattr(keras.layers, _class))(recurrent)
for _class in ("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"):
    register_linear_map(getattr(keras.layers, _class))(convolutional_lstm)
