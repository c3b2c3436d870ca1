"""What a sweep shows at each stop, recorded and nothing changed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
from keras import ops, tree

from keras_inits.backends import fused
from keras_inits.linear_maps import LinearMap
from keras_inits.selection import ACTIVATION_LAYERS
from keras_inits.statistics import Moments, moments, some_rows, widen
from keras_inits.sweep import Stop

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


@dataclass
class Record:
    """What one stop has shown; tensors until the pass is over."""

    layer: keras.layers.Layer
    map: LinearMap | None
    signal: Moments | None = None
    batch_variance: Tensor | None = None
    output: Moments | None = None
    shape: tuple[Any, ...] | None = None
    dead: Tensor | None = None
    saturated: Tensor | None = None
    rows: Tensor | None = None


@dataclass
class Recorder:
    """The visitor: records and changes nothing."""

    records: list[Record] = field(default_factory=list)

    def signal(self, stop: Stop, signal: Tensor) -> Tensor:
        """The pre-activation, before anything is done to it."""
        self.records.append(self._seen(stop.layer, stop.map, signal))
        return signal

    def output(self, stop: Stop, output: Tensor) -> None:
        """The output, on the record that the same call has opened."""
        opened = (r for r in reversed(self.records) if r.map is stop.map)
        self._put_out(next(opened), output)

    def opaque(self, stop: Stop) -> Tensor:
        """A layer that only its output describes."""
        output = stop.again()
        record = self._seen(stop.layer, None, tree.flatten(output)[0])
        self._put_out(record, output)
        self.records.append(record)
        return output

    def watched(
        self, layer: keras.layers.Layer, inputs: Tensor, output: Tensor
    ) -> None:
        """An activation layer: its input is the pre-activation."""
        record = self._seen(layer, None, inputs)
        self._put_out(record, output)
        self.records.append(record)

    def repeated(self, layer: keras.layers.Layer) -> None:
        """Later calls of a shared layer show nothing new of its kernel."""

    def _seen(
        self, layer: keras.layers.Layer, m: LinearMap | None, z: Tensor
    ) -> Record:
        several = len(z.shape) > 1 and z.shape[0] > 1
        mean, variance, between, rows = fused(_spread if several else _alone)(z)
        record = Record(layer, m, Moments(mean, variance), between, rows=rows)
        limit = SATURATION.get(activation_name(layer) or "")
        if limit is not None:
            record.saturated = fused(_share_beyond)(z, limit)
        return record

    def _put_out(self, record: Record, output: Any) -> None:
        y = tree.flatten(output)[0]
        record.shape = (None, *y.shape[1:])
        axes = record.map.channel_axes if record.map else (-1,)
        kept: tuple[int, ...] | None = None
        if len(y.shape) > 1 and max(axes) < len(y.shape):
            kept = tuple(sorted(axis % len(y.shape) for axis in axes))
        mean, variance, record.dead = _put_out(kept)(y)
        record.output = Moments(mean, variance)


def _alone(z: Tensor) -> tuple[Tensor, ...]:
    """Mean, variance, no variance between samples, some rows."""
    return *moments(z), None, some_rows(z)


def _spread(z: Tensor) -> tuple[Tensor, ...]:
    """Mean, variance, variance between samples averaged over units, some rows."""
    between = ops.mean(ops.var(widen(z), axis=0))
    return *moments(z), between, some_rows(z)


def _share_beyond(z: Tensor, limit: float) -> Tensor:
    return ops.mean(ops.cast(ops.abs(z) > limit, "float32"))


@functools.cache  # what is compiled is compiled once
def _put_out(kept: tuple[int, ...] | None) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """Mean, variance, and the share of units (along `kept`) that are all zero."""

    def figures(y: Tensor) -> tuple[Tensor, ...]:
        if kept is None:
            return *moments(y), None
        others = [axis for axis in range(len(y.shape)) if axis not in kept]
        largest = ops.max(ops.abs(y), axis=others)
        return *moments(y), ops.mean(ops.cast(largest == 0, "float32"))

    return fused(figures)


def activation_name(layer: Any) -> str | None:
    """What the layer applies to its pre-activation, by name."""
    named = ACTIVATION_LAYERS.get(type(layer))
    activation = getattr(layer, "activation", None)
    if named is not None or activation is None:
        return named
    if type(activation) in ACTIVATION_LAYERS:
        return activation_name(activation)
    return getattr(activation, "__name__", type(activation).__name__)
