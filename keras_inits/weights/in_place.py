"""Kernels multiplied where they are: without a second copy of the model."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from keras_inits.backends import fused_arithmetic, loaded
from keras_inits.distribution import laid_out_like
from keras_inits.statistics.moments import widen
from keras_inits.weights.interrupts import ATTEMPTS, insist, undisturbed
from keras_inits.weights.sharing import unshared

Tensor = Any
Pair = tuple[keras.Variable, Tensor]

# So many alike kernels are multiplied one by one when such a set comes first.
MANY = 16
MOST_SEEN = 256
_SEEN: set[tuple[Any, ...]] = set()
# Bytes of new kernels that a pass may make beside the old ones.
BESIDE = 2**26


def multiply(base: Tensor, factor: Tensor) -> Tensor:
    """The product, in the dtype of the kernel."""
    dtype = keras.backend.standardize_dtype(base.dtype)
    return keras.ops.cast(widen(base) * factor, dtype)


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

    On TensorFlow alone: elsewhere kernels are multiplied in their own memory.
    """
    values = sum(math.prod(v.shape) for v in variables)
    return keras.backend.backend() == "tensorflow" and 4 * values <= BESIDE


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


class InReusedMemory:
    """Every new kernel in the memory of the old one: JAX.

    Arrays do not change there, but a program may take over the memory of what it is
    given. Where somebody else holds an old kernel, the new one lies beside it.
    """

    def __init__(self, pairs: Sequence[Pair]) -> None:
        alone = set(map(id, unshared([v for v, _ in pairs])))
        self.own = [pair for pair in pairs if id(pair[0]) in alone]
        self.held = [pair for pair in pairs if id(pair[0]) not in alone]
        self.written = False

    def __call__(self) -> None:
        """Multiply: all, or none where there is no memory for those held elsewhere."""
        beside = _products(self.held)
        runs = _runs(self.own)
        with undisturbed():
            values = [*beside, *(x for run in runs for x in _products(run, reuse=True))]
            self.written = True  # there is no way back
            _write([*self.held, *(pair for run in runs for pair in run)], values)


def _runs(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """Those that one program multiplies: all; for the first time many alike by one.

    That takes a quarter of the time to compile, and in each call 30 us more a kernel.
    Only the first run is compiled when it is called, and so can fail.
    """
    kinds = tuple(_kind(v.value, factor) for v, factor in pairs)
    counts = Counter(kinds)
    many = {kind for kind, n in counts.items() if kind and n >= MANY}
    if kinds in _SEEN or not many:
        return [list(pairs)]
    if len(_SEEN) >= MOST_SEEN:
        _SEEN.clear()
    _SEEN.add(kinds)
    for kind in many:
        variable, factor = pairs[kinds.index(kind)]
        zeros = np.zeros(variable.shape, variable.value.dtype)
        fused_arithmetic(_multiply_all, **_REUSE)(
            [loaded().device_put(zeros)], [factor]
        )
    others = [x for x, kind in zip(pairs, kinds, strict=True) if kind not in many]
    alike = [[x] for x, kind in zip(pairs, kinds, strict=True) if kind in many]
    return [others, *alike]


def _kind(value: Any, factor: Any) -> tuple[Any, ...]:
    """Equal for those that share a program; () for arrays on several devices."""
    if len(value.sharding.device_set) > 1:
        return ()
    whose = [getattr(x, name, None) for x in (value, factor) for name in _KIND]
    return (*whose, type(factor))


_KIND = ("shape", "dtype", "sharding", "weak_type")


def _products(pairs: Sequence[Pair], *, reuse: bool = False) -> list[Tensor]:
    if not pairs:
        return []
    bases, factors = [v.value for v, _ in pairs], [x for _, x in pairs]
    if not reuse:
        # Where there is no memory for them, that has to be known now.
        values = list(map(fused_arithmetic(multiply), bases, factors))
        return list(loaded().block_until_ready(values))
    options = {**_REUSE}
    if any(len(x.sharding.device_set) > 1 for x in bases):
        options["out_shardings"] = tuple(x.sharding for x in bases)
    return list(fused_arithmetic(_multiply_all, **options)(bases, factors))


_REUSE: dict[str, Any] = {"donate_argnums": 0}


def _multiply_all(bases: list[Tensor], factors: list[Tensor]) -> tuple[Tensor, ...]:
    return tuple(map(multiply, bases, factors))


def _write(pairs: Sequence[Pair], values: Sequence[Tensor]) -> None:
    """Whatever goes wrong, each of them; the first error comes afterwards."""
    first: BaseException | None = None
    for (variable, _), value in zip(pairs, values, strict=True):
        for _ in range(ATTEMPTS):
            try:
                variable.assign(laid_out_like(variable, value))
                break
            except BaseException as error:
                first = first or error
    if first is not None:
        raise first


def in_place(pairs: Sequence[Pair]) -> InMemory | InReusedMemory:
    """`variable *= factor` for every pair, ready to be called."""
    kind = InReusedMemory if keras.backend.backend() == "jax" else InMemory
    return kind(pairs)
