"""`layout` under a distribution: kernels drawn in pieces, one to a device."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

HERE = Path(__file__).parent


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX shards variables")
def test_every_class_draws_sharded_kernels() -> None:
    """As asked for: layout, law of the whole and of each part, no two parts alike."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE.parent)]),
        "XLA_FLAGS": "--xla_force_host_platform_device_count=16",
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        [sys.executable, str(HERE / "sharded_kernels.py")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr[-2000:]
