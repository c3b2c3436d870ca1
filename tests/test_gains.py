"""Gains against closed forms and scipy's adaptive quadrature."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from scipy import integrate, special, stats

from keras_inits.gains import gain, mean_square_derivative


def _selu(z: float) -> float:
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    return scale * (z if z > 0 else alpha * math.expm1(z))


ORACLES: dict[str, Callable[[float], float]] = {
    "elu": lambda z: z if z > 0 else math.expm1(z),
    "gelu": lambda z: z * stats.norm.cdf(z),
    "selu": _selu,
    "sigmoid": special.expit,
    "silu": lambda z: z * special.expit(z),
    "softplus": lambda z: np.logaddexp(0, z),
    "tanh": math.tanh,
}


def _expected(function: Callable[[float], float]) -> float:
    value, _ = integrate.quad(
        lambda z: function(z) ** 2 * stats.norm.pdf(z), -12, 12, points=[0], limit=200
    )
    return float(value)


@pytest.mark.parametrize("name", sorted(ORACLES))
def test_smooth_activations_match_adaptive_quadrature(name: str) -> None:
    activation: Any = name
    if name == "gelu":  # the exact form, whatever Keras's default is
        activation = functools.partial(keras.activations.gelu, approximate=False)
    assert gain(activation) == pytest.approx(_expected(ORACLES[name]) ** -0.5, abs=1e-6)


def test_relu_is_exactly_the_root_of_two() -> None:
    assert gain("relu") == pytest.approx(math.sqrt(2), abs=1e-14)
    assert gain(keras.activations.relu) == gain("relu") == gain(keras.layers.ReLU())


def test_linear_needs_no_gain() -> None:
    assert gain(None) == gain("linear") == pytest.approx(1, abs=1e-14)


@pytest.mark.parametrize("slope", [0.01, 0.2, 1.0])
def test_leaky_relu_layer(slope: float) -> None:
    layer = keras.layers.LeakyReLU(negative_slope=slope)
    assert gain(layer) == pytest.approx((2 / (1 + slope**2)) ** 0.5, abs=1e-7)


@pytest.mark.parametrize("limit", [0.3, 0.5, math.pi / 3])
def test_kinks_and_jumps_anywhere(limit: float) -> None:
    """A kink at `limit` costs less than 1e-6, a jump less than 1e-5."""
    kinked = gain(lambda x: keras.ops.maximum(x - limit, 0.0))
    exact = (1 + limit**2) * stats.norm.sf(limit) - limit * stats.norm.pdf(limit)
    assert kinked == pytest.approx(exact**-0.5, rel=1e-6)
    jump = gain(lambda x: keras.ops.where(keras.ops.abs(x) > limit, x, 0.0 * x))
    exact = 2 * (stats.norm.sf(limit) + limit * stats.norm.pdf(limit))
    assert jump == pytest.approx(exact**-0.5, rel=1e-5)


def test_poles_whose_square_can_be_integrated() -> None:
    """E|z|^-0.6, and E[log(|z|)^2] = pi^2 / 8 + (ln 2 + Euler's constant)^2 / 4."""
    root = gain(lambda x: keras.ops.abs(x) ** -0.3)
    exact = 2**-0.3 * math.gamma(0.2) / math.pi**0.5
    assert root == pytest.approx(exact**-0.5, rel=2e-2)
    logarithm = gain(lambda x: keras.ops.log(keras.ops.abs(x)))
    exact = math.pi**2 / 8 + (math.log(2) + np.euler_gamma) ** 2 / 4
    assert logarithm == pytest.approx(exact**-0.5, rel=1e-3)


@pytest.mark.parametrize("limit", [6.0, 11.0])
def test_a_jump_far_out_is_no_pole(limit: float) -> None:
    jump = gain(lambda x: keras.ops.where(x > limit, x, 0.0 * x))
    exact = stats.norm.sf(limit) + limit * stats.norm.pdf(limit)
    assert jump == pytest.approx(exact**-0.5, rel=1e-3)


def test_an_exponential_whose_mean_square_is_in_sight() -> None:
    """E[exp(a z)^2] = exp(2 a^2), most of it from values near z = 2 a."""
    steep = gain(lambda x: keras.ops.exp(4 * x))
    assert steep == pytest.approx(math.exp(-(4**2)), rel=1e-4)


def test_the_derivative_too_needs_a_function_of_each_value_alone() -> None:
    with pytest.raises(ValueError, match="act on each value alone"):
        mean_square_derivative(lambda x: x / keras.ops.max(keras.ops.abs(x)))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: 0.0 * x, r"positive and finite.*mean square 0\.0"),
        (lambda x: keras.ops.log(x - 100.0), r"positive and finite.*nan"),
        (lambda x: 1 / (0.0 * x), r"positive and finite.*inf"),
        ("softmax", "act on each value alone.*softmax"),
        (lambda x: x[::2], "act on each value alone"),
        (lambda x: x / keras.ops.max(keras.ops.abs(x)), "act on each value alone"),
        (lambda x: x - keras.ops.min(x), "act on each value alone"),
        (keras.ops.sort, "act on each value alone"),
        (lambda x: 1 / x, r"however closely one looks.*4\.301e\+04 .* 1\.29e\+05"),
        (lambda x: keras.ops.abs(x) ** -0.5, "however closely one looks"),
        (lambda x: keras.ops.exp(x * x / 4), "within 12 deviations.*grows so fast"),
        (lambda x: keras.ops.exp(-5 * x), "within 12 deviations.*grows so fast"),
        ("threshold", "called on one tensor.*activation='threshold'"),
        (keras.layers.LeakyReLU, "called on one tensor.*LeakyReLU.*an instance"),
        (keras.layers.LayerNormalization(), "called on one tensor.*Normalization"),
        (keras.layers.BatchNormalization(), "called on one tensor.*Normalization"),
        (lambda x: "a", "called on one tensor"),
        (lambda: 1.0, "called on one tensor"),
        ("no such", "Could not interpret.*no such"),
    ],
)
def test_refusals(function: Any, message: str) -> None:
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=message):
        gain(function)


@pytest.mark.parametrize(
    "layer",
    [keras.layers.PReLU(), keras.layers.BatchNormalization(), keras.layers.Dense(8)],
    ids=lambda layer: type(layer).__name__,
)
def test_weights_built_for_another_shape_are_refused(layer: keras.Layer) -> None:
    layer = type(layer).from_config(layer.get_config())
    layer.build((None, 8))
    with pytest.raises(
        ValueError,
        match=r"called on one tensor.*before it is built.*gain\(layer\.activation\)",
    ):
        gain(layer)


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16", "bfloat16"])
@pytest.mark.parametrize("built", [False, True])
def test_layers_of_a_narrow_dtype_are_evaluated_in_float32(
    dtype: str, built: bool
) -> None:
    layer = keras.layers.Activation("tanh", dtype=dtype)
    if built:
        layer(np.ones((1, 3), "float32"))
    before = layer.built
    assert gain(layer) == pytest.approx(_expected(math.tanh) ** -0.5, abs=1e-6)
    assert before == layer.built
    assert layer.dtype_policy.name == dtype


def test_mean_square_derivative() -> None:
    assert mean_square_derivative("relu") == pytest.approx(0.5, abs=1e-9)
    assert mean_square_derivative("relu", 3.0) == pytest.approx(0.5, abs=1e-9)
    slope = keras.layers.LeakyReLU(negative_slope=0.5)
    assert mean_square_derivative(slope) == pytest.approx(0.625, abs=1e-6)
    for stddev in (0.1, 1.0):
        exact = integrate.quad(
            lambda z, s=stddev: math.cosh(s * z) ** -4 * stats.norm.pdf(z), -12, 12
        )[0]
        assert mean_square_derivative("tanh", stddev) == pytest.approx(exact, abs=1e-5)
