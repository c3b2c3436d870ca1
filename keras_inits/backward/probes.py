"""What is kept of a pre-activation: it tells how steep the activation behind it is.

Some of its rows; where a look at them costs nothing, and the sign of a value gives the
slope there, the mean square slope alone.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import keras
import numpy as np

from keras_inits.backends import QUICK, as_step, read
from keras_inits.histograms import evenly_spaced
from keras_inits.linear_maps import LinearMap, identity
from keras_inits.statistics.moments import some_rows, where_to_look
from keras_inits.statistics.reductions import in_memory, looks, share_above_zero
from keras_inits.structure.activations import operation_name

Tensor = Any
Layout: TypeAlias = tuple[int, int] | None
Seen: TypeAlias = tuple[Tensor, float | None, Tensor]

# Correlation of signals from which partners are taken to be mirrored, not independent:
# of 16 independent pairs it is 0 +- 0.25, of mirrored ones -1.
OPPOSITE = -0.8
PAIRS = 128

# Keras's activations but those that mix elements.
_ACROSS = frozenset({"glu", "log_softmax", "softmax", "sparsemax"})
_EACH = frozenset(
    function
    for name, function in vars(keras.activations).items()
    if inspect.isfunction(function) and name not in _ACROSS
)
_PLAIN_LAYERS = (keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.ELU)


@dataclass
class Probe:
    """What is kept of a pre-activation until the pass is over.

    Args:
        rows: Some of it, a tensor `(rows, ...)` or an array. None: `slope` says all,
            and partners are not opposite.
        function: The activation behind it: alike probes are evaluated together.
        map: The linear map that it comes out of; None for an activation on its own.
        slope: `E[f'(z)^2]`, where it was counted at once.
    """

    rows: Tensor
    function: Callable[[Tensor], Tensor]
    map: LinearMap | None = None
    slope: float | None = None

    def __post_init__(self) -> None:
        self.function = _bare(self.function)

    @classmethod
    def of(cls, z: Tensor, m: LinearMap, layer: Any = None) -> Probe:
        """Of a pre-activation in hand.

        Args:
            z: A tensor `(batch, ...)`.
            m: The linear map that it comes out of.
            layer: The activation that it goes into; None: the map's own.
        """
        probe = cls(None, layer or activation_of(m), None if layer else m)
        seen = look_at(z, probe.function, m.channel_axes, m.channels, values=False)
        probe.rows, probe.slope, _ = seen
        return probe

    @property
    def tells(self) -> bool:
        """Whether the slope is counted, or will be from rows in memory."""
        return self.slope is not None or _is_known(self.function)

    def known(self) -> float | None:
        """The slope, where that takes no tensor operation."""
        if self.slope is None and _is_known(self.function) and looks(self.rows):
            linear = is_linear(self.function)
            return 1.0 if linear else share_above_zero(self.rows)
        return self.slope


def look_at(
    z: Tensor, function: Any, axes: tuple[int, ...], channels: int, *, values: bool
) -> Seen:
    """Some rows, `E[f'(z)^2]`, some values for a histogram; None: it takes the rows.

    Args:
        z: A tensor `(batch, ...)`.
        function: The activation behind it.
        axes: Those of the channels.
        channels: Their number: where the slope follows from the sign of a value, rows
            are kept of partners that are opposite alone.
        values: Whether to keep values then.
    """
    function, cut = _bare(function), acts_anywhere(function)
    if not _is_known(function):
        return some_rows(z, axes, cut=cut), None, None
    counted: Any = as_step(_counted)
    seen: Seen = counted(z, axes, channels, cut, is_linear(function), values)
    return seen


def _counted(
    z: Tensor,
    axes: tuple[int, ...],
    channels: int,
    cut: bool,
    linear: bool,
    values: bool,
) -> Seen:
    """The same, of an activation whose slope follows from the sign of a value."""
    array = in_memory(z)
    if array is None:
        return some_rows(z, axes, cut=cut), None, None
    rows = array[where_to_look(z.shape, axes, cut=cut)]
    layout = _layout(axes, channels, rows.shape)
    kept = layout is not None and _are_opposite(rows, layout)
    slope = 1.0 if linear else share_above_zero(rows)
    few = np.array(evenly_spaced(rows)) if values else None
    return np.array(rows) if kept else None, slope, few


def _counted_of_dense(
    z: Tensor,
    axes: tuple[int, ...],
    channels: int,
    cut: bool,
    linear: bool,
    values: bool,
) -> Seen:
    array, half = z.detach().numpy(), channels // 2
    if array.shape[1:] != (channels,) or axes not in ((-1,), (1,)) or half < PAIRS:
        return _counted(z, axes, channels, cut, linear, values)
    first = array[0]  # as in `_are_opposite`
    one, other = first[:half], first[half : 2 * half]
    sizes = float(one.dot(one)) + float(other.dot(other))
    if not 4.0 * float(one.dot(other)) > OPPOSITE * sizes:
        return _counted(z, axes, channels, cut, linear, values)
    [index] = where_to_look(z.shape, axes, cut=cut)
    rows, slope = array[index], 1.0
    if not linear:  # NaN where a value is not finite
        slope = np.count_nonzero(rows > 0) / rows.size + 0.0 * float(rows.sum())
    return None, slope, np.array(evenly_spaced(rows)) if values else None


QUICK[_counted] = _counted_of_dense


def activation_of(m: LinearMap) -> Callable[[Tensor], Tensor]:
    """What the layer applies to the signal of its map."""
    return m.activation or getattr(m.layer, "activation", None) or identity


def layouts(probes: Sequence[Probe]) -> list[Layout]:
    """Number of channels, and of values behind each; None where they lie apart."""
    found: list[Layout] = []
    last: LinearMap | None = None
    for probe in probes:
        last, rows = probe.map or last, probe.rows
        if last is None or rows is None:
            found.append(None)
        else:
            found.append(_layout(last.channel_axes, last.channels, rows.shape))
    return found


def mirrored(probes: Sequence[Probe]) -> list[int]:
    """The probes where the signals of partners are opposite, by some of the rows."""
    arrays = read([probe.rows for probe in probes])
    return [
        i
        for i, layout in enumerate(layouts(probes))
        if layout is not None and _are_opposite(arrays[i], layout)
    ]


def acts_anywhere(function: Any) -> bool:
    """Whether columns may be left out: not with PReLU, not known of a user's own."""
    function = _bare(function)
    if acts_on_each(function):
        return True
    if type(function).__name__ == "Softmax":  # of attention: (heads, time, time)
        return bool(getattr(function, "axis", None) == -1)
    return is_linear(function) or is_of_keras(function)


def acts_on_each(function: Any) -> bool:
    """Whether it is known to map each element on its own."""
    function = _bare(function)
    if type(function) in _PLAIN_LAYERS or function is identity:
        return True
    if (name := operation_name(function)) is not None:
        return name not in _ACROSS
    return inspect.isfunction(function) and function in _EACH


def key_of(function: Any) -> Hashable:
    """Equal for activations that do the same."""
    function = _bare(function)
    if type(function) in _PLAIN_LAYERS or operation_name(function):
        return type(function), repr(_settings(function))
    return id(function)


def is_linear(function: Any) -> bool:
    """Whether it leaves its argument as it is."""
    return function is identity or function is keras.activations.linear


def is_of_keras(function: Any) -> bool:
    """Whether it is a function that Keras ships."""
    return inspect.isfunction(function) and function.__module__.startswith("keras.")


def _bare(function: Any) -> Any:
    """The function that an activation layer or operation applies, if there is one."""
    if type(function) is keras.layers.Activation:
        return _bare(function.activation)
    name = operation_name(function)
    if type(function) is keras.layers.ReLU or (name == "relu" and _settings(function)):
        bent = function.negative_slope or function.threshold
        plain = function.max_value is None and not bent
        return keras.activations.relu if plain else function
    if name is not None and not _settings(function):
        return getattr(keras.activations, name)
    return function


def _settings(function: Any) -> dict[str, Any]:
    """What a layer or operation was made with, but for its name."""
    return {k: v for k, v in function.get_config().items() if k != "name"}


def _is_known(function: Any) -> bool:
    """Whether the slope follows from the sign of a value."""
    return function is keras.activations.relu or is_linear(function)


def _layout(axes: tuple[int, ...], channels: int, shape: Sequence[int]) -> Layout:
    rank = len(shape)
    if not (rank and axes):  # a vector of weights has one output, and no axis for it
        return None
    axes = tuple(sorted({axis % rank for axis in axes}))
    found = math.prod(shape[axis] for axis in axes)
    together = axes == tuple(range(axes[0], axes[-1] + 1))
    if not together or found != channels or channels < 2:
        return None
    return channels, math.prod(shape[axes[-1] + 1 :])


def _are_opposite(rows: Any, layout: tuple[int, int]) -> bool:
    half = layout[0] // 2
    if layout[1] == 1 and half >= PAIRS and rows.dtype == np.float32:
        first = rows[0].reshape(-1)  # most are far from it, which one row shows
        one, other = first[:half], first[half : 2 * half]
        with np.errstate(invalid="ignore", over="ignore"):
            if 4.0 * one.dot(other) > OPPOSITE * (one.dot(one) + other.dot(other)):
                return False
    some = rows[: max(1, len(rows) // 8)].reshape(-1, *layout)
    with np.errstate(invalid="ignore", over="ignore"):
        some = some.astype("float32", copy=False)
        one, other = some[:, :half].ravel(), some[:, half : 2 * half].ravel()
        return bool(2.0 * one.dot(other) < OPPOSITE * (one.dot(one) + other.dot(other)))
