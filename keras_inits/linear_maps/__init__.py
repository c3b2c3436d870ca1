"""What is linear in each Keras layer: one small adapter per family."""

from keras_inits.linear_maps import convolution, dense, recurrent
from keras_inits.linear_maps.base import (
    ACTIVATION_OFF,
    LinearMap,
    held_by,
    identity,
    own_weight,
)
from keras_inits.linear_maps.registry import (
    adapter_of,
    linear_maps,
    register_linear_map,
)

__all__ = [
    "ACTIVATION_OFF",
    "LinearMap",
    "adapter_of",
    "convolution",
    "dense",
    "held_by",
    "identity",
    "linear_maps",
    "own_weight",
    "recurrent",
    "register_linear_map",
]
