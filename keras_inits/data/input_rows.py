"""The data as a row of the report."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

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
from keras_inits.data.frames import column_names
from keras_inits.data.indices import indices_among
from keras_inits.data.inputs import array_paths
from keras_inits.data.normalizers import unadapted
from keras_inits.data.padding import real_steps
from keras_inits.findings.data_remedies import NAMED
from keras_inits.findings.scale import INPUT_RMS
from keras_inits.records import LayerSignal
from keras_inits.statistics.directions import SAMPLES, VALUES, participation_ratio
from keras_inits.structure.training import has_been_trained
from keras_inits.structure.walking import walk

# Columns whose deviations differ by more, or whose means lie further apart in
# deviations, want a scale and an offset each; channels of photographs do not.
UNLIKE = 10.0
APART = 3.0
# A deviation of less than this share of a mean is rounding: the column does not vary.
STILL = 1e-6
# Channels of an image.
COLOURS = (1, 3, 4)
# Kinds of dtypes whose values have a mean.
NUMBERS = "fiub"


class Given(NamedTuple):
    """One input: where it is in the batch, all of it, and what no mask leaves out."""

    path: str
    all: Any
    left: Any


def input_row(model: keras.Model, batch: Any, data: Any) -> LayerSignal:
    """The data themselves: of several inputs all together, or the one that is off.

    Indices into a table are of any size, and left out where there is anything else; so
    are steps that a mask leaves out, which the model makes of the data themselves.

    Args:
        model: What is called.
        batch: What it is called with.
        data: Where the batch comes from: a frame names its columns.
    """
    arrays, paths = read(arrays_of(batch)), array_paths(batch)
    found = [
        Given(str(path), x, real_steps(model, batch, path, x))
        for path, x in zip(paths, arrays, strict=True)
        if x.dtype.kind in NUMBERS
    ]
    if len(arrays) == 1:
        [x], [path] = arrays, paths
        row = _data(path or "data", found, (None, *x.shape[1:]), path)
        if not (found and _off(row)):
            return row
        indices = _indices(model, batch, {str(path): x})
        row = _with_columns(row, found[0], column_names(data).get(0))
        idle = unadapted(model, batch, path)
        return dataclasses.replace(row, indices=bool(indices), unadapted=idle)
    indices = _indices(model, batch, {path: x for path, x, _ in found})
    known = [given for given in found if given.path not in indices]
    together = _data("data", known or found)
    rows = [
        (_data(given.path, [given], (None, *given.all.shape[1:]), given.path), given)
        for given in found
        if given.path not in indices or not all_finite(given.all)
    ]
    if not any(_off(row) for row, _ in rows):
        return dataclasses.replace(together, indices=not known)
    row, given = max(rows, key=lambda each: _off(each[0]))
    place = list(map(str, paths)).index(row.name)
    row = _with_columns(row, given, column_names(data).get(place))
    return dataclasses.replace(row, unadapted=unadapted(model, batch, row.path))


def with_directions(row: LayerSignal, model: keras.Model, batch: Any) -> LayerSignal:
    """The row of the data, with the number of directions that samples lie along.

    Not for a trained model, in which they may be as few as its classes.
    """
    if has_been_trained(model):
        return row
    arrays = [x for x in read(arrays_of(batch)) if x.dtype.kind in NUMBERS]
    flat = [x[:SAMPLES].reshape(len(x[:SAMPLES]), -1) for x in arrays]
    few = [x[:, :: x.shape[1] // VALUES | 1] for x in flat]
    alike = len(set(map(len, few))) == 1
    found = participation_ratio(np.concatenate(few, axis=1)) if alike else None
    return dataclasses.replace(row, directions=found)


def _indices(model: keras.Model, batch: Any, found: dict[str, Any]) -> set[str]:
    """Paths of inputs that are, or where nobody knows may be, indices into a table."""
    values = {k for k, x in found.items() if _are_values(x)}
    indices = indices_among(model, batch)
    if indices is None:
        embeds = any(isinstance(x, keras.layers.Embedding) for x in walk(model))
        kinds = NUMBERS if embeds else "iu"
        indices = [k for k, x in found.items() if x.dtype.kind in kinds]
    return {str(path) for path in indices} - values


def _are_values(x: Any) -> bool:
    """Whether these can be no indices, whatever table the model holds: positions'."""
    if x.ndim >= 3 and x.dtype == np.uint8:
        return True
    if x.ndim >= 4 and x.shape[-1] in COLOURS and 0 <= x.min() and x.max() <= 255:
        return True
    return x.dtype.kind == "f" and not np.array_equal(x, np.floor(x))


def _data(
    name: str,
    found: Sequence[Given],
    shape: tuple[Any, ...] | None = None,
    path: str | None = None,
) -> LayerSignal:
    mean, std = mean_and_deviation([x.left for x in found])
    several = [x.all for x in found if len(x.all) > 1]
    return LayerSignal(
        name=name,
        layer_type="InputLayer",
        output_shape=shape,
        mean=mean,
        std=std,
        output_mean=mean,
        output_std=std,
        batch_std=0.0 if several and all(map(all_alike, several)) else None,
        path=path,
    )


def _with_columns(
    row: LayerSignal, given: Given, names: Sequence[str] | None
) -> LayerSignal:
    """Two columns, or channels, that show it where no one scale suits them all.

    Of a table with NaN or infinity those that hold it.
    """
    array = given.all
    if array.ndim < 2 or array.shape[-1] < 2 or _are_pixels(array):
        return row
    if array.ndim > 2 and keras.config.image_data_format() == "channels_first":
        return row
    figures = column_figures(given.left)
    lost = np.flatnonzero(~np.isfinite(figures).all(axis=1)).tolist()
    table = array.ndim == 2
    shown = lost[: NAMED + 1] * table if lost else _unlike(*figures.T)
    columns = [(int(i) if names is None else names[i], *figures[i]) for i in shown]
    return dataclasses.replace(row, columns=tuple(columns))


def _unlike(means: np.ndarray[Any, Any], stds: np.ndarray[Any, Any]) -> Sequence[int]:
    """Two columns of different size or offset, if there are any."""
    still = stds <= STILL * np.abs(means)
    varies = np.flatnonzero(~still)
    if not len(varies):
        return []
    constant = int(np.abs(np.where(still, means, 0.0)).argmax())
    means_, stds_ = means[varies], stds[varies]
    within, between = math.sqrt(float(np.mean(stds_ * stds_))), float(means_.std())
    if still[constant] and abs(means[constant]) > UNLIKE * math.hypot(
        float(np.abs(means_).max()), within
    ):
        return [constant, varies[stds_.argmax()]]
    if stds_.max() > UNLIKE * stds_.min():
        return [varies[stds_.argmax()], varies[stds_.argmin()]]
    if between > APART * within:
        return [varies[means_.argmax()], varies[means_.argmin()]]
    return []


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
