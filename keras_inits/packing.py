"""The results of one program in few arrays: each transfer takes its time."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

Tensor = Any

# Results of at most this many values come back in one array: a transfer takes longer.
SMALL = 1024


def packed(tensors: Sequence[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Small tensors in one vector, large ones stacked by shape."""
    dtypes = {keras.backend.standardize_dtype(x.dtype) for x in tensors}
    dtype = "float64" if "float64" in dtypes else "float32"
    small, large = [ops.zeros((0,), dtype)], defaultdict(list)
    for x in tensors:
        if math.prod(x.shape) > SMALL:
            large[str(tuple(x.shape))].append(ops.cast(x, dtype))
        else:
            small.append(ops.cast(ops.reshape(x, (-1,)), dtype))
    stacks = {shape: ops.stack(alike) for shape, alike in large.items()}
    return ops.concatenate(small), stacks


def _unpacked(
    small: Tensor, stacks: dict[str, Tensor], shapes: Sequence[tuple[int, ...]]
) -> Iterator[Any]:
    """What was packed, as NumPy arrays."""
    flat, at = np.asarray(small), 0
    large = {key: iter(np.asarray(x)) for key, x in stacks.items()}
    for shape in shapes:
        if str(shape) in large:
            yield next(large[str(shape)])
        else:
            size = math.prod(shape)
            yield flat[at : at + size].reshape(shape)
            at += size


@dataclass
class Packed:
    """One program for a whole pass, its results in few arrays."""

    compiled: Any
    shapes: list[tuple[int, ...]]

    def __call__(self, arguments: tuple[Any, ...]) -> Iterable[Any]:
        """Run it."""
        small, stacks = self.compiled(*arguments)
        return _unpacked(small, stacks, self.shapes)
