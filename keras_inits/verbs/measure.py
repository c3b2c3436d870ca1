"""What the signal does in every layer: the same sweep, recording instead of solving."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import keras

from keras_inits.data.arrays import is_held
from keras_inits.data.batch import draw_batch, labels_of
from keras_inits.data.indices import check_indices
from keras_inits.data.input_rows import input_row, with_directions
from keras_inits.data.refusals import told_of_rows
from keras_inits.distribution import shared_batch
from keras_inits.errors import DataError, check_flags
from keras_inits.findings.loss import unusable
from keras_inits.histograms import histograms
from keras_inits.passes.programs import NOTHING
from keras_inits.recording.causes import (
    bias_means,
    could_be_mirrored,
    normalisations,
    with_broken,
    with_copies,
    with_normalisations,
    with_recurrence,
)
from keras_inits.recording.logits import logits_of, watch, with_logits
from keras_inits.recording.loss_inputs import loss_signals, with_outputs
from keras_inits.recording.one_pass import begun_with, recorded
from keras_inits.recording.recorder import Record, Recorder
from keras_inits.recording.rows import row_of
from keras_inits.recording.weight_gradients import WeightGradient, weight_gradients
from keras_inits.records import LayerSignal, LossSignal
from keras_inits.report import SignalReport
from keras_inits.structure.chains import is_plain
from keras_inits.structure.heads import outputs_led_to
from keras_inits.structure.naming import Layers
from keras_inits.structure.selection import Selection, covers, everything
from keras_inits.structure.turns import in_turn
from keras_inits.structure.walking import batch_norm, is_bypassed

NOISE = "No data were given: this is the signal of standard-normal noise."


@in_turn
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
            place, which says nothing of how your data are scaled. Steps that Keras's
            mask leaves out count nowhere.
        y: Labels for the rows of `data`, `(samples, ...)`, of several outputs in a list
            or dict; of a dataset, loader or generator, for its rows from the first one
            on. With them the report also has the gradient of the loss for every kernel.
        loss: What `model.compile` accepts: a loss, its name, a function, or a list or
            dict of these. None: the loss that the model was compiled with.
        layers: Names, layers or a predicate. None: every layer with a linear map,
            frozen ones too, Keras's activation layers, and sums or products that a
            compiled loss takes for logits.
        training: Run the layers in training mode.
        samples: Number of rows to draw from `data`.

    Returns:
        A `SignalReport`, one row per layer in the order of the calls, then those left
        out; a note names layers that hold kernels and have no linear map. Its `inputs`
        describes the data, its `losses` what the loss is given. Where labels are none
        that the loss is made for, there are no gradients, and a finding that says so.

    Raises:
        DataError: The data are missing, empty, of the wrong shape, all masked; labels
            do not fit.
        UnsupportedLayerError: `layers` names a layer that does not exist.
    """
    check_flags(training=training)
    if loss is not None and y is None:
        raise DataError(
            "The gradient of a loss needs labels: pass them as `y`. "
            f"Received: loss={loss!r}, y=None"
        )
    options = {"check_values": False, "first_rows": y is not None}
    draw = cache(partial(draw_batch, model, data, samples, **options))
    # A stream is not drawn from before it is known that the layers are there.
    ahead = begun_with(model, draw) if is_held(data) else NOTHING
    selection, logits = everything(model, layers), logits_of(model, loss)
    if layers is None:
        watch(selection, logits)
    batch = draw()
    check_indices(model, batch)
    with told_of_rows(data, batch):
        recorder = recorded(model, batch, selection, training, ahead)
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
    before = normalisations(selection, records)
    biases = bias_means(records, before)
    columns = records, biases, histograms([x.values for x in records])
    signals = [
        row_of(record, gradients, led.get(record.layer, ()), bias, histogram)
        for record, bias, histogram in zip(*columns, strict=True)
    ]
    signals = with_normalisations(model, signals, before)
    signals = with_copies(signals, records)
    signals = with_recurrence(signals, records)
    signals = with_logits(signals, [x.layer for x in records], logits)
    signals = with_broken(model, signals)
    signals += _uncalled(selection, records)
    inputs = input_row(model, batch, data)
    if any(x.directions for x in signals):
        inputs = with_directions(inputs, model, batch)
    return SignalReport(
        signals,
        title=f"Signal in {model.name!r}",
        notes=[
            *[NOISE] * (data is None),
            *_of_one_call(selection, recorder),
            *_not_looked_at(selection),
        ],
        plain=is_plain(model),
        bypassed=is_bypassed(selection.every),
        batch_norm=batch_norm(selection.every, training),
        inputs=inputs,
        losses=losses,
        mirrors=could_be_mirrored(model, selection),
        whole=covers(selection, [record.layer for record in records]),
    )


def _of_one_call(selection: Selection, recorder: Recorder) -> list[str]:
    """Notes on layers that are called several times."""
    called = {x.layer: 1 for x in recorder.records if selection.late[x.layer]}
    called.update((layer, 1 + n) for layer, n in recorder.repeats.items())
    notes = []
    for layer, n in called.items():
        late = selection.late[layer]
        which = f"call {1 + late}; before, it takes zeros" if late else "the first call"
        notes.append(f"{layer.name} is called {n + late} times: its row is of {which}.")
    return notes


def _not_looked_at(selection: Selection) -> list[str]:
    """A note on layers that hold kernels, with signals that nobody has seen."""
    names = [f"{x.name} ({type(x).__name__})" for x in selection.unseen]
    if not names:
        return []
    listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return [
        f"Not looked at: {listed}; no linear map is known, see "
        "keras_inits.register_linear_map."
    ]


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
