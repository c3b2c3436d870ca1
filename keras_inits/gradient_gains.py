"""What a layer does to the size of gradients, seen from the forward pass.

Backwards, a layer maps the gradient `g` of its output to `W^T (f'(z) g)`. For a
gradient without preferred direction its squared norm is multiplied by

    gradient gain = E[f'(z)^2] * |W|_F^2 / outputs

and `z` is in hand during the sweep, so that no backward pass is needed. `f'` is taken
along a random direction of signs `v`: the mean square of `(f(z + h v) - f(z)) / h` is
`E[f'^2]` where `f` acts on each element, and the Jacobian's mean squared norm where it
does not (softmax).

In a looks-linear stack the gradient does have a direction: units come in pairs `j` and
`j + half`, and what one of them gets the other gets with the opposite sign. With c the
correlation of the partners' columns in this kernel, and r that of their rows in the
next one, which is the correlation of their gradients, `E[f'^2]` becomes

    E[f'(z_j)^2] + c r E[f'(z_j) f'(z_j+half)]

For mirrored kernels c = r = -1, and it is `E[(f'(z) + f'(-z))^2] / 2`. For independent
ones c r is nothing, and is asked for only where the signals of partners are opposite.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from keras_inits.backends import fused, host, is_traced, mean_square
from keras_inits.linear_maps import LinearMap
from keras_inits.partners import Link, correlations, grouped, links_of
from keras_inits.statistics import widen
from keras_inits.trial import Trial

Tensor = Any

STEP = 1e-3
# Values of probes that are looked at together: temporaries that stay in the cache.
TOGETHER = 2**17
# Correlation of signals from which partners are taken to be mirrored, not independent:
# of 16 independent pairs it is 0 +- 0.25, of mirrored ones -1.
OPPOSITE = -0.8


@dataclass
class Probe:
    """A few rows of a pre-activation, kept until the pass is over.

    Args:
        rows: A tensor `(rows, ...)`.
        activate: What the layer applies to them.
        function: The activation behind it: alike probes are evaluated together.
        map: The linear map that they come out of; None for an activation layer.
    """

    rows: Tensor
    activate: Callable[[Tensor], Tensor]
    function: Any = None
    map: LinearMap | None = None

    @classmethod
    def of(cls, m: LinearMap, rows: Tensor) -> Probe:
        """The probe of a layer with a linear map."""
        function = m.activation or getattr(m.layer, "activation", None)
        return cls(rows, m.activate, function, m)


def mean_square_slopes(
    probes: Sequence[Probe], value_of: Callable[[Any], Tensor] | None = None
) -> list[Tensor]:
    """`E[f'(z)^2]` at each probe, partners counted together; alike probes at once.

    Args:
        probes: In the order of the calls.
        value_of: The values of the kernels. None: all units count as independent.
    """
    layouts = _layouts(probes)

    def slopes(members: list[int]) -> tuple[Tensor, ...]:
        z = ops.stack([widen(probes[i].rows) for i in members])
        layout = layouts[members[0]] if value_of is not None else None
        return _slopes(probes[members[0]].activate, z, layout)

    if not probes:
        return []
    several = max(1, TOGETHER // max(math.prod(p.rows.shape) for p in probes))
    keys = [
        (id(p.function), tuple(p.rows.shape), layout, i // several)
        for i, (p, layout) in enumerate(zip(probes, layouts, strict=True))
    ]
    squares, products, opposite = grouped(keys, slopes)
    maps = [probe.map for probe in probes]
    links = links_of(maps)
    if value_of is not None and links and _may_hold(opposite):
        pairs = correlations(maps, links, value_of)
        seen = squares, products, opposite
        squares = fused(_beside_partners)(seen, pairs, _places(links, len(probes)))
    return list(ops.unstack(squares, len(probes)))


def _may_hold(found: Tensor) -> bool:
    """Whether any entry is true; yes where that cannot be known yet."""
    return is_traced(found) or bool(host(found).any())


def _layouts(probes: Sequence[Probe]) -> list[tuple[int, int] | None]:
    """Number of channels, and of values behind each; None where they lie apart."""
    layouts: list[tuple[int, int] | None] = []
    shape: tuple[int, ...] = ()
    axes: list[int] = []
    for probe in probes:
        if probe.map is not None:
            rank = len(probe.rows.shape)
            shape = tuple(probe.rows.shape)
            axes = sorted(axis % rank for axis in probe.map.channel_axes)
        together = bool(axes) and axes == list(range(axes[0], axes[-1] + 1))
        if not together or tuple(probe.rows.shape) != shape:
            layouts.append(None)
            continue
        channels = math.prod(shape[axis] for axis in axes)
        layouts.append((channels, math.prod(shape[axes[-1] + 1 :])))
    return layouts


def _slopes(
    activate: Callable[[Tensor], Tensor], z: Tensor, layout: tuple[int, int] | None
) -> tuple[Tensor, ...]:
    """For each entry of the first axis of `z`: E[f'^2], E[f' f'_partner], opposite?"""
    move = ops.convert_to_tensor(_signs(tuple(z.shape[1:])), z.dtype)
    ahead, behind, step = fused(_both_sides)(z, move)
    sides = activate(ahead), activate(behind)
    if layout is not None and layout[0] > 1:
        opposite = _opposite(layout)(z)
        if _may_hold(opposite):
            return *_means_of_products(layout)(*sides, step, move), opposite
    squares = fused(_mean_square_change)(*sides, step)
    return squares, ops.zeros_like(squares), ops.zeros_like(squares)


def _signs(shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """A random direction of steps."""
    bits = np.random.default_rng(0).integers(2, size=shape, dtype="int8")
    return (2 * bits - 1).astype("float32")


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
    return ops.mean(ops.square(_quotient(ahead, behind, step)), axis=1)


def _quotient(ahead: Tensor, behind: Tensor, step: Tensor) -> Tensor:
    change = ops.reshape(widen(ahead) - widen(behind), (step.shape[0], -1))
    return change / (2.0 * step[:, None])


@functools.cache  # what is compiled is compiled once
def _opposite(layout: tuple[int, int]) -> Callable[[Tensor], Tensor]:
    """1.0 where signals of partners are opposite, on some of the rows; else 0.0."""

    def opposite(z: Tensor) -> Tensor:
        some = z[:, : max(1, z.shape[1] // 8)]
        one, other = _partners(some, layout)
        square = ops.mean(ops.square(one) + ops.square(other), axis=(1, 2, 3)) / 2.0
        product = ops.mean(one * other, axis=(1, 2, 3))
        return ops.cast(product < OPPOSITE * square, z.dtype)

    return fused(opposite)


def _partners(x: Tensor, layout: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Both halves of the channels, `(entries, ..., half, values behind)`."""
    half = layout[0] // 2
    x = ops.reshape(x, (x.shape[0], -1, *layout))
    return x[:, :, :half], x[:, :, half : 2 * half]


@functools.cache
def _means_of_products(layout: tuple[int, int]) -> Callable[..., Any]:
    """E[f'(z_j)^2] and E[f'(z_j) f'(z_j+half)]."""

    def means(
        ahead: Tensor, behind: Tensor, step: Tensor, signs: Tensor
    ) -> tuple[Tensor, Tensor]:
        change = _quotient(ahead, behind, step)
        one, other = _partners(change * ops.reshape(signs, (1, -1)), layout)
        products = ops.mean(one * other, axis=(1, 2, 3))
        return ops.mean(ops.square(change), axis=1), products

    return fused(means)


def _beside_partners(
    seen: tuple[Tensor, ...], pairs: tuple[Tensor, ...], places: tuple[Tensor, ...]
) -> Tensor:
    """E[f'^2] + c r E[f' f'_partner] for every probe.

    An activation layer between the kernels takes some of r away.
    """
    squares, products, opposite = seen
    columns, rows = pairs
    kernel, between, has_between, link = places
    kept = ops.take(products, between) / ops.maximum(ops.take(squares, between), 1e-30)
    rows = ops.where(has_between, kept * rows, rows)
    more = columns * rows * ops.take(products * opposite, kernel)
    none = ops.zeros((1,), more.dtype)
    return squares + ops.take(ops.concatenate([more, none]), link)


def _places(links: Sequence[Link], count: int) -> tuple[Any, ...]:
    """Indices: of each link's probes; of each probe's link (the end: it has none)."""
    kernel = np.array([link.kernel for link in links])
    between = np.array([link.between or 0 for link in links])
    has_between = np.array([link.between is not None for link in links])
    link = np.full(count, len(links))
    link[kernel] = np.arange(len(links))
    return kernel, between, has_between, link


def kernel_gain(m: LinearMap, square: Tensor) -> Tensor:
    """`|W|_F^2 / outputs`, from the mean square of W.

    What the transposed map does to a squared norm.
    """
    return square * (math.prod(m.kernel.shape) / (m.channels * m.stride))


def scaled_kernel_gain(m: LinearMap, trial: Trial) -> Tensor:
    """|s W|^2 = s^2 |W|^2, so that the kernel is read once and not copied."""
    factor = trial.factors.get(id(m.kernel), 1.0)
    if isinstance(factor, float) or len(factor.shape) == 0:
        return kernel_gain(m, mean_square(widen(trial.base(m.kernel)))) * factor**2
    return kernel_gain(m, mean_square(widen(trial.scaled(m.kernel))))
