"""`torch.nn.init` and `timm.layers`; kernels are (outputs, inputs, *window) there.

Read in: PyTorch 2.13, `torch/nn/init.py`; timm 1.0.31, `timm/layers/weight_init.py`.
"""

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

from keras_inits import initializers as ours
from keras_inits.porting.rows import (
    Row,
    Table,
    absolute_bounds,
    bounds_in_deviations,
    keras_own,
    normal,
    plain,
    zeros_and_ones,
)

# Names of layers, which `torch.nn.init.calculate_gain` takes for no activation.
_LINEAR = frozenset(
    f"conv{transposed}{rank}d"
    for transposed in ("", "_transpose")
    for rank in (1, 2, 3)
)


def _kaiming(cls: Callable[..., Any]) -> Row:
    def row(
        a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
    ) -> Any:
        named = isinstance(nonlinearity, str) and nonlinearity in _LINEAR
        follows = "linear" if named else nonlinearity
        return cls(mode=mode, nonlinearity=follows, negative_slope=a)

    return row


TORCH: Table = MappingProxyType(
    {
        **zeros_and_ones("zeros_", "ones_"),
        "constant_": lambda val: keras_own.Constant(val),
        "uniform_": lambda a=0.0, b=1.0: keras_own.RandomUniform(a, b),
        "normal_": lambda mean=0.0, std=1.0: normal(mean, std),
        "trunc_normal_": absolute_bounds,
        "eye_": lambda: keras_own.Identity(),
        "dirac_": lambda groups=1: ours.Dirac(groups),
        "xavier_uniform_": lambda gain=1.0: ours.XavierUniform(gain),
        "xavier_normal_": lambda gain=1.0: ours.XavierNormal(gain),
        "kaiming_uniform_": _kaiming(ours.KaimingUniform),
        "kaiming_normal_": _kaiming(ours.KaimingNormal),
        "orthogonal_": lambda gain=1.0: ours.Orthogonal(gain),
        "sparse_": lambda sparsity, std=0.01: ours.SparseNormal(sparsity, std),
    }
)


def _timm_scaling(
    scale: float = 1.0, mode: str = "fan_in", distribution: str = "normal"
) -> Any:
    return plain(scale, mode, distribution)


TIMM: Table = MappingProxyType(
    {
        "trunc_normal_": absolute_bounds,
        "trunc_normal_tf_": bounds_in_deviations,
        "variance_scaling_": _timm_scaling,
        "lecun_normal_": lambda: ours.LecunNormal(),
    }
)
