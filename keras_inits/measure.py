"""What the signal does in every layer: the same sweep, recording instead of solving."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_inits.backends import fused, host
from keras_inits.data import draw_batch, rows
from keras_inits.errors import DataError
from keras_inits.gradient_gains import Probe, kernel_gain, mean_square_slopes
from keras_inits.linear_maps import LinearMap
from keras_inits.recorder import Record, Recorder, activation_name
from keras_inits.records import Histogram, LayerSignal
from keras_inits.report import SignalReport
from keras_inits.selection import (
    ACTIVATION_LAYERS,
    Layers,
    Selection,
    everything,
)
from keras_inits.statistics import Moments, moments
from keras_inits.sweep import sweep
from keras_inits.trial import Trial
from keras_inits.walking import is_plain
from keras_inits.weight_gradients import WeightGradient, weight_gradients

Tensor = Any

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
        A `SignalReport`, one row per layer in the order of the calls; its `inputs`
        describes the data.

    Raises:
        DataError: The data are missing, empty, of the wrong shape.
        UnsupportedLayerError: `layers` names a layer that does not exist.
    """
    selection = everything(model, layers)
    batch = draw_batch(model, data, samples, check_values=False)
    recorder, trial = Recorder(), Trial(())
    sweep(model, batch, selection, recorder, trial, training=training)
    gradients: dict[int, WeightGradient] = {}
    if y is not None:
        kernels = [r.map.kernel for r in recorder.records if r.map is not None]
        targets = _labels(y, data, batch)
        gradients = weight_gradients(model, batch, targets, loss, kernels, training)
    signals = _rows(recorder.records, gradients)
    signals += _uncalled(selection, recorder.records)
    return SignalReport(
        signals,
        title=f"Signal in {model.name!r}",
        plain=is_plain(selection.every),
        inputs=_inputs(batch),
    )


def _labels(y: Any, data: Any, batch: Any) -> Any:
    """The labels of the rows that were drawn."""
    have = len(tree.flatten(batch)[0])
    targets = rows(y, have)
    lengths = {len(x) for x in (data, y) if hasattr(x, "shape")}
    if len(tree.flatten(targets)[0]) != have or len(lengths) > 1:
        raise DataError(
            "`y` needs one row for each row of `data`. Received: labels of shapes "
            f"{[tuple(x.shape) for x in tree.flatten(y) if hasattr(x, 'shape')]} for "
            f"data of which {have} rows were drawn."
        )
    return targets


def _rows(
    records: Sequence[Record], gradients: dict[int, WeightGradient]
) -> list[LayerSignal]:
    probes = [_probe(record) for record in records]
    seen = [(r, p) for r, p in zip(records, probes, strict=True) if p is not None]
    slopes = mean_square_slopes([probe for _, probe in seen])
    gains = {
        id(record): float(host(slope)) * _kernel_gain(record.map)
        for (record, _), slope in zip(seen, slopes, strict=True)
    }
    return [_row(r, gains.get(id(r)), gradients) for r in records]


def _probe(record: Record) -> Probe | None:
    if record.map is None and type(record.layer) in ACTIVATION_LAYERS:
        return Probe(record.rows, record.layer, record.layer)
    if record.map is None or not record.map.in_hand or record.map.lookup:
        return None
    return Probe.of(record.map, record.rows)


def _kernel_gain(m: LinearMap | None) -> float:
    if m is None:
        return 1.0
    maps = filter(None, (m, m.stage))
    return math.prod(float(host(kernel_gain(x, x.kernel.value))) for x in maps)


def _row(
    record: Record, gain: float | None, gradients: dict[int, WeightGradient]
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
        kernel_std=None if m is None else _figures(_moments(m.kernel.value))[1],
        kernel_shape=None if m is None else tuple(m.kernel.shape),
        activation=activation_name(layer),
        histogram=_histogram(record.rows),
        path=layer.path,
        batch_std=_root(record.batch_variance),
    )


def _moments(x: Tensor) -> Moments:
    return Moments(*fused(moments)(x))


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


def _inputs(batch: Any) -> LayerSignal:
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


def _uncalled(selection: Selection, records: Sequence[Record]) -> list[LayerSignal]:
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
