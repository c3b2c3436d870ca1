"""Outputs of which a loss takes the softmax or the sigmoid itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras

from keras_inits.findings.loss_families import BINARY, CATEGORICAL, SPARSE, is_of_keras
from keras_inits.recording.loss_inputs import described, output_names, output_tensor
from keras_inits.records import LayerSignal, LossSignal
from keras_inits.structure.activations import is_shipped, put_out_by
from keras_inits.structure.selection import Selection


@dataclass(frozen=True)
class Logits:
    """An output that a loss takes for logits.

    Args:
        output: Its name.
        source: The layer, or the operation, that computes it.
        squashed: `"sigmoid"` or `"softmax"`: what the loss makes of it.
        only: Whether the model has no other output.
    """

    output: str
    source: Any
    squashed: str
    only: bool


def logits_of(model: keras.Model, loss: Any = None) -> list[Logits]:
    """Those of a model, as far as it says what its outputs come from.

    Args:
        model: The model.
        loss: What `compile` takes. None: what it has taken, if it has.
    """
    loss = getattr(model, "loss", None) if loss is None else loss
    names, found = output_names(model), []
    for name in names:
        squashed = _squashed(name, _of_output(loss, name, names))
        source = None if squashed is None else _source(model, name)
        if squashed is not None and source is not None:
            found.append(Logits(name, source, squashed, len(names) == 1))
    return found


def watch(selection: Selection, logits: Sequence[Logits]) -> None:
    """Look at outputs that no layer's row shows: sums of heads, products."""
    known = {id(x) for x in (*selection.layers, *selection.watched)}
    for x in logits:
        if id(x.source) not in known and is_shipped(x.source):
            selection.watched.append(x.source)


def with_logits(
    signals: Sequence[LayerSignal], sources: Sequence[Any], logits: Sequence[Logits]
) -> list[LayerSignal]:
    """What the loss makes of a row's output; `sources` are the rows' layers."""
    known = {id(x.source): x for x in logits}
    return [
        row if (x := known.get(id(source))) is None else _told(row, x)
        for row, source in zip(signals, sources, strict=True)
    ]


def _told(row: LayerSignal, x: Logits) -> LayerSignal:
    # An operation does not know which outputs it leads to.
    outputs = () if x.only else row.outputs or (x.output,)
    return replace(row, squashed=x.squashed, outputs=outputs)


def _of_output(loss: Any, name: str, names: Sequence[str]) -> Any:
    """The loss of one output; None where that is not sure."""
    if isinstance(loss, Mapping):
        return loss.get(name)
    if isinstance(loss, (list, tuple)):
        return loss[names.index(name)] if len(loss) == len(names) else None
    return loss


def _squashed(name: str, loss: Any) -> str | None:
    if loss is None:
        return None
    config, called = described(loss)
    row = LossSignal(output=name, loss=called, takes_logits=config.get("from_logits"))
    if not row.takes_logits or config.get("axis", -1) != -1:
        return None
    if is_of_keras(row, BINARY):
        return "sigmoid"
    return "softmax" if is_of_keras(row, CATEGORICAL, SPARSE) else None


def _source(model: Any, name: str) -> Any:
    """None where the model does not say it."""
    if isinstance(model, keras.Sequential):
        return put_out_by(model)
    try:
        return put_out_by(model, output_tensor(model, name))
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
