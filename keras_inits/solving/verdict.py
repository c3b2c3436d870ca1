"""What a pass has decided, read from the device: an error, or figures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_inits.backends import fetch, host
from keras_inits.data.arrays import length
from keras_inits.data.refusals import require_steps
from keras_inits.errors import ConvergenceError, DegenerateSignalError
from keras_inits.solving.decision import (
    SAME,
    Decision,
    Options,
    is_softmax,
    varies,
)
from keras_inits.solving.equations import Found
from keras_inits.solving.half_precision import tolerance
from keras_inits.solving.out_of_reach import out_of_reach
from keras_inits.solving.silence import FEW, silence
from keras_inits.statistics.moments import Moments

# A variance in float32 has its full precision from here on, and is finite up to here,
# with room for the squares of values of ten deviations.
SMALLEST = 1e-36
LARGEST = 1e36


def check_target(layers: Iterable[keras.layers.Layer], options: Options) -> None:
    """Refuse, before the pass, a target of which float32 holds no squares."""
    largest = math.sqrt(LARGEST)
    narrow = (layer for layer in layers if not _computes_in_float64(layer))
    layer = next(narrow, None)
    if layer is not None and options.target_std > largest:
        raise ConvergenceError(
            f"Layer {layer.name!r} ({type(layer).__name__}): its signal cannot have "
            f"deviation {options.target_std:g}, since float32 does not hold the "
            f"squares of such values. Choose a target_std of at most {largest:g}."
        )


def read(decisions: list[Decision], options: Options, batch: Any) -> list[Decision]:
    """Fetch every figure; raise for the first layer that cannot meet its target."""
    _fetch(decisions)
    few = FEW if length(batch) == 1 else ""
    for decision in decisions:
        _check(decision, options, decisions, few)
    return decisions


def gain_of(decisions: Sequence[Decision]) -> float:
    """The product of the gradient gains, 1.0 where none was seen.

    Softmax is left out, as in a report: its gradient is the loss's affair.
    """
    seen = [d for d in decisions if d.gradient_gain is not None]
    return math.prod(d.gradient_gain for d in seen if not is_softmax(d.layer))


_MOMENTS = ("before", "after", "linear", "bias")
_TENSORS = ("scale", "shift", "gradient_gain", "share")


def _fetch(decisions: Sequence[Decision]) -> None:
    """Every tensor of every decision, in one transfer where the backend can."""
    tensors: list[Any] = []
    for decision in decisions:
        for name in _MOMENTS:
            tensors += getattr(decision, name) or ()
        tensors += (getattr(decision, name) for name in _TENSORS)
    # Python's own numbers and None are what they are to be.
    known = all(x is None or type(x) is float for x in tensors)
    arrays = iter(tensors if known else map(_number, fetch(tensors)))
    for decision in decisions:
        for name in _MOMENTS:
            if getattr(decision, name) is not None:
                setattr(decision, name, Moments(next(arrays), next(arrays)))
        for name in _TENSORS:
            setattr(decision, name, next(arrays))
        if decision.after is None:
            decision.after = _scaled(decision.before, decision.scale)


def _number(x: Any) -> Any:
    """Of a single value a number: to compute with it costs less."""
    return x.item() if x is not None and x.ndim == 0 else x


def _scaled(seen: Moments, scale: Any) -> Moments:
    if isinstance(scale, float):
        return Moments(seen.mean * scale, seen.variance * scale * scale)
    with np.errstate(all="ignore"):  # what is not finite is refused just below
        return Moments(seen.mean * scale, seen.variance * scale**2)


def _check(
    decision: Decision, options: Options, decisions: Sequence[Decision], few: str
) -> None:
    require_steps(decision.layer, decision.share)
    linear = decision.linear if decision.linear is not None else decision.before
    _check_signal(decision, linear, options, decisions, few)
    _check_bias(decision, options)
    if decision.found is not None and not decision.found.converged:
        text = _not_converged(decision, decision.found, options)
        raise ConvergenceError(" ".join(filter(None, (text, few))))
    if decision.map is None:
        deviation = float(np.sqrt(decision.after.variance))
        off = abs(deviation - options.target_std)
        if not off <= tolerance(decision.layer, options):  # NaN, too
            raise ConvergenceError(out_of_reach(decision, deviation, options))


def _check_signal(
    decision: Decision,
    linear: Moments,
    options: Options,
    decisions: Sequence[Decision],
    few: str,
) -> None:
    mean, variance = linear
    if isinstance(mean, float) and _is_sound(linear):
        return
    _check_size(decision, mean, variance)
    if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
        raise DegenerateSignalError(
            f"{decision.where}: its signal is not finite (mean "
            f"{_first_bad(mean)}, deviation {_first_bad(np.sqrt(variance))}). Look for "
            "NaN or overflow in the layers before it or in its own weights: "
            "print(keras_inits.measure(model, data))."
        )
    alive: Any = np.asarray(varies(linear)) | decision.bias_only
    if options.per_channel and decision.map is not None:
        silent = ~alive
        if decision.found is not None:  # the activation may silence some more
            silent = silent | ~(np.asarray(decision.found.deviation) > 0)
        decision.silent_channels = int(silent.sum())
        alive = alive.any()
    if not np.all(alive):
        text = silence(decision, decisions, mean, variance, few)
        raise DegenerateSignalError(text)


def _is_sound(seen: Moments) -> bool:
    """Whether nothing below speaks against it, which in most models is so."""
    in_range = SMALLEST < seen.variance < LARGEST
    return in_range and math.isfinite(seen.mean) and varies(seen)


def _check_size(decision: Decision, mean: Any, variance: Any) -> None:
    """Refuse values of which float32 holds no squares."""
    if _computes_in_float64(decision.layer):
        return
    overflows = np.isfinite(mean).all() and np.isposinf(variance).any()
    largest = float(np.max(variance))
    if overflows or 0 < largest < SMALLEST:
        size = "large" if overflows else "small"
        figure = "beyond 1e16" if overflows else f"{math.sqrt(largest):.2g}"
        raise DegenerateSignalError(
            f"{decision.where}: its signal is too {size} for float32 to hold the "
            f"squares of its values (deviation {figure}, mean "
            f"{np.ravel(mean)[0]:.2g}). If the data are of that size, standardise "
            "them: x = (x - x.mean(axis=0)) / x.std(axis=0), in float64; if not, see "
            "keras_inits.measure(model, data)."
        )


def _computes_in_float64(layer: keras.layers.Layer) -> bool:
    return keras.backend.standardize_dtype(layer.compute_dtype) == "float64"


def _first_bad(values: Any) -> float:
    flat = np.ravel(values)
    bad = flat[~np.isfinite(flat)]
    return float(bad[0] if len(bad) else flat[0])


def _check_bias(decision: Decision, options: Options) -> None:
    if decision.bias is None:
        return
    spread = float(np.sqrt(np.max(decision.bias.variance)))
    if not np.isfinite(decision.scale).all():
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
    advice = _advice(decision, float(worst), options)
    return (
        f"{decision.where}: after {found.iterations} steps its output has {reached}. "
        + advice
    )


def _advice(decision: Decision, deviation: float, options: Options) -> str:
    """What keeps the output of the activation from its target, and what to do."""
    advice = "Raise max_iterations, or choose another target_std."
    values = _activated(decision)
    if values is None:
        return advice if deviation else _silence(decision, False, options)
    low, high = float(values[1:-1].min()), float(values[1:-1].max())
    with np.errstate(invalid="ignore"):
        flat_left, flat_right = (
            bool((np.abs(values[far] - values[near]) < 1.0).all())
            for far, near in ((0, 1), (-1, -2))
        )
    if options.center and (low >= 0 or high <= 0):
        sign = "negative" if low >= 0 else "positive"
        return (
            f"The output of its activation is never {sign}: a mean of 0 does not "
            'exist. Use signal="pre_activation", or center=False.'
        )
    if deviation == 0:
        return _silence(decision, flat_left and flat_right, options)
    # Like GELU: back at 0 far on the left, so that little is below the mean.
    if options.center and not flat_right and values[:2].min() >= 0.01 * low:
        steps = " or more max_iterations" if options.target_std < -2 * low else ""
        return (
            f"The output of its activation is never below {low:.2g}: a mean of 0 goes "
            f"with small deviations alone. Choose a smaller target_std{steps}, or "
            'signal="pre_activation", or center=False.'
        )
    if flat_left and flat_right and deviation < options.target_std:
        # Of values between two bounds the deviation is at most half their distance.
        more = ", or raise max_iterations" * (options.target_std < (high - low) / 2)
        return (
            "A saturating activation bounds the deviation of its output: choose a "
            f'smaller target_std, or signal="pre_activation"{more}.'
        )
    return advice


def _silence(decision: Decision, saturates: bool, options: Options) -> str:
    """An output that does not vary, though what the activation takes does."""
    bias = None if decision.map is None else decision.map.bias
    biased = bias is not None and bool(host(bias.value).any())
    if saturates:
        cause = "its activation saturates"
    elif biased:
        cause = "the activation is flat, as behind a ReLU that its bias has silenced"
    else:
        cause = "the activation is flat, as behind a ReLU that gets negative values"
    steps = "start from zero biases, or " if biased else ""
    center = "" if bias is None or options.center else " and center=True"
    return f'All of it lies where {cause}: {steps}pass signal="pre_activation"{center}.'


def _activated(decision: Decision) -> Any:
    """The activation from -30 to 30, and first and last far out; None if unknown."""
    m = decision.map
    if m is None:
        return None
    z = np.concatenate([[-3000.0], np.linspace(-30.0, 30.0, 601), [3000.0]])
    try:  # as many units as it has: softmax of one is refused
        z = np.repeat(z.astype("float32")[:, None], m.channels, axis=1)
        return host(m.activate(ops.convert_to_tensor(z)))
    except Exception:  # an activation for one shape only: no opinion
        return None


def to_scale(decisions: Sequence[Decision]) -> list[keras.Variable]:
    """The variables whose scale is not 1."""
    return [v for d in decisions if has_moved(d) for v in d.variables]


def has_moved(decision: Decision) -> bool:
    scale = decision.scale * decision.moved
    if isinstance(scale, float):
        return abs(scale - 1.0) > SAME
    return bool((np.abs(scale - 1.0) > SAME).any())
