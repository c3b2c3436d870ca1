"""The visitor of an LSUV pass: measures each signal, solves, scales it on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import keras
from keras import ops

from keras_inits.backends import as_step, fused, host
from keras_inits.backward.gradient_gains import mean_square_slopes, scaled_kernel_gain
from keras_inits.backward.probes import Probe
from keras_inits.linear_maps import LinearMap
from keras_inits.solving.decision import (
    Decision,
    Options,
    apply,
    beside,
    is_softmax,
    shape_of,
    varies,
)
from keras_inits.solving.equations import (
    OutputProblem,
    closed_form,
    meet,
    scaled,
    solve_output,
)
from keras_inits.solving.half_precision import finite, tolerance
from keras_inits.statistics.directions import LastWide
from keras_inits.statistics.masked import Steps
from keras_inits.statistics.moments import (
    Moments,
    channel_moments,
    first_tensor,
    moments,
    pooled,
    widen,
)
from keras_inits.structure.selection import Selection
from keras_inits.sweep import Stop
from keras_inits.weights.trial import Trial

Tensor = Any
# How an output follows its variables: by 1 if linear, less if flat, n for products.
ORDERS = (0.2, 8.0)


@dataclass
class Solver:
    """The visitor: measures each signal, solves for its scale, scales it on.

    Args:
        options: What each layer is to meet.
        selection: The layers to solve for.
        verbose: Whether to show a progress bar.
        target: The target of `options`, as a number or a tensor.
        biased: `id` of every bias that is not zero, read before the pass.
    """

    every_layer: ClassVar[bool] = False
    options: Options
    selection: Selection
    verbose: int
    target: Tensor | float
    biased: frozenset[int]
    decisions: list[Decision] = field(default_factory=list)
    shared: dict[keras.layers.Layer, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.meet, self.wide = fused(meet), LastWide()
        count = sum(map(len, self.selection.maps.values())) + len(self.selection.opaque)
        self.bar = keras.utils.Progbar(count, verbose=1) if self.verbose else None

    @property
    def every_bias(self) -> bool:
        """To centre its layer's signal, whoever has the kernel, too."""
        return self.options.center and self.options.signal == "pre_activation"

    def signal(self, stop: Stop, signal: Tensor) -> Tensor:
        """W <- W * target / Std(W x), and the same for the tensor in hand."""
        m = stop.map
        assert m is not None
        signal, moved = finite(stop, m, signal)
        bias = self._bias(m, signal)
        if self.options.signal == "output" and m.in_hand:
            decision, result = self._by_output(stop, m, signal, bias)
        elif self.options.center and m.bias is not None:
            decision, result = self._centred(stop, m, signal, bias)
        else:
            decision, result = self._scaled(stop, m, signal, bias)
        decision.moved, decision.share = moved, stop.steps.share(signal)
        if m.in_hand and not m.lookup:  # indices have no gradient
            decision.probes = (Probe.of(stop.steps.sampled(result), m),)
            self.wide.see(decision, result, m.channels, stop.steps)
        decision.variables = (m.kernel, *m.extra_kernels)
        apply(decision, stop.trial)
        if decision.probes:  # now, while the kernel is in the cache
            stages = filter(None, (m, m.stage))
            gains = [scaled_kernel_gain(x, stop.trial) for x in stages]
            decision.gradient_gain = (
                as_step(math.prod)(gains) if gains[1:] else gains[0]
            )
        self._advance(decision)
        return result

    def output(self, stop: Stop, output: Tensor) -> None:
        """Only the shape is of interest: nothing is decided here."""
        self.decisions[-1].output_shape = shape_of(output)

    def probes(self) -> list[Probe]:
        """What the gradient gains are seen from, in the order of the calls."""
        return [probe for d in self.decisions for probe in d.probes]

    def finish(self, trial: Trial, seen: Any = None) -> None:
        """After the pass: what each layer does to gradients, all layers at once.

        Args:
            trial: The scope of the pass.
            seen: `look_inside(self.probes())`, where the pass has it.
        """
        with trial:  # an activation may have a state of its own
            slopes = iter(mean_square_slopes(self.probes(), trial.base, seen))
        for decision in self.decisions:
            if probes := decision.probes:
                slope = math.prod(next(slopes) for _ in probes)
                decision.gradient_gain = decision.gradient_gain * slope
                decision.probes = ()

    def watched(self, layer: Any, inputs: Tensor, output: Tensor, steps: Steps) -> None:
        """An activation: part of what the layer before it does to gradients."""
        before = self.decisions[-1] if self.decisions else None
        if before is not None and before.probes and not is_softmax(layer):
            assert before.map is not None
            probe = Probe.of(steps.sampled(inputs), before.map, layer)
            before.probes = (*before.probes, probe)

    def repeated(self, layer: keras.layers.Layer) -> None:
        """The first call has decided; this one saw its kernel."""
        self.shared[layer] = self.shared.get(layer, 0) + 1

    def opaque(self, stop: Stop) -> Tensor:
        """Call the layer alone, again and again, until its output meets the target."""
        target, decision = self.options.target_std, Decision(stop.layer, None)
        order, last = 1.0, (0.0, 0.0)  # d log deviation / d log scale; both of them
        for iteration in range(self.options.max_iterations + 1):
            output = stop.again()
            first = first_tensor(output)
            seen, share = moments(stop.steps.filled(first)), stop.steps.share(first)
            decision.after, decision.share = seen, share
            decision.before = decision.before or seen
            decision.iterations = max(1, iteration)
            deviation = math.sqrt(float(host(seen.variance)))
            solved = abs(deviation - target) <= self.options.tolerance
            if solved or not 0 < deviation < math.inf:
                break
            if iteration and last[1]:  # several of the variables may be factors
                slope = (math.log(deviation) - last[0]) / last[1]
                decision.followed = slope if iteration == 1 else decision.followed
                order = min(max(slope, ORDERS[0]), ORDERS[1])
            step = math.log(target / deviation) / order
            last = math.log(deviation), step
            for variable in stop.variables:
                stop.trial.scale(variable, math.exp(step))
        decision.variables, decision.output_shape = stop.variables, shape_of(output)
        decision.scale = stop.trial.factors.get(id(stop.variables[0]), 1.0)
        self._advance(decision)
        return output

    def _bias(self, m: LinearMap, signal: Tensor) -> Tensor | None:
        """`b` in the shape of the signal; None where it is zero or not added yet."""
        if not m.in_hand or m.bias is None or id(m.bias) not in self.biased:
            return None
        return widen(m.bias_in(signal, m.bias.value))

    def _scaled(
        self, stop: Stop, m: LinearMap, z: Tensor, bias: Tensor | None
    ) -> tuple[Decision, Tensor]:
        target = self.target if m.level == 1.0 else self.target * m.level
        if bias is not None:
            return self._scaled_beside_bias(stop, m, z, bias)
        left = stop.steps.filled(z)
        if m.in_hand and not self.options.per_channel and m.gates == 1 and left is z:
            result, mean, variance, scale = self.meet(z, target)
            return Decision(m.layer, m, Moments(mean, variance), scale=scale), result
        seen = self._moments(m, left)
        scale = closed_form(seen, None, 0.0, target)
        if self.options.per_channel:
            scale = ops.where(varies(seen), scale, 1.0)
        decision = Decision(m.layer, m, before=seen, scale=scale)
        if not m.in_hand:
            return decision, z
        return decision, scaled(z, beside(m, scale, z))

    def _scaled_beside_bias(
        self, stop: Stop, m: LinearMap, z: Tensor, bias: Tensor
    ) -> tuple[Decision, Tensor]:
        u, filled = widen(z) - bias, stop.steps.filled
        left, biases = filled(u), filled(ops.broadcast_to(bias, u.shape))
        seen, before = self._moments(m, left), self._moments(m, filled(z))
        spread = self._moments(m, biases)
        centred = left - beside(m, seen.mean, u)
        product = centred * (biases - beside(m, spread.mean, u))
        if self.options.per_channel:
            covariance = channel_moments(product, m.channel_axes).mean
        else:
            covariance = ops.mean(product)
        scale = closed_form(seen, spread, covariance, self.target)
        if self.options.per_channel:
            scale = ops.where(varies(seen), scale, 1.0)
        mean = seen.mean * scale + spread.mean
        parts = seen.variance * scale**2 + 2 * scale * covariance + spread.variance
        result = u * beside(m, scale, u) + bias
        decision = Decision(
            m.layer,
            m,
            before=before,
            after=Moments(mean, parts),
            scale=scale,
            bias=spread,
            linear=seen,
        )
        return decision, ops.cast(result, z.dtype)

    def _centred(
        self, stop: Stop, m: LinearMap, z: Tensor, bias: Tensor | None
    ) -> tuple[Decision, Tensor]:
        """Remove each channel's mean, then scale: exact in one step."""
        assert m.bias is not None
        u = widen(z) if bias is None else widen(z) - bias
        view = m.bias_in(z, m.bias.value)
        others = [a for a in range(len(u.shape)) if view.shape[a] == 1]
        left = stop.steps.filled(u)
        mean = ops.mean(left, axis=others, keepdims=True)
        centred = u - mean
        seen = self._moments(m, stop.steps.filled(centred))
        scale = closed_form(seen, None, 0.0, self.target)
        if self.options.per_channel:
            scale = ops.where(varies(seen), scale, 1.0)
        scale = ops.ones_like(scale) if stop.bias_only else scale
        wide, at_rest = beside(m, scale, u), m.resting_bias
        rest = 0.0 if at_rest is None else ops.cast(m.bias_in(u, at_rest), u.dtype)
        decision = Decision(
            m.layer,
            m,
            before=self._moments(m, stop.steps.filled(z)),
            after=Moments(0.0 * scale, seen.variance * scale**2),
            scale=scale,
            shift=rest - mean * wide - widen(view),
            linear=seen,
            bias_only=stop.bias_only,
        )
        return decision, ops.cast(centred * wide, z.dtype)

    def _by_output(
        self, stop: Stop, m: LinearMap, z: Tensor, bias: Tensor | None
    ) -> tuple[Decision, Tensor]:
        """Solve on `f(s u + b)`, with the activations in hand."""
        o, filled = self.options, stop.steps.filled
        u = z if bias is None else widen(z) - bias
        problem = OutputProblem(
            u, bias, m.activate, m.channel_axes, o.per_channel, o.center, stop.steps
        )
        before = moments(filled(m.activate(z)))
        target = o.target_std * m.level
        found = solve_output(problem, target, tolerance(m.layer, o), o.max_iterations)
        dtype = keras.backend.standardize_dtype(widen(z).dtype)
        scale = ops.convert_to_tensor(found.scale, dtype)
        scale = scale if o.per_channel else scale[0]
        shift = problem.view(found.shift) if o.center else None
        added = ops.zeros((1,) * len(z.shape), dtype) if shift is None else shift
        result = problem.pre_activation(problem.view(found.scale), added)
        decision = Decision(
            m.layer,
            m,
            before=before,
            after=moments(filled(m.activate(result))),
            scale=scale,
            shift=shift,
            iterations=found.iterations,
            found=found,
            linear=self._moments(m, filled(u)),
        )
        return decision, ops.cast(result, z.dtype)

    def _moments(self, m: LinearMap, signal: Tensor) -> Moments:
        """Over the whole tensor, or for each gate, or for each channel."""
        if self.options.per_channel:
            return channel_moments(signal, m.channel_axes)
        if m.gates > 1:
            return pooled(channel_moments(signal, m.channel_axes), m.gates)
        return moments(signal)

    def _advance(self, decision: Decision) -> None:
        self.decisions.append(decision)
        if self.bar is not None:
            self.bar.update(len(self.decisions))
