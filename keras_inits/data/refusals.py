"""What to say where a model refuses the batch that it is called with.

A Functional model says which inputs it takes, and is asked before (`inputs`). One with
a `call` of its own says it by the error of whatever layer comes first.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import keras

from keras_inits.data.arrays import arrays_of, length
from keras_inits.data.batch import OF_A_TUPLE, is_pair, rows_held
from keras_inits.data.inputs import expected_inputs
from keras_inits.errors import DataError, KerasInitsError

# Of a longer message, with arrays printed in it, the part from "expected" on.
LONG = 300


@contextlib.contextmanager
def explained(
    model: keras.Model, batch: Any, again: Callable[[], Any] | None = None
) -> Iterator[None]:
    """Around a call of a model: where it refuses the batch, say what it takes.

    Args:
        model: One that is called within.
        batch: What it is called with.
        again: Calls it once more, with nothing of ours in the way: whose fault it was.
            None: nothing of ours is.

    Raises:
        DataError: The model does not take the batch. Whatever else goes wrong within
            is raised as it is.
    """
    built = (model.get_build_config() or {}).get("input_shape")
    try:
        yield
    except (KerasInitsError, MemoryError):
        raise
    except Exception as error:
        if expected_inputs(model) or (again is not None and _goes_well(again)):
            raise
        raise DataError(_message(model, batch, built, error)) from error


@contextlib.contextmanager
def told_of_rows(data: Any, batch: Any) -> Iterator[None]:
    """Around a pass: an error of the model's own says that not all data were used.

    A graph has its nodes as rows, and does without none of them; several inputs that
    come as a tuple are read as data and labels.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, DataError) and is_pair(data):
            error.add_note(OF_A_TUPLE)
        ours = isinstance(error, KerasInitsError) and error.__cause__ is None
        total = None if ours or data is None else rows_held(data)
        if total is not None and length(batch) < total:
            error.add_note(
                f"keras_inits has drawn {length(batch)} of the {total} rows of the "
                "data. Where rows belong together, as the nodes of a graph do, pass "
                f"samples={total}."
            )
        raise


def require_steps(layer: Any, share: Any) -> None:
    """Refuse a signal of which a mask leaves nothing.

    Args:
        layer: Whose it is.
        share: Of its steps, those that a mask leaves; None where there is no mask.

    Raises:
        DataError: There are none.
    """
    if share is not None and share == 0:
        raise DataError(
            f"Layer {layer.name!r} ({type(layer).__name__}): a mask leaves out every "
            "step of these data, so that it has no signal. Pass rows with steps that "
            "are not padding: behind Embedding(mask_zero=True) indices above 0, behind "
            "Masking steps that are not mask_value throughout."
        )


def _goes_well(call: Callable[[], Any]) -> bool:
    try:
        call()
    except Exception:
        return False
    return True


def _message(model: keras.Model, batch: Any, built: Any, error: Exception) -> str:
    takes = f" It was built for inputs of shape {built}." if built else ""
    shapes = [tuple(x.shape) for x in arrays_of(batch)]
    received = f"shape {shapes[0]}" if len(shapes) == 1 else f"shapes {shapes}"
    return (
        f"Model {model.name!r} cannot be called with this batch, with or without "
        f"keras_inits: {_reason(error)}{takes} Received: data of {received}. If "
        "its `call` takes other data, pass those: lsuv_init(model, data); in `fit`, "
        "where it is given what `call` does not take (a GAN called on latents), "
        "keras_inits.LSUV(data)."
    )


def _reason(error: Exception) -> str:
    """The gist of a message: without Keras's frame, its colours, printed arrays."""
    text = re.sub(r"\x1b\[\d*m", "", str(error))
    text = re.sub(r"^Exception encountered when calling .*\n", "", text)
    text = " ".join(text.split("\n\nArguments received by")[0].split())
    text = re.sub(r"torch\.Size\(\[(.*?)\]\)", r"(\1)", text)
    told = list(re.finditer("expected", text, re.IGNORECASE))
    if len(text) > LONG:
        text = text[told[-1].start() :] if told else text[-LONG:]
    return f"{type(error).__name__}: {text.rstrip('.')}."
