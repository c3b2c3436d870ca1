"""One report as a picture: the layers along x, a panel for each kind of figure."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_inits.plotting import canvas
from keras_inits.plotting.canvas import Palette, Size, Theme
from keras_inits.plotting.values import DRAWN, figures, loggable
from keras_inits.records import LayerSignal, unique_names, without_inputs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# Deviations that differ by more than this are drawn on a logarithmic axis.
_LINEAR_SPAN = 20.0
_HEAT_BINS = 81
# The histogram of a layer that is all zero reaches less far; none else in float32.
_NOTHING = 1e-36
# The findings' bounds for the cumulated gradient gain.
_HEALTHY_GAIN = (1e-3, 1e3)

Panel = Callable[["Axes", Sequence[LayerSignal], Palette], None]


def plot_report(
    report: Sequence[LayerSignal],
    path: str | os.PathLike[str] | None = None,
    *,
    theme: Theme = "light",
    size: Size | None = None,
) -> Figure:
    """Draws what the signal does along depth.

    Panels, each only if it was measured: mean and deviation before and after;
    histograms as a heat-map; dead and saturated shares; gradient gain cumulated from
    the output; gradients of the kernels.

    Args:
        report: a `SignalReport`, or any sequence of `LayerSignal`.
        path: where to save the picture, as PNG or SVG by its suffix.
        theme: `"light"` or `"dark"`.
        size: width and height in inches; None fits the number of layers.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: for a report without layers, another theme or another suffix.
    """
    layers = without_inputs(report)
    colours, target = canvas.palette(theme), canvas.check_path(path)
    panels = [(draw, tall) for has, draw, tall in _PANELS if has(layers)]
    if not getattr(report, "plain", True):
        panels = [(_gains if d is _cumulated else d, tall) for d, tall in panels]
    if not panels:
        raise ValueError(
            "A picture needs at least one layer with a measured figure. "
            f"Received: a report of {len(layers)} layers."
        )
    if size is None:
        width = min(max(7.0, 4 + 0.16 * len(layers)), 16.0)
        size = (width, 0.9 + sum(1.75 * tall for _, tall in panels))
    figure = canvas.new_figure(size, colours)
    grid = figure.subplots(
        len(panels),
        1,
        sharex=True,
        squeeze=False,
        height_ratios=[tall for _, tall in panels],
    )[:, 0]
    for axes, (draw, _) in zip(grid, panels, strict=True):
        draw(axes, layers, colours)
    canvas.name_layers(grid[-1], unique_names(layers), size, colours)
    canvas.drop_labels(list(grid), size)
    canvas.save(figure, target)
    return figure


def _has(*fields: str) -> Callable[[Sequence[LayerSignal]], bool]:
    def has(layers: Sequence[LayerSignal]) -> bool:
        return any(getattr(x, field) is not None for x in layers for field in fields)

    return has


# Panels


def _signal(axes: Axes, layers: Sequence[LayerSignal], colours: Palette) -> None:
    """Mean and deviation, before and after, on one axis."""
    sets = [("before", "mean_before", "std_before", colours.before)]
    if not _has("std_before")(layers):
        sets = []
    sets.append(("after" if sets else "", "mean", "std", colours.after))
    stds = np.concatenate([figures(layers, std) for _, _, std, _ in sets])
    positive = np.clip(stds[np.isfinite(stds) & (stds > 0)], *DRAWN)
    logarithmic = positive.size and positive.max() > _LINEAR_SPAN * positive.min()
    what = "pre-activation"
    if logarithmic:
        canvas.dress(axes, colours, f"Deviation of the {what}", "std (log scale)")
    else:
        canvas.dress(axes, colours, f"Mean \N{PLUS-MINUS SIGN} std of the {what}", what)
    x = np.arange(len(layers))
    style = canvas.line_style(len(layers))
    for label, mean, std, colour in sets:
        means, deviations = figures(layers, mean), figures(layers, std)
        if logarithmic:
            _log_curve(axes, deviations, colour, f"std {label}".strip(), colours)
            size = loggable(np.abs(means))
            axes.plot(x, size, color=colour, linewidth=1, linestyle=":", alpha=0.9)
        else:
            lost = np.isinf(means) | np.isinf(deviations)
            canvas.mark_lost(axes, x[lost], colours)
            means = np.where(lost, np.nan, means)
            low, high = means - deviations, means + deviations
            axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
            for edge in (low, high):
                axes.plot(x, edge, color=colour, linewidth=1)
            axes.plot(x, means, color=colour, label=label or None, **style)
            if len(layers) == 1:
                axes.errorbar(x, means, deviations, color=colour, capsize=4)
    if logarithmic:
        axes.plot([], [], color=colours.ink, linestyle=":", label="|mean|")
        # Means far below the deviation are as good as zero.
        axes.set_ylim(positive.min() / 30, positive.max() * 3)
        canvas.log_axis(axes)
    canvas.legend(axes, colours)


def _log_curve(
    axes: Axes, values: Floats, colour: str, label: str | None, colours: Palette
) -> None:
    """A curve on a logarithmic axis; what such an axis cannot show is marked."""
    x, style = np.arange(len(values)), canvas.line_style(len(values))
    axes.plot(x, loggable(values), color=colour, label=label, **style)
    canvas.mark_zeros(axes, x[values == 0], colours)
    canvas.mark_lost(axes, x[np.isinf(values)], colours)


def _heat(axes: Axes, layers: Sequence[LayerSignal], colours: Palette) -> None:
    """Histograms as columns of an image: logarithm of the counts."""
    more = "darker" if colours.counts == "Blues" else "brighter"
    title = f"Histogram of the pre-activation (log of counts; {more}: more)"
    canvas.dress(axes, colours, title, "pre-activation")
    edges = _heat_edges(layers)
    image = np.full((_HEAT_BINS, len(layers)), np.nan)
    for i, layer in enumerate(layers):
        if layer.histogram is not None and any(layer.histogram.counts):
            total = np.concatenate([[0], np.cumsum(layer.histogram.counts)])
            share = np.interp(edges, layer.histogram.edges, total / float(total[-1]))
            found = np.diff(share)
            image[:, i] = np.log10(np.where(found > 0, found, np.nan))
    axes.grid(visible=False)
    axes.imshow(
        image,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        cmap=colours.counts,
        vmin=-4.5,
        extent=(-0.5, len(layers) - 0.5, edges[0], edges[-1]),
    )


def _heat_edges(layers: Sequence[LayerSignal]) -> Floats:
    """Common bins: as wide as the widest layer, but for layers far beyond the rest.

    Layers that are all zero have no say in it.
    """
    reach = [
        max(abs(x.histogram.edges[0]), abs(x.histogram.edges[-1]))
        for x in layers
        if x.histogram is not None
    ]
    finite = [x for x in reach if _NOTHING < x < math.inf] or [1.0]
    limit = min(max(finite), 4 * float(np.median(finite)))
    return np.linspace(-limit, limit, _HEAT_BINS + 1)


def _shares(axes: Axes, layers: Sequence[LayerSignal], colours: Palette) -> None:
    """Dead and saturated shares."""
    canvas.dress(axes, colours, "Dead and saturated", "%")
    x, style = np.arange(len(layers)), canvas.line_style(len(layers))
    for field, label, colour in (
        ("dead_fraction", "dead units", colours.bad),
        ("saturated_fraction", "saturated values", colours.third),
    ):
        values = 100 * figures(layers, field)
        lost = np.isinf(values)
        values[lost] = np.nan
        if not np.isnan(values).all():
            axes.fill_between(x, 0, values, color=colour, alpha=0.2, linewidth=0)
            axes.plot(x, values, color=colour, label=label, **style)
        canvas.mark_lost(axes, x[lost], colours)
    axes.set_ylim(-4, 104)
    axes.set_yticks([0, 50, 100])
    canvas.legend(axes, colours)


def _cumulated(axes: Axes, layers: Sequence[LayerSignal], colours: Palette) -> None:
    """Gradient gain cumulated from the output back to each layer."""
    title = "Gradient gain cumulated from the output (squared norm)"
    canvas.dress(axes, colours, title, "gain (log scale)")
    gains = _gain_values(layers)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(np.isnan(gains), 0.0, np.log10(np.abs(gains)))
        total = np.cumsum(logs[::-1])[::-1]
    values = 10.0 ** np.clip(total, *np.log10(DRAWN))
    values[np.isneginf(total)] = 0.0
    values[np.isposinf(total) | np.isnan(total)] = math.inf
    low, high = _HEALTHY_GAIN
    axes.axhspan(low, high, color=colours.third, alpha=0.12, linewidth=0)
    _log_curve(axes, values, colours.after, None, colours)
    seen = values[np.isfinite(values) & (values > 0)]
    if seen.size:
        axes.set_ylim(min(low / 3, seen.min() / 3), max(high * 3, seen.max() * 3))
    canvas.log_axis(axes)
    canvas.legend(axes, colours)


def _gain_values(layers: Sequence[LayerSignal]) -> Floats:
    """Gradient gains but softmax's, as `gain_product` has it."""
    softmax = ["softmax" in (layer.activation or "") for layer in layers]
    return np.where(softmax, np.nan, figures(layers, "gradient_gain"))


def _gains(axes: Axes, layers: Sequence[LayerSignal], colours: Palette) -> None:
    """Gradient gain layer by layer: with skip connections no product means much."""
    title = "Gradient gain of each layer (squared norm)"
    canvas.dress(axes, colours, title, "gain (log scale)")
    _log_curve(axes, _gain_values(layers), colours.after, None, colours)
    canvas.log_axis(axes)
    canvas.legend(axes, colours)


def _gradients(axes: Axes, layers: Sequence[LayerSignal], colours: Palette) -> None:
    """Measured gradients of the kernels."""
    canvas.dress(axes, colours, "Gradients of the kernels", "log scale")
    drawn = False
    for field, label, colour in (
        ("weight_gradient_std", "std", colours.after),
        ("gradient_ratio", "gradient / weight", colours.before),
    ):
        values = figures(layers, field)
        seen = np.isfinite(values) & (values > 0)
        if not np.isnan(values).all():
            # A curve without a point has no place in the legend.
            _log_curve(axes, values, colour, label if seen.any() else None, colours)
            drawn |= bool(seen.any())
    if drawn:
        canvas.log_axis(axes)
    else:  # marks alone have no scale
        axes.set_yticks([])
    canvas.legend(axes, colours)


# whether it was measured, the panel, its height
_PANELS: tuple[tuple[Callable[[Sequence[LayerSignal]], bool], Panel, float], ...] = (
    (_has("std", "std_before"), _signal, 1.4),
    (_has("histogram"), _heat, 1.4),
    (_has("dead_fraction", "saturated_fraction"), _shares, 0.9),
    (_has("gradient_gain"), _cumulated, 1.0),
    (_has("weight_gradient_std", "gradient_ratio"), _gradients, 1.0),
)
