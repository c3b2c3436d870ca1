"""What a sweep shows at each stop, recorded and nothing changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import keras

from keras_inits import compiled
from keras_inits.activations import activation_name, is_activation
from keras_inits.backends import fetch, fused, read
from keras_inits.gradient_gains import kernel_gain, mean_square_slopes
from keras_inits.histograms import evenly_spaced
from keras_inits.kinds import kind_of
from keras_inits.linear_maps import LinearMap
from keras_inits.packing import refilled
from keras_inits.probes import Probe, activation_of, look_at
from keras_inits.reductions import mean_square
from keras_inits.selection import Selection
from keras_inits.slopes import look_inside
from keras_inits.statistics import (
    UNDERFLOW,
    Moments,
    dead_share,
    figures,
    figures_in_float64,
    first_tensor,
    of_units,
    output_figures,
    share_beyond,
    spread,
    underflows,
    widen,
)
from keras_inits.sweep import TRACED, Stop, sweep
from keras_inits.trial import Trial

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

    in_float64: bool = False  # the moments; eagerly
    records: list[Record] = field(default_factory=list)
    repeats: Counter[keras.layers.Layer] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._last: tuple[Tensor, Tensor, Tensor] = (None, None, None)
        self._map: LinearMap | None = None  # the last one

    def signal(self, stop: Stop, signal: Tensor) -> Tensor:
        """The pre-activation, before anything is done to it."""
        kernel = None
        if stop.map is not None:  # first, while the kernel is in the cache
            base = stop.trial.base(stop.map.kernel)
            kernel = Moments(*self._figures(base)[:2])
        record = self._seen(stop.layer, stop.map, signal)
        record.kernel = kernel
        self.records.append(record)
        return signal

    def output(self, stop: Stop, output: Tensor) -> None:
        """The output, on the record that the same call has opened."""
        opened = (r for r in reversed(self.records) if r.map is stop.map)
        self._put_out(next(opened), output)

    def opaque(self, stop: Stop) -> Tensor:
        """A layer that only its output describes."""
        output = stop.again()
        record = self._seen(stop.layer, None, first_tensor(output))
        self._put_out(record, output)
        self.records.append(record)
        return output

    def watched(self, layer: Any, inputs: Tensor, output: Tensor) -> None:
        """An activation: its input is the pre-activation."""
        record = self._seen(layer, None, inputs)
        self._put_out(record, output)
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
            seen: `look(self.probes())`, where the pass has it.
        """
        pairs = [(r, p) for r in self.records if (p := r.probe()) is not None]
        probes = [probe for _, probe in pairs]
        with trial:  # an activation may have a state of its own
            slopes = mean_square_slopes(probes, trial.base, seen)
        for (record, _), slope in zip(pairs, slopes, strict=True):
            m = record.map
            if m is not None and record.kernel is not None:
                mean, variance = record.kernel
                slope = slope * kernel_gain(m, variance + mean * mean)
                if m.stage is not None:
                    base = widen(trial.base(m.stage.kernel))
                    slope = slope * kernel_gain(m.stage, mean_square(base))
            record.gradient_gain = slope

    def _seen(self, layer: Any, m: LinearMap | None, z: Tensor) -> Record:
        several = len(z.shape) > 1 and z.shape[0] > 1
        mean, variance, *between = self._figures(z, several)
        if m is not None and m.in_hand and not m.lookup:
            self._map = m
        function = layer if m is None else activation_of(m)
        seen = self._map if m is None else m
        about = ((-1,), 0) if seen is None else (seen.channel_axes, seen.channels)
        rows, slope, values = look_at(z, function, *about, values=True)
        self._last = z, mean, variance
        record = Record(layer, m, Moments(mean, variance))
        record.rows, record.slope, record.values = rows, slope, values
        record.batch_variance = between[0] if between else None
        limit = SATURATION.get(activation_name(layer) or "")
        # What a gate adds to `W x`, and its own activation, are not in hand.
        if limit is not None and (m is None or m.in_hand):
            record.saturated = fused(share_beyond)(z, limit)
        return record

    def _put_out(self, record: Record, output: Any) -> None:
        y = first_tensor(output)
        record.shape = (None, *y.shape[1:])
        z, *found = self._last  # a linear layer puts out its pre-activation
        self._last = None, None, None
        units = _units(record, y)
        if units and y is not z and not self.in_float64:
            *found, record.dead = of_units(output_figures, *units)(y)
        else:
            record.dead = of_units(dead_share, *units)(y) if units else None
            found = found if y is z else [*self._figures(y)]
        record.output = Moments(*found)

    def _figures(self, x: Tensor, several: bool = False) -> Sequence[Any]:
        """Mean and variance; of several samples also the variance between them."""
        if self.in_float64:
            return figures_in_float64(x)[: 3 if several else 2]
        return fused(spread if several else figures)(x)


def recorded(
    model: keras.Model, batch: Any, selection: Selection, training: bool
) -> Recorder:
    """What each stop of one pass shows, in NumPy.

    Args:
        model: A built model.
        batch: What it is called with.
        selection: The layers to stop at.
        training: The mode the layers run in.
    """
    recorder = _compiled(model, batch, selection, training)
    if recorder is None:
        recorder = _eager(model, batch, selection, training)
    recorder = _in_numpy(recorder)
    if any(map(_underflows, recorder.records)):
        precise = _eager(model, batch, selection, training, in_float64=True)
        recorder = _in_numpy(precise)
    return recorder


def _underflows(record: Record) -> bool:
    """Whether its signal or its kernel is too small for squares in float32."""
    if record.kernel is not None and record.kernel.variance < UNDERFLOW:
        assert record.map is not None
        [kernel] = read([record.map.kernel.value])
        if underflows(record.kernel, kernel):
            return True
    return underflows(record.signal, record.values)


def _in_numpy(recorder: Recorder) -> Recorder:
    records = recorder.records
    # Not in float64: there are many.
    rows = iter(read([x for r in records for x in (r.rows, r.values)]))
    figures = [getattr(r, name) for r in records for name in _FIGURES]
    parts = [part for x in figures for part in _parts(x)]
    if not all(x is None or isinstance(x, float) for x in parts):
        parts = fetch(parts)
    arrays = iter(parts)
    found = (_whole(x, [next(arrays) for _ in _parts(x)]) for x in figures)
    columns = ([*(next(found) for _ in _FIGURES), *islice(rows, 2)] for _ in records)
    filled = list(map(_filled, records, columns))
    for record in filled:
        if record.values is None:
            record.values = evenly_spaced(record.rows)
    return Recorder(records=filled, repeats=recorder.repeats)


def _eager(
    model: keras.Model,
    batch: Any,
    selection: Selection,
    training: bool,
    in_float64: bool = False,
) -> Recorder:
    kernels = [m.kernel for maps in selection.maps.values() for m in maps]
    for disable_jit in (False, True):
        recorder, trial = Recorder(in_float64), Trial(kernels)
        mode = {"training": training, "disable_jit": disable_jit}
        traced = sweep(model, batch, selection, recorder, trial, **mode)
        if not traced:
            break
    recorder.finish(trial)
    selection.left.update(dict.fromkeys(traced, TRACED))
    return recorder


# What of a record is a tensor, or Moments of tensors.
_FIGURES = (
    *("signal", "batch_variance", "output", "dead", "saturated"),
    *("gradient_gain", "kernel", "slope"),
)
_TENSORS = (*_FIGURES, "rows", "values")


def _filled(record: Record, tensors: list[Any]) -> Record:
    filled: Record = refilled(record, dict(zip(_TENSORS, tensors, strict=True)))
    return filled


def _parts(x: Any) -> Sequence[Any]:
    return x if isinstance(x, Moments) else [x]


def _whole(x: Any, parts: Sequence[Any]) -> Any:
    return Moments(*parts) if isinstance(x, Moments) else parts[0]


def _compiled(
    model: keras.Model, batch: Any, selection: Selection, training: bool
) -> Recorder | None:
    """The same by one compiled function; None where that is not possible."""
    variables = model.variables
    if not compiled.possible(selection, variables):
        return None

    def trace(trial: Trial, batch: Any) -> tuple[Any, Any]:
        recorder = Recorder()
        sweep(
            model, batch, selection, recorder, trial, training=training, compiled=True
        )
        found = [[getattr(r, name) for name in _TENSORS] for r in recorder.records]
        bare = [_filled(r, [None] * len(_TENSORS)) for r in recorder.records]
        with trial:
            seen = look_inside(recorder.probes())
        return (found, seen), (bare, recorder.repeats)

    batch = compiled.as_tensors(batch)
    kind = kind_of(selection, batch, "measure", training)
    found = compiled.run(
        model, kind, variables, ([v.value for v in variables], batch), trace
    )
    if found is None:
        return None
    (tensors, seen), (bare, repeats) = found
    recorder = Recorder(records=list(map(_filled, bare, tensors)), repeats=repeats)
    recorder.finish(Trial(()), seen)
    return recorder


def _units(record: Record, y: Tensor) -> tuple[tuple[int, ...], bool] | None:
    """The axes along which units of an output lie, and whether none is negative."""
    rank, axes = len(y.shape), record.map.channel_axes if record.map else (-1,)
    if rank < 2 or max(axes) >= rank:
        return None
    return tuple(sorted(axis % rank for axis in axes)), _is_never_negative(record)


def _activation_of(layer: Any) -> Any:
    return getattr(layer, "activation", None)


def _is_never_negative(record: Record) -> bool:
    """Whether the output is what such an activation puts out."""
    m, layer = record.map, record.layer
    last = is_activation(layer) if m is None else m.in_hand
    return last and ((m and m.activation) or _activation_of(layer)) in NONNEGATIVE
