"""Lasagne, Chainer and MXNet, whose normal laws are not truncated.

Kernels are (outputs, inputs, *window) there, but (inputs, outputs) in Lasagne's
dense layers. Read in: Lasagne 0.2.dev, `lasagne/init.py`; Chainer 7.8,
`chainer/initializers/` and `chainer/initializer.py`; MXNet 1.9.1,
`mxnet/initializer.py`.
"""

import math
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

from keras_inits import initializers as ours
from keras_inits.initializers.base import one_of
from keras_inits.porting.rows import (
    Row,
    Table,
    keras_own,
    normal,
    plain,
    symmetric,
    zeros_and_ones,
)


def _with_gain(cls: Callable[..., Any]) -> Row:
    def row(gain: float | str = 1.0) -> Any:
        return cls(gain=math.sqrt(2.0) if gain == "relu" else float(gain))

    return row


def _lasagne_uniform(
    range: float | tuple[float, float] = 0.01,
    std: float | None = None,
    mean: float = 0.0,
) -> Any:
    if std is not None:
        reach = math.sqrt(3.0) * std
        return keras_own.RandomUniform(mean - reach, mean + reach)
    return (
        keras_own.RandomUniform(*range)
        if isinstance(range, tuple)
        else (symmetric(range))
    )


def _lasagne_sparse(sparsity: float = 0.1, std: float = 0.01) -> Any:
    """`sparsity` is the share of values that are not zero there. Rounded, so that
    1 - 0.7 does not become a little more than 0.3, and one zero more."""
    return ours.SparseNormal(round(1.0 - sparsity, 12), std, per="output")


LASAGNE: Table = MappingProxyType(
    {
        "Constant": lambda val=0.0: keras_own.Constant(val),
        "Normal": lambda std=0.01, mean=0.0: normal(mean, std),
        "Uniform": _lasagne_uniform,
        "GlorotNormal": _with_gain(ours.XavierNormal),
        "GlorotUniform": _with_gain(ours.XavierUniform),
        "HeNormal": _with_gain(ours.StandardNormal),
        "HeUniform": _with_gain(ours.LecunUniform),
        "Orthogonal": _with_gain(ours.Orthogonal),
        "Sparse": _lasagne_sparse,
    }
)


def _mxnet_xavier(
    rnd_type: str = "uniform", factor_type: str = "avg", magnitude: float = 3.0
) -> Any:
    """Bound, or deviation, of sqrt(magnitude / fan)."""
    one_of(("gaussian", "uniform"), rnd_type=rnd_type)
    one_of(("avg", "in", "out"), factor_type=factor_type)
    if rnd_type == "uniform":
        return plain(magnitude / 3, f"fan_{factor_type}", "uniform")
    return plain(magnitude, f"fan_{factor_type}", "normal")


def _mxnet_prelu(factor_type: str = "avg", slope: float = 0.25) -> Any:
    return _mxnet_xavier("gaussian", factor_type, 2.0 / (1.0 + slope**2))


def _mxnet_orthogonal(scale: float = 1.414, rand_type: str = "uniform") -> Any:
    """Its default takes the SVD of uniform noise, which is not quite uniform over
    the orthonormal matrices; ours is."""
    return ours.Orthogonal(scale)


MXNET: Table = MappingProxyType(
    {
        **zeros_and_ones("Zero", "One"),
        "Constant": lambda value: keras_own.Constant(value),
        "Uniform": lambda scale=0.07: symmetric(scale),
        "Normal": lambda sigma=0.01: normal(0.0, sigma),
        "Xavier": _mxnet_xavier,
        "MSRAPrelu": _mxnet_prelu,
        "Orthogonal": _mxnet_orthogonal,
        "Bilinear": lambda: ours.Bilinear(),
        "LSTMBias": lambda forget_bias=1.0: ours.ForgetGateBias(forget_bias),
    }
)


def _chainer_he(scale: float = 1.0, *, fan_option: str = "fan_in") -> Any:
    return plain(2.0 * scale**2, fan_option, "normal")


CHAINER: Table = MappingProxyType(
    {
        **zeros_and_ones("Zero", "One"),
        "Constant": lambda fill_value: keras_own.Constant(fill_value),
        "Identity": lambda scale=1.0: keras_own.Identity(scale),
        "Uniform": lambda scale=0.05: symmetric(scale),
        "Normal": lambda scale=0.05: normal(0.0, scale),
        "LeCunUniform": lambda scale=1.0: ours.LecunUniform(gain=scale),
        "LeCunNormal": lambda scale=1.0: ours.StandardNormal(scale),
        "GlorotUniform": lambda scale=1.0: ours.XavierUniform(scale),
        "GlorotNormal": lambda scale=1.0: ours.XavierNormal(scale),
        "HeUniform": lambda scale=1.0: ours.HeUniform(gain=scale),
        "HeNormal": _chainer_he,
        "Orthogonal": lambda scale=1.1: ours.Orthogonal(scale),
        "UpsamplingDeconvFilter": lambda: ours.Bilinear(),
    }
)
