"""The equations of LSUV: which scale and shift give a signal its target.

With `u = W x` in hand, scaling the kernel by `s` gives exactly `s u`, so that the
pre-activation `z = s u + b` is known for every `s` without another forward pass.
Everything here is a tensor: nothing is read back from the device, but by
`solve_output`, which iterates.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_inits.backends import OWN, QUICK, host
from keras_inits.solving.search import Search
from keras_inits.statistics.dense_figures import mean_and_variance_of_dense
from keras_inits.statistics.masked import Steps
from keras_inits.statistics.moments import (
    Moments,
    channel_moments,
    figures,
    inverse_root,
    widen,
)

Tensor = Any


def closed_form(
    u: Moments, bias: Moments | None, covariance: Tensor, target: float
) -> Tensor:
    """`s > 0` with Var(s u + b) = target^2.

    Var(s u + b) = s^2 Var(u) + 2 s Cov(u, b) + Var(b): a quadratic in `s`, with
    exactly one positive root where Var(b) < target^2, and NaN where the bias alone
    exceeds the target (the caller says so).
    """
    if bias is None:
        return inverse_root(u.variance) * target
    room = target**2 - bias.variance
    root = ops.sqrt(covariance**2 + u.variance * room)
    # The form without cancellation, for either sign of the covariance.
    direct = (root - covariance) / u.variance
    stable = room / (root + covariance)
    scale = ops.where(covariance > 0, stable, direct)
    return ops.where(room > 0, scale, float("nan"))


def scaled(z: Tensor, factor: Tensor) -> Tensor:
    """`factor * z` in the dtype of `z`.

    In half precision the factor itself may overflow or be coarse: multiply wide.
    """
    wide = widen(z)
    if wide is z:
        return z * factor
    return ops.cast(wide * factor, keras.backend.standardize_dtype(z.dtype))


def meet(z: Tensor, target: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """W <- W * target / Std(W x), and the same for `z`, the tensor in hand.

    Returns:
        The scaled tensor, the mean and variance that `z` had, and the scale.
    """
    mean, variance = figures(z)
    if isinstance(variance, float):  # a number costs less than a tensor of one value
        scale = float(target) / math.sqrt(variance) if variance > 0 else math.inf
    else:
        scale = closed_form(Moments(mean, variance), None, 0.0, target)
    return scaled(z, scale), mean, variance, scale


def _meet_dense(
    times: Callable[..., Tensor], z: Tensor, target: float
) -> tuple[Tensor, float, float, float]:
    mean, variance = mean_and_variance_of_dense(z)
    scale = float(target) / math.sqrt(variance) if variance > 0 else math.inf
    return times(z, scale), mean, variance, scale


QUICK[meet] = partial(_meet_dense, operator.mul)
OWN[QUICK[meet]] = partial(_meet_dense, operator.imul)


class OutputProblem(NamedTuple):
    """`f(s u + b + d)` is to have deviation `target` and, if centred, mean 0.

    Args:
        u: `W x`.
        bias: `b`, broadcastable against `u`, or None.
        activation: `f`.
        channel_axes: Axes of `u` that index channels.
        per_channel: Whether each channel has its own target.
        center: Whether each channel's mean is to vanish.
        steps: Those that no mask leaves out.
    """

    u: Tensor
    bias: Tensor | None
    activation: Callable[[Tensor], Tensor]
    channel_axes: tuple[int, ...]
    per_channel: bool
    center: bool
    steps: Steps = Steps()

    def pre_activation(self, scale: Tensor, shift: Tensor) -> Tensor:
        """`s u + b + d`, in the dtype of `u`."""
        z = widen(self.u) * ops.cast(scale, widen(self.u).dtype)
        if self.bias is not None:
            z = z + ops.cast(self.bias, z.dtype)
        return ops.cast(z + ops.cast(shift, z.dtype), self.u.dtype)

    def view(self, per_channel: np.ndarray[Any, Any]) -> Tensor:
        """A vector `(channels,)`, or a number, in a shape that broadcasts."""
        rank = len(self.u.shape)
        kept = {axis % rank for axis in self.channel_axes}
        if np.size(per_channel) == 1:
            shape = [1] * rank
        else:
            shape = [self.u.shape[a] if a in kept else 1 for a in range(rank)]
        dtype = keras.backend.standardize_dtype(widen(self.u).dtype)
        return ops.convert_to_tensor(per_channel.reshape(shape), dtype)

    def observe(
        self, scale: np.ndarray[Any, Any], shift: np.ndarray[Any, Any]
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Channel means, deviations (one, or per channel), mean slopes by channel."""
        z = self.pre_activation(self.view(scale), self.view(shift))
        channels = self._channels(z)
        mean, variance = host(channels.mean), host(channels.variance)
        if not self.per_channel:
            variance = np.asarray([variance.mean() + mean.var()])
        slope = np.ones_like(mean)
        if self.center:
            step = 1e-2
            slope = (host(self._channels(z + step).mean) - mean) / step
        return mean, np.sqrt(variance), slope

    def _channels(self, z: Tensor) -> Moments:
        output = self.steps.filled(self.activation(z))
        return channel_moments(output, self.channel_axes)


class Found(NamedTuple):
    """The outcome of `solve_output`, on the host."""

    scale: np.ndarray[Any, Any]
    shift: np.ndarray[Any, Any]
    mean: np.ndarray[Any, Any]
    deviation: np.ndarray[Any, Any]
    iterations: int
    converged: bool


def solve_output(
    problem: OutputProblem, target: float, tolerance: float, max_iterations: int
) -> Found:
    """Newton on the shift, a search in the logarithm of the scale.

    The activation is evaluated on the tensor in hand; the layer is never run again.
    For a homogeneous activation (ReLU, linear) without bias the first step is exact.
    """
    count = int(np.prod([problem.u.shape[a] for a in problem.channel_axes]))
    scale = np.ones(count if problem.per_channel else 1)
    shift = np.zeros(count)
    searches = [Search(target) for _ in scale]
    for iteration in range(1, max_iterations + 2):
        mean, deviation, slope = problem.observe(scale, shift)
        for search, *seen in zip(searches, scale, deviation, strict=True):
            search.add(*seen)
        # What has varied once is to vary: a step may shift all below 0.
        varies = np.asarray([not search.silent for search in searches])
        near = np.abs(deviation - target) <= tolerance
        centred = not problem.center or bool((np.abs(mean) <= tolerance).all())
        settled = centred and bool(near[varies].all() and varies.any())
        lost = np.asarray([search.lost for search in searches])
        if (settled and (varies | lost).all()) or iteration > max_iterations:
            break
        if lost.all() or (iteration == 1 and not np.isfinite(deviation).all()):
            break
        new = np.asarray([search.next() for search in searches])
        new = np.where(near, scale, new)
        if problem.center:
            usable = (np.abs(slope) > 1e-6) & np.isfinite(mean)
            move = np.where(usable, -mean / np.where(usable, slope, 1.0), 0.0)
            move = np.clip(move, -2 * target, 2 * target)
            # A homogeneous activation stays centred when both grow alike.
            shift = (shift + move) * (new / scale)
            moved = np.abs(move) > tolerance
            if not problem.per_channel:
                moved = np.asarray([moved.any()])
            for search in itertools.compress(searches, moved):
                search.forget()
        scale = new
    if not (settled or problem.center):  # what it has come to, not where it looked last
        deviation = np.asarray([search.closest for search in searches])
    scale = np.where(varies, scale, 1.0)
    steps = max(1, iteration - 1)  # the last look was at what they led to
    return Found(scale, shift, mean, deviation, steps, settled)
