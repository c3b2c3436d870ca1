"""Layer-sequential unit-variance initialisation (Mishkin & Matas 2015).

    for each layer l, in the order of the forward pass:         the sweep does
        W_l  <- orthonormal                                     `lsuv_normal`
        while |Std(W_l x) - 1| >= tolerance:
            forward a batch                                     once, for all layers
            W_l <- W_l / Std(W_l x)                             `_Solver.signal`

The paper forwards the batch for each layer and each step. But scaling `W` by `s`
scales `W x` by `s`, so the tensor in hand is scaled along with the kernel, and the same
forward pass goes on to the next layer as if it had just begun.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import keras
from keras import ops

from keras_inits import verdict
from keras_inits.backends import fused, host
from keras_inits.commit import assign_all
from keras_inits.data import draw_batch
from keras_inits.errors import ConvergenceError, KerasInitsError, UnsupportedLayerError
from keras_inits.initializers import LSUVNormal
from keras_inits.linear_maps import LinearMap
from keras_inits.report import SignalReport
from keras_inits.selection import Layers, Selection, select
from keras_inits.solvers import (
    OutputProblem,
    closed_form,
    meet,
    scaled,
    solve_output,
)
from keras_inits.statistics import (
    Moments,
    channel_moments,
    moments,
    pooled,
    some_rows,
    widen,
)
from keras_inits.sweep import Stop, Trial, sweep
from keras_inits.verdict import Decision

Tensor = Any
Signal = Literal["output", "pre_activation"]

# What `target_std="critical"` allows the squared gradient to grow over the depth, and
# the smallest target that it tries: below, a network is linear for all purposes.
GROWTH = 10.0
SMALLEST_TARGET = 1e-3


@dataclass(frozen=True)
class Options:
    """What each chosen layer is to meet; see `lsuv_init`."""

    target_std: float = 1.0
    center: bool = False
    signal: Signal = "pre_activation"
    per_channel: bool = False
    tolerance: float = 1e-3
    max_iterations: int = 10

    def __post_init__(self) -> None:
        if self.signal not in ("output", "pre_activation"):
            raise KerasInitsError(
                "`signal` is one of 'output', 'pre_activation'. "
                f"Received: signal={self.signal!r}"
            )
        for name in ("target_std", "tolerance"):
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not 0 < value < math.inf:
                also = " or 'critical'" if name == "target_std" else ""
                raise KerasInitsError(
                    f"`{name}` must be a positive number{also}. "
                    f"Received: {name}={value!r}"
                )
        if not isinstance(self.max_iterations, int) or self.max_iterations < 1:
            raise KerasInitsError(
                "`max_iterations` must be an integer, at least 1. "
                f"Received: max_iterations={self.max_iterations!r}"
            )


def lsuv_init(
    model: keras.Model,
    data: Any = None,
    *,
    layers: Layers = None,
    target_std: float | Literal["critical"] = 1.0,
    center: bool = False,
    signal: Signal = "pre_activation",
    per_channel: bool = False,
    orthonormal: bool = False,
    training: bool = False,
    tolerance: float = 1e-3,
    max_iterations: int = 10,
    samples: int = 256,
    verbose: int = 0,
) -> SignalReport:
    """Scale the kernels so that every layer's signal has unit variance on `data`.

    One forward pass over the batch initialises the whole model. Kernels (and biases
    with `center`) change, nothing else does: moving statistics, seeds, metrics and
    optimizer stay, and whatever goes wrong, so do the kernels.

    Example:

        report = keras_inits.lsuv_init(model, x_train)
        print(report)

    Args:
        model: A built model.
        data: What `fit` accepts: an array, a list or dict of arrays, a
            `tf.data.Dataset`, `PyDataset`, `DataLoader` or generator; of a tuple
            `(x, y[, weights])` only `x` is used. None draws standard-normal inputs.
        layers: Names, layers, or a predicate. None: the layers marked by an `lsuv_*`
            initializer or, where none is marked, every trainable layer that has a
            linear map.
        target_std: The deviation to meet, over the whole tensor `(batch, ...)`.
            `"critical"`: the largest in (0, 1] at which gradients grow at most 10-fold
            (squared norm) over the whole depth, found in about ten passes; 1.0 where
            it does not matter.
        center: Also shift the biases, so that each output channel's mean is 0.
        signal: `"pre_activation"`, `W x + b` as in the paper, or `"output"`, after
            the activation. Recurrent layers always meet it on the input part `x @ W`
            of every gate.
        per_channel: Each output channel meets the target on its own.
        orthonormal: First redraw the chosen kernels as `LSUVNormal` would.
        training: Run the layers in training mode (BatchNormalization then normalises
            by the batch, as in the first step of training).
        tolerance: Largest accepted `|deviation - target_std|` (never finer than the
            layer's compute dtype can hold).
        max_iterations: Steps of the solver for `signal="output"`, where the
            activation makes it iterate, and for layers without an adapter.
        samples: Number of rows to draw from `data`.
        verbose: 0: silent. 1: a progress bar over the layers.

    Returns:
        A `SignalReport`, one row per layer in the order of the calls. Figures "before"
        are those of the layer's old kernel, on inputs already initialised.

    Raises:
        DataError: The data are missing, empty, of the wrong shape.
        DegenerateSignalError: A signal has no variance, or is NaN or infinite.
        ConvergenceError: No scale meets the target.
        UnsupportedLayerError: A layer is unknown or cannot be scaled.

    References:
        Mishkin & Matas, "All you need is a good init", arXiv:1511.06422.
    """
    critical = target_std == "critical"
    options = Options(
        1.0 if target_std == "critical" else target_std,
        center,
        signal,
        per_channel,
        tolerance,
        max_iterations,
    )
    selection = select(model, layers)
    batch = draw_batch(model, data, samples)
    if center:
        _require_biases(selection)
    redrawn = _orthonormal_kernels(selection) if orthonormal else []

    def solve(options: Options) -> _Solved:
        return _solve(model, batch, selection, options, redrawn, training, verbose)

    solved = _critical(solve, options) if critical else solve(options)
    assign_all(solved.trial.changes(verdict.to_scale(solved.decisions)))
    return verdict.report(
        model, selection, solved.decisions, solved.shared, solved.options
    )


@dataclass
class _Solved:
    """A pass that met its target; nothing is written yet."""

    options: Options
    trial: Trial
    decisions: list[Decision]
    shared: dict[keras.layers.Layer, int]


def _solve(
    model: keras.Model,
    batch: Any,
    selection: Selection,
    options: Options,
    redrawn: list[tuple[keras.Variable, Tensor]],
    training: bool,
    verbose: int,
) -> _Solved:
    for disable_jit in (False, True):
        trial = Trial(_variables(selection))
        for variable, value in redrawn:
            trial.set(variable, value)
        solver = _Solver(options, selection, verbose)
        traced = sweep(
            model,
            batch,
            selection,
            solver,
            trial,
            training=training,
            disable_jit=disable_jit,
        )
        if not traced:
            break
    for layer in traced:
        selection.left[layer] = "called inside a traced function"
    decisions = verdict.read(solver.decisions, options, trial)
    return _Solved(options, trial, decisions, solver.shared)


def _critical(solve: Callable[[Options], _Solved], options: Options) -> _Solved:
    """The largest target in (0, 1] at which gradients grow at most `GROWTH`-fold.

    The growth over the whole depth is the product of the layers' gradient gains,
    which rises with the target: bisection in its logarithm, a pass for each step.
    """
    best = solve(options)
    if verdict.gain_of(best.decisions) <= GROWTH:
        return best
    low, high = math.log(SMALLEST_TARGET), 0.0
    best = solve(replace(options, target_std=SMALLEST_TARGET))
    while high - low > math.log(1.02):
        middle = (low + high) / 2
        solved = solve(replace(options, target_std=math.exp(middle)))
        if verdict.gain_of(solved.decisions) <= GROWTH:
            low, best = middle, solved
        else:
            high = middle
    return best


def _variables(selection: Selection) -> list[keras.Variable]:
    found: list[keras.Variable] = []
    for maps in selection.maps.values():
        for m in maps:
            found += [m.kernel, *m.extra_kernels, *([] if m.bias is None else [m.bias])]
    for variables in selection.opaque.values():
        found += variables
    return found


def _require_biases(selection: Selection) -> None:
    without = [
        layer.name
        for layer, maps in selection.maps.items()
        if all(m.bias is None for m in maps)
    ]
    without += [layer.name for layer in selection.opaque]
    if without:
        raise UnsupportedLayerError(
            "center=True shifts biases, and these layers have none: "
            f"{', '.join(without)}. Build them with use_bias=True, or leave them out "
            "with layers=."
        )


def _orthonormal_kernels(selection: Selection) -> list[tuple[keras.Variable, Tensor]]:
    from keras_inits.blocks import redraw

    return [
        (m.kernel, redraw(m, LSUVNormal()))
        for maps in selection.maps.values()
        for m in maps
    ]


@dataclass
class _Solver:
    """The visitor: measures each signal, solves for its scale, scales it on."""

    options: Options
    selection: Selection
    verbose: int
    decisions: list[Decision] = field(default_factory=list)
    shared: dict[keras.layers.Layer, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        every = [m for maps in self.selection.maps.values() for m in maps]
        # Read once, before the pass: inside it nothing is read from the device.
        self.biased = {
            id(m.bias) for m in every if m.bias is not None and host(m.bias.value).any()
        }
        self.meet = fused(meet)
        count = len(every) + len(self.selection.opaque)
        self.bar = keras.utils.Progbar(count, verbose=1) if self.verbose else None

    def signal(self, stop: Stop, signal: Tensor) -> Tensor:
        """W <- W * target / Std(W x), and the same for the tensor in hand."""
        m = stop.map
        assert m is not None
        signal, moved = _finite(stop, m, signal)
        bias = self._bias(m, signal)
        if self.options.signal == "output" and m.in_hand:
            decision, result = self._by_output(m, signal, bias)
        elif self.options.center and m.bias is not None:
            decision, result = self._centred(m, signal, bias)
        else:
            decision, result = self._scaled(m, signal, bias)
        decision.moved = moved
        if m.in_hand and not m.lookup and decision.rows is None:
            decision.rows = some_rows(result)
        self._record(stop, m, decision)
        if decision.shift is not None and m.bias is not None:
            new = m.bias_from(signal, decision.shift, widen(stop.trial.base(m.bias)))
            stop.trial.set(m.bias, ops.cast(new, m.bias.dtype))
        return result

    def output(self, stop: Stop, output: Tensor) -> None:
        """Only the shape is of interest: nothing is decided here."""
        self.decisions[-1].output_shape = verdict.shape_of(output)

    def watched(
        self, layer: keras.layers.Layer, inputs: Tensor, output: Tensor
    ) -> None:
        """Activation layers have no kernel: none is chosen."""

    def repeated(self, layer: keras.layers.Layer) -> None:
        """The first call has decided; this one saw its kernel."""
        self.shared[layer] = self.shared.get(layer, 0) + 1

    def opaque(self, stop: Stop) -> Tensor:
        """Call the layer alone, again and again, until its output meets the target."""
        target, decision = self.options.target_std, Decision(stop.layer, None)
        for iteration in range(self.options.max_iterations + 1):
            output = stop.again()
            seen = moments(_first_tensor(output))
            decision.after = seen
            decision.before = decision.before or seen
            decision.iterations = max(1, iteration)
            deviation = math.sqrt(float(host(seen.variance)))
            if not deviation > 0 or abs(deviation - target) <= self.options.tolerance:
                break
            for variable in stop.variables:
                stop.trial.scale(variable, target / deviation)
        decision.variables = stop.variables
        decision.scale = stop.trial.factors.get(id(stop.variables[0]), 1.0)
        decision.output_shape = verdict.shape_of(output)
        self._advance(decision)
        return output

    def _bias(self, m: LinearMap, signal: Tensor) -> Tensor | None:
        """`b` in the shape of the signal; None where it is zero or not added yet."""
        if not m.in_hand or m.bias is None or id(m.bias) not in self.biased:
            return None
        return widen(m.bias_in(signal, m.bias.value))

    def _scaled(
        self, m: LinearMap, z: Tensor, bias: Tensor | None
    ) -> tuple[Decision, Tensor]:
        target = self.options.target_std
        if bias is not None:
            return self._scaled_beside_bias(m, z, bias)
        if m.in_hand and not self.options.per_channel and m.gates == 1:
            result, rows, mean, variance, scale = self.meet(z, target)
            before = Moments(mean, variance)
            return Decision(m.layer, m, before, scale=scale, rows=rows), result
        seen = self._moments(m, z)
        scale = closed_form(seen, None, 0.0, target)
        if self.options.per_channel:
            scale = ops.where(verdict.varies(seen), scale, 1.0)
        decision = Decision(m.layer, m, before=seen, scale=scale)
        if not m.in_hand:
            return decision, z
        view = scale if len(scale.shape) == 0 else m.signal_view(scale, z)
        return decision, scaled(z, view)

    def _scaled_beside_bias(
        self, m: LinearMap, z: Tensor, bias: Tensor
    ) -> tuple[Decision, Tensor]:
        u = widen(z) - bias
        seen, before = self._moments(m, u), self._moments(m, z)
        if self.options.per_channel:  # a bias does not change a channel's variance
            scale = closed_form(seen, None, 0.0, self.options.target_std)
            scale = ops.where(verdict.varies(seen), scale, 1.0)
            result = u * m.signal_view(scale, u) + bias
            after = self._moments(m, result)
            spread = None
        else:
            everywhere = ops.broadcast_to(bias, u.shape)
            spread = moments(everywhere)
            centred = u - seen.mean
            covariance = ops.mean(centred * (bias - spread.mean))
            scale = closed_form(seen, spread, covariance, self.options.target_std)
            mean = seen.mean * scale + spread.mean
            parts = seen.variance * scale**2 + 2 * scale * covariance + spread.variance
            after = Moments(mean, parts)
            result = u * scale + bias
        decision = Decision(
            m.layer,
            m,
            before=before,
            after=after,
            scale=scale,
            bias=spread,
            linear=seen,
        )
        return decision, ops.cast(result, z.dtype)

    def _centred(
        self, m: LinearMap, z: Tensor, bias: Tensor | None
    ) -> tuple[Decision, Tensor]:
        """Remove each channel's mean, then scale: exact in one step."""
        assert m.bias is not None
        u = widen(z) if bias is None else widen(z) - bias
        view = m.bias_in(z, m.bias.value)
        others = [a for a in range(len(u.shape)) if view.shape[a] == 1]
        mean = ops.mean(u, axis=others, keepdims=True)
        centred = u - mean
        seen = self._moments(m, centred)
        scale = closed_form(seen, None, 0.0, self.options.target_std)
        if self.options.per_channel:
            scale = ops.where(verdict.varies(seen), scale, 1.0)
        wide = scale if len(scale.shape) == 0 else self._spread(m, scale, u)
        rest = 0.0 if m.resting_bias is None else m.bias_in(u, m.resting_bias)
        decision = Decision(
            m.layer,
            m,
            before=self._moments(m, z),
            after=Moments(0.0 * scale, seen.variance * scale**2),
            scale=scale,
            shift=rest - mean * wide - widen(view),
            linear=seen,
        )
        return decision, ops.cast(centred * wide, z.dtype)

    def _spread(self, m: LinearMap, scale: Tensor, signal: Tensor) -> Tensor:
        """A scale per gate or channel in a shape that broadcasts against the signal."""
        return m.signal_view(_per_channel(m, scale), signal)

    def _by_output(
        self, m: LinearMap, z: Tensor, bias: Tensor | None
    ) -> tuple[Decision, Tensor]:
        """Solve on `f(s u + b)`, with the activations in hand."""
        o = self.options
        u = z if bias is None else widen(z) - bias
        problem = OutputProblem(
            u, bias, m.activate, m.channel_axes, o.per_channel, o.center
        )
        before = moments(m.activate(z))
        found = solve_output(
            problem, o.target_std, verdict.tolerance(m.layer, o), o.max_iterations
        )
        scale = ops.convert_to_tensor(found.scale, "float32")
        if not o.per_channel:
            scale = scale[0]
        shift = problem.view(found.shift) if o.center else None
        zero = ops.zeros((1,) * len(z.shape), "float32")
        result = problem.pre_activation(
            problem.view(found.scale), zero if shift is None else shift
        )
        decision = Decision(
            m.layer,
            m,
            before=before,
            after=moments(m.activate(result)),
            scale=scale,
            shift=shift,
            iterations=found.iterations,
            found=found,
            linear=channel_moments(u, m.channel_axes) if o.per_channel else moments(u),
        )
        return decision, ops.cast(result, z.dtype)

    def _moments(self, m: LinearMap, signal: Tensor) -> Moments:
        """Over the whole tensor, or for each gate, or for each channel."""
        if self.options.per_channel:
            return channel_moments(signal, m.channel_axes)
        if m.gates > 1:
            return pooled(channel_moments(signal, m.channel_axes), m.gates)
        return moments(signal)

    def _record(self, stop: Stop, m: LinearMap, decision: Decision) -> None:
        scale = decision.scale
        if len(scale.shape) == 0:
            factor, flat = scale, scale
        else:
            channels = _per_channel(m, scale)
            factor, flat = m.kernel_view(channels), ops.reshape(channels, (1, -1))
        stop.trial.scale(m.kernel, factor)
        for variable in m.extra_kernels:
            stop.trial.scale(variable, flat)
        decision.variables = (m.kernel, *m.extra_kernels)
        self._advance(decision)

    def _advance(self, decision: Decision) -> None:
        self.decisions.append(decision)
        if self.bar is not None:
            self.bar.update(len(self.decisions))


def _per_channel(m: LinearMap, scale: Tensor) -> Tensor:
    """A scale per gate as one per channel."""
    return ops.repeat(scale, m.channels // scale.shape[0])


def _first_tensor(output: Any) -> Tensor:
    return keras.tree.flatten(output)[0]


def _finite(stop: Stop, m: LinearMap, signal: Tensor) -> tuple[Tensor, float]:
    """float16 ends at 65,504 and at 6e-8: bring the signal well inside, by the kernel.

    Returns the signal and the power of two by which the kernel has been multiplied.
    """
    moved = 1.0
    if keras.backend.standardize_dtype(signal.dtype) != "float16":
        return signal, moved
    for _ in range(8):
        largest = float(host(ops.max(ops.abs(signal))))
        if largest == 0 or 2.0**-5 < largest < float("inf"):
            break
        step = 2.0**4 if largest <= 2.0**-5 else 2.0**-4
        stop.trial.scale(m.kernel, step)
        moved *= step
        signal = stop.again()
    return signal, moved


__all__ = ["ConvergenceError", "lsuv_init"]
