"""A `Normalization` that nobody has adapted passes data on: that is told."""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from models import normal

import keras_inits
from keras_inits import lsuv_init, measure

pytestmark = pytest.mark.any_keras


def pixels(*shape: int) -> np.ndarray[Any, Any]:
    x = np.random.default_rng(0).integers(0, 256, shape)
    return x.astype("float32")


def table(rows: int = 128) -> np.ndarray[Any, Any]:
    return (500 + 200 * normal(rows, 8)) * [1, 1, 1, 50, 1, 1, 1, 1]


def network(*first: Any, shape: tuple[int, ...] = (8,)) -> keras.Model:
    body = [layers.Conv2D(8, 3, activation="relu"), layers.Flatten()]
    body = body if len(shape) == 3 else []
    last = [layers.Dense(32, "tanh"), layers.Dense(3)]
    return keras.Sequential([keras.Input(shape), *first, *body, *last])


def follow(remedy: str, **names: Any) -> None:
    """Runs the call to `adapt`."""
    code = re.search(r"[\w.]+(?:\([^()]*\))?\.adapt\((?:[^()]|\([^()]*\))*\)", remedy)
    assert code, remedy
    exec(code.group(), {"np": np, **names})


@pytest.mark.parametrize("images", [False, True], ids=["table", "images"])
def test_it_is_named_and_adapting_it_mends_it(images: bool) -> None:
    """3 x 3 pixels train raw, too; a layer that is there for them is to do its work."""
    x = pixels(64, 12, 12, 1) if images else table()
    model = network(layers.Normalization(name="norm"), shape=x.shape[1:])
    for verb in (measure, lsuv_init, measure):
        finding = verb(model, x).findings[0]
        assert (finding.layer, finding.severity) == ("data", "error")
        assert finding.text.startswith("norm has not been adapted: it passes input ")
        assert "not standardised (mean " in finding.text
        assert finding.remedy.startswith("adapt it to the training data, model.get")
        assert ("lsuv_init(model, x)" in finding.remedy) == (verb is lsuv_init)
    follow(finding.remedy, model=model, x=x)
    for verb in (lsuv_init, measure):
        assert not verb(model, x).findings


def test_within_a_model_in_the_model_it_goes_by_its_path() -> None:
    first = [keras.Input((8,)), layers.Normalization(name="norm")]
    inner = keras.Sequential(first, name="inner")
    model = network(inner)
    x = table()
    [finding] = lsuv_init(model, x).findings
    assert "norm has not been adapted" in finding.text and "/norm" in finding.text
    follow(finding.remedy, norm=inner.layers[0], x=x)
    assert not lsuv_init(model, x).findings


def test_of_several_inputs_each_has_its_own() -> None:
    inputs = {name: keras.Input((8,), name=name) for name in "ab"}
    own = [layers.Normalization(name=f"norm_{k}")(x) for k, x in inputs.items()]
    hidden = layers.Dense(16, "tanh")(layers.Concatenate()(own))
    model = keras.Model(inputs, layers.Dense(2)(hidden))
    x = {"a": normal(128, 8), "b": table()}
    for verb in (measure, lsuv_init):
        finding = verb(model, x).findings[0]
        assert finding.layer == "data['b']"
        assert finding.text.startswith("norm_b has not been adapted")
    follow(finding.remedy, model=model, x=x)
    assert not lsuv_init(model, x).findings


def test_columns_of_a_frame_are_named_and_it_is_adapted_to_an_array() -> None:
    x = pytest.importorskip("pandas").DataFrame(table(), columns=list("abcdefgh"))
    model = network(layers.Normalization(name="norm"))
    finding = measure(model, x).findings[0]
    assert "column 'd': mean" in finding.text
    assert "adapt(np.asarray(x))" in finding.remedy
    follow(finding.remedy, model=model, x=x)
    assert not lsuv_init(model, x).findings


def built() -> keras.Model:
    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.norm = layers.Normalization(name="norm")
            self.norm.build((None, 8))  # by itself Keras 3.15 makes a tracer of it
            self.hidden, self.head = layers.Dense(16, "tanh"), layers.Dense(2)

        def call(self, x: Any) -> Any:
            return self.head(self.hidden(self.norm(x)))

    return Own()


def test_in_code_of_a_users_own() -> None:
    model, x = built(), table()
    model(x[:1])
    finding = measure(model, x).findings[0]
    assert finding.text.startswith("norm has not been adapted")
    model.norm.adapt(x)
    assert not lsuv_init(model, x).findings


OTHERS = {
    "given": [layers.Normalization(mean=0.0, variance=1.0)],
    "behind another": [layers.Rescaling(1e-3), layers.Normalization()],
    "none": [],
}


@pytest.mark.parametrize("name", OTHERS)
def test_others_are_not_blamed(name: str) -> None:
    for verb in (measure, lsuv_init):
        texts = [f.text for f in verb(network(*OTHERS[name]), table()).findings]
        assert not any("adapted" in text for text in texts)


def test_nor_is_one_that_undoes_it_for_the_outputs() -> None:
    model = network()
    model.add(layers.Normalization(invert=True))
    texts = [f.text for f in measure(model, table()).findings]
    assert texts and not any("adapted" in text for text in texts)


def test_data_of_order_1_need_none() -> None:
    model = network(layers.Normalization())
    for verb in (lsuv_init, measure):
        assert not verb(model, normal(128, 8)).findings


def test_an_adapted_one_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A warm call asks no device for its figures."""
    from keras_inits.data import normalizers

    norm = layers.Normalization()
    x, model = table(), network(norm)
    norm.adapt(x)
    monkeypatch.setattr(normalizers, "read", None)
    assert keras_inits.lsuv_init(model, x).inputs is None


def test_in_front_of_a_layer_whose_fan_in_is_not_known() -> None:
    summed = layers.EinsumDense("abc,cd->ad", 4, name="summed")
    model = keras.Sequential([keras.Input((None, 8)), layers.Normalization(), summed])
    report = lsuv_init(model, 100 * normal(32, 5, 8))
    assert report["summed"].std == pytest.approx(1.0, abs=1e-3)


def behind_another(*own: Any) -> keras.Model:
    """A second input, whose first kernel is not the first one to be scaled."""
    inputs = {name: keras.Input((8,), name=name) for name in "ab"}
    a, b = inputs.values()
    for name in ("a1", "a2"):
        a = layers.Dense(16, "tanh", name=name)(a)
    for layer in own:
        b = layer(b)
    b = layers.Dense(16, "tanh", name="b1")(b)
    both = layers.Concatenate()([a, b])
    return keras.Model(inputs, layers.Dense(2, name="head")(both))


def test_behind_a_first_layer_that_is_well_the_one_of_a_second_input_is_named() -> None:
    model = behind_another(layers.Normalization(name="norm"))
    x = {"a": normal(128, 8), "b": table()}
    for verb in (measure, lsuv_init, measure):
        finding = verb(model, x).findings[0]
        assert finding.text.startswith("norm has not been adapted"), verb
        assert finding.layer == "data['b']"
    follow(finding.remedy, model=model, x=x)
    for verb in (lsuv_init, measure):
        assert not verb(model, x).findings


@pytest.mark.parametrize(
    ("size", "adapted"), [(1e3, False), (1e3, True), (1e-5, False)]
)
def test_raw_data_of_a_second_input_are_named(size: float, adapted: bool) -> None:
    """Also where a Normalization is there, that was adapted to other data."""
    own = [layers.Normalization()] if adapted else []
    model = behind_another(*own)
    if adapted:
        own[0].adapt(normal(256, 8))
    x = {"a": normal(128, 8), "b": size * normal(128, 8)}
    for verb in (measure, lsuv_init, measure):
        found = verb(model, x).findings
        assert found[0].text.startswith("input data['b'] is not standardised"), verb
        assert (verb is measure) or "the kernel of b1 makes up for" in found[0].text
        assert not any("next to nothing" in x.text for x in found)
    for code in re.findall(r'x\["b"\] = .*', found[0].remedy):
        exec(code, {"x": x})
    lsuv_init(model, x)
    assert not measure(model, x).findings


OWN = {
    "normalised by the batch": [layers.LayerNormalization()],
    "rescaled": [layers.Rescaling(1e-3)],
}


@pytest.mark.parametrize("name", OWN)
def test_nobody_is_blamed_where_a_second_input_is_scaled_in_the_model(
    name: str,
) -> None:
    x = {"a": normal(128, 8), "b": 1e3 * normal(128, 8)}
    model = behind_another(*OWN[name])
    for verb in (measure, lsuv_init, measure):
        assert not verb(model, x).findings


def test_nor_an_input_for_an_explosion_of_other_layers() -> None:
    """A stack that doubles at each layer passes through every size."""
    model = behind_another(layers.LayerNormalization())
    wide = [layers.Dense(64, name=f"w{i}") for i in range(14)]
    for layer in wide:
        layer.kernel_initializer = keras.initializers.VarianceScaling(4.0, seed=1)
    h = model.outputs[0]
    for layer in wide:
        h = layer(h)
    x = {"a": normal(128, 8), "b": 50 * normal(128, 8)}
    texts = [y.text for y in measure(keras.Model(model.inputs, h), x).findings]
    assert texts and not any("standardised" in text for text in texts), texts
