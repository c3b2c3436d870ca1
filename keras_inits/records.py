"""The plain records of a report: what was measured at each layer.

No Keras model in sight: floats, tuples and strings, so that a record can be kept,
compared, pickled, printed or written as JSON long after its model is gone.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

Severity = Literal["error", "warning"]

# Rows of these types describe the data, not a layer.
INPUT_TYPES = frozenset({"Input", "InputLayer"})

# exp() of more than this overflows a Python float.
_LOG_MAX = math.log(sys.float_info.max)


def _plain(value: Any) -> Any:
    """NumPy (or tensor) scalars and arrays as Python scalars and tuples."""
    if isinstance(value, Record):
        return value
    if hasattr(value, "tolist"):  # np.float64 is a float, but prints as its own type
        value = value.tolist()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return tuple(_plain(item) for item in value)
    return value


def _json_safe(value: Any) -> Any:
    """What `json.dumps` takes: NaN and infinity are None, tuples are lists."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): _json_safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_safe(item) for item in value]
    return value


def _comparable(value: Any) -> Any:
    """Two records that both saw NaN say the same, though NaN != NaN."""
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if isinstance(value, tuple):
        return tuple(_comparable(item) for item in value)
    return value


_PLAIN_TYPES = frozenset({type(None), bool, int, float, str})


class Record:
    """Base of the frozen dataclasses below: plain values, equality, `to_dict`."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if type(value) in _PLAIN_TYPES:
                continue
            if type(value) is tuple and _PLAIN_TYPES.issuperset(map(type, value)):
                continue
            object.__setattr__(self, name, _plain(value))

    def _key(self) -> tuple[Any, ...]:
        values = (getattr(self, field.name) for field in dataclasses.fields(self))
        return tuple(_comparable(value) for value in values)

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return isinstance(other, Record) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        """The fields that say something: those not at their default."""
        shown = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        ]
        return f"{type(self).__name__}({', '.join(shown)})"

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON takes them: NaN and infinity become None."""
        fields = dataclasses.fields(self)
        return {f.name: _json_safe(getattr(self, f.name)) for f in fields}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Histogram(Record):
    """Counts of a layer's pre-activations.

    Args:
        counts: one count per bin.
        edges: bin edges in ascending order, one more than there are counts.
    """

    counts: tuple[int, ...]
    edges: tuple[float, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.edges) != len(self.counts) + 1:
            raise ValueError(
                "A histogram has one edge more than it has counts. Received: "
                f"{len(self.counts)} counts and {len(self.edges)} edges."
            )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Finding(Record):
    """One thing that is wrong, in words.

    Args:
        layer: name of the layer where it starts (None: the whole model).
        figure: the number that shows it.
        text: what is wrong, with layer and figure.
        remedy: what to do, with the line of code to type.
        severity: `"error"` (training will fail or stall) or `"warning"`.
    """

    layer: str | None
    figure: float | None
    text: str
    remedy: str
    severity: Severity = "error"

    @classmethod
    def at(
        cls,
        layer: LayerSignal,
        figure: float | None,
        text: str,
        remedy: str,
        severity: Severity = "error",
    ) -> Finding:
        """A finding that starts at `layer`."""
        return cls(
            layer=layer.name,
            figure=figure,
            text=text,
            remedy=remedy,
            severity=severity,
        )

    def __str__(self) -> str:
        return f"{self.text}\n    -> {self.remedy}"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class LayerSignal(Record):
    """What one layer (one call of it) does to the signal; None: not measured.

    Args:
        name: the layer's name.
        layer_type: its class name.
        output_shape: shape of its output, None for the batch axis.
        mean_before: mean of the pre-activation before its kernel was scaled.
        std_before: deviation of the pre-activation before its kernel was scaled.
        mean: mean of the pre-activation (of the output with `signal="output"`).
        std: deviation of the pre-activation (of the output with
            `signal="output"`), over the whole tensor.
        scale: factor by which the kernel was multiplied; one per channel or
            gate where they differ.
        shift: what was added to the bias; one per channel where they differ.
        iterations: steps that the solver took.
        output_mean: mean after the activation.
        output_std: deviation after the activation.
        dead_fraction: share of units that are zero for the whole batch.
        saturated_fraction: share of values where the activation's slope is
            below 1 % of its maximum.
        gradient_gain: E|gradient before the layer|^2 / E|gradient after it|^2.
        weight_gradient_std: deviation of the loss gradient of the kernel.
        gradient_ratio: that deviation over the deviation of the kernel.
        parameters: number of weights.
        status: `"scaled"`, `"unchanged"`, `"skipped: reason"`, `"shared"` or
            `"measured"`.
        kernel_std: deviation of the kernel.
        kernel_shape: its shape.
        activation: name of the activation.
        histogram: histogram of the pre-activation.
        path: the layer's Keras path, unique in the model.
        batch_std: deviation between samples: root of the variance over the
            batch axis, averaged over units. Where it is far below `std`, units
            differ but samples look alike.
        broken: where NaN or infinity was seen, the weight that holds it.
    """

    name: str
    layer_type: str
    output_shape: tuple[Any, ...] | None = None
    mean_before: float | None = None
    std_before: float | None = None
    mean: float | None = None
    std: float | None = None
    scale: float | tuple[float, ...] | None = None
    shift: float | tuple[float, ...] | None = None
    iterations: int | None = None
    output_mean: float | None = None
    output_std: float | None = None
    dead_fraction: float | None = None
    saturated_fraction: float | None = None
    gradient_gain: float | None = None
    weight_gradient_std: float | None = None
    gradient_ratio: float | None = None
    parameters: int | None = None
    status: str = "measured"
    kernel_std: float | None = None
    kernel_shape: tuple[int, ...] | None = None
    activation: str | None = None
    histogram: Histogram | None = None
    path: str | None = None
    batch_std: float | None = None
    broken: str | None = None


def without_inputs(layers: Iterable[LayerSignal]) -> list[LayerSignal]:
    """The records of layers, without those of the data."""
    return [layer for layer in layers if layer.layer_type not in INPUT_TYPES]


def unique_names(layers: Iterable[LayerSignal]) -> list[str]:
    """Names that tell the layers apart.

    Layers of one name in different blocks go by the end of their path
    (`attention_1/query`); the calls of a shared layer are numbered.
    """
    rows = list(layers)
    paths: dict[str, set[str]] = {}
    for row in rows:
        paths.setdefault(row.name, set()).add(row.path or row.name)
    calls: Counter[str] = Counter()
    names = []
    for row in rows:
        name = _path_end(row.path or row.name, paths[row.name])
        name = name if len(paths[row.name]) > 1 else row.name
        calls[name] += 1
        names.append(name if calls[name] == 1 else f"{name} (call {calls[name]})")
    return names


def _path_end(path: str, others: set[str]) -> str:
    """As many of the last parts of `path` as tell it from the others."""
    parts = path.split("/")
    for start in reversed(range(len(parts))):
        end = "/".join(parts[start:])
        if sum(f"/{other}".endswith(f"/{end}") for other in others) == 1:
            return end
    return path


def gain_product(layers: Iterable[LayerSignal]) -> float | None:
    """Product of the gradient gains that were measured, without overflow.

    Softmax is left out: it stands at the end, and what its gradient becomes is the
    loss's affair.
    """
    gains = [
        x.gradient_gain
        for x in layers
        if x.gradient_gain is not None and "softmax" not in (x.activation or "")
    ]
    if not gains:
        return None
    if any(math.isnan(gain) or gain < 0 for gain in gains):
        return math.nan
    if 0.0 in gains:
        return math.nan if math.inf in gains else 0.0
    log = math.fsum(math.log(gain) for gain in gains)
    return math.exp(log) if log < _LOG_MAX else math.inf


def is_finite(*values: float | None) -> bool:
    """Whether what was measured is neither NaN nor infinite."""
    return all(value is None or math.isfinite(value) for value in values)


def kernel_input_rms(layer: LayerSignal) -> float:
    """Root mean square of a layer's input, from its kernel and its signal; else 1."""
    if not (layer.kernel_std and layer.kernel_shape and layer.std):
        return 1.0
    fan_in = math.prod(layer.kernel_shape[:-1])
    return layer.std / (layer.kernel_std * math.sqrt(fan_in))
