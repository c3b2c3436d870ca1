"""What a pass has decided, read from the device: an error, or figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_inits.backends import fetch, host
from keras_inits.errors import ConvergenceError, DegenerateSignalError
from keras_inits.solving.decision import (
    NOISE,
    SAME,
    Decision,
    Options,
    is_softmax,
)
from keras_inits.solving.equations import Found
from keras_inits.solving.half_precision import tolerance
from keras_inits.statistics import Moments


def read(decisions: Sequence[Decision], options: Options) -> list[Decision]:
    """Fetch every figure; raise for the first layer that cannot meet its target."""
    _fetch(decisions)
    for decision in decisions:
        _check(decision, options)
    return list(decisions)


def gain_of(decisions: Sequence[Decision]) -> float:
    """The product of the gradient gains, 1.0 where none was seen.

    Softmax is left out, as in a report: its gradient is the loss's affair.
    """
    seen = [d for d in decisions if d.gradient_gain is not None]
    return math.prod(d.gradient_gain for d in seen if not is_softmax(d.layer))


_MOMENTS = ("before", "after", "linear", "bias")
_TENSORS = ("scale", "shift", "gradient_gain")


def _fetch(decisions: Sequence[Decision]) -> None:
    """Every tensor of every decision, in one transfer where the backend can."""
    tensors: list[Any] = []
    for decision in decisions:
        for name in _MOMENTS:
            tensors += getattr(decision, name) or ()
        tensors += (getattr(decision, name) for name in _TENSORS)
    arrays = iter(fetch(tensors))
    for decision in decisions:
        for name in _MOMENTS:
            if getattr(decision, name) is not None:
                setattr(decision, name, Moments(next(arrays), next(arrays)))
        for name in _TENSORS:
            setattr(decision, name, next(arrays))
        if decision.after is None:
            mean, variance = decision.before
            scale = decision.scale
            with np.errstate(all="ignore"):  # what is not finite is refused just below
                decision.after = Moments(mean * scale, variance * scale**2)
        if decision.gradient_gain is not None:
            decision.gradient_gain = float(decision.gradient_gain)


def _check(decision: Decision, options: Options) -> None:
    linear = decision.linear if decision.linear is not None else decision.before
    _check_signal(decision, linear, options)
    _check_bias(decision, options)
    if decision.found is not None and not decision.found.converged:
        raise ConvergenceError(_not_converged(decision, decision.found, options))
    if decision.map is None:
        deviation = float(np.sqrt(decision.after.variance))
        if abs(deviation - options.target_std) > tolerance(decision.layer, options):
            raise ConvergenceError(
                f"{decision.where}: after {decision.iterations} steps its output has "
                f"deviation {deviation:.3g}, not {options.target_std:g}. It does "
                "not scale with its variables: raise max_iterations, or leave it out "
                "with layers=."
            )


def _check_signal(decision: Decision, linear: Moments, options: Options) -> None:
    mean, variance = linear
    if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
        raise DegenerateSignalError(
            f"{decision.where}: its signal is not finite (mean "
            f"{_first_bad(mean)}, deviation {_first_bad(np.sqrt(variance))}). Look for "
            "NaN or overflow in the layers before it or in its own weights: "
            "print(keras_inits.measure(model, data))."
        )
    alive = variance > (NOISE * mean) ** 2
    if options.per_channel and decision.map is not None:
        decision.silent_channels = int((~alive).sum())
        alive = alive.any()
    if not np.all(alive):
        raise DegenerateSignalError(
            f"{decision.where}: its signal does not vary on these data (zero variance: "
            f"deviation {float(np.sqrt(np.min(variance))):.3g}, mean "
            f"{float(np.ravel(mean)[0]):.3g}), so "
            "that no scale gives it a variance. Its kernel may be zero, or its inputs "
            "dead or constant. Leave it out with layers=, for example "
            f"layers=lambda layer: layer.name != {decision.layer.name!r}."
        )


def _first_bad(values: Any) -> float:
    flat = np.ravel(values)
    bad = flat[~np.isfinite(flat)]
    return float(bad[0] if len(bad) else flat[0])


def _check_bias(decision: Decision, options: Options) -> None:
    if decision.bias is None:
        return
    spread = float(np.sqrt(decision.bias.variance))
    if spread >= options.target_std or not np.isfinite(decision.scale).all():
        raise ConvergenceError(
            f"{decision.where}: its bias alone has deviation {spread:.3g} over the "
            f"output, and the target is {options.target_std:g}: no scale of the kernel "
            "can meet it. Start from zero biases, or pass center=True or a larger "
            "target_std."
        )


def _not_converged(decision: Decision, found: Found, options: Options) -> str:
    deviation = np.ravel(found.deviation)
    worst = deviation[np.argmax(np.abs(deviation - options.target_std))]
    reached = f"deviation {worst:.4g} (target {options.target_std:g})"
    if options.center:
        mean = float(np.abs(found.mean).max())
        reached += f" and a channel mean of up to {mean:.3g} (target 0)"
    advice = "Raise max_iterations, or choose another target_std."
    if options.center and _never_negative(decision):
        advice = (
            "The output of its activation is never negative: a mean of 0 does not "
            'exist. Use signal="pre_activation", or center=False.'
        )
    elif float(worst) < options.target_std:
        advice = (
            "A saturating activation bounds the deviation of its output: choose a "
            'smaller target_std, or signal="pre_activation". ' + advice
        )
    return (
        f"{decision.where}: after {found.iterations} steps its output has {reached}. "
        + advice
    )


def _never_negative(decision: Decision) -> bool:
    if decision.map is None:
        return False
    z = ops.convert_to_tensor(np.linspace(-30.0, 30.0, 601, dtype="float32")[:, None])
    try:
        return bool((host(decision.map.activate(z)) >= 0).all())
    except Exception:  # an activation for one shape only: no opinion
        return False


def to_scale(decisions: Sequence[Decision]) -> list[keras.Variable]:
    """The variables whose scale is not 1."""
    return [v for d in decisions if has_moved(d) for v in d.variables]


def has_moved(decision: Decision) -> bool:
    scale = decision.scale * decision.moved
    return bool((np.abs(scale - 1.0) > SAME).any())
