"""The gradient of a loss for every kernel, on the backend that Keras runs on."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_inits.backends import host
from keras_inits.errors import DataError
from keras_inits.statistics import moments

Tensor = Any


class WeightGradient(NamedTuple):
    """Deviation of a kernel's gradient, and the same over that of the kernel.

    None where a kernel has no deviation to compare with.
    """

    deviation: float
    ratio: float | None


def weight_gradients(
    model: keras.Model,
    inputs: Any,
    targets: Any,
    loss: Any,
    kernels: Sequence[keras.Variable],
    training: bool,
) -> dict[int, WeightGradient]:
    """By `id(kernel)`, deviation and gradient-to-weight ratio; changes nothing.

    Args:
        model: A built model.
        inputs: What it is called with.
        targets: Labels, one row for each row of `inputs`.
        loss: A Keras loss or its name; None: the loss of `model.compile`.
        kernels: The variables to differentiate for.
        training: The mode the layers run in.

    Raises:
        DataError: No loss is given and the model is not compiled with one.
    """
    if loss is None and not getattr(model, "compiled", False):
        raise DataError(
            f"The gradient needs a loss, and {model.name!r} is not compiled with one. "
            'Pass it: measure(model, x, y, loss="mse").'
        )
    accepts = "training" in inspect.signature(model.call).parameters
    mode = {"training": training} if accepts else {}

    def loss_of(values: Sequence[Tensor]) -> Tensor:
        mapping = list(zip(kernels, values, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            predicted = model(inputs, **mode)
            if loss is None:
                return model.compute_loss(x=inputs, y=targets, y_pred=predicted)
            function = keras.losses.get(loss)
            return ops.mean(function(_as_shaped(targets, predicted), predicted))

    unique = {id(k): k for k in kernels}
    kernels = list(unique.values())
    values = [k.value for k in kernels]
    gradients = _GRADIENTS[keras.backend.backend()](loss_of, values)
    found = {}
    for kernel, gradient in zip(kernels, gradients, strict=True):
        # None: the loss does not depend on it.
        size = 0.0 if gradient is None else _deviation(gradient)
        weight = _deviation(kernel.value)
        found[id(kernel)] = WeightGradient(size, size / weight if weight else None)
    return found


def _as_shaped(targets: Any, predicted: Any) -> Any:
    """Labels `(n,)` for outputs `(n, 1)`, as `fit` takes them: `(n, 1)`.

    A `keras.losses.Loss` sees to that itself, most of the functions do not.
    """
    if not hasattr(targets, "shape") or not hasattr(predicted, "shape"):
        return targets
    shape = tuple(predicted.shape)
    flat = tuple(targets.shape) == shape[:-1] and shape[-1:] == (1,)
    return ops.expand_dims(targets, -1) if flat else targets


def _deviation(x: Tensor) -> float:
    """A single value has none: its size stands for it."""
    seen = moments(x)
    if math.prod(x.shape) == 1:
        return abs(float(host(seen.mean)))
    return float(np.sqrt(host(seen.variance)))


def _tensorflow(loss_of: Callable[..., Tensor], values: list[Tensor]) -> list[Tensor]:
    tf = sys.modules["tensorflow"]
    values = [tf.convert_to_tensor(v) for v in values]
    with tf.GradientTape() as tape:
        tape.watch(values)
        loss = loss_of(values)
    return [
        None if g is None else tf.convert_to_tensor(g)
        for g in tape.gradient(loss, values)
    ]


def _jax(loss_of: Callable[..., Tensor], values: list[Tensor]) -> list[Tensor]:
    jax = sys.modules["jax"]  # compiled as one: operation by operation takes longer
    return list(jax.jit(jax.grad(loss_of))(values))


def _torch(loss_of: Callable[..., Tensor], values: list[Tensor]) -> list[Tensor]:
    torch = sys.modules["torch"]
    values = [v.detach().clone().requires_grad_() for v in values]
    with torch.enable_grad(), torch.random.fork_rng():
        return list(torch.autograd.grad(loss_of(values), values, allow_unused=True))


_GRADIENTS = {"jax": _jax, "tensorflow": _tensorflow, "torch": _torch}
