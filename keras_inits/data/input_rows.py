"""The data as a row of the report."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_inits.backends import read
from keras_inits.data.arrays import (
    all_alike,
    all_finite,
    arrays_of,
    column_figures,
    mean_and_deviation,
)
from keras_inits.data.indices import indices_among
from keras_inits.data.inputs import array_paths
from keras_inits.findings.scale import INPUT_RMS
from keras_inits.records import LayerSignal
from keras_inits.structure.walking import walk

# Columns whose deviations differ by more, or whose means lie further apart in
# deviations, want a scale and an offset each; channels of photographs do not.
UNLIKE = 10.0
APART = 3.0
# A deviation of less than this share of a mean is rounding: the column does not vary.
STILL = 1e-6
# Kinds of dtypes whose values have a mean.
NUMBERS = "fiub"


def input_row(model: keras.Model, batch: Any) -> LayerSignal:
    """The data themselves: of several inputs all together, or the one that is off.

    Indices into a table are of any size, and left out where there is anything else.
    """
    arrays, paths = read(arrays_of(batch)), array_paths(batch)
    if len(arrays) == 1:
        numeric = [x for x in arrays if x.dtype.kind in NUMBERS]
        row = _data(paths[0] or "data", numeric, arrays[0], paths[0])
        return _with_columns(row, arrays[0]) if numeric and _off(row) else row
    found = [
        (str(path), x)
        for path, x in zip(paths, arrays, strict=True)
        if x.dtype.kind in NUMBERS
    ]
    indices = _indices(model, batch, dict(found))
    known = [x for name, x in found if name not in indices]
    together = _data("data", known or [x for _, x in found], None)
    rows = [
        _data(name, [x], x, name)
        for name, x in found
        if name not in indices or not all_finite(x)
    ]
    if not any(map(_off, rows)):
        return together
    row = max(rows, key=_off)
    return _with_columns(row, dict(found)[row.name])


def _indices(model: keras.Model, batch: Any, found: dict[str, Any]) -> set[str]:
    """Paths of inputs that are, or where nobody knows may be, indices into a table."""
    images = {k for k, x in found.items() if x.dtype == np.uint8 and x.ndim >= 3}
    indices = indices_among(model, batch)
    if indices is None:
        embeds = any(isinstance(x, keras.layers.Embedding) for x in walk(model))
        kinds = NUMBERS if embeds else "iu"
        indices = [k for k, x in found.items() if x.dtype.kind in kinds]
    return {str(path) for path in indices} - images


def _data(
    name: str, arrays: Sequence[Any], one: Any, path: str | None = None
) -> LayerSignal:
    mean, std = mean_and_deviation(arrays)
    several = [x for x in arrays if len(x) > 1]
    return LayerSignal(
        name=name,
        layer_type="InputLayer",
        output_shape=None if one is None else (None, *one.shape[1:]),
        mean=mean,
        std=std,
        output_mean=mean,
        output_std=std,
        batch_std=0.0 if several and all(map(all_alike, several)) else None,
        path=path,
    )


def _with_columns(row: LayerSignal, array: Any) -> LayerSignal:
    """Two columns, or channels, that show it where no one scale suits them all."""
    if array.ndim < 2 or array.shape[-1] < 2 or _are_pixels(array):
        return row
    if array.ndim > 2 and keras.config.image_data_format() == "channels_first":
        return row
    figures = column_figures(array)
    means, stds = figures.T
    varies = np.flatnonzero(stds > STILL * np.abs(means))
    if not np.isfinite(figures).all() or len(varies) < 2:
        return row
    means, stds = means[varies], stds[varies]
    within, between = math.sqrt(float(np.mean(stds * stds))), float(means.std())
    if stds.max() > UNLIKE * stds.min():
        ends = [stds.argmax(), stds.argmin()]
    elif between > APART * within:
        ends = [means.argmax(), means.argmin()]
    else:
        return row
    shown = [(int(varies[i]), float(means[i]), float(stds[i])) for i in ends]
    return dataclasses.replace(row, columns=tuple(shown))


def _are_pixels(array: Any) -> bool:
    """Whether these are values of one scale, at the edges of images nearly still."""
    return (
        array.ndim == 2
        and array.shape[1] >= 64
        and array.min() >= 0
        and (128 <= array.max() <= 255)
    )


def _off(row: LayerSignal) -> float:
    """How far its size is from 1 in powers of ten; 0 where that is not far."""
    size = math.hypot(row.mean or 0.0, row.std or 0.0)
    if not math.isfinite(size):
        return math.inf
    return 0.0 if INPUT_RMS[0] <= size <= INPUT_RMS[1] else abs(math.log10(size or 1.0))
