"""Write new weights, all of them or none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_inits.backends import snapshot

Tensor = Any


def assign_all(changes: Sequence[tuple[keras.Variable, Tensor]]) -> None:
    """Assign every value; whatever goes wrong, put back what was assigned.

    An interrupt counts as going wrong. Earlier values are kept for that long, on the
    device and in their sharding.

    Args:
        changes: Pairs `(variable, value)`, in the shape and dtype of the variable.
    """
    before = [(variable, snapshot(variable)) for variable, _ in changes]
    try:
        for variable, value in changes:
            variable.assign(value)
    except BaseException:
        for variable, value in before:
            variable.assign(value)
        raise
