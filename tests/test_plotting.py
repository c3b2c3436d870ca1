"""Pictures of a report: drawn without pyplot, readable at any depth, in two themes."""

import dataclasses
import importlib
import itertools
import math
import re
import struct
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import keras_inits
from keras_inits.plotting import canvas, plot_history, plot_report
from keras_inits.plotting.labels import shorten
from keras_inits.report import Histogram, LayerSignal, SignalReport

pytestmark = [pytest.mark.any_keras, pytest.mark.any_backend]

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
    values = {"name": f"dense_{i}", "layer_type": "Dense"} | values
    return LayerSignal(**(values | fields))


def report(depth, **fields):
    return SignalReport([layer(i, **fields) for i in range(depth)])


def panels(figure):
    """Axes by title."""
    return {axes.get_title(loc="left"): axes for axes in figure.axes}


def titles(figure):
    return [axes.get_title(loc="left") for axes in figure.axes]


def lines(axes):
    """Curves by label, in data coordinates."""
    return {line.get_label(): line.get_ydata() for line in axes.lines}


def marks(axes):
    """Where on the x axis a legend says that figures are off the scale."""
    legend = axes.get_legend()
    said = [text.get_text() for text in legend.get_texts()] if legend else []
    found = {line.get_label(): line.get_xdata().tolist() for line in axes.lines}
    return {label: found[label] for label in said if label in OFF_THE_SCALE}


OFF_THE_SCALE = ("zero", "NaN or infinite")
NAN = {"std": math.nan, "mean": math.nan, "gradient_ratio": math.nan}
NOTHING = Histogram(counts=(0, 9, 0), edges=(-1e-37, -1e-38, 1e-38, 1e-37))


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
    assert marks(signal) == {"zero": [0], "NaN or infinite": [1, 2]}
    assert np.isnan(lines(signal)["std after"][:3]).all()


@pytest.mark.parametrize(
    "fields",
    [
        {"std": 0.0, "std_before": 0.0, "gradient_gain": 0.0, "gradient_ratio": 0.0},
        {"std": math.nan, "mean": math.inf, "gradient_gain": math.nan},
        {"gradient_gain": 1e200, "gradient_ratio": math.inf, "std": 1e30},
        {
            "gradient_gain": 1e300,
            "gradient_ratio": 1e-300,
            "mean": -1e308,
            "std": 1e308,
        },
        {"histogram": Histogram(counts=(0, 0), edges=(0.0, 0.0, 0.0))},
        {"histogram": NOTHING},
    ],
)
def test_sick_reports_are_drawn_all_the_same(tmp_path, fields):
    plot_report(report(8, **fields), tmp_path / "sick.png")
    healthy_first = [report(3), report(3, **fields), report(3, **fields)]
    plot_history(healthy_first, [0, 1, 2], tmp_path / "sick.png")


def test_heat_map_holds_the_counts_of_each_layer():
    figure = plot_report(report(2, std_before=1.0))
    [image] = figure.axes[1].images
    shares = 10.0 ** image.get_array()
    np.testing.assert_allclose(np.nansum(shares, axis=0), 1, rtol=1e-6)
    middle = shares[len(shares) // 2, 0]
    assert middle > 4 * shares[0, 0]


@pytest.mark.parametrize(
    "nothing", [NOTHING, Histogram(counts=(0, 9, 0), edges=(0.0, 0.0, 0.0, 0.0))]
)
def test_heat_map_shows_the_live_among_many_that_are_all_zero(nothing):
    rows = [layer(0), *(layer(i, histogram=nothing) for i in range(1, 9))]
    [image] = plot_report(rows).axes[1].images
    assert image.get_extent()[2:] == [-3, 3]
    assert np.isfinite(image.get_array()[:, 0]).all()
    [image] = plot_report(rows[1:]).axes[1].images
    assert image.get_extent()[2:] == [-1, 1]


@pytest.mark.parametrize(
    "figures",
    [{"std": math.nan}, {"output_std": math.inf}, {"dead_fraction": math.nan}],
)
def test_shares_of_a_lost_layer_are_a_gap_with_a_mark(figures):
    healthy = {"dead_fraction": 0.25, "saturated_fraction": 0.5}
    lost = healthy | {"dead_fraction": 0.0} | figures
    rows = [layer(i, **(lost if i == 2 else healthy)) for i in range(4)]
    shares = panels(plot_report(rows))["Dead and saturated"]
    assert marks(shares) == {"NaN or infinite": [2]}
    np.testing.assert_equal(lines(shares)["dead units"], [25, 25, math.nan, 25])


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
    texts, shared = shorten(names, 20)
    assert texts == ["0", "1", "2"]
    assert shared == "encoder_layer_…_feed_forward_projection"
    assert shorten(["dense_0", "dense_1"], 20) == (["dense_0", "dense_1"], "")
    [text], _ = shorten(["a" * 30 + "b" * 30], 11)
    assert text == "aaaaa…bbbbb"


def test_no_word_and_no_number_is_torn():
    names = ["encoder_block_10_projection", "encoder_block_11_projection"]
    assert shorten(names, 12) == (["10", "11"], "encoder_block_…_projection")
    names = ["encoder_projection", "encoder_projection_1"]
    assert shorten(names, 12) == (["projection", "projection_1"], "encoder_…")


def test_one_odd_name_does_not_hide_the_numbers():
    names = [f"encoder_block_{i}_feed_forward_projection" for i in range(12)]
    for odd in ("stem", "head", "dense"):
        texts, shared = shorten([odd, *names])
        assert shared == ""
        assert texts[:2] == [odd, "…0_feed_forward_projection"]
        assert texts[-1] == "…11…forward_projection"


def test_words_that_few_names_hold_are_kept():
    kinds = ("depthwise_conv", "pointwise_conv_1", "pointwise_conv_2", "identity")
    names = ["convnext_tiny_stem_conv", "convnext_tiny_head_dense"]
    names[1:1] = [
        f"convnext_tiny_stage_{i}_block_{j}_{kind}"
        for i in range(4)
        for j in range(9)
        for kind in kinds
    ]
    texts, shared = shorten(names, 25)
    assert shared == "convnext_tiny_…"
    assert len(set(texts)) == len(names)
    for name, text in zip(names, texts, strict=True):
        numbers = [x for x in name.split("_") if x.isdigit()]
        assert [x for x in text.replace("…", "_").split("_") if x.isdigit()] == numbers
        assert name.split("_")[-1] in text


def test_names_that_differ_in_a_letter_show_it():
    long = "a" * 30
    texts, _ = shorten([f"{long}b{long}", f"{long}c{long}", "head"], 12)
    assert texts == ["…b…", "…c…", "head"]
    texts, _ = shorten([f"{long}b{long}", f"{long}c{long}", "…b…"], 12)
    assert texts == ["…b…#2", "…c…", "…b…"]


def test_names_that_no_elision_tells_apart_are_numbered():
    names = ["head", *("a" * 30 + "b" * i for i in range(30))]
    texts, _ = shorten(names, 12)
    assert len(set(texts)) == len(names)
    assert texts[0] == "head"
    assert re.fullmatch(r".*…b+#\d+", texts[-1])


WORDS = ("block", "conv2d", "FeedForward", "query", "слой", "1", "2", "12", "$", "…")
NAME = st.one_of(
    st.lists(st.sampled_from(WORDS), max_size=12).map("_".join),
    st.lists(st.sampled_from(WORDS), max_size=12).map("".join),
    st.text("aB1_/", min_size=25, max_size=35),
    st.text(max_size=40),
)
FAMILY = st.builds(
    lambda start, end, count: [f"{start}{i}{end}" for i in range(count)],
    NAME,
    NAME,
    st.integers(1, 30),
)


@given(st.lists(NAME), st.lists(FAMILY, max_size=3), st.integers(6, 30))
def test_labels_differ_where_names_do(names, families, most):
    names = [*names, *itertools.chain(*families)]
    texts, shared = shorten(names, most)
    assert max(map(len, texts), default=0) <= most
    assert len(set(texts)) == len(set(names))
    assert len(dict(zip(names, texts, strict=True))) == len(
        set(zip(names, texts, strict=True))
    )
    assert (texts, shared) == shorten(names, most)
    if not shared:
        kept = [(name, text) for name, text in zip(names, texts, strict=True)
                if len(name) <= most]  # fmt: skip
        assert all(name == text for name, text in kept)


@given(st.lists(NAME, max_size=9), st.integers(0, 5))
def test_labels_keep_to_a_room_too_small_for_all(names, most):
    texts, _ = shorten(names, most)
    assert max(map(len, texts), default=0) <= most


@pytest.mark.parametrize("name", ["$\\foo$", "a$_$b", "${$", "x$y_z$"])
def test_names_are_no_formulas(name):
    """On every axis that shows names: alone, or what all of them share."""
    from matplotlib.text import Text

    alone = [layer(0, name=name), layer(1)]
    alike = [layer(i, name=f"{name * 9}_{i}_{name * 9}") for i in range(3)]
    for rows in (alone, alike):
        for figure in (plot_report(rows), plot_history([rows, rows], [0, 1])):
            figure.draw_without_rendering()
            seen = [text for text in figure.findobj(Text) if text.get_visible()]
            ours = [text for text in seen if name in text.get_text()]
            assert ours
            assert not any(text.get_parse_math() for text in ours)


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


@pytest.mark.parametrize("depth", [1, 41])
def test_history_marks_epochs_that_are_off_the_scale(depth):
    """Whichever layer it is: the last is zero at first, lost in the end."""
    zeros = {"std": 0.0, "mean": 0.0, "gradient_ratio": 0.0}
    reports = [
        [*report(depth - 1, std_before=None), layer(depth - 1, **figures)]
        for figures in (zeros, {}, NAN, {"std": math.inf, "mean": math.inf})
    ]
    found = panels(plot_history(reports, [2, 3, 5, 8]))
    lost = {"NaN or infinite": [5, 8]}
    assert marks(found["Deviation of the pre-activation"]) == lost | {"zero": [2]}
    assert marks(found["Mean of the pre-activation"]) == lost
    assert marks(found["Dead units"]) == lost
    assert marks(found["Gradient / weight"]) == {"zero": [2], "NaN or infinite": [5]}
    assert marks(panels(plot_history([report(2)], [0]))["Dead units"]) == {}


@pytest.mark.parametrize("figures", [{"std": math.nan}, {"output_std": math.inf}])
def test_history_draws_no_shares_of_a_lost_layer(figures):
    shares = {"dead_fraction": 0.25, "saturated_fraction": 0.5}
    reports = [report(1, **shares), report(1, **shares, **figures)]
    found = panels(plot_history(reports, [0, 1]))
    for title, share in (("Dead units", 25), ("Saturated values", 50)):
        np.testing.assert_equal(found[title].lines[0].get_ydata(), [share, math.nan])


def test_history_that_is_lost_from_the_start_is_no_empty_picture():
    rows = [LayerSignal(name="a", layer_type="Dense", std=math.nan)]
    [panel, _] = plot_history([rows, rows], [0, 1]).axes
    assert marks(panel) == {"NaN or infinite": [0, 1]}


def test_the_few_epochs_before_a_long_run_is_lost_are_seen():
    """A line through a single epoch has no length."""
    reports = [report(2), *[report(2, **NAN)] * 50]
    for title, axes in panels(plot_history(reports, range(51))).items():
        assert not title or axes.lines[0].get_marker() == "o"


def test_history_says_what_the_names_share():
    rows = [layer(i, name=f"encoder_block_{i}_projection_of_all") for i in range(3)]
    [*_, bar] = plot_history([rows], [0]).axes
    assert [x.get_text() for x in bar.get_yticklabels()] == ["0", "1", "2"]
    assert bar.get_ylabel() == "encoder_block_…_projection_of_all"


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match=r"theme .*\['dark', 'light'\].*'blue'"):
        plot_report(report(2), theme="blue")
    for theme in (["light"], None, {}):
        with pytest.raises(
            ValueError, match=r"theme .*\['dark', 'light'\]. Received: "
        ):
            plot_report(report(2), theme=theme)
        with pytest.raises(
            ValueError, match=r"theme .*\['dark', 'light'\]. Received: "
        ):
            plot_history([report(2)], [0], theme=theme)
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


def test_matplotlib_is_imported_only_when_a_picture_is_drawn(monkeypatch):
    """Without it the package works, and the picture's error says what to install."""
    monkeypatch.setattr(keras_inits, "plotting", keras_inits.plotting)
    for name in [*sys.modules]:
        if name.startswith("keras_inits.plotting"):
            monkeypatch.delitem(sys.modules, name)
        elif name.split(".")[0] == "matplotlib":
            monkeypatch.setitem(sys.modules, name, None)
    importlib.import_module("keras_inits.plotting")
    assert str(report(1))
    with pytest.raises(ImportError, match=r"keras_inits\[plot\]"):
        report(1).plot()


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


@pytest.mark.parametrize(
    ("value", "mark"), [(0.0, "zero"), (math.nan, "NaN or infinite")]
)
def test_gradients_of_which_nothing_can_be_drawn_have_no_scale(value, mark):
    rows = report(5, gradient_ratio=value, weight_gradient_std=value)
    axes = panels(plot_report(rows))["Gradients of the kernels"]
    assert {text.get_text() for text in axes.get_legend().get_texts()} == {mark}
    assert len(axes.get_yticks()) == 0
    some = SignalReport(
        [*rows, layer(5, weight_gradient_std=0.1, gradient_ratio=value)]
    )
    axes = panels(plot_report(some))["Gradients of the kernels"]
    assert {x.get_text() for x in axes.get_legend().get_texts()} == {"std", mark}
    assert len(axes.get_yticks()) > 0
