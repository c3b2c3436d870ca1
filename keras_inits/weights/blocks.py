"""Draw a kernel as its linear map sees it.

A kernel may hold several maps side by side: the gates of an LSTM, the groups of a
convolution, the channels of a depthwise one. Each is drawn as a block of its own in
the layout that initializers understand, `(*receptive field, inputs, outputs)`, so that
its fans are right and an orthonormal block is orthonormal; then the blocks are put
where the kernel has them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_inits.fans import compute_fans
from keras_inits.initializers.base import FanInitializer
from keras_inits.initializers.bounded_normal import BoundedNormal
from keras_inits.initializers.identities import FixedKernel
from keras_inits.initializers.lsuv_normal import LSUVNormal
from keras_inits.initializers.orthogonal import Orthogonal
from keras_inits.initializers.orthonormal import OrthonormalInitializer
from keras_inits.initializers.sparse_normal import SparseNormal
from keras_inits.initializers.truncated_normal import TruncatedNormal
from keras_inits.initializers.variance_scaling import choose_fan
from keras_inits.linear_maps import LinearMap

Tensor = Any
Draw = Callable[..., Tensor]


def redraw(
    m: LinearMap, draw: Draw, fresh: Callable[[Draw], Draw] | None = None
) -> Tensor:
    """A new value for the kernel of `m`, in its shape and dtype.

    Args:
        m: The linear map.
        draw: An initializer: `(shape, dtype) -> tensor`.
        fresh: Makes a copy of `draw` with a seed of its own, for each block.

    Returns:
        A tensor. Laws that scale by fans get those of `m`: a look-up has one input,
        and a stride of a transposed convolution spreads the receptive field.
        Orthonormal rows of a look-up have length 1.
    """
    dtype = keras.backend.standardize_dtype(m.kernel.dtype)
    shape = tuple(m.kernel.shape) if m.lookup else block_shape(m)
    count = 1 if m.lookup else block_count(m)
    if count > 1 and (several := _at_once(draw, shape)):
        law = _for_map(fresh(several) if fresh else several, (count, *shape), m)
        values, factor = _draw(law, (count, *shape), dtype), _factor(draw, shape, m)
        return _placed(m, values * ops.cast(factor, values.dtype))
    blocks = []
    for _ in range(count):
        law = _for_map(fresh(draw) if fresh else draw, shape, m)
        values, factor = _draw(law, shape, dtype), _factor(law, shape, m)
        blocks.append(
            values if factor == 1.0 else values * ops.cast(factor, values.dtype)
        )
    return blocks[0] if m.lookup else _placed(m, ops.stack(blocks))


def _draw(law: Draw, shape: tuple[int, ...], dtype: str) -> Tensor:
    values = law(shape, dtype=dtype)
    if tuple(np.shape(values)) != shape:
        raise ValueError(
            f"asked for values of shape {shape}, it returned "
            f"{'None' if values is None else f'shape {tuple(np.shape(values))}'}"
        )
    return values


def block_shape(m: LinearMap) -> tuple[int, ...]:
    """`(*receptive field, inputs, outputs)` of one block."""
    shape = m.kernel.shape
    inputs = math.prod(shape[a] for a in m.input_axes)
    outputs = math.prod(shape[a] for a in m.output_axes) // (m.gates * m.groups)
    return (*(shape[a] for a in m.receptive_axes), inputs, outputs)


def block_count(m: LinearMap) -> int:
    """How many blocks the kernel holds: gates, groups, or channels on their own."""
    beside = math.prod(m.kernel.shape[a] for a in m.group_axes)
    return beside * m.gates * m.groups


def _at_once(draw: Draw, shape: tuple[int, ...]) -> Draw | None:
    """What draws `(blocks, *shape)`, block by block of this law; None if nothing does.

    There are as many blocks as a depthwise convolution has channels.
    """
    if type(draw) in (Orthogonal, LSUVNormal, keras.initializers.Orthogonal):
        axes = list(range(1, len(shape))), [len(shape)]
        return Orthogonal(draw.gain, draw.seed, *axes)  # type: ignore[attr-defined]
    own = type(draw).__module__.partition(".")[0] not in ("keras", "keras_inits")
    if own or isinstance(draw, _STRUCTURED):
        return None
    independent = (keras.initializers.VarianceScaling, *_INDEPENDENT)
    return draw if isinstance(draw, independent) else None


# A kernel of another rank has its zeros elsewhere, or other vectors orthonormal.
_STRUCTURED = (FixedKernel, OrthonormalInitializer, SparseNormal)
_INDEPENDENT = (
    *(BoundedNormal, TruncatedNormal, keras.initializers.Constant),
    *(keras.initializers.Ones, keras.initializers.Zeros),
    *(keras.initializers.RandomNormal, keras.initializers.RandomUniform),
    keras.initializers.TruncatedNormal,
)


def _for_map(draw: Draw, shape: tuple[int, ...], m: LinearMap) -> Draw:
    """A law that scales by fans, with those of the map."""
    if isinstance(draw, FanInitializer):
        return draw.with_fans(m.fans)
    if not isinstance(draw, keras.initializers.VarianceScaling):
        return draw
    law = copy.copy(draw)
    drawn, true = (
        choose_fan(fans, draw.mode) for fans in (compute_fans(shape), m.fans)
    )
    law.scale = draw.scale * drawn / true
    return law


def _factor(draw: Draw, shape: tuple[int, ...], m: LinearMap) -> float:
    """Of orthonormal blocks, which know their shape alone."""
    if not isinstance(draw, (OrthonormalInitializer, keras.initializers.Orthogonal)):
        return 1.0
    if m.lookup:  # vectors of length 1
        return math.sqrt(max(1.0, shape[0] / shape[-1]))
    drawn = compute_fans(shape).fan_in
    return math.sqrt(drawn / m.fans.fan_in) if drawn and m.fans.fan_in else 1.0


def _placed(m: LinearMap, blocks: Tensor) -> Tensor:
    """`(blocks, *field, inputs, outputs)` in the layout of the kernel."""
    shape = m.kernel.shape
    field, inputs, outputs, beside = (
        [shape[a] for a in axes]
        for axes in (m.receptive_axes, m.input_axes, m.output_axes, m.group_axes)
    )
    split = m.gates * m.groups
    within = [*outputs[:-1], outputs[-1] // split] if split > 1 else outputs
    values = ops.reshape(blocks, [*beside, split, *field, *inputs, *within])
    # Blocks that share an axis lie along the last output axis, one after another.
    rank, position = len(values.shape), len(beside)
    order = [a for a in range(rank) if a != position]
    order.insert(rank - 2, position)
    values = ops.transpose(values, order)
    values = ops.reshape(values, [*beside, *field, *inputs, *outputs])
    source = [*m.group_axes, *m.receptive_axes, *m.input_axes, *m.output_axes]
    return ops.transpose(values, [source.index(a) for a in range(len(shape))])
