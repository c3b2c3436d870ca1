"""The public names: a name added, lost or renamed shows here."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path
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


LATER = """
import sys
import keras_inits
heavy = ("keras_inits.callbacks", "keras_inits.solving", "keras_inits.verbs")
assert not [m for m in sys.modules if m.startswith(heavy)]
assert set(keras_inits.__all__) <= set(dir(keras_inits))
import keras_inits.verbs.measure, keras_inits.verbs.portable
from keras_inits import *
assert all(callable(f) for f in (initialize, lsuv_init, measure, portable, LSUV))
assert keras_inits.callbacks.LSUV is LSUV
assert not hasattr(keras_inits, "nothing")
"""


def test_what_the_strings_do_not_need_is_loaded_when_it_is_asked_for() -> None:
    """An import costs little, and no module hides the function of its name."""
    root = Path(keras_inits.__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", LATER], check=True, env=env)
