"""The report: records, sequence, table, HTML, dictionary, data frame, TensorBoard."""

import builtins
import copy
import dataclasses
import io
import json
import math
import pickle
import sys

import numpy as np
import pytest

from keras_inits.records import gain_product, unique_names
from keras_inits.rendering.tables import figure, figures, percent
from keras_inits.report import Finding, Histogram, LayerSignal, SignalReport

CONTRACT = [
    "name",
    "layer_type",
    "output_shape",
    "mean_before",
    "std_before",
    "mean",
    "std",
    "scale",
    "shift",
    "iterations",
    "output_mean",
    "output_std",
    "dead_fraction",
    "saturated_fraction",
    "gradient_gain",
    "weight_gradient_std",
    "gradient_ratio",
    "parameters",
    "status",
]


def layer(i=0, **fields):
    values = {
        "output_shape": (None, 256),
        "mean_before": 0.02,
        "std_before": 0.5,
        "mean": 0.01,
        "std": 1.0002,
        "scale": 2.0,
        "iterations": 1,
        "dead_fraction": 0.021,
        "saturated_fraction": 0.0,
        "gradient_gain": 0.999,
        "parameters": 65792,
        "status": "scaled",
    }
    return LayerSignal(name=f"dense_{i}", layer_type="Dense", **(values | fields))


def report(depth=3, **options):
    return SignalReport([layer(i) for i in range(depth)], **options)


# Records


def test_fields_are_those_of_the_contract_in_order():
    names = [field.name for field in dataclasses.fields(LayerSignal)]
    assert names[: len(CONTRACT)] == CONTRACT


def test_only_name_and_type_are_required():
    bare = LayerSignal(name="a", layer_type="Dense")
    assert bare.status == "measured"
    others = set(CONTRACT) - {"name", "layer_type", "status"}
    assert all(getattr(bare, name) is None for name in others)
    assert repr(bare) == "LayerSignal(name='a', layer_type='Dense')"


def test_records_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign"):
        layer().std = 2.0


def test_records_hold_plain_python_values():
    row = layer(std=np.float32(0.5), scale=np.array([1.0, 2.0]), parameters=np.int64(3))
    assert (type(row.std), type(row.parameters)) == (float, int)
    assert row.scale == (1.0, 2.0)
    assert type(row.scale[0]) is float
    assert layer(output_shape=[None, 3]).output_shape == (None, 3)
    assert hash(row) == hash(copy.deepcopy(row))


def test_records_that_saw_nan_are_equal():
    a, b = (layer(std=float("nan"), scale=(1.0, float("nan"))) for _ in range(2))
    assert a == b
    assert a == pickle.loads(pickle.dumps(a))
    assert a != layer(std=1.0)
    assert a != "dense_0"


def test_histogram_checks_its_edges():
    assert Histogram(counts=np.array([1, 2]), edges=np.arange(3.0)).counts == (1, 2)
    with pytest.raises(ValueError, match="Received: 2 counts and 2 edges"):
        Histogram(counts=(1, 2), edges=(0.0, 1.0))


# A sequence


def test_sequence():
    rows = report(4, target_std=1, title="t", notes=["n"])
    assert len(rows) == 4
    assert [row.name for row in rows] == ["dense_0", "dense_1", "dense_2", "dense_3"]
    assert rows[-1] == rows[3] == rows["dense_3"]
    part = rows[1:3]
    assert isinstance(part, SignalReport)
    assert [row.name for row in part] == ["dense_1", "dense_2"]
    assert (part.target_std, part.title, part.notes) == (1.0, "t", ("n",))
    assert "dense_2" in rows
    assert "dense_9" not in rows
    assert rows[0] in rows
    with pytest.raises(IndexError, match="out of range"):
        rows[4]


def test_lookup_by_name_or_path():
    rows = SignalReport([layer(0, path="a/dense"), layer(0, path="b/dense", std=2.0)])
    assert rows["dense_0"].std == 1.0002
    assert rows["b/dense"].std == 2.0
    with pytest.raises(KeyError, match=r"Received: 'conv'.*Layers .*: dense_0"):
        rows["conv"]
    with pytest.raises(KeyError, match="none"):
        SignalReport([])["conv"]


def test_equality():
    assert report(target_std=1) == report(target_std=1.0)
    assert hash(report()) == hash(report())
    assert report() != report(2)
    assert report() != report(target_std=1)
    assert report() != [layer(i) for i in range(3)]
    assert copy.deepcopy(report()) == report()


def test_only_records_are_taken():
    with pytest.raises(TypeError, match="Received: 'dense_1'"):
        SignalReport(["dense_1"])


@pytest.mark.parametrize(
    ("gains", "product"),
    [
        ([2.0, 3.0, None], 6.0),
        ([None], None),
        ([], None),
        ([1e300] * 3, math.inf),
        ([1e-300] * 3, 0.0),
        ([1e-300, 1e300, 5.0], 5.0),
        ([0.0, 2.0], 0.0),
        ([math.inf, 2.0], math.inf),
    ],
)
def test_gradient_gain(gains, product):
    rows = SignalReport([layer(i, gradient_gain=g) for i, g in enumerate(gains)])
    assert rows.gradient_gain == (None if product is None else pytest.approx(product))


def test_gradient_gain_of_nan_is_nan():
    rows = [layer(gradient_gain=math.nan), layer(gradient_gain=0.0)]
    assert math.isnan(gain_product(rows))


def test_repeated_names_are_numbered():
    rows = [layer(0), layer(1), layer(0), layer(0)]
    names = ["dense_0", "dense_1", "dense_0 (call 2)", "dense_0 (call 3)"]
    assert unique_names(rows) == names


# Figures


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1.000"),
        (0.99984, "0.9998"),
        (1234.4, "1234"),
        (9999.9, "1.00e+04"),
        (0.001, "0.001000"),
        (1.23456e-7, "1.23e-07"),
        (-12.345, "-12.35"),
        (0.0, "0"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (None, "-"),
    ],
)
def test_figure(value, text):
    assert figure(value) == text


def test_figures_of_many_channels_are_a_range():
    assert figures((0.5, 2.0, 1.0)) == "0.5..2 (x3)"
    assert figures((0.5, math.nan)) == "0.5..0.5 (x2)"
    assert figures((1.5,)) == "1.500"
    assert figures(()) == "-"
    assert figures(None) == "-"


def test_percent():
    values = [0.0, 1e-6, 0.0123, 0.41, 1.0, None, math.nan]
    assert [percent(x) for x in values] == [
        "0", "<0.1", "1.2", "41", "100", "-", "nan",
    ]  # fmt: skip


# Table


def lines_of(rows, line_length):
    texts = []
    rows.summary(line_length=line_length, print_fn=texts.append)
    [text] = texts
    return text.splitlines()


@pytest.mark.parametrize("line_length", [40, 60, 76, 100, 200])
@pytest.mark.parametrize("depth", [1, 12, 120])
def test_table_fits_the_line(line_length, depth):
    lines = lines_of(report(depth, target_std=1), line_length)
    assert max(map(len, lines)) <= line_length
    text = "".join(lines)
    for i in (0, depth - 1):
        assert f"dense_{i}" in text
    assert "0.5000 -> 1.000" in text


def test_wide_table_has_every_measured_column():
    row = layer(
        output_mean=0.4,
        output_std=0.6,
        weight_gradient_std=1e-3,
        gradient_ratio=0.02,
        shift=0.125,
    )
    text = "\n".join(lines_of(SignalReport([row]), 200))
    for shown in (
        "dense_0 (Dense)", "(None, 256)", "65,792", "0.5000 -> 1.000", "0.01", "2.000",
        "0.1250", "0.4", "0.6", "2.1", "0.999", "0.001", "0.02",
    ):  # fmt: skip
        assert shown in text
    assert "Not shown" not in text


def test_columns_without_figures_are_left_out():
    text = str(SignalReport([LayerSignal(name="a", layer_type="Dense", std=1.0)]))
    assert "Scale" not in text
    assert "Dead" not in text
    assert "->" not in text


def test_columns_that_do_not_fit_are_named():
    text = " ".join(" ".join(lines_of(report(), 60)).split())
    assert "Not shown at 60 characters: Output shape, Params, Mean" in text


def test_status_column_appears_where_layers_differ():
    rows = SignalReport([layer(0), layer(1, status="skipped: tied to dense_0")])
    text = "\n".join(lines_of(rows, 200))
    assert "Status" in text
    assert "skipped: tied to dense_0" in text
    assert "all scaled" in str(report())


def test_nan_and_infinity_are_shown():
    report = SignalReport([layer(std=math.nan, mean=math.inf, std_before=0.0)])
    text = "\n".join(lines_of(report, 200))
    assert "0 -> nan" in text
    assert "inf" in text


def test_findings_and_notes_stand_under_the_table():
    rows = report(notes=["measured on 256 samples"])
    assert "measured on 256 samples" in str(rows)
    assert "Healthy: std 1.000 to 1.000, at most 2.1 % dead" in str(rows)
    sick = SignalReport([layer(0), layer(1, std=math.nan, status="measured")])
    assert "1. NaN appears at dense_1" in str(sick)
    assert "-> look at this layer's" in str(sick)
    assert "Healthy" not in str(sick)


def test_row_of_the_data_is_no_layer():
    data = LayerSignal(name="x", layer_type="InputLayer", std=0.1, mean=0.0)
    rows = SignalReport([data, layer(0), layer(1)])
    assert "2 layers, all scaled" in str(rows)
    assert "std 1.000 to" in str(rows)


def test_names_with_markup_and_wide_letters_are_printed_as_they_are():
    rows = SignalReport([dataclasses.replace(layer(), name="[red]层_1:smile:")])
    assert "[red]层_1:smile:" in "\n".join(lines_of(rows, 200))


def test_empty_report():
    assert str(SignalReport([])).endswith("No layer was measured.")
    assert SignalReport([])._repr_html_().count("No layer was measured.") == 1
    assert SignalReport([]).findings == ()


def test_long_report_prints_every_layer_and_its_repr_some():
    rows = report(300)
    text = str(rows)
    assert all(f"dense_{i} " in text for i in range(300))
    assert len(text.splitlines()) < 315
    short = repr(rows)
    assert len(short.splitlines()) < 75
    assert "... 240 more" in short
    assert "report.summary()" in short
    assert "dense_299" in short


@pytest.mark.parametrize("value", [39, 0, -1, 3.5, "80"])
def test_line_length_is_checked(value):
    with pytest.raises(ValueError, match=rf"at least 40.*Received: .*{value}"):
        report().summary(line_length=value)


def test_summary_prints(capsys):
    report().summary(line_length=100)
    out = capsys.readouterr().out
    assert out.rstrip().splitlines()[0].startswith("Signal report, 3 layers")
    assert "\x1b" not in out


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_ascii_where_boxes_cannot_be_encoded(monkeypatch, encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    print(report())
    report().summary()
    stream.flush()
    text = stream.buffer.getvalue().decode(encoding)
    assert text.count("dense_1 (Dense)") == 2
    assert "+--" in text


# HTML, dictionary, data frame


def test_html_is_escaped_and_sets_no_colours_of_its_own():
    name = "<script>alert(1)</script>"
    rows = SignalReport(
        [dataclasses.replace(layer(), name=name, std=math.nan)],
        title="<b>",
        notes=["a < b"],
    )
    text = rows._repr_html_()
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "&lt;b&gt;" in text
    assert "a &lt; b" in text
    assert "NaN appears" in text
    assert "background" not in text
    assert "color:" not in text


def test_to_dict_is_json_safe():
    histogram = Histogram(counts=(1, 2), edges=(0.0, 0.5, 1.0))
    rows = SignalReport(
        [
            layer(0, histogram=histogram, scale=(1.0, math.inf)),
            layer(1, std=math.nan, gradient_gain=math.inf),
        ],
        target_std=1,
        notes=["n"],
    )
    found = json.loads(json.dumps(rows.to_dict(), allow_nan=False))
    assert set(found) == {
        "title", "target_std", "gradient_gain", "inputs", "layers", "losses",
        "findings", "notes",
    }  # fmt: skip
    first, second = found["layers"]
    assert list(first)[: len(CONTRACT)] == CONTRACT
    assert first["histogram"] == {"counts": [1, 2], "edges": [0.0, 0.5, 1.0]}
    assert first["scale"] == [1.0, None]
    assert first["output_shape"] == [None, 256]
    assert second["std"] is None
    assert found["gradient_gain"] is None
    assert found["target_std"] == 1.0
    assert found["findings"][0]["layer"] == "dense_1"
    assert set(found["findings"][0]) == {
        "layer", "figure", "text", "remedy", "severity",
    }  # fmt: skip


def test_finding_prints_its_remedy():
    finding = Finding.at(layer(), 1.0, "what", "do this")
    assert str(finding) == "what\n    -> do this"
    assert finding.severity == "error"


def test_to_dataframe():
    pytest.importorskip("pandas")
    frame = report().to_dataframe()
    assert list(frame.columns[: len(CONTRACT)]) == CONTRACT
    assert list(frame["name"]) == ["dense_0", "dense_1", "dense_2"]
    assert frame["std"].mean() == pytest.approx(1.0002)
    assert len(SignalReport([]).to_dataframe()) == 0


def without(monkeypatch, package):
    real = builtins.__import__

    def importer(name, *args, **kwargs):
        if name.split(".")[0] == package:
            raise ImportError(f"No module named {name!r}")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", importer)


def test_missing_packages_are_named(monkeypatch, tmp_path):
    without(monkeypatch, "pandas")
    with pytest.raises(ImportError, match="pip install pandas"):
        report().to_dataframe()
    without(monkeypatch, "tensorflow")
    with pytest.raises(ImportError, match=r"keras_inits\[tensorflow\]"):
        report().log_tensorboard(tmp_path)
    without(monkeypatch, "matplotlib")
    with pytest.raises(ImportError, match=r"keras_inits\[plot\]"):
        report().plot()


@pytest.mark.parametrize("step", ["a", -1, 1.5, None, True])
def test_log_tensorboard_at_what_is_no_step(tmp_path, step):
    with pytest.raises(ValueError, match=rf"at least 0\. Received: step={step!r}"):
        report().log_tensorboard(tmp_path / "logs", step=step)
    assert not (tmp_path / "logs").exists()


def test_figures_that_were_not_measured_are_nan_in_a_frame():
    pytest.importorskip("pandas")
    rows = [LayerSignal(name=name, layer_type="Dense", std=1.0) for name in "ab"]
    frame = SignalReport(rows).to_dataframe()
    for name in ("std", "mean", "scale", "iterations", "gradient_ratio"):
        assert frame[name].dtype == "float64"
    assert frame["kernel_shape"].isna().all()
    assert (frame["std"] + frame["mean"]).isna().all()


def test_log_tensorboard_into_a_file(tmp_path):
    pytest.importorskip("tensorflow")
    path = tmp_path / "events"
    path.write_text("mine")
    with pytest.raises(NotADirectoryError, match=r"is a file: '.*events'"):
        report().log_tensorboard(path)
    assert path.read_text() == "mine"


def test_log_tensorboard(tmp_path):
    tf = pytest.importorskip("tensorflow")
    rows = SignalReport([layer(0), layer(0, std=3.0, mean=math.nan)])
    rows.log_tensorboard(tmp_path / "logs", step=7)
    [path] = (tmp_path / "logs").iterdir()
    tags, steps = {}, set()
    for event in tf.compat.v1.train.summary_iterator(str(path)):
        for value in event.summary.value:
            tags[value.tag] = tf.make_ndarray(value.tensor)
            steps.add(event.step)
    assert steps == {7}
    assert tags["std/dense_0"] == pytest.approx(1.0002)
    assert tags["std/dense_0 (call 2)"] == pytest.approx(3.0)
    assert "output_std/dense_0" not in tags
    assert b"Signal report" in tags["signal_report"].item()


def test_layers_of_one_name_go_by_the_end_of_their_path():
    def query(path, **fields):
        return dataclasses.replace(layer(**fields), name="query", path=path)

    rows = [query("m/block_1/mha/query"), query("m/block_2/mha/query", std=math.nan)]
    shown = ["block_1/mha/query", "block_2/mha/query"]
    assert unique_names(rows) == shown
    assert unique_names([rows[0], rows[0]]) == ["query", "query (call 2)"]
    found = SignalReport(rows)
    assert "block_2/mha/query (Dense)" in str(found)
    [finding] = found.findings
    assert finding.layer == "block_2/mha/query"
    assert found[finding.layer] == rows[1]
    zero = {"std": 0.0, "mean": 0.0, "kernel_std": 0.0}
    [finding] = SignalReport([rows[0], dataclasses.replace(rows[1], **zero)]).findings
    assert 'layers=["m/block_2/mha/query"]' in finding.remedy
    assert finding.layer in found


def test_product_of_gains_is_told_only_where_it_means_something():
    line = "Gradient gain over all layers"
    assert line in str(report(plain=True))
    assert line in report(plain=True)._repr_html_()
    assert line not in str(report(plain=False))
    assert line not in report(plain=False)._repr_html_()
    add = LayerSignal(name="add", layer_type="Add", std=1.0)
    assert report().plain
    assert not SignalReport([*report(), add]).plain


def test_a_product_over_some_layers_of_a_model_says_so():
    some = report(plain=True, whole=False)
    assert "Gradient gain over the 3 layers measured: " in str(some)
    assert "Gradient gain over the 3 layers measured: " in some._repr_html_()
    assert "Gradient gain over the layer measured: " in str(some[:1])
    whole = report(plain=True)
    assert whole[:].whole
    assert not whole[:2].whole
    assert "over the 2 layers measured" in str(whole[:2])
    assert whole != some


def test_the_data_stand_above_the_layers_and_outside_the_sequence():
    data = LayerSignal(name="data", layer_type="InputLayer", mean=120.0, std=70.0)
    found = report(3, inputs=data)
    assert len(found) == 3
    assert found[0].name == "dense_0"
    lines = str(found).splitlines()
    names = [
        i for i, line in enumerate(lines) if "data (Inp" in line or "dense_0" in line
    ]
    assert "data (Inp" in lines[names[0]]
    assert "3 layers" in lines[0]
    assert "data (InputLayer)" in found._repr_html_()
    assert found.to_dict()["inputs"]["std"] == 70.0
    assert report(3).to_dict()["inputs"] is None
    assert found != report(3)


def test_findings_use_the_data():
    data = LayerSignal(name="data", layer_type="InputLayer", mean=120.0, std=70.0)
    rows = [layer(i, std=50.0) for i in range(3)]
    found = SignalReport(rows, inputs=data)
    assert "input data is not standardised" in found.findings[0].text
    # A part that starts later says nothing about the data.
    assert found[:2].inputs == data
    assert found[1:].inputs is None
