"""How steep an activation is where a layer uses it, from the values in hand.

`f'` is taken along a random direction of signs `v`: the mean square of
`(f(z + h v) - f(z - h v)) / 2 h` is `E[f'^2]` where `f` acts on each element, and the
Jacobian's mean squared norm where it does not (softmax).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_inits.backends import fetch, fused, fuses, is_traced
from keras_inits.backward.partners import grouped
from keras_inits.backward.probes import (
    Probe,
    acts_on_each,
    is_linear,
    is_of_keras,
    key_of,
    layouts,
)
from keras_inits.statistics.moments import SAMPLE, widen

Tensor = Any

STEP = 1e-3
# Values of probes that are looked at together: temporaries that stay in the cache.
TOGETHER = 2**17


def look(probes: Sequence[Probe], seen: Tensor | None = None) -> Tensor:
    """`E[f'(z)^2]` for each probe: a vector.

    Args:
        probes: In any order.
        seen: What `look_inside` has seen of them.
    """
    if not probes:  # nothing of the device's, which may be busy
        return np.zeros(0)
    known = [probe.known() for probe in probes]
    if any(x is not None for x in known):
        rest = [p for p, x in zip(probes, known, strict=True) if x is None]
        others = iter(fetch([look(rest, seen)])[0])
        return np.array([next(others) if x is None else x for x in known])
    if seen is not None:
        return seen
    each = [acts_on_each(probe.function) for probe in probes]

    def key(i: int) -> Hashable:
        kind, shape = key_of(probes[i].function), tuple(probes[i].rows.shape)
        if not each[i]:
            return kind, shape
        size = math.prod(shape)
        # One loop for all, but none as long as the few that are wider.
        return kind, max(SAMPLE, 1 << (size - 1).bit_length()) if fuses() else size

    def evaluate(places: list[int]) -> tuple[Tensor]:
        function, rows = probes[places[0]].function, [probes[i].rows for i in places]
        if is_linear(function):
            return (ops.ones((len(places),)),)
        if not each[places[0]]:
            return (_run(_squares, (function,), _stacked(rows)),)
        counts = np.array([math.prod(x.shape) for x in rows], "float32")
        if function is keras.activations.relu:  # in most models: its slope is known
            return (fused(_shares_above_zero)(_flat(rows), counts),)
        return (_run(_squares_of_each, (function,), _flat(rows), counts),)

    return grouped(list(map(key, range(len(probes)))), evaluate, _several(probes))[0]


def look_inside(probes: Sequence[Probe]) -> Tensor | None:
    """The same as part of a traced pass, of what the rows alone will not tell.

    None where there is no such probe, and where it takes less behind the pass: torch.
    """
    rest = [probe for probe in probes if not probe.tells]
    return look(rest) if rest and keras.backend.backend() != "torch" else None


def products_of_partners(probes: Sequence[Probe], members: Sequence[int]) -> Tensor:
    """E[f'(z_j) f'(z_j+half)] for some of the probes: a vector."""
    layout = layouts(probes)

    def key(i: int) -> Hashable:
        probe = probes[i]
        return key_of(probe.function), tuple(probe.rows.shape), layout[i]

    def evaluate(places: list[int]) -> tuple[Tensor]:
        first, rows = members[places[0]], [probes[members[i]].rows for i in places]
        about = (probes[first].function, layout[first])
        return (_run(_products_of, about, _stacked(rows)),)

    several = _several([probes[i] for i in members])
    return grouped([key(i) for i in members], evaluate, several)[0]


def _several(probes: Sequence[Probe]) -> int:
    """How many probes at once: their temporaries stay in the cache."""
    if fuses():
        return len(probes)
    most = max(math.prod(probe.rows.shape) for probe in probes)
    return max(1, TOGETHER // max(1, most))


def _stacked(rows: Sequence[Tensor]) -> Tensor:
    """In float32 or wider, `(probes, rows, ...)`."""
    if all(isinstance(x, np.ndarray) for x in rows):
        return widen(ops.convert_to_tensor(np.stack(rows)))
    return ops.stack([widen(x) for x in rows])


def _flat(rows: Sequence[Tensor]) -> Tensor:
    """In float32 or wider, `(probes, values)`; zeros behind those that are shorter."""
    flat = [ops.reshape(widen(x), (-1,)) for x in rows]
    longest = max(x.shape[0] for x in flat)
    missing = [longest - x.shape[0] for x in flat]
    return ops.stack(
        [ops.pad(x, (0, n)) if n else x for x, n in zip(flat, missing, strict=True)]
    )


def _run(what: Callable[..., Any], arguments: tuple[Any, ...], *stacks: Any) -> Any:
    """`what(*arguments, *stacks)`; where operations are compiled, as a loop.

    A function of Keras is compiled once and for all; others may not be traceable.
    """
    if not fuses():
        return what(*arguments, *stacks)
    if is_traced(stacks[0]):
        return _one_by_one(partial(what, *arguments), *stacks)
    if is_of_keras(arguments[0]):
        return _lasting(what, *arguments)(*stacks)
    return what(*arguments, *stacks)


def _one_by_one(run: Callable[..., Any], *stacks: Tensor) -> Any:
    """A loop over the entries: compiled in a tenth of the time."""
    return ops.map(lambda entry: run(*(x[None] for x in entry))[0], stacks)


@functools.cache  # what is compiled is compiled once
def _lasting(what: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
    return fused(partial(_one_by_one, partial(what, *arguments)))


def _shares_above_zero(z: Tensor, counts: Tensor) -> Tensor:
    """E[relu'^2] for each entry of `z`, NaN where one of its values is."""
    above = ops.sum(ops.cast(z > 0, z.dtype), axis=1) + 0.0 * ops.sum(z, axis=1)
    return above / ops.cast(counts, z.dtype)


def _squares(function: Any, z: Tensor) -> Tensor:
    """For each entry of `z`: E[f'^2], of any function."""
    return ops.mean(ops.square(_change(function, z)), axis=1)


def _squares_of_each(function: Any, z: Tensor, counts: Tensor) -> Tensor:
    """The same of one that maps each element; the first values of each entry count.

    A mean size is never above that of the squares, which may underflow.
    """
    counts = ops.cast(counts, z.dtype)
    size = ops.sqrt(ops.sum(ops.square(z), axis=1) / counts)
    size = ops.maximum(size, ops.sum(ops.abs(z), axis=1) / counts)
    step = STEP * ops.maximum(size, 1e-30)[:, None]
    change = (widen(function(z + step)) - widen(function(z - step))) / (2.0 * step)
    squares = ops.square(change)
    if fuses():  # elsewhere probes of one size are together: no zeros behind them
        inside = ops.arange(z.shape[1], dtype=z.dtype) < counts[:, None]
        squares = ops.where(inside, squares, 0.0)
    return ops.sum(squares, axis=1) / counts


def _products_of(function: Any, layout: tuple[int, int], z: Tensor) -> Tensor:
    """For each entry of `z`: E[f'(z_j) f'(z_j+half)]."""
    signs = ops.convert_to_tensor(_signs(tuple(z.shape[1:])), z.dtype)
    change = _change(function, z) * ops.reshape(signs, (1, -1))
    half = layout[0] // 2
    change = ops.reshape(change, (change.shape[0], -1, *layout))
    one, other = change[:, :, :half], change[:, :, half : 2 * half]
    return ops.mean(one * other, axis=(1, 2, 3))


def _change(function: Any, z: Tensor) -> Tensor:
    """`(f(z + h v) - f(z - h v)) / 2 h`, flat but for the first axis.

    The step h follows the size of z, and stays above its rounding.
    """
    signs = ops.convert_to_tensor(_signs(tuple(z.shape[1:])), z.dtype)
    axes = tuple(range(1, len(z.shape)))
    size = ops.sqrt(ops.mean(ops.square(z), axis=axes))
    size = ops.maximum(size, ops.mean(ops.abs(z), axis=axes))
    step = STEP * ops.maximum(size, 1e-30)
    move = ops.reshape(step, (-1, *[1] * len(signs.shape))) * signs
    flat = (-1, *z.shape[2:])
    ahead = function(ops.reshape(z + move, flat))
    behind = function(ops.reshape(z - move, flat))
    change = ops.reshape(widen(ahead) - widen(behind), (step.shape[0], -1))
    return change / (2.0 * step[:, None])


@functools.lru_cache(maxsize=16)
def _signs(shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """A random direction of steps."""
    bits = np.random.default_rng(0).integers(2, size=shape, dtype="int8")
    return (2 * bits - 1).astype("float32")
