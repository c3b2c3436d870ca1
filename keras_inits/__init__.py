"""Initialisation for Keras: strings, LSUV from data, and a look at the signal.

Importing this registers the strings, for `kernel_initializer="lsuv_normal"`.
"""

from keras_inits import porting
from keras_inits.callbacks import LSUV, SignalMonitor
from keras_inits.errors import (
    ConvergenceError,
    DataError,
    DegenerateDataError,
    DegenerateSignalError,
    DistributionError,
    KerasInitsError,
    UnsupportedLayerError,
)
from keras_inits.fans import Fans, compute_fans
from keras_inits.gains import gain
from keras_inits.initialize import initialize
from keras_inits.initializers import (
    Bilinear,
    BoundedNormal,
    ContribVarianceScaling,
    ConvolutionOrthogonal,
    DeepNorm,
    DeltaOrthogonal,
    DepthScaledNormal,
    Dirac,
    ForgetGateBias,
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    KaimingNormal,
    KaimingUniform,
    LecunNormal,
    LecunUniform,
    LogOddsBias,
    LooksLinear,
    LSUVNormal,
    Orthogonal,
    Siren,
    SparseNormal,
    StandardNormal,
    StandardUniform,
    TruncatedNormal,
    UniformUnitScaling,
    VarianceScaling,
    XavierNormal,
    XavierUniform,
    ZerO,
)
from keras_inits.linear_maps import LinearMap, register_linear_map
from keras_inits.lsuv import lsuv_init
from keras_inits.measure import measure
from keras_inits.portable import portable
from keras_inits.registry import available, custom_objects
from keras_inits.report import LayerSignal, SignalReport

__version__ = "0.1.0"

__all__ = [
    "Bilinear",
    "BoundedNormal",
    "ContribVarianceScaling",
    "ConvergenceError",
    "ConvolutionOrthogonal",
    "DataError",
    "DeepNorm",
    "DegenerateDataError",
    "DegenerateSignalError",
    "DeltaOrthogonal",
    "DepthScaledNormal",
    "Dirac",
    "DistributionError",
    "Fans",
    "ForgetGateBias",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "KaimingNormal",
    "KaimingUniform",
    "KerasInitsError",
    "LSUV",
    "LSUVNormal",
    "LayerSignal",
    "LecunNormal",
    "LecunUniform",
    "LinearMap",
    "LogOddsBias",
    "LooksLinear",
    "Orthogonal",
    "SignalMonitor",
    "SignalReport",
    "Siren",
    "SparseNormal",
    "StandardNormal",
    "StandardUniform",
    "TruncatedNormal",
    "UniformUnitScaling",
    "UnsupportedLayerError",
    "VarianceScaling",
    "XavierNormal",
    "XavierUniform",
    "ZerO",
    "available",
    "compute_fans",
    "custom_objects",
    "gain",
    "initialize",
    "lsuv_init",
    "measure",
    "portable",
    "porting",
    "register_linear_map",
]
