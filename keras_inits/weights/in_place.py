"""Kernels multiplied where they are: without a second copy of the model."""

from __future__ import annotations

import contextlib
import itertools
import math
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras

from keras_inits.backends import fused_arithmetic, loaded
from keras_inits.distribution import laid_out_like
from keras_inits.statistics.moments import widen

Tensor = Any
Pair = tuple[keras.Variable, Tensor]

# Bytes of kernels that are multiplied together where each takes new memory.
PART = 2**26
# Interrupts that are overheard in a row.
ATTEMPTS = 100


def multiply(base: Tensor, factor: Tensor) -> Tensor:
    """The product, in the dtype of the kernel."""
    dtype = keras.backend.standardize_dtype(base.dtype)
    return keras.ops.cast(widen(base) * factor, dtype)


def insist(function: Callable[..., Any], *arguments: Any) -> None:
    """Call what must not stay half done, and does the same again: interrupts wait."""
    for _ in range(ATTEMPTS):
        with contextlib.suppress(KeyboardInterrupt):
            function(*arguments)
            return


def can_multiply_in_place(variable: keras.Variable) -> bool:
    """Whether `in_place` takes it: on PyTorch and JAX, where nothing is in the way."""
    backend, module = keras.backend.backend(), loaded()
    plain = type(variable).assign is keras.Variable.assign
    if not plain or backend not in ("jax", "torch"):
        return False
    value = variable.value
    if backend == "jax":
        return isinstance(value, module.Array) and value.is_fully_addressable
    plain = type(value) in (module.Tensor, module.nn.Parameter)
    wide = value.dtype in (module.float32, module.float64)
    return plain and wide and value.is_contiguous() and not value.is_inference()


def may_lie_beside(variables: Iterable[keras.Variable]) -> bool:
    """Whether a pass may make new values, which lie beside the old until written.

    On PyTorch none are made: kernels are multiplied where they lie.
    """
    values = sum(math.prod(v.shape) for v in variables)
    return keras.backend.backend() != "torch" and 4 * values <= PART


class InMemory:
    """Every kernel in its own memory: PyTorch.

    Once begun, all of them are multiplied: it cannot fail, and an interrupt waits.
    """

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.tensors = [v.value for v, _ in pairs]
        self.factors = [factor for _, factor in pairs]
        self.versions = [x._version for x in self.tensors]

    @property
    def written(self) -> bool:
        """Whether it has begun, and so is done."""
        pairs = zip(self.tensors, self.versions, strict=True)
        return any(x._version != version for x, version in pairs)

    def __call__(self) -> None:
        """Multiply."""
        if not self.tensors:
            return
        module = loaded()
        with module.no_grad():
            try:
                # No line of Python between them, where no mode of torch adds one.
                deque(map(module.Tensor.mul_, self.tensors, self.factors), maxlen=0)
            except BaseException:
                insist(self._multiply_rest)
                raise

    def _multiply_rest(self) -> None:
        columns = self.tensors, self.factors, self.versions
        for x, factor, version in zip(*columns, strict=True):
            if x._version == version:
                x.mul_(factor)


class InParts:
    """Some new kernels at a time: JAX, whose arrays stay as they are.

    The memory of old ones is free for the next, where nobody else holds them. The
    largest comes first: where there is no memory for it, nothing has changed. Small
    models are one part, of which the old kernels are kept until all are written.
    """

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.pairs = sorted(pairs, key=lambda pair: -pair[0].value.nbytes)
        self.before = [weakref.ref(v.value) for v, _ in self.pairs]
        small = sum(v.value.nbytes for v, _ in pairs) <= PART
        self.kept = [v.value for v, _ in self.pairs] if small else None
        self.written = False

    def __call__(self) -> None:
        """Multiply: all, or none; of several parts, the rest after an interrupt."""
        try:
            self._multiply()
        except BaseException:
            if self.kept is not None:
                for (variable, _), value in zip(self.pairs, self.kept, strict=True):
                    insist(variable.assign, value)
            elif self._pairs(done=True):
                with contextlib.suppress(BaseException):
                    insist(self._multiply)
                if not self.written:
                    self._divide()
            raise

    def _pairs(self, *, done: bool) -> list[Pair]:
        columns = zip(self.pairs, self.before, strict=True)
        return [pair for pair, old in columns if (pair[0].value is not old()) == done]

    def _multiply(self) -> None:
        _multiply_in_parts(self._pairs(done=False))
        self.written = True

    def _divide(self) -> None:
        """Back to the old values, but for rounding: those are gone."""
        _multiply_in_parts([(v, 1.0 / factor) for v, factor in self._pairs(done=True)])


def _multiply_in_parts(pairs: Sequence[Pair]) -> None:
    ends = list(itertools.accumulate(v.value.nbytes for v, _ in pairs))
    parts = itertools.groupby(range(len(pairs)), lambda i: (ends[i] - 1) // PART)
    for _, part in parts:
        some = [pairs[i] for i in part]
        bases, factors = [v.value for v, _ in some], [x for _, x in some]
        values = fused_arithmetic(_multiply_all)(bases, factors)
        if ends[-1] > PART:
            # Or the next part would take memory before this one has left it, and one
            # that there is no memory for would be noticed too late.
            loaded().block_until_ready(values)
        for (variable, _), value in zip(some, values, strict=True):
            variable.assign(laid_out_like(variable, value))


def _multiply_all(bases: list[Tensor], factors: list[Tensor]) -> list[Tensor]:
    return list(map(multiply, bases, factors))


def in_place(pairs: Sequence[Pair]) -> InMemory | InParts:
    """`variable *= factor` for every pair, ready to be called."""
    kind = InParts if keras.backend.backend() == "jax" else InMemory
    return kind(pairs)
