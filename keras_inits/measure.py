"""What the signal does in every layer: the same sweep, recording instead of solving."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_inits.backends import host
from keras_inits.data import draw_batch, rows
from keras_inits.gradient_gains import (
    Probe,
    kernel_gain,
    mean_square_slopes,
)
from keras_inits.linear_maps import LinearMap, together
from keras_inits.records import Histogram, LayerSignal
from keras_inits.report import SignalReport
from keras_inits.selection import (
    ACTIVATION_LAYERS,
    Layers,
    Selection,
    everything,
    is_plain,
)
from keras_inits.statistics import Moments, moments, some_rows, widen
from keras_inits.sweep import Stop, Trial, sweep
from keras_inits.weight_gradients import WeightGradient, weight_gradients

Tensor = Any

# |z| beyond which the slope is below 1 % of its maximum: tanh' = 1 - tanh^2,
# sigmoid' = s (1 - s), softsign' = 1 / (1 + |z|)^2, the hard ones are constant there.
# tests/test_measure.py solves for each.
SATURATION = {
    "hard_sigmoid": 3.0,
    "hard_tanh": 1.0,
    "sigmoid": 5.981,
    "softsign": 9.0,
    "tanh": 2.993,
}
BINS = 61


def measure(
    model: keras.Model,
    data: Any,
    y: Any = None,
    *,
    loss: Any = None,
    layers: Layers = None,
    training: bool = False,
    samples: int = 256,
) -> SignalReport:
    """Show what happens to the signal, layer by layer; change nothing.

    One forward pass. A signal that is zero, NaN or infinite is no error here: it is
    what there is to see, and `report.findings` says where it starts.

    Example:

        print(keras_inits.measure(model, x))
        print(keras_inits.measure(model, x, y, loss="sparse_categorical_crossentropy"))

    Args:
        model: A built model.
        data: What `fit` accepts, see `lsuv_init`.
        y: Labels for the rows of `data`, `(samples, ...)`. With them the report also
            has the gradient of the loss for every kernel.
        loss: A loss, its name, or None for the loss that the model was compiled with.
        layers: Names, layers or a predicate. None: every layer with a linear map,
            frozen ones too, and Keras's activation layers.
        training: Run the layers in training mode.
        samples: Number of rows to draw from `data`.

    Returns:
        A `SignalReport`, one row per layer in the order of the calls; the first row is
        the data.

    Raises:
        DataError: The data are missing, empty, of the wrong shape.
        UnsupportedLayerError: `layers` names a layer that does not exist.
    """
    selection = everything(model, layers)
    batch = draw_batch(model, data, samples, check_values=False)
    recorder, trial = _Recorder(), Trial(())
    sweep(model, batch, selection, recorder, trial, training=training)
    gradients: dict[int, WeightGradient] = {}
    if y is not None:
        kernels = [r.map.kernel for r in recorder.records if r.map is not None]
        targets = rows(y, samples)
        gradients = weight_gradients(model, batch, targets, loss, kernels, training)
    signals = [_inputs(model, batch), *_rows(recorder.records, gradients)]
    signals += _uncalled(selection, recorder.records)
    return SignalReport(
        signals, title=f"Signal in {model.name!r}", plain=is_plain(selection.every)
    )


@dataclass
class _Record:
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
class _Recorder:
    """The visitor: records and changes nothing."""

    records: list[_Record] = field(default_factory=list)

    def signal(self, stop: Stop, signal: Tensor) -> Tensor:
        """The pre-activation, before anything is done to it."""
        self.records.append(self._seen(stop.layer, stop.map, signal))
        return signal

    def output(self, stop: Stop, output: Tensor) -> None:
        """The output, on the record that the same call has opened."""
        self._put_out(self.records[-1], output)

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
    ) -> _Record:
        record = _Record(layer, m, signal=moments(z))
        if len(z.shape) > 1 and z.shape[0] > 1:
            record.batch_variance = ops.mean(ops.var(widen(z), axis=0))
        limit = SATURATION.get(_activation_name(layer) or "")
        if limit is not None:
            beyond = ops.cast(ops.abs(z) > limit, "float32")
            record.saturated = ops.mean(beyond)
        record.rows = some_rows(z)
        return record

    def _put_out(self, record: _Record, output: Any) -> None:
        y = tree.flatten(output)[0]
        record.output, record.shape = moments(y), (None, *y.shape[1:])
        axes = record.map.channel_axes if record.map else (-1,)
        if len(y.shape) > 1 and max(axes) < len(y.shape):
            kept = {axis % len(y.shape) for axis in axes}
            others = [a for a in range(len(y.shape)) if a not in kept]
            largest = ops.max(ops.abs(y), axis=others)
            record.dead = ops.mean(ops.cast(largest == 0, "float32"))


def _activation_name(layer: Any) -> str | None:
    """What the layer applies to its pre-activation, by name."""
    named = ACTIVATION_LAYERS.get(type(layer))
    activation = getattr(layer, "activation", None)
    if named is not None or activation is None:
        return named
    return getattr(activation, "__name__", type(activation).__name__)


def _rows(
    records: Sequence[_Record], gradients: dict[int, WeightGradient]
) -> list[LayerSignal]:
    probes = [_probe(record) for record in records]
    seen = [(r, p) for r, p in zip(records, probes, strict=True) if p is not None]
    slopes = mean_square_slopes([probe for _, probe in seen])
    gains = {
        id(record): slope * _kernel_gain(record.map)
        for (record, _), slope in zip(seen, slopes, strict=True)
    }
    return [_row(r, gains.get(id(r)), gradients) for r in records]


def _probe(record: _Record) -> Probe | None:
    if record.map is None and type(record.layer) in ACTIVATION_LAYERS:
        return Probe(record.rows, record.layer, record.layer)
    if record.map is None or not record.map.in_hand or record.map.lookup:
        return None
    return Probe.of(record.map, record.rows)


def _kernel_gain(m: LinearMap | None) -> float:
    if m is None:
        return 1.0
    return math.prod(float(host(kernel_gain(x, x.kernel.value))) for x in together(m))


def _row(
    record: _Record, gain: float | None, gradients: dict[int, WeightGradient]
) -> LayerSignal:
    layer, m = record.layer, record.map
    gradient = None if m is None else gradients.get(id(m.kernel))
    mean, std = _figures(record.signal)
    output_mean, output_std = _figures(record.output)
    return LayerSignal(
        name=layer.name,
        layer_type=type(layer).__name__,
        output_shape=record.shape,
        mean=mean,
        std=std,
        output_mean=output_mean,
        output_std=output_std,
        dead_fraction=_number(record.dead),
        saturated_fraction=_number(record.saturated),
        gradient_gain=gain,
        weight_gradient_std=None if gradient is None else gradient.deviation,
        gradient_ratio=None if gradient is None else gradient.ratio,
        parameters=layer.count_params(),
        kernel_std=None if m is None else _figures(moments(m.kernel.value))[1],
        kernel_shape=None if m is None else tuple(m.kernel.shape),
        activation=_activation_name(layer),
        histogram=_histogram(record.rows),
        path=layer.path,
        batch_std=_root(record.batch_variance),
    )


def _number(tensor: Tensor | None) -> float | None:
    return None if tensor is None else float(host(tensor))


def _root(variance: Tensor | None) -> float | None:
    return None if variance is None else float(np.sqrt(host(variance)))


def _figures(seen: Moments | None) -> tuple[float | None, float | None]:
    if seen is None:
        return None, None
    return _number(seen.mean), _root(seen.variance)


def _histogram(rows: Tensor) -> Histogram | None:
    values = np.ravel(host(rows))
    values = values[np.isfinite(values)]
    if not values.size:
        return None
    reach = max(float(np.abs(values).max()), 1e-38)
    counts, edges = np.histogram(values, BINS, (-reach, reach))
    return Histogram(counts=tuple(counts.tolist()), edges=tuple(edges.tolist()))


def _inputs(model: keras.Model, batch: Any) -> LayerSignal:
    """The data themselves, pooled over all float inputs."""
    arrays = [np.asarray(ops.convert_to_numpy(x)) for x in tree.flatten(batch)]
    numbers = [x for x in arrays if x.dtype.kind in "fiub"]
    flat = [x.ravel().astype("float64") for x in numbers]
    values = np.concatenate(flat) if flat else np.zeros(1)
    with np.errstate(invalid="ignore"):
        mean, std = float(values.mean()), float(values.std())
    return LayerSignal(
        name="data",
        layer_type="InputLayer",
        output_shape=(None, *arrays[0].shape[1:]) if len(arrays) == 1 else None,
        mean=mean,
        std=std,
        output_mean=mean,
        output_std=std,
    )


def _uncalled(selection: Selection, records: Sequence[_Record]) -> list[LayerSignal]:
    called = {id(record.layer) for record in records}
    left = {
        layer: "not called" for layer in selection.layers if id(layer) not in called
    }
    left.update(selection.left)
    return [
        LayerSignal(
            name=layer.name,
            layer_type=type(layer).__name__,
            parameters=layer.count_params() if layer.built else None,
            status=f"skipped: {reason}",
            path=layer.path,
        )
        for layer, reason in left.items()
    ]
