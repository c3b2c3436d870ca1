"""Labels and losses as they are typed: for one output, or for each of several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras

from keras_inits.commands.refusal import Refusal
from keras_inits.recording.loss_inputs import output_names

# The labels of one output; of several `y/NAME`.
SINGLE = "y"

Losses = str | dict[str, str]


def losses_of(typed: Sequence[str] | None) -> Losses | None:
    """One loss for all outputs, or one for each output that is named."""
    if typed is None:
        return None
    pairs = [text.rpartition("=") for text in typed]
    for *_, loss in pairs:
        _check(loss)
    if len(pairs) == 1 and not pairs[0][1]:
        return pairs[0][2]
    given = {name: loss for name, _, loss in pairs}
    if "" in given or len(given) < len(pairs):
        raise Refusal(
            "--loss is one loss, or OUTPUT=LOSS once for each output. Received: "
            f"{', '.join(typed)}"
        )
    return given


def is_label(name: str) -> bool:
    """Whether an array of this name holds labels."""
    return name.partition("/")[0] == SINGLE


def labels_of(
    model: keras.Model, arrays: Mapping[str, Any], path: str, losses: Losses
) -> tuple[Any, Any]:
    """Labels and losses in the structure of the outputs.

    Args:
        model: What is measured.
        arrays: Those of the data file.
        path: That file.
        losses: Those that were typed.
    """
    keys = _keys(model)
    if isinstance(losses, dict) and not set(losses) <= set(keys):
        outputs = _listed(keys) if keys else "without names"
        raise Refusal(
            f"the outputs of {model.name!r} are {outputs}. Received: --loss for "
            f"{_listed(sorted(losses))}"
        )
    if len(keys) < 2:
        _require([SINGLE], arrays, path)
        loss = losses if isinstance(losses, str) else next(iter(losses.values()))
        return arrays[SINGLE], loss
    each = losses if isinstance(losses, dict) else dict.fromkeys(keys, losses)
    _require([f"{SINGLE}/{key}" for key in each], arrays, path)
    labels = {key: arrays[f"{SINGLE}/{key}"] for key in each}
    if _is_dict(model):
        return labels, each
    return [labels.get(key) for key in keys], [each.get(key) for key in keys]


def _keys(model: keras.Model) -> list[str]:
    """Of a dict of outputs its keys, else the names of the outputs."""
    return list(model.output) if _is_dict(model) else output_names(model)


def _is_dict(model: keras.Model) -> bool:
    return isinstance(getattr(model, "output", None), Mapping)


def _require(names: Sequence[str], arrays: Mapping[str, Any], path: str) -> None:
    missing = [name for name in names if name not in arrays]
    if missing:
        raise Refusal(
            f"--loss needs the labels, as {_listed(names)} in {path}; missing: "
            f"{_listed(missing)}. Received: {_listed(sorted(arrays))}"
        )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _check(loss: str) -> None:
    try:
        keras.losses.get(loss)
    except (ValueError, TypeError) as error:
        raise Refusal(
            f"--loss is the name of a Keras loss. Received: {loss!r}"
        ) from error
