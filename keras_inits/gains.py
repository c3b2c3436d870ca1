"""What an activation does to the size of a signal, by quadrature."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

Activation = str | Callable[[Any], Any] | None

# Midpoint rule with nodes (2k + 1) * 2**-16, |z| < 12. The step, 2**-15, makes even
# a kink or a jump between two nodes cost less than 1e-5; whatever is smooth is exact
# to rounding, as is a kink at a multiple of the step, such as ReLU's at 0. Every node
# is a float32 number, so nothing is lost where the backend has no float64.
_STEP = 2.0**-15
_REACH = 12
# By how much the mean square may differ on every third node: of what jumps, by less
# than 1e-3; where it is infinite, as that of 1/z, by a factor.
_APART = 0.01
# The outermost quarter of a deviation on either side, and the share of the mean square
# that it may hold: with more of it, there is as much again where nothing is looked at.
_RIM, _AT_RIM = _REACH - 0.25, 1e-3


class NotElementwise(ValueError):
    """The function does not act on each value alone."""


def _nodes() -> tuple[np.ndarray, np.ndarray]:
    half = _REACH * 2**15
    z = (2 * np.arange(-half, half) + 1) * (_STEP / 2)
    weights = np.exp(-(z**2) / 2)
    return z, weights / weights.sum()


def gain(activation: Activation) -> float:
    """Factor that makes up for what an activation does to the mean square.

    `1 / sqrt(E[f(z)^2])`, z ~ N(0, 1): with kernels of variance `gain^2 / fan_in`,
    pre-activations of unit mean square stay so from one layer to the next.

    Examples:

    >>> keras_inits.gain("relu")  # sqrt(2)
    1.4142135623730951
    >>> keras_inits.gain(keras.layers.LeakyReLU(negative_slope=0.2))

    Args:
        activation: the name of a Keras activation, a layer, any function that acts
            on each value alone, or `None` (linear). A layer of a narrower dtype is
            evaluated in float32.

    Raises:
        ValueError: if the function does not act on each value alone (softmax), cannot
            be called on one tensor of any shape (a class, a layer whose weights are
            built), or its mean square is zero, NaN or infinite, at a pole too, or
            lies beyond 12 deviations: exp(x^2), or exp(a x) with a from about 4.5.

    Returns:
        A Python float, accurate to about 1e-6; to 1e-5 where the function jumps, and
        to 2e-2 where it has a pole whose square can be integrated.

    References:
        He et al. (2015), Delving deep into rectifiers, arXiv:1502.01852, of which
        this is the general form.
    """
    z, weights = _nodes()
    squares = weights * _evaluate(activation, z) ** 2
    # Every third node, from the second on, is a midpoint of steps three times as wide.
    mean_square, coarse = float(np.sum(squares)), 3 * float(np.sum(squares[1::3]))
    if not (np.isfinite(mean_square) and mean_square > 0):
        raise ValueError(
            "The activation's mean square on standard normal values must be positive "
            f"and finite. Received: activation={activation!r}, with mean square "
            f"{mean_square}. No scale of the kernel can make up for this one."
        )
    if float(np.sum(squares[np.abs(z) > _RIM])) > _AT_RIM * mean_square:
        raise ValueError(
            "The activation's mean square on standard normal values must come from "
            f"values within {_REACH} deviations. Received: activation={activation!r}, "
            "which grows so fast that it does not. Bound it: clip its inputs."
        )
    if abs(coarse / mean_square - 1) > _APART:
        raise ValueError(
            "The activation's mean square on standard normal values must be finite, "
            "the same however closely one looks. Received: "
            f"activation={activation!r}, with {coarse:.4g} from values "
            f"{3 * _STEP:.1g} apart and {mean_square:.4g} from three times as many. "
            "Bound it where it grows without end."
        )
    return 1 / mean_square**0.5


def mean_square_derivative(activation: Activation, stddev: float = 1.0) -> float:
    """`E[f'(z)^2]`, z ~ N(0, stddev^2): what an activation does to gradients.

    By differences over 2**-10 deviations, so no backward pass is needed.

    Args:
        activation: as in `gain`.
        stddev: standard deviation of the pre-activation.

    Returns:
        A Python float, accurate to about 1e-5.
    """
    # Edges of cells at multiples of 2**-10 deviations: ReLU's kink is one of them.
    edges = np.arange(-_REACH * 2**10, _REACH * 2**10 + 1) * 2.0**-10
    weights = np.exp(-(((edges[1:] + edges[:-1]) / 2) ** 2) / 2)
    slopes = np.diff(_evaluate(activation, edges * stddev)) / np.diff(edges * stddev)
    return float(np.sum(weights * slopes**2) / np.sum(weights))


def _few(count: int) -> tuple[slice, ...]:
    """Which of so many values are looked at without the others: some; the ends, since
    sparsemax gives most of many values 0 either way; and of the middle, backwards,
    where the extremes are missing and the order is another."""
    middle = slice(count * 13 // 24, count * 11 // 24, -97)
    return slice(None, None, 997), slice(None, None, count - 1), middle


def _evaluate(activation: Activation, z: np.ndarray) -> np.ndarray:
    """f(z) in float64, computed as wide as the backend does."""
    function: Any = keras.activations.get(activation)
    required = "The activation must act on each value alone, and always alike"

    def apply(values: np.ndarray) -> np.ndarray:
        tensor = keras.ops.convert_to_tensor(values)
        result = keras.ops.convert_to_numpy(function(tensor))
        return np.asarray(result, dtype="float64")

    try:
        function = _on_any_shape(function)
        values = apply(z)
        some = [(values[few], apply(z[few])) for few in _few(len(z))]
    except Exception as error:  # of any kind: the user's own code runs
        raise NotElementwise(
            f"{required}: it is called on one tensor, of any shape. "
            f"Received: activation={activation!r}, which cannot be. Pass a function "
            "or an instance of an activation layer; one with weights before it is "
            "built. Of a layer with an activation of its own, gain(layer.activation)."
        ) from error
    if values.shape != z.shape or not all(
        np.allclose(few, among_all, rtol=1e-4, atol=1e-6, equal_nan=True)
        for among_all, few in some
    ):
        raise NotElementwise(
            f"{required}. Received: activation={activation!r}, which does not. Pass "
            "the elementwise part of it."
        )
    return values


def _on_any_shape(function: Any) -> Any:
    """A layer made again, so that it builds for the shape of `z` (the user's own
    must not) and computes in float32 at least; weights that are built stay."""
    if not isinstance(function, keras.layers.Layer):
        return function
    narrow = function.compute_dtype in ("bfloat16", "float16")
    if function.built and (function.weights or not narrow):
        return function
    config = function.get_config()
    if narrow and "dtype" in config:
        config["dtype"] = "float32"
    return type(function).from_config(config)
