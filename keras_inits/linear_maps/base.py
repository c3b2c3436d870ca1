"""The one description everything follows from: what is linear in a layer.

Almost every weighted Keras layer is `y = activation(W x + b)`. A `LinearMap` names
the variable `W`, the roles of its axes, `b`, and how the layer shows `W x`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_inits.backends import fused, fuses
from keras_inits.fans import Fans

Tensor = Any
Adapter = Callable[[keras.layers.Layer], "LinearMap | tuple[LinearMap, ...]"]


def identity(x: Tensor) -> Tensor:
    """The activation of a layer while its linear map is looked at."""
    return x


ACTIVATION_OFF: Mapping[str, Any] = MappingProxyType({"activation": identity})


@dataclass(frozen=True, eq=False)
class LinearMap:
    """One linear map `W x` inside one Keras layer.

    Args:
        layer: The layer that is called.
        kernel: The variable `W`.
        input_axes: Axes of `kernel` that are summed over, receptive field excluded.
        output_axes: Axes of `kernel` that index output channels, in the order in
            which they are fused.
        receptive_axes: Axes of `kernel` that are the receptive field.
        group_axes: Axes of `kernel` along which separate maps lie side by side
            (the channels of a depthwise kernel). They index outputs too.
        channel_axes: Axes of `W x` that index channels, negative or not.
        channel_kernel_axes: The kernel's axes that index the same channels, in the
            order of `channel_axes`; `group_axes + output_axes` unless said.
        groups: Number of groups of a grouped convolution.
        gates: Number of kernels fused side by side along the last output axis;
            each meets the target on its own.
        stride: Product of the strides of a transposed convolution: each output
            sees only this fraction of the receptive field.
        lookup: Whether inputs are indices, so that one row is read (fan-in 1).
        tied_inputs: Of a table that is also the kernel of the logits, their fan-in.
            What serves both is scaled for them: they meet the loss as they are.
        bias: The variable `b`, or None.
        bias_rows: Leading axis of a bias that is stacked for other uses (GRU);
            only its first row belongs to `W x`. 0 where it is not stacked.
        bias_per_channel: Whether the bias is one number for each channel; otherwise
            it broadcasts against `W x` as it is.
        resting_bias: What the bias is to be beside a centred signal, a vector
            `(channels,)`; None: 0 (an LSTM's forget gate rests at 1).
        initializer: Attribute of the owner that holds the kernel's initializer.
        owner: The object that owns the kernel where it is not `layer` (a cell).
        off: Attributes to shadow during `call` so that it returns `W x + b`.
        activation: What the shadowed attributes do to `W x + b`; by default the
            layer's own `activation`.
        probe: For maps whose `W x` the layer's `call` does not return (gates,
            depthwise stages): computes it from the arguments of `call`.
        when: Whether a call with these arguments applies the map; None: always.
        stage: The map that the same call applies before this one (a separable
            convolution's depthwise stage).
        extra_kernels: Further variables to scale with the kernel (LoRA's second
            factor), so that the whole map scales.
        note: A caveat for the report.
        positions: Number of positions of the input that are summed over before the
            kernel's own axes are (an `EinsumDense` that adds up time steps); None: not
            known.
    """

    layer: keras.layers.Layer
    kernel: keras.Variable
    input_axes: tuple[int, ...]
    output_axes: tuple[int, ...]
    receptive_axes: tuple[int, ...] = ()
    group_axes: tuple[int, ...] = ()
    channel_axes: tuple[int, ...] = (-1,)
    channel_kernel_axes: tuple[int, ...] = ()
    groups: int = 1
    gates: int = 1
    stride: int = 1
    lookup: bool = False
    tied_inputs: int = 1
    bias: keras.Variable | None = None
    bias_rows: int = 0
    bias_per_channel: bool = True
    resting_bias: np.ndarray[Any, Any] | None = None
    initializer: str = "kernel_initializer"
    owner: Any = None
    off: Mapping[str, Any] = field(default_factory=lambda: ACTIVATION_OFF)
    activation: Callable[[Tensor], Tensor] | None = None
    probe: Callable[..., Tensor] | None = None
    when: Callable[..., bool] | None = None
    stage: LinearMap | None = None
    extra_kernels: tuple[keras.Variable, ...] = ()
    note: str | None = None
    positions: int | None = 1

    @property
    def in_hand(self) -> bool:
        """Whether `call` itself returns `W x + b` once `off` is shadowed."""
        return self.probe is None

    @property
    def fans(self) -> Fans:
        """Inputs that one output sums over; outputs that one input feeds.

        The stride of a plain convolution is not counted in the latter, as in Keras.

        Raises:
            ValueError: The fan-in is not known (`positions`).
        """
        shape = self.kernel.shape
        if self.positions is None:
            raise ValueError(
                "it sums over an axis of its input whose size was not known when it "
                "was built, so that its fan-in cannot be counted. Build the model on "
                "inputs of fixed size, or leave the layer out (layers=)."
            )
        field_size = math.prod(shape[a] for a in self.receptive_axes)
        inputs = math.prod(shape[a] for a in self.input_axes)
        outputs = math.prod(shape[a] for a in self.output_axes)
        products = field_size * inputs * self.positions / self.stride
        fan_in = float(self.tied_inputs) if self.lookup else products
        return Fans(fan_in, field_size * outputs / (self.gates * self.groups))

    @property
    def level(self) -> float:
        """What a deviation of 1 stands for: less in a table that makes logits, too."""
        return 1.0 / math.sqrt(self.tied_inputs)

    @property
    def channels(self) -> int:
        """Number of output channels of the whole kernel, gates included."""
        return math.prod(self.kernel.shape[a] for a in self._channel_kernel_axes)

    @property
    def _channel_kernel_axes(self) -> tuple[int, ...]:
        return self.channel_kernel_axes or self.group_axes + self.output_axes

    def activate(self, z: Tensor) -> Tensor:
        """`activation(z)`, as the layer itself would apply it."""
        function = self.activation
        if function is None:
            function = getattr(self.layer, "activation", None)
        if function is keras.activations.relu and fuses():
            # Its rule for derivatives takes as long to trace as all else of a layer.
            function = fused(function)
        return z if function is None else function(z)

    def kernel_view(self, per_channel: Tensor) -> Tensor:
        """A vector `(channels,)` in the shape that broadcasts against the kernel."""
        shape, axes = self.kernel.shape, self._channel_kernel_axes
        value = ops.reshape(per_channel, [shape[a] for a in axes])
        order = sorted(range(len(axes)), key=axes.__getitem__)
        if order != list(range(len(axes))):
            value = ops.transpose(value, order)
        return ops.reshape(
            value, [shape[a] if a in axes else 1 for a in range(len(shape))]
        )

    def signal_view(self, per_channel: Tensor, signal: Tensor) -> Tensor:
        """A vector `(channels,)` in the shape that broadcasts against `W x`."""
        rank = len(signal.shape)
        axes = {axis % rank for axis in self.channel_axes}
        return ops.reshape(
            per_channel, [signal.shape[a] if a in axes else 1 for a in range(rank)]
        )

    def bias_in(self, signal: Tensor, bias: Tensor) -> Tensor:
        """The bias (its value) in the shape that broadcasts against `W x`."""
        if self.bias_rows:
            bias = bias[0]
        single = len(bias.shape) == 1 and len(self.channel_axes) == 1
        if single and self.bias_per_channel:
            return self.signal_view(bias, signal)
        rank = len(signal.shape)
        return ops.reshape(bias, (1,) * (rank - len(bias.shape)) + tuple(bias.shape))

    def bias_from(self, shift: Tensor, bias: Tensor) -> Tensor:
        """`bias + shift`, a shift in the shape of `bias_in`, in the variable's own."""
        if not self.bias_rows:
            return bias + ops.reshape(shift, bias.shape)
        row = ops.reshape(shift, bias.shape[1:])
        return ops.concatenate([(bias[0] + row)[None], bias[1:]], axis=0)


def own_weight(layer: Any, name: str) -> Any:
    """The layer's own variable called `name`, whatever attribute holds it.

    Keras keeps some kernels in private attributes behind a property that returns a
    tensor under LoRA or quantisation; the variable's own name is public.
    """
    own = vars(layer)
    likely = (own.get(f"_{name}"), own.get(name))
    for value in (*likely, *own.values()):
        if isinstance(value, keras.Variable) and value.name == name:
            return value
    return None


_PLAIN = frozenset({type(None), bool, int, float, str})


def held_by(layer: Any) -> list[Any]:
    """The objects that are attributes of a layer, without numbers and strings."""
    return [value for value in vars(layer).values() if type(value) not in _PLAIN]


def lora_factors(layer: keras.layers.Layer, name: str) -> tuple[keras.Variable, ...]:
    """The second LoRA factor of the weight `name`: it scales with the kernel."""
    if not getattr(layer, "lora_enabled", False):
        return ()
    factor = own_weight(layer, f"lora_{name}_b")
    return () if factor is None else (factor,)
