"""The least that an initialisation from data can cost: products and new kernels alone.

No layer of Keras, no statistics, no report, nothing but the backend at its best: the
products of all layers as one compiled function (PyTorch: operation by operation), and
each kernel multiplied once (PyTorch, TensorFlow: where it lies).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from support.models import Batch
from support.timing import no_gradients

Tensor = Any
FACTOR = 1.5


def bare(model: keras.Model) -> Callable[[Batch], Any]:
    """A function that does so for a stack of Dense layers, or of convolutions."""
    layers = model.layers
    products = [
        ops.matmul if len(x.kernel.shape) == 2 else _convolution for x in layers
    ]

    def signal(x: Tensor, kernels: Sequence[Tensor], biases: Sequence[Tensor]) -> Any:
        for product, kernel, bias in zip(products, kernels, biases, strict=True):
            x = ops.relu(product(x, kernel) + bias)
        return x

    run = _compiled(signal)

    def call(batch: Batch) -> Any:
        kernels = [layer.kernel for layer in layers]
        with no_gradients():
            x = ops.convert_to_tensor(batch)
            values = [v.value for v in kernels], [v.bias.value for v in layers]
            return run(x, *values), _multiply(kernels)

    return call


def _convolution(x: Tensor, kernel: Tensor) -> Tensor:
    return ops.conv(x, kernel, padding="same")


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    if keras.backend.backend() == "jax":
        return sys.modules["jax"].jit(function)
    if keras.backend.backend() == "tensorflow":
        return sys.modules["tensorflow"].function(function, autograph=False)
    return function


def _multiply(kernels: Sequence[keras.Variable]) -> list[Tensor]:
    if keras.backend.backend() == "torch":
        return [v.value.mul_(FACTOR) for v in kernels]
    if keras.backend.backend() == "tensorflow":
        return [v.value.assign(v.value * FACTOR) for v in kernels]
    for v in kernels:
        v.assign(v.value * FACTOR)
    return [v.value for v in kernels]
