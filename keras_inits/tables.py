"""A report as a table: text in the manner of `keras.Model.summary()`, and HTML."""

from __future__ import annotations

import io
import math
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import rich.box
import rich.console
import rich.table
import rich.text

from keras_inits.records import Finding, LayerSignal, unique_names

# Up to here each row is ruled off, as Keras does; a longer table would double.
_RULED_ROWS = 30
_MIN_LINE_LENGTH = 40
# Where there is no terminal (a log, a file): wide enough for most columns.
_NO_TERMINAL = (104, 24)
# Narrower than this a layer's name or shape is unreadable.
_MIN_TEXT_WIDTH = 14


class Report(Protocol):
    """What a table needs of a `SignalReport`."""

    target_std: float | None
    title: str | None
    notes: tuple[str, ...]

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[LayerSignal]: ...
    @property
    def findings(self) -> tuple[Finding, ...]: ...
    @property
    def gradient_gain(self) -> float | None: ...


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


def _fitting(found: list[Column], line_length: int) -> tuple[list[Column], list[str]]:
    """The columns for which there is room, and the labels of the others."""
    kept = list(found)

    def width() -> int:
        # Each cell is padded by a blank on both sides and ends in a rule.
        return 1 + sum(column.min_width + 3 for column in kept)

    while len(kept) > 2 and width() > line_length:
        kept.remove(max(kept, key=lambda column: column.rank))
    return kept, [column.label for column in found if column not in kept]


# Text


def headline(report: Report) -> str:
    """Title, number of layers, target."""
    count = f"{len(report)} layer" + ("" if len(report) == 1 else "s")
    parts = [report.title or "Signal report", count]
    statuses = {layer.status for layer in report}
    if len(statuses) == 1:
        parts.append(("all " if len(report) > 1 else "") + statuses.pop())
    if report.target_std is not None:
        parts.append(f"target std {report.target_std:.4g}")
    return ", ".join(parts)


def verdict(report: Report) -> str:
    """One line for a report without findings, with the figures that say so."""
    stds = [x.std for x in report if x.std is not None and math.isfinite(x.std)]
    if not stds:
        return "Nothing was measured."
    text = f"Healthy: std {figure(min(stds))} to {figure(max(stds))}"
    dead = [x.dead_fraction for x in report if x.dead_fraction is not None]
    if dead:
        text += f", at most {percent(max(dead))} % dead"
    saturated = [
        x.saturated_fraction for x in report if x.saturated_fraction is not None
    ]
    if saturated:
        text += f", at most {percent(max(saturated))} % saturated"
    return text + "."


def _rows(count: int, max_layers: int | None) -> list[int | None]:
    """Indices of the rows shown; None stands for those left out."""
    if max_layers is None or count <= max_layers:
        return list(range(count))
    tail = max_layers // 3
    head = max_layers - tail
    return [*range(head), None, *range(count - tail, count)]


def _table(
    kept: list[Column], rows: list[int | None], line_length: int, count: int
) -> rich.table.Table:
    natural = 1 + sum(column.natural_width + 3 for column in kept)
    table = rich.table.Table(
        box=rich.box.HEAVY_HEAD,
        show_lines=len(rows) <= _RULED_ROWS,
        width=min(line_length, natural),
    )
    for column in kept:
        table.add_column(
            rich.text.Text(column.header),
            justify=column.justify,
            min_width=column.min_width,
            no_wrap=column.justify == "right",
            overflow="fold",
        )
    for row in rows:
        if row is None:
            left_out = f"... {count - len(rows) + 1} more"
            table.add_row(rich.text.Text(left_out))
        else:
            table.add_row(*(rich.text.Text(column.cells[row]) for column in kept))
    return table


def _wrapped(text: str, width: int, indent: int) -> list[str]:
    """Lines of `text`; a word (a path, a line of code) is never broken."""
    return textwrap.wrap(
        text,
        width,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + 3 if indent else 0),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _render(
    report: Report,
    console: rich.console.Console,
    line_length: int,
    max_layers: int | None,
) -> None:
    def say(text: str, style: str = "", indent: int = 1) -> None:
        for line in _wrapped(text, line_length, indent):
            console.print(rich.text.Text(line, style=style), soft_wrap=True)

    say(headline(report), "bold", 0)
    if not len(report):
        say("No layer was measured.")
        return
    kept, dropped = _fitting(columns(list(report)), line_length)
    rows = _rows(len(report), max_layers)
    console.print(_table(kept, rows, line_length, len(report)))
    if dropped:
        say(f"Not shown at {line_length} characters: {', '.join(dropped)}.")
    if None in rows:
        say("All layers: report.summary().")
    if report.gradient_gain is not None:
        say(f"Gradient gain over all layers: {figure(report.gradient_gain)}")
    for note in report.notes:
        say(note)
    if not report.findings:
        say(verdict(report), "green")
    for number, finding in enumerate(report.findings, 1):
        style = "red" if finding.severity == "error" else "yellow"
        say(f"{number}. {finding.text}", style)
        say(f"-> {finding.remedy}", indent=4)


def _line_length(report: Report, line_length: int | None) -> int:
    if line_length is None:
        # Keras leaves four characters of the terminal free, too.
        width = shutil.get_terminal_size(_NO_TERMINAL).columns - 4
        return max(width, _MIN_LINE_LENGTH)
    if isinstance(line_length, bool) or not isinstance(line_length, int):
        raise ValueError(
            f"line_length must be an integer or None. Received: {line_length!r}."
        )
    if line_length < _MIN_LINE_LENGTH:
        raise ValueError(
            f"line_length must be at least {_MIN_LINE_LENGTH} to hold a table. "
            f"Received: line_length={line_length}."
        )
    return line_length


def _can_draw_boxes(stream: object) -> bool:
    """Whether the encoding has the box characters (cp1252 and ASCII do not)."""
    try:
        "┏│━".encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


class _Utf8(io.StringIO):
    encoding = "utf-8"


class _Ascii(io.StringIO):
    encoding = "ascii"


def to_text(
    report: Report, line_length: int | None = None, max_layers: int | None = None
) -> str:
    """The table as text, in ASCII where standard output cannot draw boxes."""
    width = _line_length(report, line_length)
    stream = _Utf8() if _can_draw_boxes(sys.stdout) else _Ascii()
    console = rich.console.Console(
        file=stream, width=width, color_system=None, force_terminal=False,
        force_jupyter=False, legacy_windows=False, highlight=False,
    )  # fmt: skip
    _render(report, console, width, max_layers)
    lines = stream.getvalue().splitlines()
    return "\n".join(line.rstrip() for line in lines)


def print_table(report: Report, line_length: int | None = None) -> None:
    """Prints the table, with colours where the terminal has them."""
    width = _line_length(report, line_length)
    console = rich.console.Console(width=width, highlight=False)
    _render(report, console, width, None)


def to_html(report: Report) -> str:
    """The table for a notebook."""
    return ""
