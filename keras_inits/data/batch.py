"""A batch from whatever `fit` accepts.

- An array, a DataFrame, a list, tuple or dict of arrays, also nested: rows are drawn
  that are evenly spaced (data are often sorted).
- A `tf.data.Dataset`, `PyDataset`, `DataLoader` or generator: whole batches are drawn,
  until there are enough rows. Only batches whose rows have the shape of the first ones
  serve (text is often padded batch by batch).

A generator gives up the batches that were drawn from it, and no more; everything else
can be iterated again. None stands for an optional input that is missing, and ragged
rows of TensorFlow's are padded with zeros. Of a tuple `(x, y[, sample_weight])` only
`x` is used, both as `data` and as a batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_inits.data import inputs
from keras_inits.data.arrays import (
    arrays_of,
    as_array,
    each,
    in_own_order,
    inputs_of,
    is_complex,
    is_held,
    length,
    mapped,
    spaced,
    with_rows,
)
from keras_inits.data.frames import column_names
from keras_inits.distribution import is_global, shared_batch
from keras_inits.errors import DataError
from keras_inits.structure.naming import require_call

Batch = Any

# Batches without rows of the first one's shape that are passed over: enough to find
# more of them, and the end of a stream that has none.
OTHERS = 16

OF_A_TUPLE = (
    "The data are a tuple, (x, y[, sample_weight]), of which x alone is taken; several "
    "inputs go in a list: [x1, x2]."
)


def draw_batch(
    model: keras.Model,
    data: Any,
    samples: int = 256,
    *,
    check_values: bool = True,
    first_rows: bool = True,
) -> Batch:
    """At most `samples` rows of the inputs of `model`, in the structure of `data`.

    Args:
        model: Its inputs, where it knows them, say which shapes are expected.
        data: What `fit` accepts. None: rows of standard-normal inputs.
        samples: Number of rows, at least 1. A model with a fixed batch size gets
            exactly that many.
        check_values: Refuse NaN, infinity and constant data.
        first_rows: Of a stream, only rows from its first one on, which labels go with:
            stop at a batch whose rows have another shape. False: pass over such
            batches, up to 16.

    Returns:
        Arrays or tensors `(rows, ...)`, one for each input.

    Raises:
        KerasInitsError: The model has no `call`.
        DataError: No data, no rows, a shape or complex numbers that the model does not
            take.
        DegenerateDataError: NaN or infinity, or rows that are all the same.
    """
    check_request(data, samples)
    require_call(model)
    samples = inputs.fixed_rows(model) or int(samples)
    if data is None:
        batch = _standard_normal(model, samples)
    else:
        batch = rows(data, samples, first_rows=first_rows)
    try:
        inputs.check_shapes(model, batch)
    except DataError as error:
        raise DataError(f"{error} {OF_A_TUPLE}" if is_pair(data) else error) from None
    inputs.check_rows(model, batch)
    # Values of other processes cannot be looked at; the first layer's signal tells.
    if check_values and not any(map(is_global, arrays_of(batch))):
        inputs.check_values(batch, column_names(data))
    return shared_batch(model, batch)


def rows(
    data: Any, samples: int, *, first_rows: bool = True, name: str = "data"
) -> Batch:
    """At most `samples` rows from any source that `fit` accepts.

    Raises:
        DataError: No data, no rows; the message is about the argument `name`.
    """
    if isinstance(data, tuple):
        data = inputs_of(data)
    _require_source(data, name)
    if is_held(data):
        found = spaced(*with_rows(data, name), samples, name)
    else:
        found = _gathered(_batches(data), samples, first_rows, name)
    return each(in_own_order, found)


def check_request(data: Any, samples: Any) -> None:
    """Refuse what is no number of rows, or nothing to draw them from; draw none."""
    whole = isinstance(samples, (int, np.integer)) and not isinstance(samples, bool)
    if not whole or samples < 1:
        raise DataError(
            f"`samples` is a number of rows, at least 1. Received: samples={samples!r}"
        )
    if data is not None:
        _require_source(data, "data")


def _require_source(data: Any, name: str) -> None:
    source = is_held(data) or isinstance(data, (Iterable, _PyDataset))
    if not source or isinstance(data, (str, bytes, set)):
        hint = ". A callback gets the model from fit: LSUV(), LSUV(x)"
        raise DataError(
            f"`{name}` is what fit() accepts: an array, a list or dict of arrays, a "
            f"dataset, a loader or a generator. Received: {data!r} (of type "
            f"{type(data).__name__}){hint if isinstance(data, keras.Layer) else ''}"
        )


def is_pair(data: Any) -> bool:
    """Whether there is more in a tuple than the data."""
    return isinstance(data, tuple) and len(data) > 1


def labels_of(y: Any, data: Any, batch: Batch) -> Batch:
    """The labels of the rows that `rows` has drawn from `data`.

    Args:
        y: One row for each row of `data`; for a stream, from its first row on. An
            array `(samples, ...)`, a structure of them, or a stream of batches.
        data: What was drawn from.
        batch: What was drawn.

    Returns:
        Arrays or tensors `(rows, ...)`, in the structure of `y`.

    Raises:
        DataError: Rows and labels do not go together, or labels are complex.
    """
    if isinstance(y, tuple):  # one for each output
        y = y[0] if len(y) == 1 else list(y)
    count = length(batch)
    total = rows_held(data)
    if not is_held(y):
        found = rows(y, count, name="y")
        fits = length(found) == count and total in (None, count)
    else:
        labels, have = with_rows(y, "y")
        if total is None:
            found, fits = mapped(lambda v: as_array(v)[:count], labels), have >= count
        else:
            found, fits = spaced(labels, have, count, "y"), have == total
        found = each(in_own_order, found)
    shapes = [tuple(v.shape) for v in arrays_of(found)]
    if not fits:
        raise DataError(
            "`y` needs one row for each row of `data`, in its order. Received: labels "
            f"of shapes {shapes} as drawn, for data of {total or count} rows."
        )
    for v in filter(is_complex, arrays_of(found)):
        raise DataError(
            f"`y` takes real numbers. Received: labels of dtype {v.dtype}, of shape "
            f"{tuple(v.shape)}. Pass real and imaginary parts: "
            "np.stack([y.real, y.imag], -1)."
        )
    return found


def rows_held(data: Any) -> int | None:
    """How many rows arrays have; None of a stream."""
    x = inputs_of(data) if isinstance(data, tuple) else data
    return length(mapped(_with_shape, x)) if is_held(x) else None


def peek(source: Any) -> tuple[Any, Any]:
    """`(x,)` of the first batch that `fit` passes, and a source that still has it.

    Args:
        source: An iterator over batches, or a list of them.

    Returns:
        A tuple of one, because a bare tuple of inputs would be read as `(x, y)`.
    """
    if hasattr(source, "__next__"):
        batch = next(source)
        return (inputs_of(batch),), itertools.chain([batch], source)
    return (inputs_of(source[0]),), source


def _with_shape(x: Any) -> Any:
    return x if hasattr(x, "shape") else as_array(x)


_PyDataset = keras.utils.PyDataset


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


def _gathered(
    batches: Iterator[Any], samples: int, first_rows: bool, name: str
) -> Batch:
    """Whole batches until there are enough rows; nothing is drawn beyond."""
    parts: list[Any] = []
    have = others = 0
    for batch in batches:
        x = mapped(lambda v: as_array(v, name), inputs_of(batch))
        count = length(x, name)
        if count and (not parts or _row_shapes(x) == _row_shapes(parts[0])):
            parts.append(x)
            have += count
        elif count and first_rows:
            break
        else:
            others += 1
        if have >= samples or others == OTHERS:
            break
    if not have:
        raise DataError(
            f"`{name}` is empty: it gave no batch with rows. If it is a generator, it "
            "may be used up: make a new one."
        )
    joined = parts[0]
    if len(parts) > 1:
        joined = each(
            lambda *xs: np.concatenate([ops.convert_to_numpy(x) for x in xs]), *parts
        )
    return each(lambda x: x[:samples], joined)


def _row_shapes(batch: Batch) -> Any:
    return mapped(lambda x: tuple(x.shape[1:]), batch)


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
