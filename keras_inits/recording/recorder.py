"""What a sweep shows at each stop, recorded and nothing changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import keras
import numpy as np

from keras_inits.backends import fused
from keras_inits.backward.gradient_gains import kernel_gain, mean_square_slopes
from keras_inits.backward.probes import Probe, activation_of, look_at
from keras_inits.linear_maps import LinearMap
from keras_inits.statistics import masked
from keras_inits.statistics.directions import LastWide
from keras_inits.statistics.masked import ALL, Steps
from keras_inits.statistics.moments import (
    Moments,
    dead_share,
    figures,
    figures_in_float64,
    first_tensor,
    of_units,
    output_figures,
    share_above,
    share_beyond,
    spread,
    widen,
)
from keras_inits.statistics.reductions import mean_square
from keras_inits.structure.activations import activation_name, is_activation
from keras_inits.sweep import Stop
from keras_inits.weights.trial import Trial

Tensor = Any

# |z| beyond which the slope is below 1 % of its maximum: tanh' = 1 - tanh^2,
# sigmoid' = s (1 - s), softsign' = 1 / (1 + |z|)^2, the hard ones are constant there.
# tests/test_measure.py solves for each.
SATURATION = {
    "hard_sigmoid": 3.0,
    "hard_tanh": 1.0,
    "sigmoid": 5.986,
    "softsign": 9.0,
    "tanh": 2.993,
}
# Activations whose output is never negative: a unit is dead where its maximum is zero.
_NAMES = ("relu", "relu6", "sigmoid", "softmax", "softplus")
NONNEGATIVE = tuple(map(keras.activations.get, _NAMES))


@dataclass
class Record:
    """What one stop has shown; tensors until the pass is over."""

    layer: Any
    map: LinearMap | None
    signal: Moments | None = None
    batch_variance: Tensor | None = None
    output: Moments | None = None
    shape: tuple[Any, ...] | None = None
    dead: Tensor | None = None
    saturated: Tensor | None = None
    rows: Tensor | None = None  # for the slope, where that is not known
    slope: Tensor | None = None
    values: Any = None  # for a histogram
    gradient_gain: Tensor | None = None
    kernel: Moments | None = None
    share: Tensor | None = None  # of the steps, those that no mask leaves out
    samples: Tensor | None = None  # of the last wide layer of a deep model

    def probe(self) -> Probe | None:
        """What its gradient gain is seen from."""
        if self.map is None and is_activation(self.layer):
            return Probe(self.rows, self.layer, slope=self.slope)
        if self.map is None or not self.map.in_hand or self.map.lookup:
            return None
        return Probe(self.rows, activation_of(self.map), self.map, self.slope)


@dataclass
class Recorder:
    """The visitor: records and changes nothing."""

    every_layer: ClassVar[bool] = True
    every_bias: ClassVar[bool] = False  # whose layers are stops in any case

    in_float64: bool = False  # the moments; eagerly
    records: list[Record] = field(default_factory=list)
    repeats: Counter[keras.layers.Layer] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._last: tuple[Tensor, Tensor, Tensor] = (None, None, None)
        self._map: LinearMap | None = None  # the last one
        self.wide = LastWide()

    def signal(self, stop: Stop, signal: Tensor) -> Tensor:
        """The pre-activation, before anything is done to it."""
        kernel = None
        if stop.map is not None:  # first, while the kernel is in the cache
            base = stop.trial.base(stop.map.kernel)
            kernel = Moments(*self._figures(base)[:2])
        record = self._seen(stop.layer, stop.map, signal, stop.steps)
        record.kernel = kernel
        self.records.append(record)
        return signal

    def output(self, stop: Stop, output: Tensor) -> None:
        """The output, on the record that the same call has opened."""
        opened = (r for r in reversed(self.records) if r.map is stop.map)
        turned = getattr(stop.layer, "go_backwards", False)
        steps = stop.steps.reversed() if turned else stop.steps
        self._put_out(next(opened), output, steps)

    def opaque(self, stop: Stop) -> Tensor:
        """A layer that only its output describes."""
        output = stop.again()
        record = self._seen(stop.layer, None, first_tensor(output), stop.steps)
        self._put_out(record, output, stop.steps)
        self.records.append(record)
        return output

    def watched(self, layer: Any, inputs: Tensor, output: Tensor, steps: Steps) -> None:
        """An activation: its input is the pre-activation. A sum: what it gives."""
        z = inputs if is_activation(layer) else first_tensor(output)
        record = self._seen(layer, None, z, steps)
        self._put_out(record, output, steps)
        self.records.append(record)

    def repeated(self, layer: keras.layers.Layer) -> None:
        """Later calls of a shared layer: they are counted, and not looked at."""
        self.repeats[layer] += 1

    def probes(self) -> list[Probe]:
        """What the gradient gains are seen from, in the order of the calls."""
        return [p for r in self.records if (p := r.probe()) is not None]

    def finish(self, trial: Trial, seen: Any = None) -> None:
        """After the pass: what each layer does to gradients.

        Args:
            trial: The scope of the pass.
            seen: `look_inside(self.probes())`, where the pass has it.
        """
        pairs = [(r, p) for r in self.records if (p := r.probe()) is not None]
        probes = [probe for _, probe in pairs]
        with trial:  # an activation may have a state of its own
            slopes = mean_square_slopes(probes, trial.base, seen)
        with np.errstate(all="ignore"):  # what is not finite is a figure like others
            self._multiply(pairs, slopes, trial)

    @staticmethod
    def _multiply(
        pairs: Sequence[tuple[Record, Probe]], slopes: Sequence[Any], trial: Trial
    ) -> None:
        """Gains of the kernels, and of the slopes behind them."""
        for (record, _), slope in zip(pairs, slopes, strict=True):
            m = record.map
            if m is not None and record.kernel is not None:
                mean, variance = record.kernel
                slope = slope * kernel_gain(m, variance + mean * mean)
                if m.stage is not None:
                    base = widen(trial.base(m.stage.kernel))
                    slope = slope * kernel_gain(m.stage, mean_square(base))
            record.gradient_gain = slope

    def _seen(self, layer: Any, m: LinearMap | None, z: Tensor, steps: Steps) -> Record:
        several = len(z.shape) > 1 and z.shape[0] > 1
        mean, variance, *between = self._figures(z, steps, several)
        if m is not None and m.in_hand and not m.lookup:
            self._map = m
        function = layer if m is None else activation_of(m)
        seen = self._map if m is None else m
        about = ((-1,), 0) if seen is None else (seen.channel_axes, seen.channels)
        sample = steps.sampled(z)
        rows, slope, values = look_at(sample, function, *about, values=True)
        self._last = z, mean, variance
        record = Record(layer, m, Moments(mean, variance))
        record.rows, record.slope, record.values = rows, slope, values
        record.batch_variance = between[0] if between else None
        record.share = steps.share(z)
        if m is not None and m.in_hand and not m.lookup:
            self.wide.see(record, z, m.channels, steps)
        # What a gate adds to `W x`, and its own activation, are not in hand.
        if m is None or m.in_hand:
            record.saturated = _saturated(layer, steps.blank(z))
        return record

    def _put_out(self, record: Record, output: Any, steps: Steps) -> None:
        y = first_tensor(output)
        record.shape = (None, *y.shape[1:])
        z, *found = self._last  # a linear layer puts out its pre-activation
        self._last = None, None, None
        units = _units(record, y)
        plain = steps.of(y) is None and not self.in_float64
        if units and y is not z and plain:
            *found, record.dead = of_units(output_figures, *units)(y)
        else:
            left = steps.blank(y)
            record.dead = of_units(dead_share, *units)(left) if units else None
            found = found if y is z else [*self._figures(y, steps)]
        record.output = Moments(*found)

    def _figures(
        self, x: Tensor, steps: Steps = ALL, several: bool = False
    ) -> Sequence[Any]:
        """Mean and variance; of several samples also the variance between them."""
        mask, count = steps.of(x), 3 if several else 2
        if mask is not None:
            in_float64 = masked.spread_in_float64 if self.in_float64 else None
            found: Sequence[Any] = (in_float64 or fused(masked.spread))(x, mask)
            return found[:count]
        if self.in_float64:
            return figures_in_float64(x)[:count]
        return fused(spread if several else figures)(x)


def _units(record: Record, y: Tensor) -> tuple[tuple[int, ...], bool] | None:
    """The axes along which units of an output lie, and whether none is negative."""
    rank, axes = len(y.shape), record.map.channel_axes if record.map else (-1,)
    if rank < 2 or not axes or max(axes) >= rank:
        return None
    return tuple(sorted(axis % rank for axis in axes)), _is_never_negative(record)


def _activation_of(layer: Any) -> Any:
    return getattr(layer, "activation", None)


def _saturated(layer: Any, z: Tensor) -> Any:
    """The share of values where its activation is flat; None where it never is.

    A ReLU that is cut off is flat above; below 0 there are the dead units.
    """
    name = activation_name(layer) or ""
    if (limit := SATURATION.get(name)) is not None:
        return fused(share_beyond)(z, limit)
    applied = layer if is_activation(layer) else _activation_of(layer)
    top = 6.0 if name == "relu6" else getattr(applied, "max_value", None)
    return None if top is None else fused(share_above)(z, float(top))


def _is_never_negative(record: Record) -> bool:
    """Whether the output is what such an activation puts out."""
    m, layer = record.map, record.layer
    last = is_activation(layer) if m is None else m.in_hand
    return last and ((m and m.activation) or _activation_of(layer)) in NONNEGATIVE
