"""What is done differently on each backend: here, what must not be kept alive."""

from __future__ import annotations

import threading
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops
from models import normal

from keras_inits.backends import eager
from keras_inits.statistics.moments import moments
from keras_inits.statistics.reductions import first_rows


def _flag() -> Any:
    """What of a process `eager` changes."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.config.functions_run_eagerly()
    frames = pytest.importorskip("torch._dynamo.eval_frame")
    if not hasattr(frames, "_stance"):
        pytest.skip("torch 2.6 and later")
    return frames._stance.stance


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="no such flag")
def test_threads_leave_the_process_as_it_was() -> None:
    before, entered, left = _flag(), threading.Event(), threading.Event()

    def first() -> None:
        with eager():
            entered.set()
            left.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    entered.wait(10)
    with eager():
        left.set()
        thread.join()
        assert _flag() != before  # still inside
    assert _flag() == before


def memory(tensor: Any) -> np.ndarray[Any, Any]:
    """A tensor's own buffer, seen as an array."""
    if keras.backend.backend() == "torch":
        if tensor.device.type != "cpu":
            pytest.skip("not in the memory of this process")
        found: np.ndarray[Any, Any] = tensor.numpy()
        return found
    return np.asarray(memoryview(tensor))


@pytest.mark.skipif(
    keras.backend.backend() not in ("tensorflow", "torch"), reason="JAX shares nothing"
)
def test_a_few_rows_do_not_keep_the_whole_tensor() -> None:
    """A view would: every activation of a model would live until the pass is over."""
    whole = ops.convert_to_tensor(normal(64, 8, 8, 4)) * 1.0
    rows = first_rows(whole, 2)
    np.testing.assert_array_equal(memory(rows), memory(whole)[:2])
    assert not np.shares_memory(memory(whole), memory(rows))


@pytest.mark.parametrize("shift", [0.0, 0.5, 100.0])
def test_moments_of_many_values(shift: float) -> None:
    """A plain running sum in float32 over as many is wrong in the fourth digit."""
    x = np.random.default_rng(0).standard_normal((64, 2**17), dtype="float32") + shift
    found = moments(ops.convert_to_tensor(x))
    exact = x.astype("float64")
    assert float(found.mean) == pytest.approx(exact.mean(), rel=1e-5, abs=1e-6)
    assert float(found.variance) == pytest.approx(exact.var(), rel=1e-5)
