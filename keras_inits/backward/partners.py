"""Kernels whose units come in pairs, and which kernel feeds which.

A channel `j` and its partner `j + half`, half the channels further on, as
`LooksLinear` mirrors them. Everything here is seen from the kernels: from how alike
partners' columns (outputs) and rows (inputs) are.
"""

from __future__ import annotations

import functools
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_inits.backends import fused
from keras_inits.linear_maps import LinearMap
from keras_inits.statistics.moments import widen

Tensor = Any

# Weights of a kernel that its correlations are taken from: those of independent
# weights are then about 1 / sqrt(2000), and their product is about 1 / 2000.
WEIGHTS = 4096


class Link(NamedTuple):
    """A kernel that feeds another one.

    Args:
        kernel: Index of the one.
        following: Index of the other.
        between: Index of the activation layer between them, or None.
    """

    kernel: int
    following: int
    between: int | None


def links_of(maps: Sequence[LinearMap | None]) -> list[Link]:
    """Kernels and those that they feed, as far as shapes tell.

    Args:
        maps: In the order of the calls; None for an activation layer.
    """
    links: list[Link] = []
    last: int | None = None
    between: list[int] = []
    for i, m in enumerate(maps):
        if m is None:
            between.append(i)
            continue
        if last is not None and len(between) < 2 and _feeds(maps[last], m):
            links.append(Link(last, i, between[0] if between else None))
        last, between = i, []
    return links


def _feeds(one: LinearMap | None, other: LinearMap) -> bool:
    """Whether each channel of `one` may be one input of `other`, or (Flatten) many."""
    return (
        one is not None
        and _is_matrix(one)
        and _is_matrix(other)
        and one.channels > 1
        and _inputs(other) % one.channels == 0
    )


def _is_matrix(m: LinearMap) -> bool:
    """Whether the kernel, as it lies there, is `(receptive field, inputs, outputs)`."""
    axes = (*m.receptive_axes, *m.input_axes, *m.output_axes)
    plain = m.groups == m.gates == m.stride == 1 and not (m.lookup or m.stage)
    return plain and axes == tuple(range(len(m.kernel.shape)))


def _inputs(m: LinearMap) -> int:
    return math.prod(m.kernel.shape[a] for a in m.input_axes)


def correlations(
    maps: Sequence[LinearMap | None],
    links: Sequence[Link],
    value_of: Callable[[Any], Tensor],
) -> tuple[Tensor, Tensor]:
    """For each link: of the columns in one kernel, of the rows in the following one.

    Args:
        maps: As for `links_of`.
        links: Of these maps.
        value_of: The values of a kernel.
    """
    before = {link.following: link.kernel for link in links}
    wanted = sorted({i for link in links for i in (link.kernel, link.following)})
    blocks = []
    for i in wanted:
        m, feeding = maps[i], maps[before.get(i, i)]
        assert m is not None and feeding is not None
        channels = feeding.channels if i in before else None
        cut = _block(_inputs(m), channels, m.channels)
        blocks.append(cut(value_of(m.kernel)))

    def evaluate(members: list[int]) -> tuple[Tensor, Tensor]:
        stack = ops.stack([blocks[i] for i in members])
        found: tuple[Tensor, Tensor] = fused(_of_partners)(stack)
        return found

    columns, rows = grouped([tuple(block.shape) for block in blocks], evaluate)
    place = {i: index for index, i in enumerate(wanted)}
    return (
        ops.take(columns, np.array([place[link.kernel] for link in links])),
        ops.take(rows, np.array([place[link.following] for link in links])),
    )


@functools.cache
def _block(inputs: int, before: int | None, outputs: int) -> Callable[[Tensor], Tensor]:
    """Some weights of a kernel, `(runs, partners, some inputs, outputs)`.

    Inputs come in runs of the channels `before`, whose halves are partners; None: there
    are no partners.
    """
    run, partners = (inputs, 1) if before is None else (before, 2)
    half = run // partners

    def cut(kernel: Tensor) -> Tensor:
        matrix = ops.reshape(kernel, (-1, run, outputs))
        if run % partners:  # the last one of an odd number has no partner
            matrix = matrix[:, : half * partners]
        runs = matrix.shape[0]
        few = max(1, min(half, WEIGHTS // (runs * partners * outputs)))
        matrix = ops.reshape(matrix, (runs, partners, half, outputs))
        return widen(matrix[:, :, :few])

    return fused(cut)


def _of_partners(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Correlations of the columns and of the rows that are partners, for each block."""
    every = (1, 2, 3, 4)
    half = blocks.shape[-1] // 2
    columns = blocks[..., :half] * blocks[..., half : 2 * half]
    rows = blocks[:, :, :1] * blocks[:, :, 1:]
    total = ops.maximum(ops.sum(ops.square(blocks), axis=every), 1e-37)
    return (
        2.0 * ops.sum(columns, axis=every) / total,
        2.0 * ops.sum(rows, axis=every) / total,
    )


def grouped(
    keys: Sequence[Hashable],
    evaluate: Callable[[list[int]], tuple[Tensor, ...]],
    several: int = sys.maxsize,
) -> list[Tensor]:
    """Vectors, an entry of each for every key.

    Args:
        keys: Entries of equal keys are evaluated together.
        evaluate: From the indices of such entries to tensors, one value for each.
        several: How many at once at most.
    """
    alike: dict[Hashable, list[int]] = defaultdict(list)
    for i, key in enumerate(keys):
        alike[key].append(i)
    groups = []
    for places in alike.values():
        starts = range(0, len(places), several)
        groups += [places[start : start + several] for start in starts]
    found = list(map(evaluate, groups))
    if len(found) == 1:
        return list(found[0])
    order = np.argsort([i for members in groups for i in members])
    columns = zip(*found, strict=True)
    return [ops.take(ops.concatenate(parts), order) for parts in columns]
