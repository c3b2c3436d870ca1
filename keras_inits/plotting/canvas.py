"""What all pictures share: figure, theme, axes, layer names, saving.

No pyplot, no rcParams: a picture drawn here changes no other, in any thread.
"""

from __future__ import annotations

import functools
import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from keras_inits.plotting.labels import MAX_NAME, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

Theme = Literal["light", "dark"]
Size = tuple[float, float]

_DPI = 150
_SUFFIXES = (".png", ".svg")
_NAME_SIZE = 7.5
# Width of a character as a share of its height, in a proportional font.
_CHARACTER = 0.6
# Panels lower than this (inches) have no room for the label of their axis.
_LABELLED_HEIGHT = 1.1
# Beyond this many layers, markers run into each other.
_MARKED_LAYERS = 60


@dataclass(frozen=True)
class Palette:
    """Colours of a theme; those of the curves are Okabe and Ito's (2008)."""

    background: str
    ink: str
    faint: str
    after: str
    before: str
    bad: str
    third: str
    counts: str


PALETTES: dict[str, Palette] = {
    "light": Palette(
        background="#ffffff",
        ink="#222222",
        faint="#c8c8c8",
        after="#0072b2",
        before="#e69f00",
        bad="#d55e00",
        third="#009e73",
        counts="Blues",
    ),
    "dark": Palette(
        background="#15181c",
        ink="#e6e6e6",
        faint="#4a4f57",
        after="#56b4e9",
        before="#e69f00",
        bad="#ff7f3f",
        third="#2fc99b",
        counts="viridis",
    ),
}


def palette(theme: Theme) -> Palette:
    """The colours of `theme`."""
    if not isinstance(theme, str) or theme not in PALETTES:
        raise ValueError(
            f"theme must be one of {sorted(PALETTES)}. Received: theme={theme!r}."
        )
    return PALETTES[theme]


def check_path(path: str | os.PathLike[str] | None) -> Path | None:
    """The path, if its suffix is one that can be written."""
    if path is None:
        return None
    checked = Path(path)
    if checked.suffix.lower() not in _SUFFIXES:
        raise ValueError(
            f"A picture is saved as one of {list(_SUFFIXES)}, by the suffix of its "
            f"path. Received: path={os.fspath(path)!r}."
        )
    return checked


def new_figure(size: Size, colours: Palette) -> Figure:
    """An empty figure with its own canvas, unknown to pyplot.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            'Pictures of a report need matplotlib: pip install "keras_inits[plot]".'
        ) from error
    try:
        width, height = map(float, size)
    except (TypeError, ValueError):
        width = height = 0.0
    if not (0 < width < math.inf and 0 < height < math.inf):
        raise ValueError(
            f"size must be two positive lengths in inches. Received: size={size!r}."
        )
    figure = Figure(
        figsize=(width, height),
        dpi=_DPI,
        layout="constrained",
        facecolor=colours.background,
    )
    FigureCanvasAgg(figure)
    # A notebook shows a figure that pyplot does not know only if told how.
    vars(figure)["_repr_png_"] = functools.partial(_png, figure)
    return figure


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", facecolor=figure.get_facecolor())
    return stream.getvalue()


def save(figure: Figure, path: Path | None) -> None:
    """Writes the picture, as PNG or SVG by the suffix."""
    if path is not None:
        figure.savefig(
            path, format=path.suffix[1:].lower(), facecolor=figure.get_facecolor()
        )


def dress(axes: Axes, colours: Palette, title: str, label: str) -> None:
    """Title, labels, grid and frame in the colours of the theme."""
    axes.set_facecolor(colours.background)
    axes.set_title(title, loc="left", fontsize=10, color=colours.ink, weight="bold")
    axes.set_ylabel(label, fontsize=8.5, color=colours.ink)
    axes.tick_params(colors=colours.ink, labelsize=8, which="both")
    axes.grid(axis="y", color=colours.faint, linewidth=0.5, alpha=0.6)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_color(colours.faint)
        spine.set_visible(side in ("left", "bottom"))


def mark_zeros(axes: Axes, x: NDArray[Any], colours: Palette) -> None:
    """Marks along the bottom, where a figure is zero."""
    _mark(axes, x, 0.03, "v", "zero", colours)


def mark_lost(axes: Axes, x: NDArray[Any], colours: Palette) -> None:
    """Marks along the top, where a figure is NaN or infinite."""
    _mark(axes, x, 0.97, "^", "NaN or infinite", colours)


def _mark(
    axes: Axes,
    x: NDArray[Any],
    height: float,
    marker: str,
    label: str,
    colours: Palette,
) -> None:
    """Marks off the scale, at a share of the axes' height."""
    if not x.size:
        return
    axes.plot(
        x,
        np.full(x.size, height),
        linestyle="none",
        marker=marker,
        markersize=5,
        color=colours.bad,
        label=label if label not in axes.get_legend_handles_labels()[1] else None,
        transform=axes.get_xaxis_transform(),
        clip_on=False,
    )


def legend(axes: Axes, colours: Palette) -> None:
    """A legend above the axes, on the right, where no curve can be hidden."""
    handles, labels = axes.get_legend_handles_labels()  # those with a label
    if not labels:
        return
    axes.legend(
        handles,
        labels,
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=len(labels),
        frameon=False,
        fontsize=8,
        labelcolor=colours.ink,
        borderaxespad=0.2,
        handlelength=1.6,
        columnspacing=1.2,
    )


def thin(count: int, room: float) -> list[int]:
    """Evenly spaced indices, first and last among them, for `room` inches."""
    most = max(2, int(room * 72 / (_NAME_SIZE * 1.7)))
    if count <= most:
        return list(range(count))
    step = -(-(count - 1) // (most - 1))
    shown = list(range(0, count, step))
    if shown[-1] != count - 1:
        # The last layer is always named; its neighbour gives way if too near.
        if count - 1 - shown[-1] < step:
            shown.pop()
        shown.append(count - 1)
    return shown


def name_layers(axes: Axes, names: Sequence[str], size: Size, colours: Palette) -> None:
    """Layer names along the x axis, thinned and shortened to what is legible."""
    width, height = size[0] - 1.2, size[1]
    # The names may take a fifth of the height.
    most = int(height / 5 * 72 / (_NAME_SIZE * _CHARACTER))
    texts, shared = shorten(names, max(6, min(MAX_NAME, most)))
    shown = thin(len(names), width)
    longest = max((len(texts[i]) for i in shown), default=0)
    # Few short names lie flat; else they stand.
    flat = len(shown) * (longest + 2) * _NAME_SIZE * _CHARACTER < width * 72
    axes.set_xticks(
        shown,
        [texts[i] for i in shown],
        rotation=0 if flat else 90,
        fontsize=_NAME_SIZE,
        parse_math=False,
    )
    axes.set_xlim(-0.5, len(names) - 0.5)
    if shared:
        axes.set_xlabel(
            shared, fontsize=_NAME_SIZE, color=colours.ink, parse_math=False
        )


def log_axis(axes: Axes) -> None:
    """A logarithmic y axis with few, plain labels."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_minor_formatter(NullFormatter())
    if high < 100 * low:
        few = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)
        subs = few if high < 5 * low else (1.0, 2.0, 5.0)
        axes.yaxis.set_major_locator(LogLocator(subs=subs))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def drop_labels(panels: Sequence[Axes], size: Size) -> None:
    """Leaves out the labels of the y axes where the panels are too low for them."""
    if size[1] / (len(panels) + 1) < _LABELLED_HEIGHT:
        for axes in panels:
            axes.set_ylabel("")


def line_style(count: int) -> dict[str, Any]:
    """Markers where there is room for them."""
    if count > _MARKED_LAYERS:
        return {"linewidth": 1.3}
    return {"linewidth": 1.5, "marker": "o", "markersize": 5 if count <= 20 else 3}
