"""What a loss is given for each output: labels and predictions, in figures."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_inits.backends import fetch, read
from keras_inits.data.arrays import all_alike, mean_and_deviation
from keras_inits.findings.loss import RANGES, columns
from keras_inits.records import Finding, LossSignal
from keras_inits.statistics.moments import widen
from keras_inits.structure.activations import (
    ACTIVATION_LAYERS,
    activation_name,
    applied_last,
    is_shipped,
)
from keras_inits.structure.walking import nodes_of

Tensor = Any


@contextlib.contextmanager
def loss_unbuilt(model: keras.Model) -> Iterator[None]:
    """A compiled loss builds itself at its first call, with metrics for the model.

    After the block it is as before: `fit` is to build it, not a look at the model.
    """
    own = getattr(model, "_compile_loss", None)
    if own is None or getattr(own, "built", True):
        yield
        return
    before = dict(vars(own))
    try:
        yield
    finally:
        vars(own).update(before)
        own.metrics.clear()


def seen_of(predicted: Any) -> list[list[Tensor]]:
    """Of each output: smallest and largest value, and how far sums are from 1.

    Args:
        predicted: What a model puts out, in any structure.

    Returns:
        [] where one of them is no tensor of numbers: a distribution, None.
    """
    outputs, found = tree.flatten(predicted), []
    if not all(ops.is_tensor(y) and "complex" not in str(y.dtype) for y in outputs):
        return []
    for tensor in outputs:
        y = widen(ops.stop_gradient(tensor))
        sums = ops.sum(y, axis=-1) if len(y.shape) > 1 else y
        found.append([ops.min(y), ops.max(y), ops.max(ops.abs(sums - 1.0))])
    return found


def loss_signals(model: keras.Model, loss: Any, targets: Any) -> list[LossSignal]:
    """What can be said before the model is run; [] where labels and losses differ.

    Args:
        model: The model.
        loss: What `compile` takes. None: what it has taken.
        targets: Labels, in the structure that the losses have.
    """
    loss = getattr(model, "loss", None) if loss is None else loss
    flat = tree.flatten(targets)  # of a dict, in whatever order its keys are
    given = iter(read([y for y in flat if y is not None]))
    arrays = [None if y is None else next(given) for y in flat]
    names = _named(model, targets)
    losses = _each(loss, targets, len(arrays))
    if names is None or losses is None:
        return []
    several = zip(names, losses, arrays, strict=True)
    return [
        _of_labels(model, name, loss, y)
        for name, loss, y in several
        if loss is not None and y is not None and y.size
    ]


def with_outputs(
    signals: Sequence[LossSignal], seen: Sequence[Sequence[Any]]
) -> tuple[LossSignal, ...]:
    """The same with what `seen_of` has seen, where there is one for each."""
    if len(seen) != len(signals):
        return tuple(signals)
    found = []
    for signal, row in zip(signals, seen, strict=True):
        smallest, largest, off_one = map(float, fetch(row))
        new = dataclasses.replace(
            signal, output_min=smallest, output_max=largest, off_one=off_one
        )
        found.append(new)
    return tuple(found)


def misfits(loss: Any, targets: Any, predicted: Any) -> list[Finding]:
    """What is wrong with the shapes, once the outputs are there.

    Args:
        loss: What `compile` has taken.
        targets: Labels.
        predicted: What the model puts out.
    """
    shapes = [
        [(None, *y.shape[1:]) for y in tree.flatten(x)] for x in (targets, predicted)
    ]
    losses = _each(loss, targets, len(shapes[0]))
    if losses is None or len(shapes[0]) != len(shapes[1]):
        return []
    found = []
    for i, (loss_of_one, y, output) in enumerate(zip(losses, *shapes, strict=True)):
        config, called = described(loss_of_one)
        row = LossSignal(
            output=f"output {i}",
            loss=called,
            takes_logits=config.get("from_logits"),
            units=output[-1],
            labels_shape=y,
            output_shape=output if config.get("axis", -1) == -1 else None,
        )
        found += columns(row)
    return found


def _named(model: Any, targets: Any) -> list[str] | None:
    """The outputs that the labels are for; None where that is not sure."""
    names = output_names(model)
    if not isinstance(targets, (Mapping, list, tuple)):
        return names if len(names) == 1 else [model.name]
    outputs = getattr(model, "output", None) if names else None
    if isinstance(targets, Mapping):
        alike = isinstance(outputs, Mapping) and set(outputs) == set(targets)
        found = [str(path[0]) for path, _ in tree.flatten_with_path(targets)]
    else:
        alike, found = isinstance(outputs, (list, tuple)), names
    return found if alike and len(found) == len(targets) else None


def output_names(model: Any) -> list[str]:
    """Of the outputs, those of layers as a rule; [] where the model knows none."""
    if isinstance(model, keras.Sequential):
        return [model.layers[-1].name]
    return list(getattr(model, "output_names", None) or [])


def _each(loss: Any, targets: Any, count: int) -> list[Any] | None:
    """The loss of each output, in the order of the labels."""
    if isinstance(loss, Mapping):
        if not (isinstance(targets, Mapping) and set(loss) == set(targets)):
            return None
        return [loss[path[0]] for path, _ in tree.flatten_with_path(targets)]
    if isinstance(loss, (list, tuple)):
        fits = len(loss) == count and not isinstance(targets, Mapping)
        return list(loss) if fits else None
    return [loss] * count


def _of_labels(model: Any, name: str, loss: Any, y: Any) -> LossSignal:
    layer = _layer(model, name)
    activation, shape = _applied(layer), _shape(model, name)
    config, called = described(loss)
    last = config.get("axis", -1) == -1
    ignored = config.get("ignore_class")
    kept = y.ravel() if ignored is None else y[y != ignored]
    numbers = kept if kept.size and kept.dtype.kind in "fiub" else np.zeros(1)
    mean, std = mean_and_deviation([numbers])
    low, high = RANGES.get(activation or "", (-np.inf, np.inf))
    with np.errstate(invalid="ignore"):  # of infinity nothing is left over
        fractional = float((numbers % 1 != 0).mean())
    return LossSignal(
        output=name,
        loss=called,
        takes_logits=config.get("from_logits") if last else None,
        ignored=ignored,
        activation=activation,
        activations=_activations(model, name),
        units=shape[-1] if shape and last else None,
        labels_min=float(numbers.min()),
        labels_max=float(numbers.max()),
        labels_mean=mean,
        labels_std=std,
        labels_outside=float(((numbers < low) | (numbers > high)).mean()),
        labels_fractional=fractional,
        labels_alike=all_alike(y),
        labels_shape=(None, *y.shape[1:]),
        output_shape=shape if last else None,
    )


def _applied(layer: Any) -> str | None:
    """The activation that the output comes out of, where that is sure."""
    if not is_shipped(layer):
        return None  # what a user's own has in `activation` may be inside it
    name = activation_name(layer)
    return None if name == "linear" and type(layer) in ACTIVATION_LAYERS else name


def _layer(model: Any, name: str) -> Any:
    """The layer, or the operation of a graph, of this name."""
    try:
        return model.get_layer(name)
    except (AttributeError, ValueError):
        called = (node.operation for node in nodes_of(model))
        return next((x for x in called if x.name == name), None)


def _shape(model: Any, name: str) -> Any:
    """Of one output, where the model knows it."""
    try:
        return tuple(output_tensor(model, name).shape)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _activations(model: Any, name: str) -> tuple[str, ...]:
    """Those that one output comes out of, where the model knows them."""
    try:
        return applied_last(model, output_tensor(model, name))
    except (AttributeError, KeyError, TypeError, ValueError):
        return ()


def output_tensor(model: Any, name: str) -> Any:
    """The tensor of this name among the outputs of a graph."""
    tensors = zip(output_names(model), tree.flatten(model.outputs), strict=True)
    return dict(tensors)[name]


def described(loss: Any) -> tuple[dict[str, Any], str]:
    """Its options and its name; of a function the options are those by default."""
    try:
        loss = keras.losses.get(loss)
        of_keras = type(loss).__module__.startswith("keras.")
        if isinstance(loss, keras.losses.Loss):
            known = loss.get_config() if of_keras else {}
            given = getattr(loss, "_fn_kwargs", {})  # not all of it is in the config
            default = {"from_logits": False} if of_keras else {}
            return {**default, **given, **known}, type(loss).__name__
    except Exception:  # whatever it is, the gradient of it fails and says so
        return {}, str(loss)
    of_keras = getattr(loss, "__module__", "").startswith("keras.")
    known = {"from_logits": False} if of_keras else {}
    return known, getattr(loss, "__name__", type(loss).__name__)
