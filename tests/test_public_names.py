"""The public names: a name added, lost or renamed shows here."""

from __future__ import annotations

import importlib.metadata
import inspect
from types import ModuleType

import pytest

import keras_inits

PUBLIC = [
    "ConvergenceError",
    "DataError",
    "DegenerateSignalError",
    "Fans",
    "KerasInitsError",
    "LSUV",
    "LayerSignal",
    "SignalReport",
    "UnsupportedLayerError",
    "available",
    "compute_fans",
    "custom_objects",
    "lsuv_init",
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


def test_the_version_is_the_one_installed() -> None:
    version = getattr(keras_inits, "__version__", None)
    if version is None:
        pytest.skip("the package states no version of its own")
    assert importlib.metadata.version("keras-inits") == version
