"""The initializers; importing this registers their strings."""

from keras_inits.initializers.delta_orthogonal import DeltaOrthogonal
from keras_inits.initializers.keras_schemes import (
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    LecunNormal,
    LecunUniform,
)
from keras_inits.initializers.looks_linear import LooksLinear
from keras_inits.initializers.lsuv_normal import LSUVNormal
from keras_inits.initializers.tensorflow1 import (
    ContribVarianceScaling,
    UniformUnitScaling,
)
from keras_inits.initializers.torch_schemes import (
    KaimingNormal,
    KaimingUniform,
    StandardNormal,
    StandardUniform,
    XavierNormal,
    XavierUniform,
)
from keras_inits.initializers.truncated_normal import TruncatedNormal
from keras_inits.initializers.variance_scaling import VarianceScaling

__all__ = [
    "ContribVarianceScaling",
    "DeltaOrthogonal",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "KaimingNormal",
    "KaimingUniform",
    "LSUVNormal",
    "LecunNormal",
    "LecunUniform",
    "LooksLinear",
    "StandardNormal",
    "StandardUniform",
    "TruncatedNormal",
    "UniformUnitScaling",
    "VarianceScaling",
    "XavierNormal",
    "XavierUniform",
]
