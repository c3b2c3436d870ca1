"""The results of a program: in few arrays, each of which costs time, and back."""

from __future__ import annotations

import enum
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops, tree

Tensor = Any

# Tensors of at most this many values share one array: one of their own takes longer.
SMALL = 1024


class Packing:
    """How tensors lie in few arrays: small ones in one vector, large ones by shape.

    Args:
        tensors: Such as will be packed: their shapes and dtypes count.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        tensors = list(tensors)
        dtypes = {keras.backend.standardize_dtype(x.dtype) for x in tensors}
        self._dtype = "float64" if "float64" in dtypes else "float32"
        self._shapes = [tuple(x.shape) for x in tensors]
        places: dict[tuple[int, ...] | None, list[int]] = defaultdict(list)
        for i, shape in enumerate(self._shapes):
            places[shape if math.prod(shape) > SMALL else None].append(i)
        self._small = places.pop(None, [])
        self._stacks = list(places.values())

    def pack(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """These arrays, in float32 or float64."""
        cast = [ops.cast(x, self._dtype) for x in tensors]
        vector = [ops.reshape(cast[i], (-1,)) for i in self._small]
        stacks = [ops.stack([cast[i] for i in places]) for places in self._stacks]
        return [*([ops.concatenate(vector)] if vector else []), *stacks]

    def unpack(self, arrays: Iterable[Tensor]) -> list[Any]:
        """The tensors, as NumPy arrays."""
        found: list[Any] = [None] * len(self._shapes)
        rest, at = map(np.asarray, arrays), 0
        vector = next(rest) if self._small else np.zeros(0)
        numbers = vector.tolist()
        for i in self._small:
            shape = self._shapes[i]
            size = math.prod(shape)
            part = numbers[at] if not shape else vector[at : at + size].reshape(shape)
            found[i] = part
            at += size
        for places, stack in zip(self._stacks, rest, strict=True):
            for i, x in zip(places, stack, strict=True):
                found[i] = x
        return found


@dataclass
class Packed:
    """A program that returns packed tensors, and behind them some that stay.

    Args:
        compiled: From arguments to arrays.
        packing: Of these arrays.
        staying: How many of the last ones stay.
    """

    compiled: Callable[..., list[Tensor]]
    packing: Packing
    staying: int

    def __call__(self, arguments: tuple[Any, ...]) -> Callable[[], list[Any]]:
        """Begin; what this returns waits for the results."""
        found = list(self.compiled(*arguments))
        packed = found[: len(found) - self.staying]
        return lambda: [*self.packing.unpack(packed), *found[len(packed) :]]


@dataclass
class Stays:
    """A result that is not read: it stays a tensor, where it is."""

    tensor: Tensor


class Form:
    """How results lie in a structure: None and numbers among the tensors.

    Args:
        results: Lists and tuples of such.
    """

    def __init__(self, results: Any) -> None:
        self._structure = tree.map_structure(lambda _: None, results)
        leaves = tree.flatten(results)
        self._leaves = [x if _is_plain(x) else _place_of(x) for x in leaves]
        self.staying = self._leaves.count(_Place.STAYING)
        self._read = self._leaves.count(_Place.READ)

    def tensors(self, results: Any) -> list[Tensor]:
        """The tensors among them, at last those that stay."""
        leaves = [x for x in tree.flatten(results) if not _is_plain(x)]
        staying = [x.tensor for x in leaves if isinstance(x, Stays)]
        return [*(x for x in leaves if not isinstance(x, Stays)), *staying]

    def of(self, arrays: Sequence[Any]) -> Any:
        """The structure, with these arrays in the tensors' places.

        None in those of what would stay, where it has not been made.
        """
        read, staying = iter(arrays[: self._read]), iter(arrays[self._read :])
        found = {_Place.READ: read, _Place.STAYING: staying}
        leaves = (
            next(found[x], None) if isinstance(x, _Place) else x for x in self._leaves
        )
        return _filled(self._structure, leaves)


def refilled(x: Any, attributes: dict[str, Any]) -> Any:
    """A copy of a plain object with these attributes in place of its own.

    As `dataclasses.replace` and `copy.copy`, in a fifth of their time.
    """
    new = object.__new__(type(x))
    vars(new).update(vars(x))
    vars(new).update(attributes)
    return new


class _Place(enum.Enum):
    READ = enum.auto()
    STAYING = enum.auto()


def _place_of(leaf: Any) -> _Place:
    return _Place.STAYING if isinstance(leaf, Stays) else _Place.READ


def _is_plain(leaf: Any) -> bool:
    return leaf is None or isinstance(leaf, (int, float))


def _filled(structure: Any, leaves: Iterator[Any]) -> Any:
    """As `tree.pack_sequence_as`, of lists and tuples, in a tenth of its time."""
    if not isinstance(structure, (list, tuple)):
        return next(leaves)
    parts = [_filled(x, leaves) for x in structure]
    kind = type(structure)
    return kind(*parts) if hasattr(kind, "_fields") else kind(parts)
