"""A report as columns of text: figures rounded, columns chosen, none broken."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import rich.text

from keras_inits.records import LayerSignal, unique_names

# Narrower than this a layer's name or shape is unreadable.
_MIN_TEXT_WIDTH = 14
_GOOD_TEXT_WIDTH = 30


# Figures


def figure(value: float | None) -> str:
    """Four significant digits (three beside an exponent); `-` if not measured."""
    if value is None:
        return "-"
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 9999.5:
        return f"{value:#.4g}".rstrip(".")
    return f"{value:.2e}"


def short(value: float | None) -> str:
    """Three significant digits: where the size matters, not the last digit."""
    if value is None:
        return "-"
    return f"{value:.3g}" if math.isfinite(value) else str(value)


def figures(value: float | tuple[float, ...] | None) -> str:
    """One figure, or the range of many: `0.9..1.1 (x64)`, one per channel."""
    if not isinstance(value, tuple):
        return figure(value)
    if not value:
        return "-"
    if len(value) == 1:
        return figure(value[0])
    finite = [item for item in value if not math.isnan(item)]
    low, high = (min(finite), max(finite)) if finite else (math.nan, math.nan)
    return f"{low:.3g}..{high:.3g} (x{len(value)})"


def percent(fraction: float | None) -> str:
    """A share in percent; `<0.1` for one that would round to nothing."""
    if fraction is None:
        return "-"
    if not math.isfinite(fraction):
        return str(fraction)
    if 0 < fraction < 0.0005:
        return "<0.1"
    value = 100 * fraction
    return f"{value:.1f}" if 0 < value < 9.95 else f"{value:.0f}"


def shape(value: tuple[object, ...] | None) -> str:
    """`(None, 28, 28, 3)`, as Keras prints it."""
    return "?" if value is None else "(" + ", ".join(map(str, value)) + ")"


def _std(layer: LayerSignal) -> str:
    if layer.std_before is None:
        return figure(layer.std)
    return f"{figure(layer.std_before)} -> {figure(layer.std)}"


# Columns


@dataclass(frozen=True)
class Column:
    """One column: its header, its cells, and when it goes.

    `rank` orders the columns by what they tell: the highest goes first where the
    line is too short for all.
    """

    header: str
    cells: list[str]
    justify: Literal["left", "right"]
    rank: int

    @property
    def label(self) -> str:
        return self.header.replace("\n", " ")

    @property
    def natural_width(self) -> int:
        lines = [*self.header.split("\n"), *self.cells]
        return max(rich.text.Text(line).cell_len for line in lines)

    @property
    def good_width(self) -> int:
        """Enough to read each row at a glance: only very long names are broken."""
        if self.justify == "right":
            return self.natural_width
        return min(_GOOD_TEXT_WIDTH, self.natural_width)

    @property
    def min_width(self) -> int:
        """Numbers are never broken; names and shapes may be."""
        if self.justify == "right":
            return self.natural_width
        return min(_MIN_TEXT_WIDTH, self.natural_width)


_Cell = Callable[[LayerSignal], str]

# header, field that must be there in one record at least, cell, justify, rank
_COLUMNS: tuple[tuple[str, str, _Cell, Literal["left", "right"], int], ...] = (
    ("Output shape", "output_shape", lambda x: shape(x.output_shape), "left", 4),
    ("Params", "parameters", lambda x: _count(x.parameters), "right", 8),
    ("Std", "std", _std, "right", 0),
    ("Mean", "mean", lambda x: short(x.mean), "right", 6),
    ("Scale", "scale", lambda x: figures(x.scale), "right", 2),
    ("Shift", "shift", lambda x: figures(x.shift), "right", 10),
    ("Output\nmean", "output_mean", lambda x: short(x.output_mean), "right", 11),
    ("Output\nstd", "output_std", lambda x: short(x.output_std), "right", 7),
    ("Dead\n%", "dead_fraction", lambda x: percent(x.dead_fraction), "right", 1),
    (
        "Satur.\n%",
        "saturated_fraction",
        lambda x: percent(x.saturated_fraction),
        "right",
        3,
    ),
    ("Grad.\ngain", "gradient_gain", lambda x: short(x.gradient_gain), "right", 5),
    (
        "Grad.\nstd",
        "weight_gradient_std",
        lambda x: short(x.weight_gradient_std),
        "right",
        9,
    ),
    (
        "Grad. /\nweight",
        "gradient_ratio",
        lambda x: short(x.gradient_ratio),
        "right",
        2,
    ),
)


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def columns(layers: Sequence[LayerSignal]) -> list[Column]:
    """The columns of which at least one record has the figure."""
    names = zip(unique_names(layers), layers, strict=True)
    titles = [f"{name} ({layer.layer_type})" for name, layer in names]
    found = [Column("Layer (type)", titles, "left", -1)]
    for header, field, cell, justify, rank in _COLUMNS:
        if any(getattr(layer, field) is not None for layer in layers):
            cells = [cell(layer) for layer in layers]
            found.append(Column(header, cells, justify, rank))
    for i, column in enumerate(found):
        if column.header == "Std" and any(x.std_before is not None for x in layers):
            found[i] = Column("Std before\n-> after", column.cells, "right", 0)
    # What is so in every row stands in the headline.
    if len({layer.status for layer in layers}) > 1:
        found.append(Column("Status", [x.status for x in layers], "left", 2))
    return found


def fitting(found: list[Column], line_length: int) -> tuple[list[Column], list[str]]:
    """The columns for which there is room, and the labels of the others."""
    kept = list(found)

    def width() -> int:
        # Each cell is padded by a blank on both sides and ends in a rule.
        return 1 + sum(column.good_width + 3 for column in kept)

    while len(kept) > 2 and width() > line_length:
        kept.remove(max(kept, key=lambda column: column.rank))
    return kept, [column.label for column in found if column not in kept]
