"""The masks that Keras's layers hand on: which steps of a sequence are real.

A tensor carries its mask unseen. A layer that takes an argument `mask` is told it, and
so are we, by such a layer of our own. Attention takes the masks off before it calls
its parts, and `TimeDistributed` merges steps into rows: their parts are told here. So
are those of a user's own layer, in whose `call` a sum carries nothing.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
from keras.layers import Layer

from keras_inits.linear_maps import LinearMap
from keras_inits.structure.walking import PLAIN, walk

Tensor = Any
Call = Callable[..., Any]

# The parts of attention, and whose mask lies on what each of them takes.
_PARTS = {
    "_query_dense": "query",
    "_gate_dense": "query",
    "_key_dense": "key",
    "_value_dense": "value",
    "_output_dense": "query",
}
_ATTENTION = (keras.layers.GroupQueryAttention, keras.layers.MultiHeadAttention)


class Masks:
    """Those of one pass.

    Args:
        every: All layers of a model. Where none makes masks, none is looked for but in
            the arguments of calls.
    """

    def __init__(self, every: Iterable[Layer]) -> None:
        self._thread = threading.get_ident()
        self._parts: dict[int, Tensor | None] = {}
        self._outer: Tensor | None = None
        self._reader: _Reader | None = None
        self._every = list(every)
        if any(map(makes_masks, self._every)):
            self._reader = _Reader()

    def calls(self) -> Iterator[tuple[Layer, Call]]:
        """Layers that call others, each with what replaces its `call`."""
        for layer in self._every if self._reader else ():
            if isinstance(layer, _ATTENTION):
                yield layer, self._here(layer, self._of_attention)
            elif not _is_of_keras(layer) and any(x is not layer for x in walk(layer)):
                yield layer, self._here(layer, self._of_own)

    def of(
        self,
        layer: Layer,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        maps: Iterable[LinearMap] = (),
    ) -> Tensor | None:
        """The mask of what a call of the layer takes; of a lookup, that it makes."""
        if id(layer) in self._parts:
            return self._parts[id(layer)]
        mask = kwargs.get("mask")
        if mask is not None:  # somebody's own, maybe: what comes after carries it
            self._reader = self._reader or _Reader()
            return mask[0] if isinstance(mask, (list, tuple)) else mask
        first = next(iter(args or kwargs.values()), None)
        if self._reader is None or first is None:
            return None
        if any(m.lookup for m in maps):
            made = getattr(layer, "mask_zero", False)
            return keras.ops.not_equal(first, 0) if made else None
        return self.beside(first)

    def beside(self, *several: Any) -> Tensor | None:
        """That of the first of several tensors that has one; of a list its first."""
        found = map(self._carried, several)
        return next((mask for mask in found if mask is not None), self._outer)

    @contextlib.contextmanager
    def told(self, parts: dict[Any, Tensor | None]) -> Iterator[None]:
        """For the time of a call, the masks of what its parts take."""
        before = self._parts
        self._parts = {**before, **{id(x): mask for x, mask in parts.items()}}
        try:
            yield
        finally:
            self._parts = before

    def _carried(self, tensors: Any) -> Tensor | None:
        return None if self._reader is None else self._reader.read(tensors)

    def _here(self, layer: Any, within: Callable[..., Any]) -> Call:
        """`layer.call` within a context, on this thread."""
        original: Call = layer.call

        def call(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != self._thread:
                return original(*args, **kwargs)
            with within(layer, original, args, kwargs):
                return original(*args, **kwargs)

        return call

    def _of_attention(
        self, layer: Any, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        given = inspect.signature(call).bind(*args, **kwargs).arguments
        query, value = given.get("query"), given.get("value")
        key = given.get("key")
        masks = {name: given.get(f"{name}_mask") for name in ("query", "value", "key")}
        if masks["query"] is None:
            masks["query"] = self.beside(query)
        if masks["value"] is None:
            same = value is query
            masks["value"] = masks["query"] if same else self._carried(value)
        if masks["key"] is None:
            same = key is None or key is value
            masks["key"] = masks["value"] if same else self._carried(key)
        return self.told({getattr(layer, k, None): masks[v] for k, v in _PARTS.items()})

    @contextlib.contextmanager
    def _of_own(
        self, layer: Any, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Iterator[None]:
        """Sums and products lose the mask: what has none has that of the whole."""
        before, self._outer = self._outer, self.of(layer, args, kwargs)
        try:
            yield
        finally:
            self._outer = before


class _Reader(Layer):
    """Is told the mask that a tensor carries: Keras has no public function for it."""

    def __init__(self) -> None:
        super().__init__(name="mask_reader", autocast=False)
        self.supports_masking = self.built = True

    def call(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        self.__dict__["found"] = mask  # unseen by Keras
        return inputs

    def read(self, tensors: Any) -> Tensor | None:
        """None where it carries none."""
        tensor = next(iter(keras.tree.flatten(tensors)), None)
        if not keras.ops.is_tensor(tensor):
            return None
        self(tensor)
        return self.__dict__.pop("found")


def makes_masks(layer: Any) -> bool:
    """Whether behind it there may be a mask where there was none."""
    if _is_of_keras(layer):
        is_masking = isinstance(layer, keras.layers.Masking)
        return is_masking or bool(getattr(layer, "mask_zero", False))
    return type(layer).compute_mask is not Layer.compute_mask


def _is_of_keras(layer: Any) -> bool:
    return type(layer) in PLAIN or type(layer).__module__.startswith("keras.")
