"""Many reports as a picture: epochs along x, a curve per layer, coloured by depth."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_inits.plotting import canvas
from keras_inits.plotting.canvas import Palette, Size, Theme
from keras_inits.plotting.labels import shorten
from keras_inits.plotting.values import figures, loggable
from keras_inits.records import LayerSignal, unique_names, without_inputs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# field, title, label, factor, logarithmic
_FIGURES: tuple[tuple[str, str, str, float, bool], ...] = (
    ("std", "Deviation of the pre-activation", "std (log scale)", 1, True),
    ("mean", "Mean of the pre-activation", "mean", 1, False),
    ("dead_fraction", "Dead units", "%", 100, False),
    ("saturated_fraction", "Saturated values", "%", 100, False),
    ("gradient_ratio", "Gradient / weight", "log scale", 1, True),
)


def plot_history(
    reports: Sequence[Sequence[LayerSignal]],
    epochs: Sequence[float],
    path: str | os.PathLike[str] | None = None,
    *,
    theme: Theme = "light",
    size: Size | None = None,
) -> Figure:
    """Draws how the signal of each layer changes during training.

    Args:
        reports: one `SignalReport` for each of `epochs`.
        epochs: when each was measured, ascending.
        path: where to save the picture, as PNG or SVG by its suffix.
        theme: `"light"` or `"dark"`.
        size: width and height in inches; None fits the number of panels.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if there is no report, or not one for each epoch.
    """
    if not len(reports) or len(reports) != len(epochs):
        raise ValueError(
            "plot_history needs one report for each epoch, and at least one. "
            f"Received: {len(reports)} reports and {len(epochs)} epochs."
        )
    colours, target = canvas.palette(theme), canvas.check_path(path)
    tables = [_by_name(report) for report in reports]
    names = list(dict.fromkeys(name for table in tables for name in table))
    panels = [
        (row, curves)
        for row in _FIGURES
        if not np.isnan(curves := _curves(tables, names, row[0])).all()
    ]
    if not panels:
        raise ValueError(
            "A picture needs at least one layer with a measured figure. "
            f"Received: {len(reports)} reports of {len(names)} layers."
        )
    size = size or (9.0, 0.8 + 1.9 * len(panels))
    figure = canvas.new_figure(size, colours)
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (row, curves) in zip(grid, panels, strict=True):
        _panel(axes, np.asarray(epochs, dtype=float), curves, row, colours)
    canvas.drop_labels(list(grid), size)
    _epoch_axis(grid[-1], epochs, colours)
    _depth_bar(figure, list(grid), names, colours, size)
    canvas.save(figure, target)
    return figure


def _by_name(report: Iterable[LayerSignal]) -> dict[str, LayerSignal]:
    layers = without_inputs(report)
    return dict(zip(unique_names(layers), layers, strict=True))


def _curves(
    tables: Sequence[dict[str, LayerSignal]], names: Sequence[str], field: str
) -> Floats:
    """Figures by (epoch, layer), as `values.figures` has them."""
    return np.array(
        [figures(map(table.get, names), field) for table in tables], dtype=float
    )


def _panel(
    axes: Axes,
    epochs: Floats,
    curves: Floats,
    row: tuple[str, str, str, float, bool],
    colours: Palette,
) -> None:
    _, title, label, factor, logarithmic = row
    canvas.dress(axes, colours, title, label)
    values = factor * np.where(np.isinf(curves), np.nan, curves)
    if logarithmic:
        values = loggable(values)
    if label == "%":
        axes.set_ylim(-4, 104)
        axes.set_yticks([0, 50, 100])
    count = curves.shape[1]
    style: dict[str, Any] = {"linewidth": 1.6 if count <= 20 else 0.8}
    if np.isfinite(values).any(axis=1).sum() <= 30:
        style |= {"marker": "o", "markersize": 4 if count <= 20 else 2}
    for i, colour in enumerate(_by_depth(count, colours)):
        axes.plot(epochs, values[:, i], color=colour, alpha=0.9, **style)
    canvas.mark_lost(axes, epochs[np.isinf(curves).any(axis=1)], colours)
    if logarithmic:
        canvas.mark_zeros(axes, epochs[(curves == 0).any(axis=1)], colours)
        canvas.log_axis(axes)
    canvas.legend(axes, colours)


def _colour_map(colours: Palette):  # type: ignore[no-untyped-def]
    """Viridis without the end that the background swallows."""
    import matplotlib
    from matplotlib.colors import ListedColormap

    dark = colours.background != "#ffffff"
    ends = (0.25, 1.0) if dark else (0.0, 0.85)
    return ListedColormap(matplotlib.colormaps["viridis"](np.linspace(*ends, 256)))


def _by_depth(count: int, colours: Palette) -> Floats:
    return np.asarray(_colour_map(colours)(np.linspace(0, 1, max(count, 2))[:count]))


def _epoch_axis(axes: Axes, epochs: Sequence[float], colours: Palette) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch", fontsize=8.5, color=colours.ink)
    axes.xaxis.set_major_locator(
        MaxNLocator(integer=all(float(x).is_integer() for x in epochs))
    )


def _depth_bar(
    figure: Figure,
    grid: list[Axes],
    names: Sequence[str],
    colours: Palette,
    size: Size,
) -> None:
    """The colours' legend: layer names along depth, thinned."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    last = max(len(names) - 1, 1)
    scale = ScalarMappable(Normalize(0, last), _colour_map(colours))
    bar = figure.colorbar(scale, ax=grid, fraction=0.03, pad=0.02, aspect=60)
    shown = canvas.thin(len(names), 0.85 * size[1])
    texts, shared = shorten(names)
    bar.set_ticks(shown, labels=[texts[i] for i in shown], parse_math=False)
    if shared:
        bar.set_label(shared, fontsize=7.5, color=colours.ink, parse_math=False)
    bar.ax.tick_params(colors=colours.ink, labelsize=7.5)
    bar.ax.invert_yaxis()
    bar.outline.set_visible(False)
