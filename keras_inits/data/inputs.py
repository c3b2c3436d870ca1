"""What a model takes, and whether a batch is fit for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import tree

from keras_inits.backends import read
from keras_inits.data.arrays import (
    all_alike,
    all_finite,
    arrays_of,
    is_complex,
    length,
)
from keras_inits.errors import DataError, DegenerateDataError
from keras_inits.findings.data_remedies import clean_data, in_columns
from keras_inits.structure.walking import walk

Batch = Any


def expected_inputs(model: keras.Model) -> list[tuple[str, tuple[Any, ...], str]]:
    """Name, shape and dtype of each input that the model knows of."""
    return [
        (name, tuple(x.shape), keras.backend.standardize_dtype(x.dtype))
        for name, x in _input_tensors(model)
    ]


def fixed_rows(model: keras.Model) -> int | None:
    """How many rows each batch has to have, None if any number will do.

    One row is what `model(x[:1])` leaves behind in a Sequential model, which takes
    other numbers too.
    """
    sizes = {shape[0] for _, shape, _ in expected_inputs(model) if shape and shape[0]}
    if sizes == {1} and isinstance(model, keras.Sequential):
        stateful = any(getattr(layer, "stateful", False) for layer in model.layers)
        return 1 if stateful else None
    return next(iter(sizes), None)


def check_rows(model: keras.Model, batch: Any) -> None:
    """Whether a batch has as many rows as a model keeps states for.

    Raises:
        DataError: It has fewer.
    """
    fixed, found = fixed_rows(model), length(batch)
    if fixed is None or found == fixed:
        return
    stateful = [x.name for x in walk(model) if getattr(x, "stateful", False)]
    if stateful:
        raise DataError(
            f"Layer {stateful[0]!r} keeps a state for each of {fixed} rows: the data "
            f"must have {fixed} rows at least. Received: {found} rows."
        )


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
        return list(_named(structure))
    return [(x.name, x) for x in tree.flatten(structure)]


def _named(structure: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Each array with its name: `"u"`, or where it is nested `"v/0"`."""
    if isinstance(structure, Mapping):
        items: Iterable[tuple[Any, Any]] = structure.items()
    elif isinstance(structure, (list, tuple)):
        items = enumerate(structure)
    else:
        yield above, structure
        return
    for key, part in items:
        yield from _named(part, f"{above}/{key}" if above else str(key))


def check_shapes(model: keras.Model, batch: Batch) -> None:
    """Arrays `(rows, ...)` against the shapes and dtypes that the model expects.

    Raises:
        DataError: An input is missing, or has a shape or dtype that is not expected.
    """
    expected = expected_inputs(model)
    if not any("complex" in dtype for _, _, dtype in expected):
        _check_real(model, batch)
    if not expected:
        return
    if isinstance(batch, Mapping):
        named = dict(_named(batch))
        missing = sorted(name for name, _, _ in expected if name not in named)
        if missing:
            raise DataError(
                f"Model {model.name!r} takes inputs {[e[0] for e in expected]}. "
                f"Received: a dict with keys {sorted(named)}; missing: {missing}."
            )
        arrays = [named[name] for name, _, _ in expected]
    else:
        arrays = tree.flatten(batch)
    if len(arrays) != len(expected):
        shapes = [tuple(np.shape(x)) for x in arrays]
        raise DataError(
            f"Model {model.name!r} takes {len(expected)} inputs. Received: "
            f"{len(arrays)} arrays of shapes {shapes}. Pass "
            "one array for each input, in a list or a dict by input name."
        )
    for (name, shape, dtype), x in zip(expected, arrays, strict=True):
        if x is None:
            _check_optional(model, name)
            continue
        if isinstance(x, np.ndarray) and x.dtype.kind in "mM":
            raise DataError(
                f"Input {name!r} of {model.name!r} takes numbers ({dtype}). Received: "
                f"times, in an array of dtype {x.dtype}. Pass numbers, such as days "
                "since a date: (x - x.min()) / np.timedelta64(1, 'D')."
            )
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
                f"{_how_to_batch(shape, tuple(x.shape))}"
            )


def _check_optional(model: keras.Model, name: str) -> None:
    # Of a dict of inputs the specs of Keras 3.9 do not say so.
    known = [*tree.flatten(model.input_spec), *model.layers]
    said = [getattr(x, "optional", None) for x in known if x.name == name]
    if False in said and True not in said:
        raise DataError(
            f"Input {name!r} of {model.name!r} takes data. Received: None. Pass an "
            "array, or build the model with keras.Input(..., optional=True)."
        )


def _check_real(model: keras.Model, batch: Batch) -> None:
    for x in filter(is_complex, arrays_of(batch)):
        raise DataError(
            f"Model {model.name!r} takes real numbers. Received: `data` of dtype "
            f"{x.dtype}, of shape {tuple(x.shape)}. Pass real and imaginary parts: "
            "np.stack([x.real, x.imag], -1). Or declare what the model takes: "
            "keras.Input(shape, dtype='complex64')."
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


def _how_to_batch(expected: tuple[Any, ...], got: tuple[int, ...]) -> str:
    """What to do with single samples, of which a stream's are joined here."""
    if len(got) + 1 != len(expected) or not _fits(expected[1:], got):
        return ""
    return " Single samples need an axis for the rows: x[None], dataset.batch(32)."


def check_values(batch: Batch, names: Mapping[int, Any]) -> None:
    """NaN, infinity and constant inputs, said before any layer is run.

    Args:
        batch: What the model is to be called with.
        names: For each array, by its place, those of its columns, if it has any.
    """
    constant = []
    paths = array_paths(batch)
    several = zip(paths, read(arrays_of(batch)), strict=True)
    for place, (path, array) in enumerate(several):
        if array.dtype.kind in "OSU":
            return  # text for a preprocessing layer
        _check_finite(array, path, names.get(place))
        constant.append(all_alike(array) or _is_constant(array))
    if all(constant):
        raise DegenerateDataError(
            "`data` is constant: all rows are the same, so that no layer has a signal "
            f"whose variance could be set. Received: shapes "
            f"{[tuple(np.shape(x)) for x in arrays_of(batch)]}. Pass a batch of "
            "your real data, or data=None for standard-normal inputs."
        )


def _is_constant(array: np.ndarray[Any, Any]) -> bool:
    value = array.flat[0]
    return bool(array.flat[-1] == value and (array == value).all())


def by_input(model: keras.Model, batch: Batch) -> list[tuple[Any, str | None, Any]]:
    """Each input tensor that a model knows of, with the path and array it is given.

    Args:
        model: One that takes the batch.
        batch: What has passed `check_shapes`.
    """
    arrays = _with_paths(batch)
    named = _input_tensors(model)
    if isinstance(batch, Mapping) and named:
        keys = ["/".join(map(str, path)) for path, _ in tree.flatten_with_path(batch)]
        by_name = dict(zip(keys, arrays, strict=True))
        arrays = [by_name[name] for name, _ in named]
    pairs = zip(named, arrays, strict=False)  # nothing is known: no names
    return [
        (tensor, path, array)
        for (_, tensor), (path, array) in pairs
        if array is not None
    ]


def array_paths(batch: Batch) -> list[str | None]:
    """`"data['u']"` for each array of a structure, None for the only one of none."""
    return [path for path, array in _with_paths(batch) if array is not None]


def _with_paths(batch: Batch) -> list[tuple[str | None, Any]]:
    keys = [
        ("".join(f"[{key!r}]" for key in path), array)
        for path, array in tree.flatten_with_path(batch)
    ]
    return [(f"data{key}" if key else None, array) for key, array in keys]


def _check_finite(
    array: np.ndarray[Any, Any], path: str | None, names: Sequence[Any] | None
) -> None:
    if not all_finite(array):
        bad = ~np.isfinite(array)
        first = tuple(np.argwhere(bad)[0])
        columns = np.flatnonzero(bad.any(axis=0)).tolist() if bad.ndim == 2 else []
        where = in_columns([i if names is None else names[i] for i in columns])
        raise DegenerateDataError(
            f"`data` holds {int(bad.sum())} values that are not finite{where}; the "
            f"first is {array[first]} in row {first[0]} of the {len(array)} rows that "
            f"were drawn{f' of {path}' if path else ''}. To clean the data, "
            f"{clean_data(path)}."
        )
