"""What the signal does in every layer: the same sweep, recording instead of solving."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import tree

from keras_inits.activations import activations_behind
from keras_inits.arrays import all_alike, all_finite, mean_and_deviation
from keras_inits.backends import fetch, read
from keras_inits.chains import is_plain
from keras_inits.data import draw_batch, labels_of
from keras_inits.distribution import shared_batch
from keras_inits.errors import DataError, KerasInitsError, check_flags
from keras_inits.findings.loss import unusable
from keras_inits.findings.scale import INPUT_RMS
from keras_inits.findings.units import HUSHED
from keras_inits.heads import outputs_led_to
from keras_inits.histograms import histograms
from keras_inits.indices import check_indices, indices_among
from keras_inits.inputs import array_paths
from keras_inits.looks_linear import looks_linear_plan
from keras_inits.loss_inputs import loss_signals, with_outputs
from keras_inits.naming import Layers
from keras_inits.partners import correlations, links_of
from keras_inits.recorder import Record, recorded
from keras_inits.records import LayerSignal, LossSignal, is_finite
from keras_inits.report import SignalReport
from keras_inits.rows import row_of
from keras_inits.selection import Selection, everything, select_all
from keras_inits.statistics import Moments
from keras_inits.walking import is_bypassed, walk
from keras_inits.weight_gradients import WeightGradient, weight_gradients

Layer = Any
NOISE = "No data were given: this is the signal of standard-normal noise."

# Kinds of dtypes whose values have a mean.
NUMBERS = "fiub"
# Correlation of units and their partners: of mirrored ones -1.
ALREADY = -0.99
# Layers with a gamma and a beta.
NORMALISATIONS = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
)


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
        data: What `fit` accepts, see `lsuv_init`. None: standard-normal noise in its
            place, which says nothing of how your data are scaled.
        y: Labels for the rows of `data`, `(samples, ...)`, of several outputs in a list
            or dict; of a dataset, loader or generator, for its rows from the first one
            on. With them the report also has the gradient of the loss for every kernel.
        loss: What `model.compile` accepts: a loss, its name, a function, or a list or
            dict of these. None: the loss that the model was compiled with.
        layers: Names, layers or a predicate. None: every layer with a linear map,
            frozen ones too, and Keras's activation layers.
        training: Run the layers in training mode.
        samples: Number of rows to draw from `data`.

    Returns:
        A `SignalReport`, one row per layer in the order of the calls; its `inputs`
        describes the data, its `losses` what the loss is given. Where labels are none
        that the loss is made for, there are no gradients, and a finding that says so.

    Raises:
        DataError: The data are missing, empty, of the wrong shape; labels do not fit.
        UnsupportedLayerError: `layers` names a layer that does not exist.
    """
    check_flags(training=training)
    if loss is not None and y is None:
        raise DataError(
            "The gradient of a loss needs labels: pass them as `y`. "
            f"Received: loss={loss!r}, y=None"
        )
    selection = everything(model, layers)
    batch = draw_batch(
        model, data, samples, check_values=False, first_rows=y is not None
    )
    check_indices(model, batch)
    recorder = recorded(model, batch, selection, training)
    records = recorder.records
    gradients: dict[int, WeightGradient] = {}
    losses: Sequence[LossSignal] = ()
    if y is not None:
        kernels = [r.map.kernel for r in records if r.map is not None]
        targets = shared_batch(model, labels_of(y, data, batch))
        losses = loss_signals(model, loss, targets)
        if not any(map(unusable, losses)):
            gradients, outputs = weight_gradients(
                model, selection, batch, targets, loss, kernels, training
            )
            losses = with_outputs(losses, outputs)
    led = outputs_led_to(model)
    before = _normalisations(selection, records)
    biases = _bias_means(records, before)
    columns = records, biases, histograms([x.values for x in records])
    signals = [
        row_of(record, gradients, led.get(record.layer, ()), bias, histogram)
        for record, bias, histogram in zip(*columns, strict=True)
    ]
    signals = _with_normalisations(model, signals, before)
    signals = _with_broken(model, signals)
    signals += _uncalled(selection, records)
    report = SignalReport(
        signals,
        title=f"Signal in {model.name!r}",
        notes=[*[NOISE] * (data is None)]
        + [
            f"{layer.name} is called {1 + n} times: its row is of the first call."
            for layer, n in recorder.repeats.items()
        ],
        plain=is_plain(model),
        bypassed=is_bypassed(selection.every),
        inputs=_inputs(model, batch),
        losses=losses,
    )
    return report.with_mirrors(_mirrors(model)) if report.findings else report


def _mirrors(model: keras.Model) -> bool:
    """Whether looks-linear kernels suit the model, and are not those that it has."""
    try:
        maps = [m for m, *_ in looks_linear_plan(model, select_all(model))]
    except KerasInitsError:
        return False
    links = links_of(maps)
    if not links:
        return True
    columns, _ = correlations(maps, links, lambda kernel: kernel.value)
    return not bool((fetch([columns])[0] < ALREADY).all())


def _normalisations(selection: Selection, records: Sequence[Record]) -> list[Layer]:
    """Whose output an activation takes that gets zeros, or of which a unit is dead."""
    asked = [
        r.map is None and (r.dead or _is_hushed(r) or _is_zero(r.signal))
        for r in records
    ]
    if not any(asked):
        return [None] * len(records)
    known = (x for x in selection.every if isinstance(x, NORMALISATIONS))
    behind = activations_behind(selection.every)
    before = {id(behind[id(x)]): x for x in known if id(x) in behind}
    several = zip(asked, records, strict=True)
    return [before.get(id(r.layer)) if ask else None for ask, r in several]


def _is_zero(signal: Moments | None) -> bool:
    return signal is not None and signal.mean == signal.variance == 0


def _is_hushed(record: Record) -> bool:
    signal, output = record.signal, record.output
    if signal is None or output is None:
        return False
    return bool(output.variance < HUSHED * HUSHED * signal.variance)


def _with_normalisations(
    model: keras.Model, signals: Sequence[LayerSignal], before: Sequence[Layer]
) -> list[LayerSignal]:
    """By name where `model.get_layer` finds them; else by path."""
    own = {id(x) for x in model.layers}
    names = [x and (x.name if id(x) in own else x.path) for x in before]
    several = zip(signals, names, strict=True)
    return [dataclasses.replace(x, normalised=n) if n else x for x, n in several]


def _bias_means(
    records: Sequence[Record], before: Sequence[Layer]
) -> list[float | None]:
    """Of biases that a signal contains, where a unit of the model is dead."""
    maps = [r.map if r.map is not None and r.map.in_hand else None for r in records]
    held = [getattr(x, "beta", None) for x in before]
    held = [h if m is None else m.bias for m, h in zip(maps, held, strict=True)]
    biases = [None if x is None else x.value for x in held]
    if not any(r.dead or _is_hushed(r) for r in records):
        return [None] * len(records)
    return [None if x is None else float(x.sum() / x.size) for x in fetch(biases)]


def _inputs(model: keras.Model, batch: Any) -> LayerSignal:
    """The data themselves: of several inputs all together, or the one that is off.

    Indices into a table are of any size, and left out where there is anything else.
    """
    arrays, paths = read(tree.flatten(batch)), array_paths(batch)
    if len(arrays) == 1:
        numeric = [x for x in arrays if x.dtype.kind in NUMBERS]
        return _data(paths[0] or "data", numeric, arrays[0], paths[0])
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
    return max(rows, key=_off, default=together) if any(map(_off, rows)) else together


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


def _off(row: LayerSignal) -> float:
    """How far its size is from 1 in powers of ten; 0 where that is not far."""
    size = math.hypot(row.mean or 0.0, row.std or 0.0)
    if not math.isfinite(size):
        return math.inf
    return 0.0 if INPUT_RMS[0] <= size <= INPUT_RMS[1] else abs(math.log10(size or 1.0))


def _with_broken(model: keras.Model, signals: list[LayerSignal]) -> list[LayerSignal]:
    """The first row that is not finite says which weight holds NaN or infinity."""
    for i, row in enumerate(signals):
        if not is_finite(row.mean, row.std, row.output_mean, row.output_std):
            broken = filter(_is_broken, _weights_up_to(row, model))
            path = next((v.path for v in broken), None)
            row = dataclasses.replace(row, broken=path)
            return [*signals[:i], row, *signals[i + 1 :]]
    return signals


def _weights_up_to(row: LayerSignal, model: keras.Model) -> list[keras.Variable]:
    """Of what comes before a layer, and its own; all where it has none."""
    own = [i for i, v in enumerate(model.weights) if v.path.startswith(f"{row.path}/")]
    return model.weights[: own[-1] + 1] if own else model.weights


def _is_broken(variable: keras.Variable) -> bool:
    return not np.isfinite(fetch([variable.value])[0]).all()


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
