"""What is asked of a pass, and what is decided at each of its stops."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_inits.backward.probes import Probe
from keras_inits.errors import KerasInitsError, check_flags
from keras_inits.linear_maps import LinearMap
from keras_inits.solving.equations import Found
from keras_inits.statistics.moments import Moments, first_tensor, widen
from keras_inits.structure.activations import operation_name
from keras_inits.weights.trial import Trial

Tensor = Any
Signal = Literal["output", "pre_activation"]

# Of two-pass float32 statistics, a signal that does not vary keeps about this share of
# its mean as deviation (a few units in the last place, 2^-23).
NOISE = 2e-6
# A scale this close to 1 is rounding: the kernel stays as it is, bit for bit.
SAME = 2e-6


def varies(seen: Moments) -> Tensor:
    """Whether there is more variance than rounding makes."""
    noise = NOISE * seen.mean
    return seen.variance > noise * noise


@dataclass(frozen=True)
class Options:
    """What each chosen layer is to meet; see `lsuv_init`."""

    target_std: float = 1.0
    center: bool = False
    signal: Signal = "pre_activation"
    per_channel: bool = False
    tolerance: float = 1e-3
    max_iterations: int = 10

    def __post_init__(self) -> None:
        if self.signal not in ("output", "pre_activation"):
            raise KerasInitsError(
                "`signal` is one of 'output', 'pre_activation'. "
                f"Received: signal={self.signal!r}"
            )
        check_flags(center=self.center, per_channel=self.per_channel)
        for name in ("target_std", "tolerance"):
            value = getattr(self, name)
            number = isinstance(value, (int, float, np.number))
            number = number and not isinstance(value, bool)
            if not number or not 0 < value < math.inf:
                also = " or 'critical'" if name == "target_std" else ""
                raise KerasInitsError(
                    f"`{name}` must be a positive number{also}. "
                    f"Received: {name}={value!r}"
                )
        if not isinstance(self.max_iterations, int) or self.max_iterations < 1:
            raise KerasInitsError(
                "`max_iterations` must be an integer, at least 1. "
                f"Received: max_iterations={self.max_iterations!r}"
            )


@dataclass
class Decision:
    """What was decided at one stop. Tensors, until `verdict.read` has fetched them."""

    layer: keras.layers.Layer
    map: LinearMap | None
    before: Any = None
    after: Any = None
    scale: Any = 1.0
    shift: Any = None
    iterations: int = 1
    followed: float = 1.0  # share of the solver's first step that an output went
    linear: Any = None
    bias: Any = None
    found: Found | None = None
    moved: float = 1.0
    probes: tuple[Probe, ...] = ()  # of the layer, of activation layers behind it
    gradient_gain: Any = None
    share: Any = None  # of the steps, those that no mask leaves out
    samples: Any = None  # of the last wide layer of a deep model
    variables: tuple[keras.Variable, ...] = ()
    output_shape: tuple[Any, ...] | None = None
    silent_channels: int = 0
    bias_only: bool = False  # of a kernel that another layer's decision is about

    @property
    def where(self) -> str:
        """The layer as errors name it, with the shape of what is scaled."""
        shapes = ", ".join(str(tuple(v.shape)) for v in self.variables)
        kind = type(self.layer).__name__
        return f"Layer {self.layer.name!r} ({kind}, kernel {shapes})"


def apply(decision: Decision, trial: Trial) -> None:
    """Let the rest of the pass, and the commit after it, see what was decided."""
    m = decision.map
    assert m is not None
    scale = decision.scale
    if isinstance(scale, float) or len(scale.shape) == 0:
        factor, flat = scale, scale
    else:
        channels = per_channel(m, scale)
        factor, flat = m.kernel_view(channels), ops.reshape(channels, (1, -1))
    trial.scale(m.kernel, factor)
    for variable in m.extra_kernels:
        trial.scale(variable, flat)
    if decision.shift is not None and m.bias is not None:
        new = m.bias_from(decision.shift, widen(trial.base(m.bias)))
        trial.set(m.bias, ops.cast(new, m.bias.dtype))


def per_channel(m: LinearMap, scale: Tensor) -> Tensor:
    """A scale per gate as one per channel."""
    gates = scale.shape[0]
    shape = (gates, m.channels // gates)
    return ops.reshape(ops.broadcast_to(scale[:, None], shape), (-1,))


def beside(m: LinearMap, figure: Tensor, signal: Tensor) -> Tensor:
    """A figure, or one per gate or channel, that broadcasts against the signal."""
    if len(figure.shape) == 0:
        return figure
    return m.signal_view(per_channel(m, figure), signal)


def is_softmax(layer: Any) -> bool:
    """Whether the layer is, or applies, softmax."""
    function = getattr(layer, "activation", None)
    if isinstance(function, keras.layers.Layer):
        return is_softmax(function)
    name = getattr(function, "__name__", "")
    name = operation_name(layer) or name
    return isinstance(layer, keras.layers.Softmax) or "softmax" in name


def shape_of(output: Any) -> tuple[Any, ...]:
    """Shape of the (first) output, None for the batch."""
    return (None, *first_tensor(output).shape[1:])
