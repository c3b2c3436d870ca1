"""Initialisation for Keras: strings, LSUV from data, and a look at the signal.

Importing this registers the strings, for `kernel_initializer="lsuv_normal"`. All else
is loaded when it is first asked for.
"""

import importlib
import typing

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
from keras_inits.registry import available, custom_objects

if typing.TYPE_CHECKING:
    from keras_inits import porting
    from keras_inits.callbacks import LSUV, SignalMonitor
    from keras_inits.linear_maps import LinearMap, register_linear_map
    from keras_inits.report import LayerSignal, LossSignal, SignalReport
    from keras_inits.verbs.initialize import initialize
    from keras_inits.verbs.lsuv import lsuv_init
    from keras_inits.verbs.measure import measure
    from keras_inits.verbs.portable import portable

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
    "LossSignal",
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

# What the strings do not need, and where it is.
_LATER = {
    "LSUV": "callbacks",
    "LayerSignal": "report",
    "LinearMap": "linear_maps",
    "LossSignal": "report",
    "SignalMonitor": "callbacks",
    "SignalReport": "report",
    "initialize": "verbs.initialize",
    "lsuv_init": "verbs.lsuv",
    "measure": "verbs.measure",
    "portable": "verbs.portable",
    "register_linear_map": "linear_maps",
}


def __getattr__(name: str) -> typing.Any:
    """A public name that is asked for the first time (PEP 562)."""
    if name in ("callbacks", "porting"):
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_LATER[name]}")
    globals()[name] = value = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
