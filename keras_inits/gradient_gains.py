"""What a layer does to the size of gradients, seen from the forward pass.

Backwards, a layer maps the gradient `g` of its output to `W^T (f'(z) g)`. For a
gradient without preferred direction its squared norm is multiplied by

    gradient gain = E[f'(z)^2] * |W|_F^2 / outputs

and `z` is in hand during the sweep, so that no backward pass is needed. `f'` is taken
along a random direction of signs `v`: the mean square of `(f(z + h v) - f(z)) / h` is
`E[f'^2]` where `f` acts on each element, and the Jacobian's mean squared norm where it
does not (softmax).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from keras_inits.backends import mean_square
from keras_inits.linear_maps import LinearMap
from keras_inits.statistics import widen

Tensor = Any

STEP = 1e-3


@dataclass
class Probe:
    """A few rows of a pre-activation, kept until the pass is over.

    Args:
        rows: A tensor `(rows, ...)`.
        activate: What the layer applies to them.
        function: The activation behind it: alike probes are evaluated together.
    """

    rows: Tensor
    activate: Callable[[Tensor], Tensor]
    function: Any = None

    @classmethod
    def of(cls, m: LinearMap, rows: Tensor) -> Probe:
        """The probe of a layer with a linear map."""
        function = m.activation or getattr(m.layer, "activation", None)
        return cls(rows, m.activate, function)


def mean_square_slopes(probes: Sequence[Probe]) -> list[Tensor]:
    """`E[f'(z)^2]` at each probe; alike ones are evaluated together."""
    groups: dict[Any, list[int]] = defaultdict(list)
    for i, probe in enumerate(probes):
        groups[(id(probe.function), tuple(probe.rows.shape))].append(i)
    slopes: list[Tensor] = [None] * len(probes)
    for members in groups.values():
        z = ops.stack([widen(probes[i].rows) for i in members])
        values = _mean_square_slope(probes[members[0]].activate, z)
        for position, i in enumerate(members):
            slopes[i] = values[position]
    return slopes


def _mean_square_slope(activate: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """For each entry of the first axis of `z`."""
    shape = tuple(z.shape[1:])
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=shape)
    # The step follows the size of z, and stays above its rounding.
    size = ops.sqrt(ops.mean(ops.square(z), axis=tuple(range(1, len(z.shape)))))
    step = STEP * ops.reshape(ops.maximum(size, 1e-30), (-1, *[1] * len(shape)))
    move = step * ops.convert_to_tensor(signs, z.dtype)
    flat = (-1, *shape[1:])
    ahead = activate(ops.reshape(z + move, flat))
    behind = activate(ops.reshape(z - move, flat))
    change = ops.reshape(widen(ahead) - widen(behind), z.shape) / (2.0 * step)
    return ops.mean(ops.square(change), axis=tuple(range(1, len(z.shape))))


def kernel_gain(m: LinearMap, kernel: Tensor) -> Tensor:
    """`|W|_F^2 / outputs`: what the transposed map does to a squared norm."""
    size = math.prod(m.kernel.shape)
    return mean_square(widen(kernel)) * (size / (m.channels * m.stride))
