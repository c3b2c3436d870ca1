"""Whether a model has been trained, as its optimizers tell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from keras_inits.backends import host


def has_been_trained(model: keras.Model) -> bool:
    """Whether an optimizer of the model has seen a batch.

    Also one of its own, beside that of `compile`: a GAN has one for each network.
    """
    return any(steps_taken(x) > 0 for x in _optimizers(model))


def steps_taken(optimizer: Any) -> int:
    """How many batches it has seen, those that it still accumulates among them."""
    counted = [v for v in optimizer.variables if v.name == "iteration"]
    # A distributed variable is no number: read it as fit itself would.
    return max(int(host(x)) for x in (optimizer.iterations, *counted))


def _optimizers(model: keras.Model) -> Iterator[Any]:
    for held in (getattr(model, "optimizer", None), *vars(model).values()):
        several = held.values() if isinstance(held, dict) else held
        listed = isinstance(held, (list, tuple, dict))
        for x in several if listed else [held]:
            if isinstance(x, keras.optimizers.Optimizer):
                yield x
