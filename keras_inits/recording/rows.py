"""A record of a pass as a row of the report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_inits.plain_record import Histogram
from keras_inits.recording.recorder import Record
from keras_inits.recording.weight_gradients import WeightGradient
from keras_inits.records import LayerSignal
from keras_inits.statistics.directions import directions_of
from keras_inits.statistics.moments import Moments
from keras_inits.structure.activations import activation_name

# What a sum in float32 may make of the deviation of equal values, over their mean.
CONSTANT = 1e-5


def row_of(
    record: Record,
    gradients: Mapping[int, WeightGradient],
    outputs: tuple[str, ...],
    bias_mean: float | None,
    histogram: Histogram | None,
) -> LayerSignal:
    """Its figures in the words of the report.

    Args:
        record: Of a layer, in NumPy.
        gradients: By `id` of the kernel.
        outputs: Of the model, those that the layer leads to.
        bias_mean: Mean of the bias that the signal contains.
        histogram: Of some of its values.
    """
    layer, m = record.layer, record.map
    is_layer = isinstance(layer, keras.layers.Layer)  # or an operation
    gradient = None if m is None else gradients.get(id(m.kernel))
    mean, std = _figures(record.signal)
    output_mean, output_std = _figures(record.output)
    batch_std = _root(record.batch_variance)
    one_row = record.batch_variance is None and len(record.shape or ()) == 2
    if np.size(record.values) == 1:  # a single value deviates from nothing
        std = output_std = None
    elif _is_constant(record.signal) and record.values.min() == record.values.max():
        std = 0.0
        output_std = 0.0 if _is_constant(record.output) else output_std
        batch_std = None if batch_std is None else 0.0
    return LayerSignal(
        name=layer.name,
        layer_type=type(layer).__name__,
        output_shape=record.shape,
        mean=mean,
        std=std,
        output_mean=output_mean,
        output_std=output_std,
        # What is zero in the one row that there is may well not be in the next.
        dead_fraction=None if one_row else _share(record.dead, output_mean),
        saturated_fraction=_share(record.saturated, mean),
        gradient_gain=_number(record.gradient_gain),
        weight_gradient_std=None if gradient is None else gradient.deviation,
        gradient_ratio=None if gradient is None else gradient.ratio,
        parameters=layer.count_params() if is_layer else 0,
        kernel_std=_spread(record.kernel),
        kernel_shape=None if m is None else tuple(m.kernel.shape),
        activation=activation_name(layer),
        histogram=histogram,
        path=layer.path if is_layer else layer.name,
        batch_std=batch_std,
        trainable=m.kernel.trainable if m else not is_layer or bool(layer.trainable),
        bias_mean=bias_mean,
        outputs=outputs,
        directions=directions_of(record.samples),
    )


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _share(value: Any, mean: float | None) -> float | None:
    """NaN where NaN was counted, which is neither zero nor beyond a bound."""
    lost = value is not None and mean is not None and math.isnan(mean)
    return math.nan if lost else _number(value)


def _spread(kernel: Moments | None) -> float | None:
    """Of a constant kernel 0, and not what rounding leaves."""
    if kernel is None:
        return None
    return 0.0 if _is_constant(kernel) else _root(kernel.variance)


def _is_constant(seen: Moments | None) -> bool:
    """Whether the deviation is no more than rounding makes of equal values."""
    least = 0.0 if seen is None else CONSTANT * seen.mean
    return seen is not None and bool(seen.variance < least * least)


def _root(variance: Any) -> float | None:
    return None if variance is None else math.sqrt(variance)


def _figures(seen: Moments | None) -> tuple[float | None, float | None]:
    if seen is None:
        return None, None
    return _number(seen.mean), _root(seen.variance)
