"""A batch from whatever `fit` accepts.

- An array, a list or dict of arrays, a DataFrame: evenly spaced rows are drawn (data
  are often sorted).
- A `tf.data.Dataset`, `PyDataset`, `DataLoader` or generator: whole batches are drawn,
  until there are enough rows.

A generator gives up the batches that were drawn from it, and no more; everything else
can be iterated again. Of a tuple `(x, y[, sample_weight])` only `x` is used, both as
`data` and as a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_inits import inputs
from keras_inits.distribution import interleaved, is_global, shared_batch
from keras_inits.errors import DataError

Batch = Any


def draw_batch(
    model: keras.Model, data: Any, samples: int = 256, *, check_values: bool = True
) -> Batch:
    """At most `samples` rows of the inputs of `model`, in the structure of `data`.

    Args:
        model: Its inputs, where it knows them, say which shapes are expected.
        data: What `fit` accepts. None: rows of standard-normal inputs.
        samples: Number of rows, at least 1. A model with a fixed batch size gets
            exactly that many.
        check_values: Refuse NaN, infinity and constant data.

    Returns:
        Arrays or tensors `(rows, ...)`, one for each input.

    Raises:
        DataError: No data, no rows, a shape that the model does not take.
        DegenerateDataError: NaN or infinity, or rows that are all the same.
    """
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
        raise DataError(
            f"`samples` is a number of rows, at least 1. Received: samples={samples!r}"
        )
    fixed = {
        shape[0] for _, shape, _ in inputs.expected_inputs(model) if shape and shape[0]
    }
    if fixed:
        samples = fixed.pop()
    batch = _standard_normal(model, samples) if data is None else rows(data, samples)
    inputs.check_shapes(model, batch)
    # Values of other processes cannot be looked at; the first layer's signal tells.
    if check_values and not any(map(is_global, tree.flatten(batch))):
        inputs.check_values(batch)
    return shared_batch(model, batch)


def rows(data: Any, samples: int) -> Batch:
    """At most `samples` rows from any source that `fit` accepts."""
    if isinstance(data, tuple):
        data = inputs_of(data)
    held = _held(data)
    if held is not None:
        drawn = _spaced(held, samples)
        if isinstance(data, Mapping):
            return dict(zip(data, drawn, strict=True))
        return drawn if _is_several(data) else drawn[0]
    if isinstance(data, (str, bytes, set)) or not isinstance(
        data, (Iterable, _PyDataset)
    ):
        raise DataError(
            "`data` is what fit() accepts: an array, a list or dict of arrays, a "
            "dataset, a loader or a generator. "
            f"Received: {data!r} (of type {type(data).__name__})"
        )
    return _gathered(_batches(data), samples)


def labels_of(y: Any, data: Any, batch: Batch) -> Batch:
    """The labels of the rows that `rows` has drawn from `data`.

    Args:
        y: One row for each row of `data`; for a stream, from its first row on.
        data: What was drawn from.
        batch: What was drawn.

    Raises:
        DataError: Rows and labels do not go together.
    """
    if isinstance(y, tuple):  # one for each output
        y = y[0] if len(y) == 1 else list(y)
    count = len(tree.flatten(batch)[0])
    labels = _held(y)
    held = _held(inputs_of(data) if isinstance(data, tuple) else data)
    have = None if labels is None else {_length(x) for x in labels}
    if held is None:  # its first rows
        found = rows(y, count) if labels is None else _first(y, count)
        have = {len(x) for x in tree.flatten(found)}
        need, fits = f"{count} rows", have == {count}
    else:
        total = _length(held[0])
        found = rows(y, count)
        need, fits = f"{total} rows", have == {total} or (have, count) == (None, total)
    if not fits:
        raise DataError(
            "`y` needs one row for each row of `data`, in its order. Received: labels "
            f"of shapes {[tuple(x.shape) for x in tree.flatten(found)]} as drawn, for "
            f"data of {need}."
        )
    return found


_PyDataset = keras.utils.PyDataset


def _held(data: Any) -> list[Any] | None:
    """The arrays that are in memory; None for a stream of batches."""
    if _is_array(data):
        return [data]
    if isinstance(data, Mapping):
        return list(data.values())
    if isinstance(data, list):
        return data if _is_several(data) else [_as_array(data)]
    return None


def _is_several(data: Any) -> bool:
    """Whether a list holds an array for each input; otherwise it is one array."""
    return isinstance(data, list) and bool(data) and all(map(_is_array, data))


def _length(x: Any) -> int:
    array = x if hasattr(x, "shape") else _as_array(x)
    return int(array.shape[0]) if len(array.shape) else 0


def _first(y: Any, count: int) -> Batch:
    if isinstance(y, list) and not _is_several(y):
        return _as_array(y)[:count]
    return tree.map_structure(lambda x: _as_array(x)[:count], y)


def _is_array(x: Any) -> bool:
    if isinstance(x, np.ndarray) or ops.is_tensor(x) or _is_sparse(x):
        return True
    if isinstance(getattr(x, "values", None), tuple):
        return True
    return hasattr(x, "__array__") and hasattr(x, "shape")


def _is_sparse(x: Any) -> bool:
    """A SciPy matrix: rows are drawn before zeros are filled in."""
    return hasattr(x, "toarray") and hasattr(x, "tocsr")


def _as_array(x: Any) -> Any:
    """Dense tensors as they are; frames, lists and scalars as NumPy arrays."""
    if _is_sparse(x):
        return x.toarray()
    if ops.is_tensor(x):
        sparse = type(x).__name__ in ("BCOO", "SparseTensor")
        return ops.convert_to_tensor(x, sparse=False) if sparse else x
    if isinstance(getattr(x, "values", None), tuple):  # one part for each replica
        return interleaved([ops.convert_to_numpy(part) for part in x.values])
    try:
        array = np.asarray(x)
    except ValueError as error:
        raise DataError(f"`data` is not an array: {error}") from error
    if array.dtype == object and hasattr(x, "to_numpy"):
        array = x.to_numpy(dtype="float32")
    text = array.dtype == object and all(isinstance(v, str) for v in array.flat)
    if array.dtype == object and not text:
        raise DataError(
            "`data` holds Python objects, not numbers. "
            f"Received: {type(x).__name__} of dtype object. Convert it with "
            "np.asarray(data, 'float32'), or pass a list of arrays of one length."
        )
    return array


def inputs_of(batch: Any) -> Any:
    """`x` of `(x, y[, sample_weight])`; a batch that is no tuple is `x` itself."""
    if isinstance(batch, (tuple, list)):
        if not batch:
            raise DataError("`data` gave an empty batch. Received: ()")
        return batch[0]
    return batch


def _spaced(arrays: list[Any], samples: int) -> list[Any]:
    arrays = [x.tocsr() if _is_sparse(x) else _as_array(x) for x in arrays]
    lengths = sorted({x.shape[0] if len(x.shape) else 0 for x in arrays})
    if not lengths or lengths[0] == 0:
        raise DataError(
            "`data` holds no rows. Received: shapes "
            f"{[tuple(x.shape) for x in arrays]}. Pass at least one sample."
        )
    if len(lengths) > 1:
        raise DataError(
            "All inputs need the same number of rows. Received: shapes "
            f"{[tuple(x.shape) for x in arrays]}."
        )
    total = lengths[0]
    if total > samples:
        chosen = np.arange(samples) * total // samples
        arrays = [
            ops.take(x, chosen, axis=0) if ops.is_tensor(x) else x[chosen]
            for x in arrays
        ]
    return list(map(_as_array, arrays))


def _batches(data: Any) -> Iterator[Any]:
    if isinstance(data, _PyDataset):
        count = data.num_batches
        index = 0
        while count is None or index < count:
            yield data[index]
            index += 1
    else:
        # Not `yield from`: that would close the user's generator along with this one.
        for batch in data:  # noqa: UP028
            yield batch


def _gathered(batches: Iterator[Any], samples: int) -> Batch:
    """Whole batches until there are enough rows; nothing is drawn beyond."""
    parts: list[Any] = []
    have = 0
    for batch in batches:
        x = tree.map_structure(_as_array, inputs_of(batch))
        parts.append(x)
        have += len(tree.flatten(x)[0])
        if have >= samples:
            break
    if not have:
        raise DataError(
            "`data` is empty: it gave no batch with rows. If it is a generator, it may "
            "be used up: make a new one."
        )
    joined = parts[0]
    if len(parts) > 1:
        joined = tree.map_structure(
            lambda *xs: np.concatenate([ops.convert_to_numpy(x) for x in xs]), *parts
        )
    return tree.map_structure(lambda x: x[:samples], joined)


def _standard_normal(model: keras.Model, samples: int) -> Batch:
    expected = inputs.expected_inputs(model)
    for name, shape, dtype in expected:
        if "float" not in dtype or None in shape[1:]:
            raise DataError(
                f"Random inputs need float inputs of known shape. Input {name!r} of "
                f"{model.name!r} has shape {shape}, dtype {dtype}. Pass a batch of "
                "your data: data=x_train."
            )
    if not expected:
        raise DataError(
            f"Model {model.name!r} does not say which inputs it takes. Pass a batch of "
            "your data: data=x_train."
        )
    # A private seed: the user's generators stay where they are.
    generator = np.random.default_rng(1511_06422)
    return tree.map_structure(
        lambda x: generator.standard_normal((samples, *x.shape[1:]), dtype="float32"),
        inputs.input_structure(model),
    )
