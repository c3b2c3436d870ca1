"""What a layer does to the size of gradients, seen from the forward pass.

Backwards, a layer maps the gradient `g` of its output to `W^T (f'(z) g)`. For a
gradient without preferred direction its squared norm is multiplied by

    gradient gain = E[f'(z)^2] * |W|_F^2 / outputs

and `z` is in hand during the sweep, so that no backward pass is needed.

In a looks-linear stack the gradient does have a direction: units come in pairs `j` and
`j + half`, and what one of them gets the other gets with the opposite sign. With c the
correlation of the partners' columns in this kernel, and r that of their rows in the
next one, which is the correlation of their gradients, `E[f'^2]` becomes

    E[f'(z_j)^2] + c r E[f'(z_j) f'(z_j+half)]

For mirrored kernels c = r = -1, and it is `E[(f'(z) + f'(-z))^2] / 2`. For independent
ones c r is nothing, and is asked for only where the signals of partners are opposite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_inits.backends import QUICK, fetch, fused
from keras_inits.backward.partners import Link, correlations, links_of
from keras_inits.backward.probes import Probe, mirrored
from keras_inits.backward.slopes import look, products_of_partners
from keras_inits.linear_maps import LinearMap
from keras_inits.statistics.dense_figures import mean_square_of_dense
from keras_inits.statistics.moments import widen
from keras_inits.statistics.reductions import mean_square
from keras_inits.weights.trial import Trial

Tensor = Any
# Of a kernel with more than eight times as many weights, so many are looked at: their
# mean square is within 0.3 % then, and a kernel of gigabytes is not read a second time.
WEIGHTS = 2**18
ROWS = 64  # at least
Array = np.ndarray[Any, Any]


def mean_square_slopes(
    probes: Sequence[Probe],
    value_of: Callable[[Any], Tensor] | None = None,
    seen: Tensor | None = None,
) -> list[float]:
    """`E[f'(z)^2]` at each probe, partners counted together.

    Args:
        probes: In the order of the calls.
        value_of: The values of the kernels. None: all units count as independent.
        seen: What `look_inside` has seen.
    """
    if not probes:
        return []
    [squares] = fetch([look(probes, seen)])
    maps = [probe.map for probe in probes]
    paired = mirrored(probes) if value_of else []
    links = links_of(maps) if paired else []
    if value_of and links:
        products = np.zeros_like(squares)
        products[paired] = fetch([products_of_partners(probes, paired)])[0]
        pairs = fetch(correlations(maps, links, value_of))
        squares = _beside_partners(squares, products, pairs, links)
    return [float(x) for x in squares]


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
    factor = (m.positions or 1) / (m.channels * m.stride)
    return square * (math.prod(m.kernel.shape) * factor)


def scaled_kernel_gain(m: LinearMap, trial: Trial) -> Tensor:
    """|s W|^2 = s^2 |W|^2, so that the kernel is read once and not copied."""
    factor = trial.factors.get(id(m.kernel), 1.0)
    if isinstance(factor, float) or len(factor.shape) == 0:
        share = kernel_gain(m, 1.0)
        return fused(_scaled_gain)(trial.base(m.kernel), share, factor)
    return kernel_gain(m, mean_square(widen(trial.scaled(m.kernel))))


def _scaled_gain(kernel: Tensor, share: float, factor: Any) -> Tensor:
    square = mean_square(widen(_some_weights(kernel)))
    return square * share * factor * factor


def _scaled_gain_of_dense(kernel: Tensor, share: float, factor: float) -> float:
    return mean_square_of_dense(kernel) * share * factor * factor


QUICK[_scaled_gain] = _scaled_gain_of_dense


def _some_weights(kernel: Tensor) -> Tensor:
    """All of a kernel, or of a large one evenly spaced rows: those of its inputs."""
    size, outputs = math.prod(kernel.shape), kernel.shape[-1]
    rows = size // max(1, outputs)
    step = min(size // WEIGHTS, rows // ROWS)
    return kernel if step < 8 else ops.reshape(kernel, (rows, outputs))[::step]
