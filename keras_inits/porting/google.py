"""`jax.nn.initializers` and TensorFlow 1; kernels are (*window, inputs, outputs).

Read in: JAX 0.10, `jax/_src/nn/initializers.py`, which Flax re-exports; TensorFlow's
`python/ops/init_ops.py` and `contrib/layers/python/layers/initializers.py`.
"""

from types import MappingProxyType
from typing import Any

from keras_inits import initializers as ours
from keras_inits.porting.rows import (
    Row,
    Table,
    bounds_in_deviations,
    keras_own,
    normal,
    plain,
    zeros_and_ones,
)


def _jax_truncated(
    stddev: float = 1e-2, *, lower: float = -2.0, upper: float = 2.0
) -> Any:
    return bounds_in_deviations(0.0, stddev, lower, upper)


JAX: Table = MappingProxyType(
    {
        **zeros_and_ones("zeros", "ones"),
        "constant": lambda value: keras_own.Constant(value),
        "uniform": lambda scale=1e-2: keras_own.RandomUniform(0.0, scale),
        "normal": lambda stddev=1e-2: normal(0.0, stddev),
        "truncated_normal": _jax_truncated,
        "variance_scaling": plain,
        "glorot_uniform": lambda: ours.GlorotUniform(),
        "glorot_normal": lambda: ours.GlorotNormal(),
        "xavier_uniform": lambda: ours.GlorotUniform(),
        "xavier_normal": lambda: ours.GlorotNormal(),
        "lecun_uniform": lambda: ours.LecunUniform(),
        "lecun_normal": lambda: ours.LecunNormal(),
        "he_uniform": lambda: ours.HeUniform(),
        "he_normal": lambda: ours.HeNormal(),
        "kaiming_uniform": lambda: ours.HeUniform(),
        "kaiming_normal": lambda: ours.HeNormal(),
        "orthogonal": lambda scale=1.0: ours.Orthogonal(scale),
        "delta_orthogonal": lambda scale=1.0: ours.DeltaOrthogonal(scale),
    }
)


def _uniform(minval: float = 0.0, maxval: float | None = None) -> Any:
    return keras_own.RandomUniform(minval, 1.0 if maxval is None else maxval)


def _scaling(
    scale: float = 1.0, mode: str = "fan_in", distribution: str = "truncated_normal"
) -> Any:
    law: Any = distribution.lower()
    return ours.VarianceScaling(scale, mode, law)  # type: ignore[arg-type]


def _contrib_xavier(uniform: bool = True) -> Any:
    return ours.ContribVarianceScaling(1.0, "FAN_AVG", uniform)


def _contrib_scaling(
    factor: float = 2.0, mode: str = "FAN_IN", uniform: bool = False
) -> Any:
    return ours.ContribVarianceScaling(factor, mode, uniform)  # type: ignore[arg-type]


# Each is `tf.NAME_initializer` and `tf.initializers.NAME`.
_TWO_NAMES: dict[str, Row] = {
    **zeros_and_ones("zeros", "ones"),
    "constant": lambda value=0: keras_own.Constant(value),
    "random_uniform": _uniform,
    "random_normal": lambda mean=0.0, stddev=1.0: normal(mean, stddev),
    "truncated_normal": lambda mean=0.0, stddev=1.0: bounds_in_deviations(mean, stddev),
    "uniform_unit_scaling": lambda factor=1.0: ours.UniformUnitScaling(factor),
    "variance_scaling": _scaling,
    "glorot_uniform": lambda: ours.GlorotUniform(),
    "glorot_normal": lambda: ours.GlorotNormal(),
    "orthogonal": lambda gain=1.0: ours.Orthogonal(gain),
}

_CONTRIB_FRAMEWORK: dict[str, Row] = {
    "convolutional_delta_orthogonal": lambda gain=1.0: ours.DeltaOrthogonal(gain),
    "convolutional_orthogonal_1d": lambda gain=1.0: ours.ConvolutionOrthogonal(gain),
    "convolutional_orthogonal_2d": lambda gain=1.0: ours.ConvolutionOrthogonal(gain),
    "convolutional_orthogonal_3d": lambda gain=1.0: ours.ConvolutionOrthogonal(gain),
}

TF1: Table = MappingProxyType(
    {
        **{f"{name}_initializer": row for name, row in _TWO_NAMES.items()},
        **{f"initializers.{name}": row for name, row in _TWO_NAMES.items()},
        "initializers.he_normal": lambda: ours.HeNormal(),
        "initializers.he_uniform": lambda: ours.HeUniform(),
        "initializers.lecun_normal": lambda: ours.LecunNormal(),
        "initializers.lecun_uniform": lambda: ours.LecunUniform(),
        "initializers.identity": lambda gain=1.0: keras_own.Identity(gain),
        **{
            f"contrib.framework.{name}": row for name, row in _CONTRIB_FRAMEWORK.items()
        },
        "contrib.layers.xavier_initializer": _contrib_xavier,
        "contrib.layers.xavier_initializer_conv2d": _contrib_xavier,
        "contrib.layers.variance_scaling_initializer": _contrib_scaling,
    }
)
