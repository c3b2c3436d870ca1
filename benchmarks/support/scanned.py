"""A plain network trained as one loop over its layers, in JAX.

A Keras model of 1,000 layers compiles for minutes; the same network with its hidden
kernels stacked, `jax.lax.scan` over them, in seconds. Adam is Keras's, and so is the
loss: `depth.py --check` trains both side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

Array = Any
Parameters = dict[str, Array]
Activation = Callable[[Array], Array]

# As Keras defines them.
ACTIVATIONS: dict[str, Activation] = {
    "relu": jax.nn.relu,
    "leaky_relu": lambda z: jax.nn.leaky_relu(z, 0.2),
    "gelu": lambda z: jax.nn.gelu(z, approximate=False),
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
}

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7  # Keras's defaults


def stacked(weights: Sequence[Any]) -> Parameters:
    """First, hidden and last layer of `model.get_weights()`."""
    kernels, biases = weights[::2], weights[1::2]
    return {
        "first": (kernels[0], biases[0]),
        "hidden": (np.stack(kernels[1:-1]), np.stack(biases[1:-1])),
        "last": (kernels[-1], biases[-1]),
    }


def _linear(x: Array, weights: tuple[Array, Array]) -> Array:
    """Dense, or a 3 x 3 convolution that keeps the size, samples in the last axis."""
    kernel, bias = weights
    if kernel.ndim == 2:
        return x @ kernel + bias
    # XLA's own convolution takes minutes on a CPU where this takes seconds; with the
    # samples last, windows are copied in long runs.
    height, width = x.shape[1:3]
    wide = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = [
        wide[:, i : i + height, j : j + width] for i in range(3) for j in range(3)
    ]
    patches = jnp.concatenate(windows).reshape(-1, height * width * x.shape[-1])
    found = kernel.reshape(-1, kernel.shape[-1]).T @ patches
    return found.reshape(-1, *x.shape[1:]) + bias[:, None, None, None]


def logits(parameters: Parameters, x: Array, activation: Activation) -> Array:
    """What the network says of `x`, before the softmax."""

    def layer(h: Array, weights: tuple[Array, Array]) -> tuple[Array, None]:
        return activation(_linear(h, weights)), None

    images = x.ndim == 4
    h = jnp.transpose(x, (3, 1, 2, 0)) if images else x
    h = activation(_linear(h, parameters["first"]))
    h, _ = jax.lax.scan(layer, h, parameters["hidden"])
    h = jnp.transpose(h, (3, 1, 2, 0)) if images else h
    return _linear(h.reshape(h.shape[0], -1), parameters["last"])


def _loss(parameters: Parameters, x: Array, y: Array, activation: Activation) -> Array:
    logs = jax.nn.log_softmax(logits(parameters, x, activation))
    return -jnp.mean(jnp.take_along_axis(logs, y[:, None], axis=1))


def _adam(state: Any, gradient: Parameters, rate: float) -> Any:
    p, m, v, t = state
    t = t + 1
    m = jax.tree.map(lambda m, g: m + (g - m) * (1 - BETA_1), m, gradient)
    v = jax.tree.map(lambda v, g: v + (g * g - v) * (1 - BETA_2), v, gradient)
    step = rate * jnp.sqrt(1 - BETA_2**t) / (1 - BETA_1**t)
    p = jax.tree.map(lambda p, m, v: p - step * m / (jnp.sqrt(v) + EPSILON), p, m, v)
    return p, m, v, t


class Trainer:
    """Programs for one activation; each is compiled once for each depth."""

    def __init__(self, activation: str, rate: float) -> None:
        f = ACTIVATIONS[activation]

        def train(p: Parameters, xs: Array, ys: Array) -> tuple[Parameters, Array]:
            def step(state: Any, batch: tuple[Array, Array]) -> tuple[Any, Array]:
                loss, gradient = jax.value_and_grad(_loss)(state[0], *batch, f)
                return _adam(state, gradient, rate), loss

            zeros = jax.tree.map(jnp.zeros_like, p)
            state, losses = jax.lax.scan(step, (p, zeros, zeros, 0.0), (xs, ys))
            return state[0], losses

        def jacobian(p: Parameters, x: Array) -> Array:
            return jax.jacrev(lambda x: logits(p, x[None], f)[0])(x)

        self.train = jax.jit(train)
        self._logits = jax.jit(lambda p, x: logits(p, x, f))
        self._jacobian = jax.jit(jax.vmap(jacobian, in_axes=(None, 0)))

    def accuracy(self, parameters: Parameters, x: Array, y: Array) -> float:
        """Share of `x` that is told right."""
        return float((np.argmax(self._logits(parameters, x), axis=1) == y).mean())

    def singular_values(self, parameters: Parameters, x: Array) -> np.ndarray[Any, Any]:
        """Of d logits / d x at each sample: `(samples, classes)`, largest first.

        In float64: at a depth of 1,000 float32 would underflow.
        """
        with jax.enable_x64(True):
            wide = jax.tree.map(lambda a: jnp.asarray(a, "float64"), (parameters, x))
            found = np.asarray(self._jacobian(*wide))
        found = found.reshape(*found.shape[:2], -1)
        if not np.isfinite(found).all():
            return np.full(found.shape[:2], np.nan)
        return np.linalg.svd(found, compute_uv=False)


def batches(x: Array, y: Array, size: int, epochs: int, seed: int) -> tuple[Any, Any]:
    """The batches of all epochs, shuffled, in one array `(steps, size, ...)`."""
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(len(x)) for _ in range(epochs)])
    order = order.reshape(-1, size)
    return x[order], y[order]
