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
import inspect
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_inits.backends import fetch, fused, fuses, is_traced, mean_square
from keras_inits.linear_maps import LinearMap, identity
from keras_inits.partners import Link, correlations, grouped, links_of
from keras_inits.statistics import widen
from keras_inits.trial import Trial

Tensor = Any
Array = np.ndarray[Any, Any]

STEP = 1e-3
# Values of probes that are looked at together: temporaries that stay in the cache.
TOGETHER = 2**17
# Correlation of signals from which partners are taken to be mirrored, not independent:
# of 16 independent pairs it is 0 +- 0.25, of mirrored ones -1.
OPPOSITE = -0.8


@dataclass
class Probe:
    """Some rows of a pre-activation, kept until the pass is over.

    Args:
        rows: A tensor `(rows, ...)`, or an array.
        function: The activation behind it: alike probes are evaluated together.
        map: The linear map that they come out of; None for an activation layer.
    """

    rows: Tensor
    function: Callable[[Tensor], Tensor]
    map: LinearMap | None = None

    @classmethod
    def of(cls, m: LinearMap, rows: Tensor) -> Probe:
        """The probe of a layer with a linear map."""
        function = m.activation or getattr(m.layer, "activation", None) or identity
        return cls(rows, function, m)


def mean_square_slopes(
    probes: Sequence[Probe],
    value_of: Callable[[Any], Tensor] | None = None,
    seen: tuple[Tensor, Tensor] | None = None,
) -> list[float]:
    """`E[f'(z)^2]` at each probe, partners counted together.

    Args:
        probes: In the order of the calls.
        value_of: The values of the kernels. None: all units count as independent.
        seen: What `look` has seen; None: it is called here.
    """
    if not probes:
        return []
    squares, opposite = fetch(look(probes) if seen is None else seen)
    maps = [probe.map for probe in probes]
    links, paired = links_of(maps), np.flatnonzero(opposite).tolist()
    if value_of and links and paired:
        products = np.zeros_like(squares)
        products[paired] = fetch(_evaluated(_products, probes, paired))[0]
        pairs = fetch(correlations(maps, links, value_of))
        squares = _beside_partners(squares, products, pairs, links)
    return [float(x) for x in squares]


def look(probes: Sequence[Probe]) -> tuple[Tensor, Tensor]:
    """For each probe: `E[f'(z)^2]`, and 1.0 where signals of partners are opposite."""
    if not probes:
        return ops.zeros((0,)), ops.zeros((0,))
    squares, opposite = _evaluated(_squares, probes, list(range(len(probes))))
    return squares, opposite


def _evaluated(
    what: Callable[..., Any], probes: Sequence[Probe], members: Sequence[int]
) -> list[Tensor]:
    """Vectors, an entry of each for every member; alike probes at once."""
    layouts = _layouts(probes)

    def key(i: int) -> Hashable:
        probe = probes[i]
        return _kind(probe.function), tuple(probe.rows.shape), layouts[i]

    def several(key: Any) -> int:
        return len(probes) if fuses() else max(1, TOGETHER // max(1, math.prod(key[1])))

    def evaluate(places: list[int]) -> tuple[Tensor, ...]:
        alike = [members[place] for place in places]
        z = _stacked([probes[i].rows for i in alike])
        signs = ops.convert_to_tensor(_signs(tuple(z.shape[1:])), z.dtype)
        first = alike[0]
        run = _evaluator(what, probes[first].function, layouts[first], is_traced(z))
        found: tuple[Tensor, ...] = run(z, signs)
        return found

    return grouped([key(i) for i in members], evaluate, several)


def _kind(function: Any) -> Hashable:
    """Equal for activations that do the same."""
    if type(function) is keras.layers.Activation:
        return _kind(function.activation)
    if type(function) in _PLAIN_LAYERS:
        config = {k: v for k, v in function.get_config().items() if k != "name"}
        return type(function), repr(config)
    return id(function)


_PLAIN_LAYERS = (keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.ELU)


def acts_anywhere(function: Any) -> bool:
    """Whether columns may be left out: not with PReLU, not known of a user's own."""
    if function is None or type(function) in _PLAIN_LAYERS:
        return True
    if type(function) is keras.layers.Activation:
        return acts_anywhere(function.activation)
    return _is_of_keras(function)


def _is_of_keras(function: Any) -> bool:
    return inspect.isfunction(function) and function.__module__.startswith("keras.")


def _stacked(rows: Sequence[Tensor]) -> Tensor:
    """In float32 or wider, `(probes, rows, ...)`."""
    if all(isinstance(x, np.ndarray) for x in rows):
        return ops.convert_to_tensor(np.stack(rows))
    return ops.stack([widen(x) for x in rows])


def _evaluator(
    what: Callable[..., Any],
    function: Any,
    layout: tuple[int, int] | None,
    traced: bool,
) -> Callable[..., Any]:
    """`what` for one activation; where operations are compiled, as a loop.

    A function of Keras is compiled once and for all; others may not be traceable.
    """
    run = partial(what, function, layout)
    if not fuses():
        return run
    if traced:
        return partial(_one_by_one, run)
    if _is_of_keras(function):
        return _lasting(what, function, layout)
    return run


def _one_by_one(run: Callable[..., Any], z: Tensor, signs: Tensor) -> Any:
    """A loop over the entries of `z`: compiled in a tenth of the time."""
    return ops.map(lambda one: tuple(x[0] for x in run(one[None], signs)), z)


@functools.cache  # what is compiled is compiled once
def _lasting(what: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
    return fused(partial(_one_by_one, partial(what, *arguments)))


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
        channels = math.prod(shape[axis] for axis in axes)
        if not together or tuple(probe.rows.shape) != shape or channels < 2:
            layouts.append(None)
            continue
        layouts.append((channels, math.prod(shape[axes[-1] + 1 :])))
    return layouts


def _squares(
    function: Any, layout: tuple[int, int] | None, z: Tensor, signs: Tensor
) -> tuple[Tensor, Tensor]:
    """For each entry of `z`: E[f'^2], and 1.0 where partners' signals are opposite.

    That is looked for on some of the rows.
    """
    squares = ops.mean(ops.square(_change(function, z, signs)), axis=1)
    if layout is None:
        return squares, ops.zeros_like(squares)
    one, other = _partners(z[:, : max(1, z.shape[1] // 8)], layout)
    square = ops.mean(ops.square(one) + ops.square(other), axis=(1, 2, 3)) / 2.0
    product = ops.mean(one * other, axis=(1, 2, 3))
    return squares, ops.cast(product < OPPOSITE * square, z.dtype)


def _products(
    function: Any, layout: tuple[int, int], z: Tensor, signs: Tensor
) -> tuple[Tensor]:
    """For each entry of `z`: E[f'(z_j) f'(z_j+half)]."""
    change = _change(function, z, signs) * ops.reshape(signs, (1, -1))
    one, other = _partners(change, layout)
    return (ops.mean(one * other, axis=(1, 2, 3)),)


def _change(function: Any, z: Tensor, signs: Tensor) -> Tensor:
    """`(f(z + h v) - f(z - h v)) / 2 h`, flat but for the first axis.

    The step h follows the size of z, and stays above its rounding.
    """
    size = ops.sqrt(ops.mean(ops.square(z), axis=tuple(range(1, len(z.shape)))))
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


def _partners(x: Tensor, layout: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Both halves of the channels, `(entries, ..., half, values behind)`."""
    half = layout[0] // 2
    x = ops.reshape(x, (x.shape[0], -1, *layout))
    return x[:, :, :half], x[:, :, half : 2 * half]


def _beside_partners(
    squares: Array, products: Array, pairs: Sequence[Array], links: Sequence[Link]
) -> Array:
    """E[f'^2] + c r E[f' f'_partner] for every probe.

    An activation layer between the kernels takes some of r away.
    """
    found = squares.copy()
    for link, column, row in zip(links, *pairs, strict=True):
        if link.between is not None:
            row = row * products[link.between] / max(squares[link.between], 1e-30)
        found[link.kernel] += column * row * products[link.kernel]
    return found


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
