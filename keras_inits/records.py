"""The plain records of a report: what was measured at each layer.

No Keras model in sight: floats, tuples and strings, so that a record can be kept,
compared, pickled, printed or written as JSON long after its model is gone.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from keras_inits.plain_record import Histogram, Record

Severity = Literal["error", "warning"]
# What BatchNormalization does in a pass: at rest it passes its input through.
BatchNorm = Literal["rests", "runs", "none"]

# Rows of these types describe the data, not a layer.
INPUT_TYPES = frozenset({"Input", "InputLayer"})

# exp() of more than this overflows a Python float.
_LOG_MAX = math.log(sys.float_info.max)


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
            differ but samples look alike. Below a millionth of
            the root of `mean^2 + std^2` it is rounding.
        broken: where NaN or infinity was seen, the weight that holds it.
        trainable: whether the kernel is trained; of a layer without one, the layer.
        bias_mean: mean of the bias (of what `normalised` names, of its beta), where a
            unit of the model is dead, or hardly lets anything through; None where there
            is none that `mean` contains.
        outputs: of a model with several outputs, those that the layer leads to;
            () for all of them.
        normalised: of an activation that gets zeros only, is dead in part or hardly
            lets anything through, the normalisation layer whose output it takes.
        copies: whether all units have the same weights and bias, to a thousandth.
        copied_fraction: share of units of which another one has the same weights, bit
            for bit.
        zero_fraction: share of units whose weights in the kernel are all 0.
        squashed: of an output that a loss takes for logits, what it makes of it,
            `"sigmoid"` or `"softmax"`.
        columns: of data whose columns, or channels, are of different size: the largest
            and the smallest, or those furthest apart, or the first ones of a table that
            hold NaN or infinity; each `(index, mean, std)`, of a data frame with the
            column's name.
        indices: of data that are far from order 1, whether they are, or may be, indices
            into a table: those are of any size.
        unadapted: of data that are far from order 1, the `Normalization` that takes
            them and has never been adapted.
        recurrent_gain: of a recurrent layer, how many times as large its recurrent
            kernel makes a state; of an orthogonal one at most 1.
        directions: of the data, and of the last hidden layer of a deep model, how many
            directions samples lie along: the participation ratio of their principal
            components, 1 where they lie on one line.
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
    trainable: bool = True
    bias_mean: float | None = None
    outputs: tuple[str, ...] = ()
    normalised: str | None = None
    copies: bool = False
    copied_fraction: float | None = None
    zero_fraction: float | None = None
    squashed: str | None = None
    columns: tuple[tuple[int | str, float, float], ...] = ()
    recurrent_gain: float | None = None
    indices: bool = False
    unadapted: str | None = None
    directions: float | None = None


def column(rows: Sequence[LayerSignal], field: str) -> list[Any]:
    """One field of all rows; of a figure that none of them has, NaN."""
    values = [getattr(row, field) for row in rows]
    kind = str(LayerSignal.__dataclass_fields__[field].type)
    missing = kind.startswith(("float", "int")) and not any(
        value is not None for value in values
    )
    return [math.nan] * len(values) if missing else values


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class LossSignal(Record):
    """What a loss is given for one output; None: not known.

    Args:
        output: the output's name; of most models that of a layer.
        loss: the name of the loss.
        takes_logits: whether it was told that the output is not a probability.
        ignored: a label that it leaves out.
        activation: name of the activation that the output comes out of.
        activations: names of those that the model ends with, each taking what the one
            before it gives; () where that is not sure.
        units: length of the output's last axis.
        output_min: smallest value of the output.
        output_max: largest value of the output.
        off_one: how far sums over the last axis of the output are from 1, at most.
        labels_min: smallest label (without the one that is left out).
        labels_max: largest label.
        labels_mean: their mean.
        labels_std: their deviation.
        labels_outside: share of the labels that lie outside the activation's range.
        labels_fractional: share of the labels that are no whole numbers.
        labels_alike: whether the labels of all rows are the same.
        labels_shape: shape of the labels, None for the batch axis.
        output_shape: shape of the output, likewise.
    """

    output: str
    loss: str
    takes_logits: bool | None = None
    ignored: float | None = None
    activation: str | None = None
    units: int | None = None
    output_min: float | None = None
    output_max: float | None = None
    off_one: float | None = None
    labels_min: float | None = None
    labels_max: float | None = None
    labels_mean: float | None = None
    labels_std: float | None = None
    labels_outside: float | None = None
    labels_fractional: float | None = None
    labels_alike: bool = False
    labels_shape: tuple[Any, ...] | None = None
    output_shape: tuple[Any, ...] | None = None
    activations: tuple[str, ...] = ()


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
