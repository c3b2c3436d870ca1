"""What is done differently on each backend: here, what must not be kept alive."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops
from models import normal

from keras_inits.backends import first_rows


def memory(tensor: Any) -> np.ndarray[Any, Any]:
    """A tensor's own buffer, seen as an array."""
    if keras.backend.backend() == "torch":
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
