"""The tables, one row per initializer of the other library.

Kernels are (..., inputs, outputs) in Keras, TensorFlow and JAX, and (outputs, inputs,
...) in PyTorch, timm, Lasagne, MXNet and Chainer; each library counts fans in its own
layout, so that a fan of the same name is the same number here.
"""

import math
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import keras

from keras_inits import initializers as ours

Row = Callable[..., Any]
Table = MappingProxyType[str, Row]

_keras = keras.initializers


def _constants(zeros: str, ones: str, constant: str) -> dict[str, Row]:
    return {
        zeros: _keras.Zeros,
        ones: _keras.Ones,
        constant: lambda value: _keras.Constant(value),
    }


def _symmetric(bound: float) -> Any:
    return _keras.RandomUniform(-bound, bound)


def _bounds_in_deviations(mean: float, std: float, a: float, b: float) -> Any:
    return ours.BoundedNormal(mean, std, mean + a * std, mean + b * std)


def _plain(scale: float, mode: str, distribution: str) -> Any:
    """Libraries whose "normal" is not truncated."""
    if distribution == "normal":
        distribution = "untruncated_normal"
    return ours.VarianceScaling(scale, mode, distribution)  # type: ignore[arg-type]


def _kaiming(cls: Callable[..., Any]) -> Row:
    def row(
        a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
    ) -> Any:
        return cls(mode=mode, nonlinearity=nonlinearity, negative_slope=a)

    return row


TORCH: Table = MappingProxyType(
    {
        **_constants("zeros_", "ones_", "constant_"),
        "uniform_": lambda a=0.0, b=1.0: _keras.RandomUniform(a, b),
        "normal_": lambda mean=0.0, std=1.0: _keras.RandomNormal(mean, std),
        "trunc_normal_": lambda mean=0.0, std=1.0, a=-2.0, b=2.0: ours.BoundedNormal(
            mean, std, a, b
        ),
        "eye_": lambda: _keras.Identity(),
        "dirac_": lambda groups=1: ours.Dirac(groups),
        "xavier_uniform_": lambda gain=1.0: ours.XavierUniform(gain),
        "xavier_normal_": lambda gain=1.0: ours.XavierNormal(gain),
        "kaiming_uniform_": _kaiming(ours.KaimingUniform),
        "kaiming_normal_": _kaiming(ours.KaimingNormal),
        "orthogonal_": lambda gain=1.0: ours.Orthogonal(gain),
        "sparse_": lambda sparsity, std=0.01: ours.SparseNormal(sparsity, std),
    }
)


def _jax_truncated(
    stddev: float = 1e-2, lower: float = -2.0, upper: float = 2.0
) -> Any:
    return _bounds_in_deviations(0.0, stddev, lower, upper)


JAX: Table = MappingProxyType(
    {
        **_constants("zeros", "ones", "constant"),
        "uniform": lambda scale=1e-2: _keras.RandomUniform(0.0, scale),
        "normal": lambda stddev=1e-2: _keras.RandomNormal(0.0, stddev),
        "truncated_normal": _jax_truncated,
        "variance_scaling": _plain,
        "glorot_uniform": lambda: ours.GlorotUniform(),
        "glorot_normal": lambda: ours.GlorotNormal(),
        "lecun_uniform": lambda: ours.LecunUniform(),
        "lecun_normal": lambda: ours.LecunNormal(),
        "he_uniform": lambda: ours.HeUniform(),
        "he_normal": lambda: ours.HeNormal(),
        "orthogonal": lambda scale=1.0: ours.Orthogonal(scale),
        "delta_orthogonal": lambda scale=1.0: ours.DeltaOrthogonal(scale),
    }
)


def _contrib_xavier(uniform: bool = True) -> Any:
    return ours.ContribVarianceScaling(1.0, "FAN_AVG", uniform)


def _tf1_scaling(
    scale: float = 1.0, mode: str = "fan_in", distribution: str = "truncated_normal"
) -> Any:
    return ours.VarianceScaling(scale, mode, distribution)  # type: ignore[arg-type]


TF1: Table = MappingProxyType(
    {
        **_constants("zeros_initializer", "ones_initializer", "constant_initializer"),
        "random_uniform_initializer": lambda minval=0.0, maxval=1.0: (
            _keras.RandomUniform(minval, maxval)
        ),
        "random_normal_initializer": lambda mean=0.0, stddev=1.0: _keras.RandomNormal(
            mean, stddev
        ),
        "truncated_normal_initializer": lambda mean=0.0, stddev=1.0: (
            _bounds_in_deviations(mean, stddev, -2.0, 2.0)
        ),
        "uniform_unit_scaling_initializer": lambda factor=1.0: ours.UniformUnitScaling(
            factor
        ),
        "variance_scaling_initializer": _tf1_scaling,
        "glorot_uniform_initializer": lambda: ours.GlorotUniform(),
        "glorot_normal_initializer": lambda: ours.GlorotNormal(),
        "initializers.he_normal": lambda: ours.HeNormal(),
        "initializers.he_uniform": lambda: ours.HeUniform(),
        "initializers.lecun_normal": lambda: ours.LecunNormal(),
        "initializers.lecun_uniform": lambda: ours.LecunUniform(),
        "initializers.identity": lambda gain=1.0: _keras.Identity(gain),
        "orthogonal_initializer": lambda gain=1.0: ours.Orthogonal(gain),
        "contrib.framework.convolutional_delta_orthogonal": lambda gain=1.0: (
            ours.DeltaOrthogonal(gain)
        ),
        "contrib.framework.convolutional_orthogonal_1d": lambda gain=1.0: (
            ours.ConvolutionOrthogonal(gain)
        ),
        "contrib.framework.convolutional_orthogonal_2d": lambda gain=1.0: (
            ours.ConvolutionOrthogonal(gain)
        ),
        "contrib.framework.convolutional_orthogonal_3d": lambda gain=1.0: (
            ours.ConvolutionOrthogonal(gain)
        ),
        "contrib.layers.xavier_initializer": _contrib_xavier,
        "contrib.layers.variance_scaling_initializer": (
            lambda factor=2.0, mode="FAN_IN", uniform=False: (
                ours.ContribVarianceScaling(factor, mode, uniform)
            )
        ),
    }
)

TIMM: Table = MappingProxyType(
    {
        "trunc_normal_": lambda mean=0.0, std=1.0, a=-2.0, b=2.0: ours.BoundedNormal(
            mean, std, a, b
        ),
        "trunc_normal_tf_": lambda mean=0.0, std=1.0, a=-2.0, b=2.0: (
            _bounds_in_deviations(mean, std, a, b)
        ),
        "variance_scaling_": lambda scale=1.0, mode="fan_in", distribution="normal": (
            _plain(scale, mode, distribution)
        ),
        "lecun_normal_": lambda: ours.LecunNormal(),
    }
)


def _relu_or(gain: float | str) -> float:
    return math.sqrt(2.0) if gain == "relu" else float(gain)


LASAGNE: Table = MappingProxyType(
    {
        "Constant": lambda val=0.0: _keras.Constant(val),
        "Normal": lambda std=0.01, mean=0.0: _keras.RandomNormal(mean, std),
        "Uniform": lambda range=0.01: _symmetric(range),
        "GlorotNormal": lambda gain=1.0: ours.XavierNormal(_relu_or(gain)),
        "GlorotUniform": lambda gain=1.0: ours.XavierUniform(_relu_or(gain)),
        "HeNormal": lambda gain=1.0: ours.StandardNormal(_relu_or(gain)),
        "HeUniform": lambda gain=1.0: ours.LecunUniform(gain=_relu_or(gain)),
        "Orthogonal": lambda gain=1.0: ours.Orthogonal(_relu_or(gain)),
    }
)


def _mxnet_xavier(
    rnd_type: str = "uniform", factor_type: str = "avg", magnitude: float = 3.0
) -> Any:
    """Bound, or deviation, of sqrt(magnitude / fan)."""
    mode = {"avg": "fan_avg", "in": "fan_in", "out": "fan_out"}[factor_type]
    scale = magnitude / 3 if rnd_type == "uniform" else magnitude
    law = "uniform" if rnd_type == "uniform" else "normal"
    return _plain(scale, mode, law)


def _mxnet_prelu(factor_type: str = "avg", slope: float = 0.25) -> Any:
    return _mxnet_xavier("gaussian", factor_type, 2.0 / (1.0 + slope**2))


MXNET: Table = MappingProxyType(
    {
        "Zero": _keras.Zeros,
        "One": _keras.Ones,
        "Constant": lambda value=0.0: _keras.Constant(value),
        "Uniform": lambda scale=0.07: _symmetric(scale),
        "Normal": lambda sigma=0.01: _keras.RandomNormal(0.0, sigma),
        "Xavier": _mxnet_xavier,
        "MSRAPrelu": _mxnet_prelu,
        # MXNet's default takes the SVD of uniform noise, which is not quite uniform
        # over the orthonormal matrices; this is its rand_type="normal".
        "Orthogonal": lambda scale=1.414: ours.Orthogonal(scale),
        "Bilinear": lambda: ours.Bilinear(),
        "LSTMBias": lambda forget_bias=1.0: ours.ForgetGateBias(forget_bias),
    }
)


def _chainer_he(cls: Callable[..., Any]) -> Row:
    def row(scale: float = 1.0, fan_option: str = "fan_in") -> Any:
        return cls(2.0 * scale**2, fan_option)

    return row


CHAINER: Table = MappingProxyType(
    {
        "Zero": _keras.Zeros,
        "One": _keras.Ones,
        "Constant": lambda fill_value: _keras.Constant(fill_value),
        "Identity": lambda scale=1.0: _keras.Identity(scale),
        "Uniform": lambda scale=0.05: _symmetric(scale),
        "Normal": lambda scale=0.05: _keras.RandomNormal(0.0, scale),
        "LeCunUniform": lambda scale=1.0: ours.LecunUniform(gain=scale),
        "LeCunNormal": lambda scale=1.0: ours.StandardNormal(scale),
        "GlorotUniform": lambda scale=1.0: ours.XavierUniform(scale),
        "GlorotNormal": lambda scale=1.0: ours.XavierNormal(scale),
        "HeUniform": lambda scale=1.0: ours.HeUniform(gain=scale),
        "HeNormal": _chainer_he(lambda scale, mode: _plain(scale, mode, "normal")),
        "Orthogonal": lambda scale=1.1: ours.Orthogonal(scale),
    }
)
