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

from keras_inits.backends import fused, mean_square
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
        for i, value in zip(members, ops.unstack(values, len(members)), strict=True):
            slopes[i] = value
    return slopes


def _mean_square_slope(activate: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """For each entry of the first axis of `z`."""
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=tuple(z.shape[1:]))
    move = ops.convert_to_tensor(signs, z.dtype)
    ahead, behind, step = fused(_both_sides)(z, move)
    return fused(_mean_square_change)(activate(ahead), activate(behind), step)


def _both_sides(z: Tensor, signs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`z` a step ahead and a step behind along `signs`, and the step of each entry.

    The step follows the size of z, and stays above its rounding.
    """
    size = ops.sqrt(ops.mean(ops.square(z), axis=tuple(range(1, len(z.shape)))))
    step = STEP * ops.maximum(size, 1e-30)
    move = ops.reshape(step, (-1, *[1] * len(signs.shape))) * signs
    flat = (-1, *z.shape[2:])
    return ops.reshape(z + move, flat), ops.reshape(z - move, flat), step


def _mean_square_change(ahead: Tensor, behind: Tensor, step: Tensor) -> Tensor:
    change = ops.reshape(widen(ahead) - widen(behind), (step.shape[0], -1))
    return ops.mean(ops.square(change / (2.0 * step[:, None])), axis=1)


def kernel_gain(m: LinearMap, kernel: Tensor) -> Tensor:
    """`|W|_F^2 / outputs`: what the transposed map does to a squared norm."""
    size = math.prod(m.kernel.shape)
    return mean_square(widen(kernel)) * (size / (m.channels * m.stride))
