"""The public names: a name added, lost or renamed shows here."""

from __future__ import annotations

import inspect
from types import ModuleType

import pytest

import keras_inits

PUBLIC = [
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


def test_the_public_names_are_these() -> None:
    assert keras_inits.__all__ == PUBLIC


def test_the_public_names_are_sorted() -> None:
    assert sorted(keras_inits.__all__) == keras_inits.__all__


def test_nothing_else_is_public() -> None:
    """Besides `__all__` there are only the modules themselves."""
    others = {
        name
        for name, value in vars(keras_inits).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert set() == others - set(PUBLIC)


@pytest.mark.parametrize("name", keras_inits.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    assert inspect.getdoc(getattr(keras_inits, name))
