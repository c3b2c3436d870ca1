"""What every test stands on: the right backend, a fixed seed, nothing left over."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

# Read when matplotlib, TensorFlow and JAX are first imported.
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Compiling is what the suite does most on JAX; the results are the same.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import keras
import pytest
from hypothesis import HealthCheck, settings

# Imports leave half a million objects, and no garbage: see pytest_collection_finish.
gc.disable()

# Times on a shared machine say nothing about the code, and a failing example must
# fail again in the next run.
settings.register_profile(
    "keras_inits",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("keras_inits")


def pytest_configure(config: pytest.Config) -> None:
    """Ends the run if Keras did not load the backend that was asked for."""
    requested = os.environ.get("KERAS_BACKEND")
    loaded = keras.backend.backend()
    if requested and requested != loaded:
        pytest.exit(
            f"The backend that was asked for must be the one that loads. Received: "
            f"KERAS_BACKEND={requested!r}, loaded {loaded!r}.",
            returncode=3,
        )
    # On PyTorch the first call imports its compiler, and warnings with it.
    keras.utils.clear_session()


def pytest_report_header(config: pytest.Config) -> str:
    return f"keras {keras.__version__} on {keras.backend.backend()}"


def pytest_collection_finish() -> None:
    """Garbage is looked for among what the tests make, not among what is imported.

    On PyTorch tests/test_lsuv.py and test_lsuv_layers.py spent a fifth of their time in
    the collector; on TensorFlow the suite takes a twentieth less.
    """
    gc.enable()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)


@pytest.fixture(autouse=True)
def _fresh_keras() -> Iterator[None]:
    """Same seed, same layer names and default dtype policy for every test."""
    # Collecting garbage takes longer than most tests.
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    yield


@pytest.fixture(autouse=True, scope="module")
def _few_programs() -> Iterator[None]:
    """Of JAX's programs, those of one file: a process may map so much memory only."""
    yield
    if keras.backend.backend() == "jax":
        gc.collect()  # models hold programs, too
        sys.modules["jax"].clear_caches()


@pytest.fixture
def tmp_cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory for code that writes files where it stands."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def backend() -> str:
    """The name of the backend that runs: "tensorflow", "jax" or "torch"."""
    name: str = keras.backend.backend()
    return name
