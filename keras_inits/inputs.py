"""What a model takes, and whether a batch is fit for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_inits.errors import DataError, DegenerateDataError

Batch = Any


def expected_inputs(model: keras.Model) -> list[tuple[str, tuple[Any, ...], str]]:
    """Name, shape and dtype of each input that the model knows of."""
    return [
        (name, tuple(x.shape), keras.backend.standardize_dtype(x.dtype))
        for name, x in _input_tensors(model)
    ]


def input_structure(model: keras.Model) -> Any:
    """The inputs in the structure that the model was made with, None if unknown."""
    try:
        if isinstance(model, keras.Sequential):
            return model.inputs[0]
        return model.input
    except (AttributeError, ValueError, IndexError, TypeError):
        return None


def _input_tensors(model: keras.Model) -> list[tuple[str, Any]]:
    structure = input_structure(model)
    if structure is None:
        return []
    if isinstance(structure, Mapping):
        return list(structure.items())
    return [(x.name, x) for x in tree.flatten(structure)]


def check_shapes(model: keras.Model, batch: Batch) -> None:
    expected = expected_inputs(model)
    if not expected:
        return
    if isinstance(batch, Mapping):
        missing = sorted(name for name, _, _ in expected if name not in batch)
        if missing:
            raise DataError(
                f"Model {model.name!r} takes inputs {[e[0] for e in expected]}. "
                f"Received: a dict with keys {sorted(batch)}; missing: {missing}."
            )
        arrays = [batch[name] for name, _, _ in expected]
    else:
        arrays = tree.flatten(batch)
    if len(arrays) != len(expected):
        raise DataError(
            f"Model {model.name!r} takes {len(expected)} inputs. Received: "
            f"{len(arrays)} arrays of shapes {[tuple(x.shape) for x in arrays]}. Pass "
            "one array for each input, in a list or a dict by input name."
        )
    for (name, shape, dtype), x in zip(expected, arrays, strict=True):
        if _is_text(x) and dtype != "string":
            raise DataError(
                f"Input {name!r} of {model.name!r} takes numbers ({dtype}). Received: "
                f"text, in an array of shape {tuple(x.shape)}. Encode it first, or "
                "begin the model with a TextVectorization layer."
            )
        if not _fits(shape, tuple(x.shape)):
            raise DataError(
                f"Input {name!r} of {model.name!r} takes shape {shape}. Received: "
                f"data of shape {tuple(x.shape)}. Rows come first: (samples, ...)."
            )


def _is_text(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind in "OSU"


def _fits(expected: tuple[Any, ...], got: tuple[int, ...]) -> bool:
    def same(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
        return len(a) == len(b) and all(
            x is None or x == y for x, y in zip(a[1:], b[1:], strict=True)
        )

    # Keras itself adds or drops a last axis of size 1.
    return (
        same(expected, got)
        or same(expected, (*got, 1))
        or (got[-1:] == (1,) and same(expected, got[:-1]))
    )


def check_values(batch: Batch) -> None:
    """NaN, infinity and constant inputs, said before any layer is run."""
    constant = []
    for position, x in enumerate(tree.flatten(batch)):
        array = ops.convert_to_numpy(x) if ops.is_tensor(x) else x
        if array.dtype.kind in "OSU":
            return  # text for a preprocessing layer
        if array.dtype.kind not in "iubf":  # bfloat16
            array = array.astype("float32")
        _check_finite(array, position)
        same_rows = len(array) > 1 and bool((array == array[:1]).all())
        constant.append(same_rows or bool((array == array.flat[0]).all()))
    if all(constant):
        raise DegenerateDataError(
            "`data` is constant: all rows are the same, so that no layer has a signal "
            f"whose variance could be set. Received: shapes "
            f"{[tuple(np.shape(x)) for x in tree.flatten(batch)]}. Pass a batch of "
            "your real data, or data=None for standard-normal inputs."
        )


def _check_finite(array: np.ndarray[Any, Any], position: int) -> None:
    bad = ~np.isfinite(array)
    if bad.any():
        first = tuple(np.argwhere(bad)[0])
        raise DegenerateDataError(
            f"`data` holds {int(bad.sum())} values that are not finite; the first is "
            f"{array[first]} in row {first[0]} of the {len(array)} rows that were "
            f"drawn of input {position}. Clean the data first: "
            "np.isfinite(x).all() must hold."
        )
