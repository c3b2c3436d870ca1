"""The code that findings and errors print runs, and does what it says."""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from models import normal

import keras_inits
from keras_inits import DegenerateDataError, lsuv_init, measure

pytestmark = pytest.mark.any_keras


def after(code: str, **names: Any) -> dict[str, Any]:
    """The names as they are once the code has run."""
    names |= {"np": np, "keras": keras}
    exec(code.strip(), names)
    return names


def model_of(*shape: int) -> keras.Model:
    stack = [layers.Flatten(), layers.Dense(1, name="head")]
    return keras.Sequential([keras.Input(shape), *stack])


def two_inputs() -> keras.Model:
    inputs = {"a": keras.Input((4,), name="a"), "b": keras.Input((2, 3), name="b")}
    flat = layers.Flatten()(inputs["b"])
    head = layers.Dense(1, name="head")(layers.Concatenate()([inputs["a"], flat]))
    return keras.Model(inputs, head)


def spoilt(*shape: int) -> np.ndarray[Any, Any]:
    x = normal(*shape)
    rows = x.reshape(len(x), -1)
    rows[3, 0], rows[5, -1] = np.nan, np.inf
    return x


def cleaning(remedy: str) -> str:
    return remedy.removeprefix("drop or fill such rows: ")


@pytest.mark.parametrize("shape", [(4,), (5, 4), (6, 6, 3)])
@pytest.mark.parametrize("labelled", [False, True])
def test_rows_with_nan_are_dropped_whatever_their_rank(
    shape: tuple[int, ...], labelled: bool
) -> None:
    x, y = spoilt(16, *shape), np.arange(16.0)
    labels = {"y": y, "loss": "mse"} if labelled else {}
    [finding] = measure(model_of(*shape), x, **labels).findings
    done = after(cleaning(finding.remedy), x=x, y=y)
    good = [i for i in range(16) if i not in (3, 5)]
    np.testing.assert_array_equal(done["x"], x[good])
    np.testing.assert_array_equal(done["y"], y[good] if labelled else y)


@pytest.mark.parametrize("labelled", [False, True])
def test_rows_of_several_inputs_are_dropped_together(labelled: bool) -> None:
    x, y = {"a": normal(16, 4), "b": spoilt(16, 2, 3)}, np.arange(16.0)
    labels = {"y": y, "loss": "mse"} if labelled else {}
    remedy = measure(two_inputs(), x, **labels).findings[0].remedy
    done = after(cleaning(remedy), x=x, y=y)
    assert [v.shape for v in done["x"].values()] == [(14, 4), (14, 2, 3)]
    assert np.isfinite(done["x"]["b"]).all()
    assert len(done["y"]) == (14 if labelled else 16)


def test_the_rows_of_a_frame_are_dropped() -> None:
    pandas = pytest.importorskip("pandas")
    x = pandas.DataFrame(spoilt(16, 4))
    [finding] = measure(model_of(4), x).findings
    assert len(after(cleaning(finding.remedy), x=x)["x"]) == 14


@pytest.mark.parametrize("shape", [(16,), (16, 1)])
def test_rows_whose_labels_are_nan_are_dropped(shape: tuple[int, ...]) -> None:
    x, y = normal(16, 5, 4), spoilt(*shape)
    [finding] = measure(model_of(5, 4), x, y, loss="mse").findings
    done = after(cleaning(finding.remedy), x=x, y=y)
    assert (done["x"].shape, done["y"].shape) == ((14, 5, 4), (14, *shape[1:]))


def test_rows_of_several_outputs_are_dropped_together() -> None:
    inputs = keras.Input((4,))
    heads = {name: layers.Dense(1, name=name)(inputs) for name in "ab"}
    x, y = normal(16, 4), {"a": normal(16, 1), "b": spoilt(16, 1)}
    finding = measure(keras.Model(inputs, heads), x, y, loss="mse").findings[0]
    assert finding.text == "labels of b hold NaN or infinity"
    done = after(cleaning(finding.remedy), x=x, y=y)
    assert [len(done["x"]), len(done["y"]["a"]), len(done["y"]["b"])] == [14] * 3


def test_labels_beside_several_inputs() -> None:
    x, y = {"a": normal(16, 4), "b": normal(16, 2, 3)}, spoilt(16, 1)
    [finding] = measure(two_inputs(), x, y, loss="mse").findings
    done = after(cleaning(finding.remedy), x=x, y=y)
    assert [len(done["x"]["a"]), len(done["x"]["b"]), len(done["y"])] == [14] * 3


def test_the_error_says_how_to_clean_too() -> None:
    x = spoilt(16, 5, 4)
    with pytest.raises(DegenerateDataError, match="in row 3 of the 16") as caught:
        lsuv_init(model_of(5, 4), x)
    [code] = re.findall("such rows: (.*)[.]", str(caught.value))
    assert after(code, x=x)["x"].shape == (14, 5, 4)
    several = {"a": normal(16, 4), "b": spoilt(16, 2, 3)}
    with pytest.raises(DegenerateDataError, match=r"drawn of data\['b'\]") as caught:
        lsuv_init(two_inputs(), several)
    [code] = re.findall("such rows: (.*)[.]", str(caught.value))
    assert len(after(code, x=several)["x"]["a"]) == 14


# Several inputs, of which one is off its scale


def pixels(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, shape)


def image_beside(words: Any, *, table: bool) -> keras.Model:
    """An image and features, of which a table makes vectors, or none."""
    image = keras.Input((6, 6, 3), name="img")
    other = keras.Input((4,), name="other", dtype="int32" if table else "float32")
    h = layers.Flatten()(layers.Conv2D(4, 3, name="conv")(image))
    more = layers.Flatten()(layers.Embedding(10**5, 8)(other)) if table else other
    both = layers.Concatenate()([layers.Dense(8, name="of_image")(h), more])
    inputs = [image, other] if words is list else {"img": image, "other": other}
    return keras.Model(inputs, layers.Dense(2)(both))


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32"])
@pytest.mark.parametrize("table", [False, True])
@pytest.mark.parametrize("kind", [dict, list])
def test_an_image_among_several_inputs_is_named(
    kind: type, table: bool, dtype: str
) -> None:
    keras.utils.set_random_seed(0)
    image = pixels(16, 6, 6, 3).astype(dtype)
    other = (pixels(16, 4) * 300).astype("int32") if table else normal(16, 4)
    model = image_beside(kind, table=table)
    x: Any = [image, other] if kind is list else {"img": image, "other": other}
    finding = measure(model, x).findings[0]
    name, code = ("data[0]", "x[0]") if kind is list else ("data['img']", 'x["img"]')
    assert finding.text.startswith(f"input {name} is not standardised (mean 1")
    assert f"Rescaling(1 / 127.5, offset=-1) on {code}" in finding.remedy
    x[0 if kind is list else "img"] = (image / 127.5 - 1).astype("float32")
    assert not any("standardised" in x.text for x in measure(model, x).findings)


class Code(keras.Model):
    """Does not say where its inputs go."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.dense = layers.Embedding(10**5, 8), layers.Dense(8)

    def call(self, x: Any) -> Any:
        flat = keras.ops.cast(keras.ops.reshape(x["img"], (-1, 108)), "float32")
        words = keras.ops.reshape(self.embed(x["words"]), (-1, 32))
        return self.dense(flat) + keras.ops.sum(words, -1, keepdims=True)


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_where_the_model_does_not_tell_numbers_may_be_indices(dtype: str) -> None:
    model = Code()
    x = {"img": pixels(16, 6, 6, 3), "words": (pixels(16, 4) * 300).astype(dtype)}
    model(x := {**x, "img": x["img"].astype("uint8")})
    assert measure(model, x).inputs.name == "data['img']"
    x["img"] = x["img"].astype(dtype).reshape(16, 6, 18)
    assert measure(model, x).inputs.name == "data"


class WithPositions(layers.Layer):
    """Patches of an image, or steps of a series, each beside a vector for its place."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.project, self.places = layers.Dense(8), layers.Embedding(6, 8)

    def build(self, shape: Any) -> None:
        self.project.build((*shape[:2], 72))
        self.places.build((6,))

    def call(self, x: Any) -> Any:
        patches = self.project(keras.ops.reshape(x, (-1, 6, 72)))
        return patches + self.places(keras.ops.arange(6))


@pytest.mark.parametrize("kind", ["float32", "uint8", "fractions"])
@pytest.mark.parametrize("shape", [(12, 12, 3), (6, 72)])
def test_a_table_of_positions_does_not_hide_data_off_their_scale(
    shape: Any, kind: str
) -> None:
    inputs = keras.Input(shape)
    head = layers.Dense(2)(layers.Flatten()(WithPositions()(inputs)))
    model = keras.Model(inputs, head)
    fractions = 0.5 * (kind == "fractions")
    x = (pixels(16, *shape) + fractions).astype("uint8" if kind == "uint8" else float)
    told = len(shape) == 3 or kind != "float32"  # else they may be indices
    found = measure(model, x)
    assert found.inputs.indices is not told
    assert [f.layer for f in found.findings] == ["data"] * told
    [finding] = lsuv_init(model, x).findings if told else [None]
    assert finding is None or "makes up for that" in finding.text
    assert not measure(model, x.astype("float32") / 127.5 - 1).findings


@pytest.mark.parametrize("kernel", [1e-7, 1.0, 1e7])
@pytest.mark.parametrize("named", [False, True])
def test_indices_are_not_blamed_for_what_kernels_do(named: bool, kernel: float) -> None:
    inputs = keras.Input((4,), name="words")
    h = layers.Flatten()(layers.Embedding(10**5, 8)(inputs))
    head = layers.Dense(2)(layers.Dense(8, name="hidden")(h))
    model = keras.Model({"words": inputs} if named else inputs, head)
    hidden = model.get_layer("hidden").kernel
    hidden.assign(hidden * kernel)
    x = pixels(16, 4) * 300
    found = measure(model, {"words": x} if named else x)
    assert found.inputs.indices
    assert {f.layer for f in found.findings} == ({"hidden"} if kernel != 1 else set())


def test_the_code_for_one_input_standardises_it() -> None:
    model, x = two_inputs(), {"a": normal(64, 4), "b": 1e4 * normal(64, 2, 3) + 1e4}
    finding = measure(model, x).findings[0]
    assert "input data['b'] is not standardised" in finding.text
    code = finding.remedy.removeprefix("standardise the data: ")
    assert not measure(model, after(code, x=x)["x"]).findings
    a = keras.Input((4,), name="a")
    single = keras.Model({"a": a}, layers.Dense(4)(a))
    x = {"a": 1e4 * normal(64, 4) + 1e4}
    code = measure(single, x).findings[0].remedy
    done = after(code.removeprefix("standardise the data: "), x=x)["x"]
    np.testing.assert_allclose(done["a"].std(axis=0), 1, rtol=1e-4)


def table(columns: int = 8) -> Any:
    """Rows of a table: years, shares, sums of money."""
    means = np.resize([2000.0, 0.3, 5e4, 12.0], columns)
    stds = np.resize([10.0, 0.1, 2e4, 4.0], columns)
    stds[1:3] *= 0.5, 2.0
    return (means + stds * normal(128, columns)).astype("float32")


def bands() -> Any:
    """What a satellite sees, in bands that are not alike."""
    scale = np.array([10.0, 500.0, 50.0, 1000.0])
    return (scale * (3 + normal(128, 6, 6, 4))).astype("float32")


UNLIKE = {
    "columns": (table, "column 2: mean ", "column 1: mean 0."),
    "channels": (bands, "channel 3: mean 3", "channel 0: mean 3"),
    "steps": (lambda: table(24).reshape(128, 6, 4), "channel 2: ", "channel 1: "),
    "offsets": (
        lambda: (normal(128, 3) + np.array([900, 0, 500])).astype("float32"),
        *("column 0: mean 9", "column 1: mean "),
    ),
}


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("name", UNLIKE)
def test_columns_of_different_size_are_standardised_each(
    name: str, inside: bool
) -> None:
    draw, *shown = UNLIKE[name]
    x = draw()
    model = keras.Sequential(
        [keras.Input(x.shape[1:]), layers.Flatten(), layers.Dense(4)]
    )
    finding = measure(model, x).findings[0]
    kind = "column" if x.ndim == 2 else "channel"
    assert finding.text.startswith("input data is not standardised (mean ")
    assert all(text in finding.text for text in shown)
    code = finding.remedy.removeprefix(f"standardise each {kind}: ")
    made, alone = code.split("; and take it as the first layer, or ")
    norm = after(made, x=x)["norm"]
    first = [norm] if inside else []
    x = x if inside else after(alone, x=x, norm=norm)["x"]
    model = keras.Sequential([keras.Input(x.shape[1:]), *first, *model.layers])
    report = measure(model, x)
    assert not report.findings and 0.3 < report[0].std < 3


def frame(x: Any, first: int = 0) -> Any:
    """A data frame, its columns numbered from `first` or named a, b, c, ..."""
    names = list(range(first, first + x.shape[1])) if first else list("abcdefgh")
    return pytest.importorskip("pandas").DataFrame(x, columns=names)


@pytest.mark.parametrize(("first", "shown"), [(0, ("c", "b")), (2019, (2021, 2020))])
def test_columns_of_a_data_frame_are_told_by_name(first: int, shown: Any) -> None:
    x, model = frame(table(), first), model_of(8)
    report = measure(model, x)
    finding = report.findings[0]
    assert all(f"column '{name}': mean" in finding.text for name in shown)
    assert tuple(map(str, shown)) == tuple(name for name, *_ in report.inputs.columns)
    code = finding.remedy.removeprefix("standardise each column: ")
    made, alone = code.split("; and take it as the first layer, or ")
    standardised = after(f"{made}; {alone}", x=x)["x"]
    assert not measure(model, standardised).findings
    # The report of lsuv_init, and data that are several arrays.
    [told] = lsuv_init(model, x).findings
    assert f"column '{shown[0]}': mean" in told.text
    a, b = keras.Input((3,), name="a"), keras.Input((8,), name="b")
    two = keras.Model({"b": b, "a": a}, layers.Concatenate()([a, layers.Dense(8)(b)]))
    for data in ({"b": x, "a": normal(128, 3)}, ({"b": x, "a": normal(128, 3)}, 1)):
        assert f"column '{shown[0]}': mean" in measure(two, data).findings[0].text


def test_a_constant_column_that_is_larger_than_all_others_is_told() -> None:
    x, stack = normal(128, 6), [layers.Dense(8), layers.Dense(1)]
    model = keras.Sequential([keras.Input((6,)), *stack])
    x[:, 4] = 0.0  # what is rare may be 0 in all rows that were drawn
    assert not measure(model, x).findings
    x[:, 2] = 2000.0
    finding = measure(model, x).findings[0]
    assert "column 2: mean 2e+03, std 0; column " in finding.text
    code = finding.remedy.removeprefix("standardise each column: ")
    alone = code.replace(" and take it as the first layer, or", "")
    assert not measure(model, after(alone, x=x)["x"]).findings
    # A single unit varies by the others, and is as large as the constant one.
    assert "column 2: mean 2e+03" in measure(model_of(6), x).findings[0].text
    x = 0 * x + np.arange(6)  # all columns, but rows differ in none: another finding
    assert "the rows of input data are all the same" in str(measure(model, x))


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        ([2], "column 2"),
        ([1, 5], "columns 1, 5"),
        ([0, 1, 2, 3], "columns 0, 1, 2, ..."),
    ],
    ids=str,
)
def test_columns_with_nan_are_told(columns: list[int], shown: str) -> None:
    model, x = model_of(8), normal(64, 8)
    x[3, columns] = np.nan
    x[5, columns[0]] = np.inf
    named = re.sub(r"\d", lambda digit: repr("abcdefgh"[int(digit[0])]), shown)
    for data, expected in ((x, shown), (frame(x), named)):
        text = measure(model, data).findings[0].text
        assert f"input data holds NaN or infinity in {expected}" == text
        where = f"values that are not finite in {expected}; the first is nan in row 3"
        with pytest.raises(DegenerateDataError, match=re.escape(where)):
            lsuv_init(model, data)
    [finding, *_] = measure(model_of(8, 8), np.tile(x[:, None], (1, 8, 1))).findings
    assert "input data holds NaN or infinity" == finding.text


@pytest.mark.parametrize("shape", [(6, 6, 3), (784,)], ids=str)
def test_pixels_are_of_one_size(shape: Any) -> None:
    """At the edges of digits they hardly vary: a deviation of each would be noise."""
    x = pixels(128, *shape) * (np.arange(shape[-1]) % 20 > 0)
    model = keras.Sequential([keras.Input(shape), layers.Flatten(), layers.Dense(4)])
    [finding, *_] = measure(model, x).findings
    assert "is not standardised" in finding.text and "column" not in finding.text
    assert "Normalization" not in finding.remedy


def test_of_several_inputs_the_columns_of_the_one_that_is_off_are_told() -> None:
    a, b = keras.Input((3,), name="a"), keras.Input((8,), name="b")
    both = layers.Dense(8)(a), layers.Dense(8)(b)
    model = keras.Model({"a": a, "b": b}, layers.Concatenate()(both))
    finding = measure(model, x := {"a": normal(128, 3), "b": table()}).findings[0]
    assert "input data['b'] is not standardised" in finding.text
    code = finding.remedy.removeprefix("standardise each column: ")
    code = code.replace("; and ", "; ")
    assert not measure(model, after(code, x=x)["x"]).findings


def test_a_stack_that_has_been_scaled_to_1_is_told_of_the_critical_target() -> None:
    keras.utils.set_random_seed(0)
    hidden = [layers.Dense(32, "tanh") for _ in range(60)]
    model, x = keras.Sequential([keras.Input((32,)), *hidden]), normal(64, 32)
    lsuv_init(model, x, orthonormal=True)
    [finding] = measure(model, x).findings
    assert "gradient grows" in finding.text
    code = finding.remedy.split("; or")[0]
    after(code, model=model, x=x, keras_inits=keras_inits)
    assert measure(model, x).findings == ()
