"""What a sweep has decided, read from the device at once: errors, or a report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops, tree

from keras_inits.backends import host
from keras_inits.errors import ConvergenceError, DegenerateSignalError
from keras_inits.gradient_gains import Probe, kernel_gain, mean_square_slopes
from keras_inits.linear_maps import LinearMap
from keras_inits.records import LayerSignal
from keras_inits.report import SignalReport
from keras_inits.selection import Selection, is_plain
from keras_inits.solvers import Found
from keras_inits.statistics import Moments
from keras_inits.sweep import Trial

if TYPE_CHECKING:
    from keras_inits.lsuv import Options

Tensor = Any

# Of two-pass float32 statistics, a signal that does not vary keeps about this share of
# its mean as deviation (a few units in the last place, 2^-23).
NOISE = 2e-6
# A scale this close to 1 is rounding: the kernel stays as it is, bit for bit.
SAME = 2e-6


def varies(seen: Moments) -> Tensor:
    """Whether there is more variance than rounding makes."""
    return seen.variance > (NOISE * seen.mean) ** 2


@dataclass
class Decision:
    """What was decided at one stop. Tensors, until `read` has fetched them."""

    layer: keras.layers.Layer
    map: LinearMap | None
    before: Any = None
    after: Any = None
    scale: Any = 1.0
    shift: Any = None
    iterations: int = 1
    linear: Any = None
    bias: Any = None
    found: Found | None = None
    moved: float = 1.0
    rows: Any = None
    gradient_gain: float | None = None
    variables: tuple[keras.Variable, ...] = ()
    output_shape: tuple[Any, ...] | None = None
    silent_channels: int = field(default=0)

    @property
    def where(self) -> str:
        """The layer as errors name it, with the shape of what is scaled."""
        shapes = ", ".join(str(tuple(v.shape)) for v in self.variables)
        kind = type(self.layer).__name__
        return f"Layer {self.layer.name!r} ({kind}, kernel {shapes})"


def shape_of(output: Any) -> tuple[Any, ...]:
    """Shape of the (first) output, None for the batch."""
    return (None, *tree.flatten(output)[0].shape[1:])


def tolerance(layer: keras.layers.Layer, options: Options) -> float:
    """Never finer than the compute dtype can hold."""
    dtype = keras.backend.standardize_dtype(layer.compute_dtype)
    # Reachable |deviation - 1|, measured: float16 3e-4, bfloat16 3e-3.
    reach = {"float16": 1e-3, "bfloat16": 8e-3}.get(dtype, 0.0)
    return max(options.tolerance, reach * options.target_std)


def read(
    decisions: Sequence[Decision], options: Options, trial: Trial
) -> list[Decision]:
    """Fetch every figure; raise for the first layer that cannot meet its target."""
    for decision in decisions:
        _fetch(decision)
        _check(decision, options)
    probed = [d for d in decisions if d.map is not None and d.rows is not None]
    slopes = mean_square_slopes([Probe.of(d.map, d.rows) for d in probed if d.map])
    for decision, slope in zip(probed, slopes, strict=True):
        decision.gradient_gain = slope * _kernel_gain(decision, trial)
        decision.rows = None
    return list(decisions)


def _kernel_gain(decision: Decision, trial: Trial) -> float:
    """|s W|^2 = s^2 |W|^2, so that the kernel is read once and not copied."""
    assert decision.map is not None
    gain = 1.0
    for m in filter(None, (decision.map, decision.map.stage)):
        factor = trial.factors.get(id(m.kernel), 1.0)
        if isinstance(factor, float) or len(factor.shape) == 0:
            size = float(factor if isinstance(factor, float) else host(factor))
            gain *= size**2 * float(host(kernel_gain(m, trial.base(m.kernel))))
        else:
            gain *= float(host(kernel_gain(m, trial.scaled(m.kernel))))
    return gain


def gain_of(decisions: Sequence[Decision]) -> float:
    """The product of the gradient gains, 1.0 where none was seen."""
    return math.prod(d.gradient_gain for d in decisions if d.gradient_gain is not None)


def _fetch(decision: Decision) -> None:
    for name in ("before", "after", "linear", "bias"):
        value = getattr(decision, name)
        if value is not None:
            setattr(decision, name, Moments(*map(host, value)))
    decision.scale = host(decision.scale)
    if decision.after is None:
        mean, variance = decision.before
        scale = decision.scale
        with np.errstate(all="ignore"):  # what is not finite is refused just below
            decision.after = Moments(mean * scale, variance * scale**2)
    if decision.shift is not None:
        decision.shift = host(decision.shift)


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
    return [v for d in decisions if _has_moved(d) for v in d.variables]


def _has_moved(decision: Decision) -> bool:
    scale = decision.scale * decision.moved
    return bool((np.abs(scale - 1.0) > SAME).any())


def report(
    model: keras.Model,
    selection: Selection,
    decisions: Sequence[Decision],
    shared: dict[keras.layers.Layer, int],
    options: Options,
) -> SignalReport:
    """One row per decision in the order of the calls, then what was left out."""
    rows = [_row(decision) for decision in decisions]
    rows += [_bare(layer, "shared") for layer in shared]
    decided = {id(d.layer) for d in decisions} | {id(layer) for layer in shared}
    left = {layer: reason for layer, reason in selection.left.items()}
    for layer in selection.layers:
        if id(layer) not in decided:
            left.setdefault(layer, "not called")
    rows += [_bare(layer, f"skipped: {reason}") for layer, reason in left.items()]
    notes = sorted({d.map.note for d in decisions if d.map and d.map.note})
    return SignalReport(
        rows,
        target_std=options.target_std,
        title=f"LSUV of {model.name!r}",
        notes=tuple(notes),
        plain=is_plain(selection.every),
    )


def _bare(layer: keras.layers.Layer, status: str) -> LayerSignal:
    return LayerSignal(
        name=layer.name,
        layer_type=type(layer).__name__,
        parameters=layer.count_params() if layer.built else None,
        status=status,
        path=layer.path,
    )


def _row(decision: Decision) -> LayerSignal:
    layer = decision.layer
    activation = getattr(layer, "activation", None)
    status = "scaled" if _has_moved(decision) else "unchanged"
    if decision.silent_channels:
        total = decision.linear if decision.linear is not None else decision.before
        count = np.size(total.variance)
        status += f", {decision.silent_channels} of {count} channels do not vary"
    mean_before, std_before = _overall(decision.before, decision.moved)
    mean, std = _overall(decision.after)
    return LayerSignal(
        name=layer.name,
        layer_type=type(layer).__name__,
        output_shape=decision.output_shape,
        mean_before=mean_before,
        std_before=std_before,
        mean=mean,
        std=std,
        scale=_compact(decision.scale * decision.moved),
        shift=None if decision.shift is None else _compact(decision.shift),
        iterations=decision.iterations,
        gradient_gain=decision.gradient_gain,
        parameters=layer.count_params(),
        status=status,
        kernel_shape=tuple(decision.variables[0].shape),
        activation=getattr(activation, "__name__", None)
        or (None if activation is None else type(activation).__name__),
        path=layer.path,
    )


def _overall(seen: Moments, moved: float = 1.0) -> tuple[float, float]:
    """One mean and deviation: gates and channels pooled within themselves."""
    mean = float(np.mean(seen.mean)) / moved
    return mean, math.sqrt(float(np.mean(seen.variance))) / moved


def _compact(values: Any) -> float | tuple[float, ...]:
    flat = np.ravel(values)
    return float(flat[0]) if flat.size == 1 else tuple(map(float, flat))
