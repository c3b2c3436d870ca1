"""The gradient of a loss for every kernel, on the backend that Keras runs on."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops, tree

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

    The loss is that of `fit`: summed over the outputs, with the regularisers of the
    model and whatever its layers add.

    Args:
        model: A built model.
        inputs: What it is called with.
        targets: Labels `(rows, ...)`, one row for each row of `inputs`; of several
            outputs a list or dict of them.
        loss: What `model.compile` accepts as its loss: a loss, its name, a function
            of labels and predictions, or a list or dict of these (None among them: an
            output without a loss). None: the loss of `model.compile`.
        kernels: The variables to differentiate for.
        training: The mode the layers run in.

    Raises:
        DataError: No loss is given and the model is not compiled with one, or the
            loss cannot be computed of these labels and outputs.
    """
    if loss is None and not getattr(model, "compiled", False):
        raise DataError(
            f"The gradient needs a loss, and {model.name!r} is not compiled with one. "
            'Pass it: measure(model, x, y, loss="mse").'
        )
    accepts = "training" in inspect.signature(model.call).parameters
    mode = {"training": training} if accepts else {}
    inputs = tree.map_structure(ops.convert_to_tensor, inputs)
    targets = tree.map_structure(_as_tensor, targets)
    judge = model if loss is None else _Judge(model, loss)
    unique = {id(k): k for k in kernels}
    kernels = list(unique.values())
    # Inside the scope Keras regularises what the scope knows of.
    others = [v for v in model.trainable_variables if id(v) not in unique]

    def loss_of(values: Sequence[Tensor]) -> Tensor:
        mapping = list(zip(kernels, values, strict=True))
        mapping += [(v, v.value) for v in others]
        with keras.StatelessScope(state_mapping=mapping, collect_losses=True):
            predicted = model(inputs, **mode)
            try:
                total = judge.compute_loss(x=inputs, y=targets, y_pred=predicted)
            except Exception as error:  # of the backend's own classes, too
                text = _misfit(model, targets, predicted, loss, error)
                raise DataError(text) from error
            return ops.mean(total)  # without a reduction, it has a value for each row

    values = [k.value for k in kernels]
    gradients = _GRADIENTS[keras.backend.backend()](loss_of, values)
    found = {}
    for kernel, gradient in zip(kernels, gradients, strict=True):
        # None: the loss does not depend on it.
        size = 0.0 if gradient is None else _deviation(gradient)
        weight = _deviation(kernel.value)
        found[id(kernel)] = WeightGradient(size, size / weight if weight else None)
    return found


class _Judge(keras.Model):
    """Computes a loss as `model` would, had it been compiled with it."""

    def __init__(self, model: keras.Model, loss: Any) -> None:
        super().__init__(name="judge")  # nameless, it would shift the names of others
        self.model = model
        if hasattr(model, "output_names"):
            self.output_names = model.output_names
        self.compile(optimizer=None, loss=loss, run_eagerly=True)

    @property
    def losses(self) -> list[Tensor]:
        """Of the regularisers, and what layers add."""
        return self.model.losses


def _as_tensor(y: Any) -> Tensor:
    """As `fit` hands labels to a loss: floats in Keras's own dtype."""
    if isinstance(y, np.ndarray) and y.dtype.kind in "OSU":
        raise DataError(f"Labels are numbers. Received: y of dtype {y.dtype}.")
    floats = "float" in keras.backend.standardize_dtype(y.dtype)
    return ops.convert_to_tensor(y, keras.config.floatx() if floats else None)


def _misfit(
    model: keras.Model, targets: Any, predicted: Any, loss: Any, error: Exception
) -> str:
    own = getattr(model, "loss", None) if loss is None else loss
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return (
        f"The loss of {model.name!r} cannot be computed: it needs one array of labels "
        f"for each output with a loss. Received: y of shapes {_shapes(targets)}, "
        f"outputs of shapes {_shapes(predicted)}, loss={own!r}. Keras says: {reason}"
    )


def _shapes(tensors: Any) -> str:
    return str(tree.map_structure(lambda x: tuple(getattr(x, "shape", ())), tensors))


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
