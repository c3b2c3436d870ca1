"""Draw a kernel as its linear map sees it.

A kernel may hold several maps side by side: the gates of an LSTM, the groups of a
convolution, the channels of a depthwise one. Each is drawn as a block of its own in
the layout that initializers understand, `(*receptive field, inputs, outputs)`, so that
its fans are right and an orthonormal block is orthonormal; then the blocks are put
where the kernel has them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_inits.linear_maps import LinearMap

Tensor = Any
Draw = Callable[..., Tensor]


def block_shape(m: LinearMap) -> tuple[int, ...]:
    """`(*receptive field, inputs, outputs)` of one block."""
    shape = m.kernel.shape
    inputs = 1 if m.lookup else math.prod(shape[a] for a in m.input_axes)
    outputs = math.prod(shape[a] for a in m.output_axes) // (m.gates * m.groups)
    return (*(shape[a] for a in m.receptive_axes), inputs, outputs)


def block_count(m: LinearMap) -> int:
    """How many blocks the kernel holds: gates, groups, or channels on their own."""
    beside = math.prod(m.kernel.shape[a] for a in m.group_axes)
    return beside * m.gates * m.groups


def redraw(m: LinearMap, draw: Draw) -> Tensor:
    """A new value for the kernel of `m`, in its dtype.

    Args:
        m: The linear map.
        draw: An initializer: `(shape, dtype) -> tensor`.

    Returns:
        A tensor of the kernel's shape. Where a stride spreads the receptive field over
        several outputs, the draw is enlarged, so that the variance of the output is
        that of a map with the fans of `m.fans`.
    """
    dtype = keras.backend.standardize_dtype(m.kernel.dtype)
    shape = m.kernel.shape
    if m.lookup:  # every row is a map of one input: independent rows
        values = draw((1, math.prod(shape)), dtype=dtype)
        return ops.reshape(values, shape)
    blocks = _draw_blocks(m, draw, dtype)
    if m.stride > 1:
        blocks = blocks * math.sqrt(m.stride)
    field = [shape[a] for a in m.receptive_axes]
    inputs = [shape[a] for a in m.input_axes]
    outputs = [shape[a] for a in m.output_axes]
    beside = [shape[a] for a in m.group_axes]
    split = m.gates * m.groups
    outputs_in_block = [*outputs[:-1], outputs[-1] // split] if split > 1 else outputs
    # (beside, split, field, inputs, outputs) -> split next to the last output axis
    values = ops.reshape(blocks, [*beside, split, *field, *inputs, *outputs_in_block])
    rank = len(values.shape)
    position = len(beside)
    order = [a for a in range(rank) if a != position]
    order.insert(rank - 2, position)
    values = ops.transpose(values, order)
    values = ops.reshape(values, [*beside, *field, *inputs, *outputs])
    source = [*m.group_axes, *m.receptive_axes, *m.input_axes, *m.output_axes]
    return ops.transpose(values, [source.index(a) for a in range(len(shape))])


def _draw_blocks(m: LinearMap, draw: Draw, dtype: str) -> Tensor:
    shape, count = block_shape(m), block_count(m)
    if count == 1:
        return draw(shape, dtype=dtype)[None]
    return ops.stack([draw(shape, dtype=dtype) for _ in range(count)])
