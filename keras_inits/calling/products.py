"""`W x + b` of Keras's own layers, by the backend's own operations.

They are those that `layer.call` leads to. A Dense layer comes to them after 0.06 ms,
in which it finds out about dtypes and devices; a convolution on PyTorch after it has
copied its inputs, channels last, to channels first and back again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import keras
from keras import layers

from keras_inits.backends import is_hooked, loaded, tensor_type
from keras_inits.calling.shortcuts import is_plain, name_of
from keras_inits.linear_maps import ACTIVATION_OFF, LinearMap


def products(
    maps: Mapping[layers.Layer, tuple[LinearMap, ...]],
) -> dict[layers.Layer, Product]:
    """The `Product` of each layer that has one.

    Args:
        maps: Layers of a model, not replaced in any way by us, and their maps.
    """
    backend = keras.backend.backend()
    if backend == "jax" or keras.distribution.distribution() is not None or is_hooked():
        return {}
    kinds = PRODUCTS if backend == "torch" else {layers.Dense: Product}
    kinds = {k: v for k, v in kinds.items() if all(_as_shipped(k))}
    return {
        layer: kinds[type(layer)](layer, own[0])
        for layer, own in maps.items()
        if type(layer) in kinds and len(own) == 1 and _serves(layer, own[0])
    }


class Product:
    """`W x + b` of a Dense layer.

    Args:
        layer: A layer whose `call` does no more than that, and its activation.
        m: Its linear map.
    """

    def __init__(self, layer: Any, m: LinearMap) -> None:
        self.layer, self.kernel, self.bias = layer, m.kernel, m.bias
        self.dtype = layer.compute_dtype
        self.module: Any = loaded()
        self.tensor: Any = tensor_type()
        # Keras would move what it takes to the device of the kernel (torch).
        on_torch = keras.backend.backend() == "torch"
        self.device = m.kernel.value.device if on_torch else None

    def takes(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether a call of the layer with these arguments is that product."""
        if len(args) != 1 or kwargs.keys() - {"training"}:
            return False
        x = args[0]
        return (
            self._is_own()
            and isinstance(x, self.tensor)
            and self._fits(len(x.shape))
            and name_of(x.dtype) == self.dtype
            and (self.device is None or x.device == self.device)
        )

    def __call__(self, x: Any) -> Any:
        """From `(..., inputs)` to `(..., units)`."""
        if self.device is not None and self.bias is not None and len(x.shape) == 2:
            return self.module.addmm(self.bias.value, x, self.kernel.value)
        z = self.module.matmul(x, self.kernel.value)
        return z if self.bias is None else z + self.bias.value

    def _is_own(self) -> bool:
        """Whether the layer computes with its variables: a wrapper may swap them."""
        return self.layer.kernel is self.kernel and self.layer.bias is self.bias

    def _fits(self, rank: int) -> bool:
        return rank >= 2


class Convolution(Product):
    """`W x + b` of a convolution, plain, grouped or depthwise, channels last: torch."""

    def __init__(self, layer: Any, m: LinearMap) -> None:
        super().__init__(layer, m)
        self.rank, functional = layer.rank, self.module.nn.functional
        self.convolve = getattr(functional, f"conv{self.rank}d")
        self.pad = functional.pad
        dense = {2: "channels_last", 3: "channels_last_3d"}
        self.layout = getattr(self.module, dense[self.rank])

    def __call__(self, x: Any) -> Any:
        """From `(batch, ..., inputs)` to `(batch, ..., channels)`."""
        space = range(self.rank)
        kernel = self.kernel.value
        if isinstance(self.layer, layers.DepthwiseConv2D):
            kernel = kernel.reshape(*kernel.shape[:-2], 1, -1)
        kernel = kernel.permute(self.rank + 1, self.rank, *space)
        x = x.permute(0, self.rank + 1, *(axis + 1 for axis in space))
        sides = list(self._sides(x.shape[2:], kernel.shape[2:]))
        padding: Any = [left for left, _ in sides]
        if any(left != right for left, right in sides):
            padding = 0
            x = self.pad(x, [side for pair in reversed(sides) for side in pair])
        z = self.convolve(
            x.contiguous(memory_format=self.layout),
            kernel.contiguous(memory_format=self.layout),
            None if self.bias is None else self.bias.value,
            stride=self.layer.strides,
            padding=padding,
            dilation=self.layer.dilation_rate,
            groups=x.shape[1] // kernel.shape[1],
        )
        return z.permute(0, *(axis + 2 for axis in space), 1)

    def _fits(self, rank: int) -> bool:
        return rank == self.rank + 2

    def _sides(
        self, shape: tuple[int, ...], field: tuple[int, ...]
    ) -> Iterator[tuple[int, int]]:
        """What is padded along each axis, before and after."""
        strides, dilations = self.layer.strides, self.layer.dilation_rate
        columns = shape, field, strides, dilations
        for size, width, stride, dilation in zip(*columns, strict=True):
            reach = (width - 1) * dilation + 1
            steps = -(-size // stride) - 1
            missing = max(0, steps * stride + reach - size)
            both = missing if self.layer.padding == "same" else 0
            yield both // 2, both - both // 2


PRODUCTS: dict[Any, type[Product]] = {
    layers.Dense: Product,
    layers.Conv2D: Convolution,
    layers.Conv3D: Convolution,
    layers.DepthwiseConv2D: Convolution,
}
# Somebody who replaces one of these, to count calls say, sees every call.
_NAMES = ("call", "convolution_op")
_SHIPPED = {
    kind: {name: getattr(kind, name, None) for name in _NAMES} for kind in PRODUCTS
}


def _as_shipped(kind: Any) -> Iterator[bool]:
    for name, function in _SHIPPED[kind].items():
        yield getattr(kind, name, None) is function


def _serves(layer: Any, m: LinearMap) -> bool:
    # The library's own map: not so where a user has registered one.
    described = m.off is ACTIVATION_OFF and m.activation is None and m.in_hand
    dtypes = {x.dtype for x in (m.kernel, m.bias) if x is not None}
    wide = dtypes == {layer.compute_dtype} and dtypes <= {"float32", "float64"}
    changed = getattr(layer, "lora_enabled", False) or any(
        name in vars(layer) for name in _NAMES
    )
    last = getattr(layer, "data_format", "channels_last") == "channels_last"
    return described and wide and last and not changed and is_plain(layer)
