"""The initializers; importing this registers their strings."""

from keras_inits.initializers.biases import ForgetGateBias, LogOddsBias
from keras_inits.initializers.bounded_normal import BoundedNormal
from keras_inits.initializers.delta_orthogonal import DeltaOrthogonal
from keras_inits.initializers.identities import Bilinear, Dirac, ZerO
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
from keras_inits.initializers.orthogonal import ConvolutionOrthogonal, Orthogonal
from keras_inits.initializers.sparse_normal import SparseNormal
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
from keras_inits.initializers.transformers import (
    DeepNorm,
    DepthScaledNormal,
    Siren,
)
from keras_inits.initializers.truncated_normal import TruncatedNormal
from keras_inits.initializers.variance_scaling import VarianceScaling

__all__ = [
    "Bilinear",
    "BoundedNormal",
    "ContribVarianceScaling",
    "ConvolutionOrthogonal",
    "DeepNorm",
    "DeltaOrthogonal",
    "DepthScaledNormal",
    "Dirac",
    "ForgetGateBias",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "KaimingNormal",
    "KaimingUniform",
    "LSUVNormal",
    "LecunNormal",
    "LecunUniform",
    "LogOddsBias",
    "LooksLinear",
    "Orthogonal",
    "Siren",
    "SparseNormal",
    "StandardNormal",
    "StandardUniform",
    "TruncatedNormal",
    "UniformUnitScaling",
    "VarianceScaling",
    "XavierNormal",
    "XavierUniform",
    "ZerO",
]
