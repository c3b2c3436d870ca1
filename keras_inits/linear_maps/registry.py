"""Which adapter describes which layer class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_inits.errors import UnsupportedLayerError
from keras_inits.linear_maps.base import Adapter, LinearMap, own_weight

_ADAPTERS: dict[type, Adapter] = {}


def register_linear_map(layer_class: type) -> Callable[[Adapter], Adapter]:
    """Let a user's own layer join in.

    A layer that computes `self.activation(x @ self.kernel + self.bias)` over the
    last axis, with attributes of these names (`bias` and `activation` may be missing
    or None), needs no more than the call. Anything else is described by an adapter,
    which the call decorates; it returns one `LinearMap` or a tuple of them.

    Example:

        keras_inits.register_linear_map(MyDense)

        @keras_inits.register_linear_map(Mixer)
        def mixer(layer):
            return keras_inits.LinearMap(
                layer, layer.mix, input_axes=(0,), output_axes=(1,),
                channel_axes=(1,), bias=layer.mix_bias,
            )

    Args:
        layer_class: A subclass of `keras.layers.Layer`. Its subclasses are described
            by the same adapter as long as they do not override `call` (of
            convolutions, `convolution_op`; the property `kernel`).

    Returns:
        A decorator for the adapter `(layer) -> LinearMap | tuple of LinearMap`.

    Raises:
        UnsupportedLayerError: `layer_class` is not a class of layers.
    """
    if not (isinstance(layer_class, type) and issubclass(layer_class, keras.Layer)):
        raise UnsupportedLayerError(
            "register_linear_map needs a subclass of keras.layers.Layer. "
            f"Received: layer_class={layer_class!r}"
        )
    _ADAPTERS[layer_class] = _by_attributes

    def register(adapter: Adapter) -> Adapter:
        _ADAPTERS[layer_class] = adapter
        return adapter

    return register


def _by_attributes(layer: keras.layers.Layer) -> LinearMap:
    """The map of a layer with attributes `kernel`, `bias` and `activation`."""
    kernel = getattr(layer, "kernel", None)
    if not isinstance(kernel, keras.Variable):
        kernel = own_weight(layer, "kernel")
    if kernel is None or len(kernel.shape) < 2:
        raise UnsupportedLayerError(
            f"Layer {layer.name!r} ({type(layer).__name__}) was registered without an "
            "adapter, which needs an attribute `kernel` with at least two axes. "
            f"Received: kernel={kernel!r}. Decorate an adapter with "
            f"@register_linear_map({type(layer).__name__}) that returns a LinearMap."
        )
    last = len(kernel.shape) - 1
    return LinearMap(
        layer,
        kernel,
        input_axes=tuple(range(last)),
        output_axes=(last,),
        bias=getattr(layer, "bias", None),
    )


def registered() -> set[type]:
    """The classes that an adapter describes."""
    return set(_ADAPTERS)


# What a layer computes with; `convolution_op` is Keras's hook for convolutions.
_COMPUTING = frozenset({"call", "convolution_op", "kernel"})


def adapter_of(layer: Any) -> Adapter | None:
    """The adapter for `layer`, or None where no registered class describes it.

    A subclass that overrides `call`, or what the parent's calls for it, may compute
    anything (a kernel that it standardises has no scale): its parent's adapter does
    not speak for it.
    """
    for ancestor in type(layer).__mro__:
        if ancestor in _ADAPTERS:
            return _ADAPTERS[ancestor]
        if not _COMPUTING.isdisjoint(vars(ancestor)):
            return None
    return None


def linear_maps(layer: Any) -> tuple[LinearMap, ...]:
    """The linear maps of a built layer, in the order in which it applies them."""
    adapter = adapter_of(layer)
    if adapter is None:
        return ()
    maps = adapter(layer)
    several = maps if isinstance(maps, tuple) else (maps,)
    if not all(isinstance(m, LinearMap) for m in several):
        raise UnsupportedLayerError(
            f"The adapter that register_linear_map has for {type(layer).__name__} "
            f"returns a LinearMap, or a tuple of them. Received: {maps!r} for layer "
            f"{layer.name!r}."
        )
    return several
