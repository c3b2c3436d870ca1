"""Dense, EinsumDense, Embedding, ReversibleEmbedding.

Attention layers need no adapter: their projections are EinsumDense layers that they
call, each met on its own.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import keras
from keras import ops

from keras_inits.linear_maps.base import (
    LinearMap,
    identity,
    lora_factors,
    own_weight,
)
from keras_inits.linear_maps.registry import register_linear_map


@register_linear_map(keras.layers.Dense)
def dense(layer: Any) -> LinearMap:
    """`(..., inputs) @ (inputs, units)`."""
    return LinearMap(
        layer,
        own_weight(layer, "kernel"),
        input_axes=(0,),
        output_axes=(1,),
        bias=layer.bias,
        extra_kernels=lora_factors(layer, "kernel"),
    )


@register_linear_map(keras.layers.EinsumDense)
def einsum_dense(layer: Any) -> LinearMap:
    """Labels decide: summed ones are inputs, shared ones are groups.

    What is summed and is not in the kernel is a sum over positions.
    """
    inputs, rest = layer.equation.replace("...", "0").split(",")
    weights, outputs = rest.split("->")
    channels = [label for label in outputs if label in weights]
    # An ellipsis at the left makes positions count from the right.
    offset = len(outputs) if outputs.startswith("0") else 0
    positions = _positions(layer, inputs, set(inputs) - {*weights, *outputs})
    return LinearMap(
        layer,
        own_weight(layer, "kernel"),
        input_axes=tuple(a for a, x in enumerate(weights) if x not in outputs),
        group_axes=tuple(weights.index(x) for x in channels if x in inputs),
        output_axes=tuple(weights.index(x) for x in channels if x not in inputs),
        channel_axes=tuple(outputs.index(x) - offset for x in channels),
        channel_kernel_axes=tuple(weights.index(x) for x in channels),
        bias=layer.bias,
        bias_per_channel=set(layer.bias_axes or ()) == set(channels),
        extra_kernels=lora_factors(layer, "kernel"),
        note=None if positions else _UNCOUNTED.format(layer.name),
        positions=positions,
    )


_UNCOUNTED = (
    "{} sums over an axis of its input whose size was not known when it was built: its "
    "gradient gain is that of one position."
)


def _positions(layer: Any, inputs: str, labels: set[str]) -> int | None:
    """How many values of the input these labels add up; None: not known."""
    if not labels:
        return 1
    shape = (layer.get_build_config() or {}).get("input_shape")
    if shape is None:
        return None
    offset = len(inputs) if inputs.startswith("0") else 0
    sizes = [shape[inputs.index(label) - offset] for label in labels]
    return None if None in sizes else math.prod(sizes)


def _look_up(layer: Any) -> LinearMap:
    """A look-up: the row of a one-hot input, so the fan-in is 1."""
    return LinearMap(
        layer,
        own_weight(layer, "embeddings"),
        input_axes=(0,),
        output_axes=(1,),
        lookup=True,
        initializer="embeddings_initializer",
        extra_kernels=lora_factors(layer, "embeddings"),
    )


register_linear_map(keras.layers.Embedding)(_look_up)


def reversible_embedding(layer: Any) -> LinearMap | tuple[LinearMap, ...]:
    """Tied weights are scaled for the logits; untied ones have a map of their own."""
    look_up = replace(_look_up(layer), when=lambda x, reverse=False: not reverse)
    if layer.tie_weights:
        inputs = look_up.kernel.shape[1]
        note = (
            f"The table of {layer.name!r} is also the kernel of the logits: its rows "
            f"get the target over sqrt({inputs}), for inputs of deviation 1 there."
        )
        return replace(look_up, tied_inputs=inputs, note=note)
    cap = layer.logit_soft_cap
    logits = LinearMap(
        layer,
        own_weight(layer, "reverse_embeddings"),
        input_axes=(0,),
        output_axes=(1,),
        initializer="embeddings_initializer",
        off={"logit_soft_cap": None},
        activation=identity if cap is None else lambda z: cap * ops.tanh(z / cap),
        when=lambda x, reverse=False: reverse,
    )
    return look_up, logits


if hasattr(keras.layers, "ReversibleEmbedding"):  # Keras 3.13 and later
    register_linear_map(keras.layers.ReversibleEmbedding)(reversible_embedding)
