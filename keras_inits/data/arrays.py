"""Arrays in memory, in any structure of dicts, lists and tuples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from keras import ops, tree

from keras_inits.distribution import interleaved
from keras_inits.errors import DataError

Structure = Any

# Values that are looked at together: temporaries that stay in the cache.
BLOCK = 2**16


def is_held(data: Any) -> bool:
    """Whether data are in memory; otherwise they are a stream of batches."""
    return _is_array(data) or isinstance(data, (Mapping, list, tuple))


def inputs_of(batch: Any) -> Any:
    """`x` of `(x, y[, sample_weight])`; a batch that is no tuple is `x` itself."""
    if isinstance(batch, (tuple, list)):
        if not batch:
            raise DataError("`data` gave an empty batch. Received: ()")
        return batch[0]
    return batch


def mapped(function: Callable[[Any], Any], data: Structure) -> Structure:
    """`function` of each array, in the structure of `data`.

    A list or tuple that holds anything but arrays is one array: rows of numbers. An
    optional input may be missing: None stays None.
    """
    if _is_missing(data):
        return None
    if isinstance(data, Mapping):
        return {name: mapped(function, x) for name, x in data.items()}
    if _is_several(data):
        parts = [mapped(function, x) for x in data]
        return parts if isinstance(data, list) else tuple(parts)
    return function(data)


def each(function: Callable[..., Any], *batches: Structure) -> Structure:
    """`function` of each array of a batch, or of those of several like it."""
    return tree.map_structure(
        lambda *xs: None if xs[0] is None else function(*xs), *batches
    )


def arrays_of(batch: Structure) -> list[Any]:
    """All arrays of a batch, without the optional inputs that are missing."""
    return [x for x in tree.flatten(batch) if x is not None]


def length(arrays: Structure, name: str = "data") -> int:
    """Number of rows `n` of arrays `(n, ...)`; 0 where one of them has none.

    Raises:
        DataError: The arrays differ in their number of rows.
    """
    flat = arrays_of(arrays)
    lengths = {int(x.shape[0]) if len(x.shape) else 0 for x in flat}
    if len(lengths) > 1 and 0 not in lengths:
        raise DataError(
            f"All arrays of `{name}` need the same number of rows. Received: shapes "
            f"{[tuple(x.shape) for x in flat]}."
        )
    return min(lengths, default=0)


def with_rows(data: Structure, name: str = "data") -> tuple[Structure, int]:
    """`data` as arrays `(n, ...)`, SciPy's sparse ones as they are, and `n`.

    Raises:
        DataError: No arrays, no rows, not the same number of rows in all of them.
    """
    held = mapped(partial(_by_rows, name=name), data)
    total = length(held, name)
    if not total:
        raise DataError(
            f"`{name}` holds no rows. Received: shapes "
            f"{[tuple(x.shape) for x in arrays_of(held)]}. Pass at least one sample."
        )
    return held, total


_TENSORS = ("jax", "jaxlib", "tensorflow", "torch")


def _by_rows(x: Any, name: str) -> Any:
    """As it is where rows can be drawn of it before it is read; else an array."""
    if _is_sparse(x):
        return x.tocsr()
    lazy = hasattr(x, "iloc") or (hasattr(x, "__array__") and hasattr(x, "ndim"))
    known = isinstance(x, np.ndarray) or ops.is_tensor(x) or _is_per_replica(x)
    # Tensors of another backend take no lists of rows.
    known = known or type(x).__module__.partition(".")[0] in _TENSORS
    rows = bool(getattr(x, "shape", ())) and hasattr(x, "__getitem__")
    return x if lazy and rows and not known else as_array(x, name)


def spaced(
    arrays: Structure, total: int, samples: int, name: str = "data"
) -> Structure:
    """At most `samples` of `total` rows, evenly spaced, as dense arrays.

    Raises:
        DataError: A row is not made of numbers or text.
    """
    if total <= samples:
        return mapped(partial(as_array, name=name), arrays)
    chosen = np.arange(samples) * total // samples

    def rows(x: Any) -> Any:
        if ops.is_tensor(x):
            return ops.take(x, chosen, axis=0)
        return (x.iloc if hasattr(x, "iloc") else x)[chosen]

    return mapped(lambda x: as_array(rows(x), name), arrays)


def as_array(x: Any, name: str = "data") -> Any:
    """Dense tensors as they are; frames, lists and scalars as NumPy arrays.

    Rows of several lengths, in a `tf.RaggedTensor`, are padded with zeros.

    Raises:
        DataError: `x`, a part of the argument `name`, is not made of numbers or text.
    """
    if _is_sparse(x):
        return x.toarray()
    if type(x).__name__ == "RaggedTensor":
        return x.to_tensor()
    if ops.is_tensor(x):
        sparse = type(x).__name__ in ("BCOO", "SparseTensor")
        return ops.convert_to_tensor(x, sparse=False) if sparse else x
    if _is_per_replica(x):
        return interleaved([ops.convert_to_numpy(part) for part in x.values])
    try:
        array = np.asarray(x)
    except ValueError as error:
        raise DataError(f"`{name}` is not an array: {error}") from error
    if array.dtype != object or all(isinstance(v, str) for v in array.flat):
        return array
    if not hasattr(x, "to_numpy"):
        raise DataError(
            f"`{name}` holds Python objects, not numbers. "
            f"Received: {type(x).__name__} of dtype object. Convert it with "
            f"np.asarray({name}, 'float32'), or pass a list of arrays of one length."
        )
    try:  # a frame with columns of several types
        return np.asarray(x.to_numpy(dtype="float32"))
    except (TypeError, ValueError) as error:
        raise DataError(
            f"`{name}` is a {type(x).__name__} with values that are no numbers: "
            f"{error}. Encode them first, such as by pandas.get_dummies({name}), or "
            "leave their columns out."
        ) from error


def in_own_order(x: Any) -> Any:
    """An array with its bytes in the order of the machine: backends take no other."""
    if isinstance(x, np.ndarray) and not x.dtype.isnative:
        return x.astype(x.dtype.newbyteorder("="))
    return x


def mean_and_deviation(arrays: Iterable[np.ndarray[Any, Any]]) -> tuple[float, float]:
    """Over all values of several arrays of numbers, in float64; of none 0 and 0.

    Block by block: the batch of a model of images takes gigabytes in float64.
    """
    count, mean, squares = 0, 0.0, 0.0
    with np.errstate(all="ignore"):
        for array in arrays:
            for block in _blocks(array):
                values = block.astype("float64")
                own, before = float(values.mean()), count
                values -= own
                count += values.size
                step = own - mean
                mean += step * values.size / count
                squares += float(np.square(values, out=values).sum())
                squares += step * step * (before * values.size / count)
    return mean, math.sqrt(squares / max(1, count))


def column_figures(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Mean and deviation for each entry of the last axis: `(columns, 2)`."""
    rows = array.reshape(-1, array.shape[-1])
    step = max(1, BLOCK // rows.shape[1])
    blocks = [rows[i : i + step] for i in range(0, len(rows), step)]
    with np.errstate(all="ignore"):
        means = sum(x.sum(axis=0, dtype="float64") for x in blocks) / len(rows)
        squares = sum(np.square(x - means).sum(axis=0) for x in blocks) / len(rows)
    return np.stack([means, np.sqrt(squares)], axis=1)


def all_finite(array: np.ndarray[Any, Any]) -> bool:
    """Whether no value is NaN or infinite."""
    return all(bool(np.isfinite(block).all()) for block in _blocks(array))


def all_alike(array: np.ndarray[Any, Any]) -> bool:
    """Whether the entries along the first axis are all the same, and several."""
    first, last = array[:1], array[-1:]
    return len(array) > 1 and bool((first == last).all() and (array == first).all())


def _blocks(array: np.ndarray[Any, Any]) -> Iterator[np.ndarray[Any, Any]]:
    flat = array.ravel(order="K")  # a copy only where values lie apart
    return (flat[i : i + BLOCK] for i in range(0, flat.size, BLOCK))


def is_complex(x: Any) -> bool:
    """Whether an array or a tensor holds complex numbers."""
    return "complex" in str(x.dtype)


def _is_several(data: Any) -> bool:
    """Whether a list or tuple is a structure of arrays; otherwise it is one array."""
    if not isinstance(data, (list, tuple)):
        return False
    given = [x for x in data if not _is_missing(x)]
    return bool(given) and all(
        _has_rows(x) or isinstance(x, Mapping) or _is_several(x) for x in given
    )


def _is_missing(x: Any) -> bool:
    """No array: None, for which a `tf.data.Dataset` has an `Optional` without value."""
    # Of the type: a frame may have a column of that name.
    return x is None or (hasattr(type(x), "has_value") and not bool(x.has_value()))


def _has_rows(x: Any) -> bool:
    return _is_array(x) and len(getattr(x, "shape", (None,))) > 0


def _is_array(x: Any) -> bool:
    if isinstance(x, np.ndarray) or ops.is_tensor(x):
        return True
    if _is_sparse(x) or _is_per_replica(x):
        return True
    return hasattr(x, "__array__") and hasattr(x, "shape")


def _is_sparse(x: Any) -> bool:
    """A SciPy matrix: rows are drawn before zeros are filled in."""
    return hasattr(x, "toarray") and hasattr(x, "tocsr")


def _is_per_replica(x: Any) -> bool:
    """A distributed batch of TensorFlow, one part for each replica."""
    if hasattr(x, "iloc"):  # those of a frame would be made
        return False
    return isinstance(getattr(x, "values", None), tuple)
