"""Pictures of a report: drawn without pyplot, readable at any depth, in two themes."""

import dataclasses
import itertools
import math
import struct
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from keras_inits.plotting import canvas, plot_history, plot_report
from keras_inits.report import Histogram, LayerSignal, SignalReport

pytest.importorskip("matplotlib")


def layer(i, **fields):
    values = {
        "mean_before": 0.01,
        "std_before": 0.9**i,
        "mean": 0.02,
        "std": 1.0,
        "dead_fraction": 0.01 * (i % 50),
        "gradient_gain": 1.1,
        "gradient_ratio": 0.01,
        "histogram": Histogram(counts=(1, 5, 1), edges=(-3.0, -1.0, 1.0, 3.0)),
    }
    name = f"dense_{i}"
    return LayerSignal(name=name, layer_type="Dense", **(values | fields))


def report(depth, **fields):
    return SignalReport([layer(i, **fields) for i in range(depth)])


def titles(figure):
    return [axes.get_title(loc="left") for axes in figure.axes]


def lines(axes):
    """Curves by label, in data coordinates."""
    return {line.get_label(): line.get_ydata() for line in axes.lines}


@pytest.mark.parametrize("depth", [1, 5, 200])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_picture_is_saved_by_suffix(tmp_path, depth, theme):
    path = tmp_path / "signal.png"
    figure = plot_report(report(depth), path, theme=theme, size=(6, 5))
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", data[16:24])
    assert width / height == pytest.approx(6 / 5, rel=0.01)
    assert len(figure.axes) == 5


def test_svg(tmp_path):
    plot_report(report(5), tmp_path / "signal.svg")
    root = ET.parse(tmp_path / "signal.svg").getroot()
    assert root.tag.endswith("svg")


def test_panels_are_those_that_were_measured():
    bare = SignalReport([LayerSignal(name="a", layer_type="Dense", mean=0.0, std=1.0)])
    assert titles(plot_report(bare)) == ["Mean ± std of the pre-activation"]
    assert titles(plot_report(report(5, std_before=1.0, histogram=None))) == [
        "Mean ± std of the pre-activation",
        "Dead and saturated",
        "Gradient gain cumulated from the output (squared norm)",
        "Gradients of the kernels",
    ]


def test_curves_hold_the_figures():
    [signal, *_] = plot_report(report(40)).axes
    assert signal.get_yscale() == "log"
    curves = lines(signal)
    np.testing.assert_allclose(curves["std before"], 0.9 ** np.arange(40))
    np.testing.assert_allclose(curves["std after"], np.ones(40))


def test_small_span_is_drawn_linearly_with_a_band():
    [signal, *_] = plot_report(report(5, mean=0.5, std=2.0)).axes
    assert signal.get_yscale() == "linear"
    np.testing.assert_allclose(lines(signal)["after"], np.full(5, 0.5))
    band = signal.collections[-1].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (-1.5, 2.5)


def test_gain_is_cumulated_from_the_output():
    gains = [2.0, 3.0, 5.0]
    rows = SignalReport(
        [LayerSignal(name=n, layer_type="D", gradient_gain=g)
         for n, g in zip("abc", gains, strict=True)]
    )  # fmt: skip
    [axes] = plot_report(rows).axes
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [30, 15, 5])


def test_zeros_and_infinities_are_marked():
    rows = report(40)
    sick = [
        dataclasses.replace(rows[0], std=0.0),
        dataclasses.replace(rows[1], std=math.inf),
        dataclasses.replace(rows[2], std=math.nan),
        *rows[3:],
    ]
    [signal, *_] = plot_report(SignalReport(sick)).axes
    marks = {line.get_label(): list(line.get_xdata()) for line in signal.lines}
    assert marks["zero"] == [0]
    assert marks["NaN or infinite"] == [1, 2]
    assert np.isnan(lines(signal)["std after"][:3]).all()


@pytest.mark.parametrize(
    "fields",
    [
        {"std": 0.0, "std_before": 0.0, "gradient_gain": 0.0, "gradient_ratio": 0.0},
        {"std": math.nan, "mean": math.inf, "gradient_gain": math.nan},
        {"gradient_gain": 1e200, "gradient_ratio": math.inf, "std": 1e30},
        {"histogram": Histogram(counts=(0, 0), edges=(0.0, 0.0, 0.0))},
    ],
)
def test_sick_reports_are_drawn_all_the_same(tmp_path, fields):
    plot_report(report(30, **fields), tmp_path / "sick.png")


def test_heat_map_holds_the_counts_of_each_layer():
    figure = plot_report(report(2, std_before=1.0))
    [image] = figure.axes[1].images
    shares = 10.0 ** image.get_array()
    np.testing.assert_allclose(np.nansum(shares, axis=0), 1, rtol=1e-6)
    middle = shares[len(shares) // 2, 0]
    assert middle > 4 * shares[0, 0]


@pytest.mark.parametrize(("depth", "size"), [(5, None), (40, None), (200, (6, 5))])
def test_layer_names_are_thinned_to_what_is_legible(depth, size):
    figure = plot_report(report(depth), size=size)
    figure.draw_without_rendering()
    labels = figure.axes[-1].get_xticklabels()
    texts = [label.get_text() for label in labels]
    assert texts[0] == "dense_0"
    assert texts[-1] == f"dense_{depth - 1}"
    if depth <= 40:
        assert len(texts) == depth
    boxes = [label.get_window_extent() for label in labels]
    gaps = [b.x0 - a.x1 for a, b in itertools.pairwise(boxes)]
    assert min(gaps) > 0


def test_long_names_lose_what_they_share():
    names = [f"encoder_layer_{i}_feed_forward_projection" for i in range(3)]
    texts, shared = canvas.shorten(names, 20)
    assert texts == ["0", "1", "2"]
    assert shared == "encoder_layer_…_feed_forward_projection"
    assert canvas.shorten(["dense_0", "dense_1"], 20) == (["dense_0", "dense_1"], "")
    [text], _ = canvas.shorten(["a" * 30 + "b" * 30], 11)
    assert text == "aaaaa…bbbbb"


def test_thinning_keeps_first_and_last():
    for count in (1, 2, 7, 50, 199, 1000):
        for room in (0.1, 1.0, 5.0, 15.0):
            shown = canvas.thin(count, room)
            assert (shown[0], shown[-1]) == (0, count - 1)
            assert shown == sorted(set(shown))
            steps = np.diff(shown)
            assert not steps.size or steps.min() == steps[0]
    assert len(canvas.thin(1000, 5.0)) <= 5.0 * 72 / 7.5


def test_contrast_of_the_themes():
    """Ink on its background by WCAG 2.1, at least 4.5; curves at least 2."""

    def luminance(colour):
        rgb = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [
            x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in rgb
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(a, b):
        high, low = sorted((luminance(a), luminance(b)), reverse=True)
        return (high + 0.05) / (low + 0.05)

    for colours in canvas.PALETTES.values():
        assert contrast(colours.ink, colours.background) > 4.5
        for curve in (colours.after, colours.before, colours.bad, colours.third):
            assert contrast(curve, colours.background) > 2


def test_history(tmp_path):
    reports = [report(6, std=1.0 + epoch) for epoch in range(4)]
    path = tmp_path / "history.svg"
    figure = plot_history(reports, [1, 2, 3, 4], path)
    assert path.stat().st_size > 0
    [deviation, *_] = figure.axes
    assert len(deviation.lines) == 6
    np.testing.assert_array_equal(deviation.lines[0].get_xdata(), [1, 2, 3, 4])
    np.testing.assert_array_equal(deviation.lines[5].get_ydata(), [1, 2, 3, 4])


def test_history_of_layers_that_come_and_go():
    figure = plot_history([report(2), report(3), report(1)], [0, 1, 2], theme="dark")
    curves = [line.get_ydata() for line in figure.axes[0].lines]
    assert len(curves) == 3
    assert np.isnan(curves[2]).tolist() == [True, False, True]


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match=r"theme .*\['dark', 'light'\].*'blue'"):
        plot_report(report(2), theme="blue")
    with pytest.raises(ValueError, match=r"\.png.*Received: path='a.jpeg'"):
        plot_report(report(2), "a.jpeg")
    for size in (3, "wide", (3, math.nan), (1, 2, 3)):
        with pytest.raises(ValueError, match=r"inches. Received: size="):
            plot_report(report(2), size=size)
    with pytest.raises(ValueError, match=r"inches. Received: size=\(0, 3\)"):
        plot_report(report(2), size=(0, 3))
    with pytest.raises(ValueError, match="Received: a report of 0 layers"):
        plot_report(SignalReport([]))
    with pytest.raises(ValueError, match="Received: 1 reports and 2 epochs"):
        plot_history([report(2)], [1, 2])
    with pytest.raises(ValueError, match="Received: 0 reports and 0 epochs"):
        plot_history([], [])
    with pytest.raises(ValueError, match="Received: 1 reports of 0 layers"):
        plot_history([SignalReport([])], [1])


def test_report_plots_itself(tmp_path):
    path = tmp_path / "signal.png"
    figure = report(5).plot(path, theme="dark", size=(5, 5))
    assert path.exists()
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_matplotlib_is_imported_only_when_a_picture_is_drawn():
    """Without it the package works, and the picture's error says what to install."""
    code = """
import sys
sys.modules["matplotlib"] = None
from keras_inits.report import LayerSignal, SignalReport
import keras_inits.plotting
report = SignalReport([LayerSignal(name="a", layer_type="Dense", mean=0.0, std=1.0)])
str(report)
try:
    report.plot()
except ImportError as error:
    assert "keras_inits[plot]" in str(error)
else:
    raise AssertionError("drawn without matplotlib")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_pyplot_and_its_settings_stay_as_they_are():
    import matplotlib
    from matplotlib import pyplot

    before = dict(matplotlib.rcParams)
    report(5).plot(theme="dark")
    assert pyplot.get_fignums() == []
    assert dict(matplotlib.rcParams) == before


def test_gains_are_not_cumulated_across_skip_connections():
    rows = SignalReport(list(report(3)), plain=False)
    figure = plot_report(rows)
    panel = titles(figure).index("Gradient gain of each layer (squared norm)")
    drawn = figure.axes[panel].lines[0].get_ydata()
    np.testing.assert_allclose(drawn, [1.1, 1.1, 1.1])


@pytest.mark.parametrize("plain", [True, False])
def test_gain_of_softmax_is_not_drawn(plain):
    last = dataclasses.replace(layer(2), activation="softmax", gradient_gain=1e-9)
    figure = plot_report(SignalReport([layer(0), layer(1), last], plain=plain))
    [panel] = [a for a in figure.axes if "Gradient gain" in a.get_title(loc="left")]
    drawn = panel.lines[0].get_ydata()
    np.testing.assert_allclose(drawn[:2], [1.21, 1.1] if plain else [1.1, 1.1])
