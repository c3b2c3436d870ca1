"""Convolutions: plain, grouped, depthwise, separable, transposed."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from keras_inits.linear_maps.base import LinearMap, Tensor, lora_factors, own_weight
from keras_inits.linear_maps.registry import register_linear_map


def _channel_axes(layer: Any) -> tuple[int, ...]:
    return (-1,) if layer.data_format == "channels_last" else (1,)


def convolution(layer: Any) -> LinearMap:
    """Kernel `(*field, inputs / groups, filters)`."""
    rank = layer.rank
    return LinearMap(
        layer,
        own_weight(layer, "kernel"),
        receptive_axes=tuple(range(rank)),
        input_axes=(rank,),
        output_axes=(rank + 1,),
        channel_axes=_channel_axes(layer),
        groups=layer.groups,
        bias=layer.bias,
        extra_kernels=lora_factors(layer, "kernel"),
    )


def transposed_convolution(layer: Any) -> LinearMap:
    """Kernel `(*field, filters, inputs)`; a stride spreads the field over outputs."""
    rank = len(layer.kernel_size)
    return LinearMap(
        layer,
        own_weight(layer, "kernel"),
        receptive_axes=tuple(range(rank)),
        input_axes=(rank + 1,),
        output_axes=(rank,),
        channel_axes=_channel_axes(layer),
        stride=math.prod(layer.strides),
        bias=layer.bias,
    )


def depthwise_convolution(layer: Any) -> LinearMap:
    """Kernel `(*field, channels, multiplier)`: each channel is a map of its own."""
    rank = len(layer.kernel_size)
    return LinearMap(
        layer,
        own_weight(layer, "kernel"),
        receptive_axes=tuple(range(rank)),
        input_axes=(),
        group_axes=(rank,),
        output_axes=(rank + 1,),
        channel_axes=_channel_axes(layer),
        bias=layer.bias,
        initializer="depthwise_initializer",
    )


def separable_convolution(layer: Any) -> tuple[LinearMap, LinearMap]:
    """The depthwise stage, looked at on the side, then the pointwise one."""
    rank = len(layer.kernel_size)
    depthwise = own_weight(layer, "depthwise_kernel")

    def stage(inputs: Tensor) -> Tensor:
        return ops.depthwise_conv(
            inputs,
            ops.cast(depthwise, inputs.dtype),
            strides=layer.strides,
            padding=layer.padding,
            dilation_rate=layer.dilation_rate,
            data_format=layer.data_format,
        )

    first = LinearMap(
        layer,
        depthwise,
        receptive_axes=tuple(range(rank)),
        input_axes=(),
        group_axes=(rank,),
        output_axes=(rank + 1,),
        channel_axes=_channel_axes(layer),
        initializer="depthwise_initializer",
        probe=stage,
    )
    second = LinearMap(
        layer,
        own_weight(layer, "pointwise_kernel"),
        receptive_axes=tuple(range(rank)),
        input_axes=(rank,),
        output_axes=(rank + 1,),
        channel_axes=_channel_axes(layer),
        bias=layer.bias,
        initializer="pointwise_initializer",
        stage=first,
    )
    return first, second


for _rank in ("1D", "2D", "3D"):
    register_linear_map(getattr(keras.layers, f"Conv{_rank}"))(convolution)
    register_linear_map(getattr(keras.layers, f"Conv{_rank}Transpose"))(
        transposed_convolution
    )
for _rank in ("1D", "2D"):
    register_linear_map(getattr(keras.layers, f"DepthwiseConv{_rank}"))(
        depthwise_convolution
    )
    register_linear_map(getattr(keras.layers, f"SeparableConv{_rank}"))(
        separable_convolution
    )
