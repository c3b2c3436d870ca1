"""A report as text, in the manner of `keras.Model.summary()`."""

from __future__ import annotations

import io
import math
import shutil
import sys
import textwrap
from collections.abc import Iterator
from typing import Protocol

import rich.box
import rich.console
import rich.table
import rich.text

from keras_inits.records import Finding, LayerSignal, without_inputs
from keras_inits.rendering.tables import Column, columns, figure, fitting, percent

# Up to here each row is ruled off, as Keras does; a longer table would double.
_RULED_ROWS = 30
_MIN_LINE_LENGTH = 40
# Where there is no terminal (a log, a file): wide enough for most columns.
_NO_TERMINAL = (104, 24)
EMPTY = "No layer was measured."


class Report(Protocol):
    """What a table needs of a `SignalReport`."""

    target_std: float | None
    title: str | None
    notes: tuple[str, ...]
    plain: bool
    whole: bool
    inputs: LayerSignal | None

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[LayerSignal]: ...
    @property
    def findings(self) -> tuple[Finding, ...]: ...
    @property
    def gradient_gain(self) -> float | None: ...


def shown(report: Report) -> list[LayerSignal]:
    """The rows of a table: the data, if it was looked at, and the layers."""
    return [*([] if report.inputs is None else [report.inputs]), *report]


def headline(report: Report) -> str:
    """Title, number of layers, target."""
    layers = without_inputs(report)
    count = f"{len(layers)} layer" + ("" if len(layers) == 1 else "s")
    parts = [report.title or "Signal report", count]
    statuses = {layer.status for layer in layers}
    if len(statuses) == 1:
        parts.append(("all " if len(layers) > 1 else "") + statuses.pop())
    if report.target_std is not None:
        parts.append(f"target std {report.target_std:.4g}")
    return ", ".join(parts)


def verdict(report: Report) -> str:
    """One line for a report without findings, with the figures that say so."""
    layers = without_inputs(report)
    stds = [x.std for x in layers if x.std is not None and math.isfinite(x.std)]
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


def gain_line(report: Report, gain: float) -> str:
    """Over how many layers, where they are not all: the others' gains are unknown."""
    layers = without_inputs(report)
    softmax = any("softmax" in (x.activation or "") for x in layers)
    which = "all layers"
    if not report.whole:
        count = sum(x.gradient_gain is not None for x in layers)
        which = f"the {count} layers measured" if count > 1 else "the layer measured"
    but = " but softmax" if softmax else ""
    return f"Gradient gain over {which}{but}: {figure(gain)}"


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
        for line in report.notes or (EMPTY,):
            say(line)
        return
    every = shown(report)
    kept, dropped = fitting(columns(every), line_length)
    rows = _rows(len(every), max_layers)
    console.print(_table(kept, rows, line_length, len(every)))
    if dropped:
        say(f"Not shown at {line_length} characters: {', '.join(dropped)}.")
    if None in rows:
        say("All layers: report.summary().")
    if report.plain and report.gradient_gain is not None:
        say(gain_line(report, report.gradient_gain))
    for note in report.notes:
        say(note)
    if not report.findings:
        say(verdict(report), "green")
    for number, finding in enumerate(report.findings, 1):
        style = "red" if finding.severity == "error" else "yellow"
        say(f"{number}. {finding.text}", style)
        say(f"-> {finding.remedy}", indent=4)


def _line_length(line_length: int | None) -> int:
    if line_length is None:
        # Keras leaves four characters of the terminal free, too.
        width = shutil.get_terminal_size(_NO_TERMINAL).columns - 4
        return max(width, _MIN_LINE_LENGTH)
    if not isinstance(line_length, int) or line_length < _MIN_LINE_LENGTH:
        raise ValueError(
            f"line_length must be an integer of at least {_MIN_LINE_LENGTH}, to hold a "
            f"table, or None. Received: line_length={line_length!r}."
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
    width = _line_length(line_length)
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
    width = _line_length(line_length)
    console = rich.console.Console(width=width, highlight=False)
    _render(report, console, width, None)
