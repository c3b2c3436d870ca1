"""A fault that is planted is named where it is, and what is advised mends it."""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops
from models import normal

import keras_inits
from keras_inits import measure

pytestmark = pytest.mark.any_keras


def follow(finding: Any, model: keras.Model, x: Any) -> None:
    """Runs the first line of code of a remedy."""
    code = re.search(r"keras_inits\.\w+\((?:[^()]|\([^()]*\))*\)", finding.remedy)
    assert code, finding.remedy
    exec(code.group(), {"keras_inits": keras_inits, "model": model, "x": x})


def enlarge(variable: keras.Variable, factor: float) -> None:
    variable.assign(factor * ops.convert_to_numpy(variable))


class Sine(layers.Layer):
    def call(self, x: Any) -> Any:
        return ops.sin(30.0 * x)


def siren() -> keras.Model:
    hidden = [y for i in range(4) for y in (layers.Dense(64, name=f"d{i}"), Sine())]
    return keras.Sequential([keras.Input((2,)), *hidden, layers.Dense(1, name="out")])


def test_what_is_steep_between_the_layers_is_met_by_a_smaller_signal() -> None:
    """Sitzmann et al., 2020: sin(30 z) wants a signal of about 1/30."""
    keras.utils.set_random_seed(0)
    model, x = siren(), normal(256, 2).clip(-1, 1)
    y = np.sin(4 * x[:, :1])
    for start in ("own", "lsuv"):
        if start == "lsuv":
            keras_inits.lsuv_init(model, x)
        [finding] = measure(model, x, y, loss="mse").findings
        assert finding.text.startswith("gradient explodes towards the input")
        assert "is steep for a signal of this size" in finding.remedy
        target = float(finding.remedy.split("target_std=")[1].rstrip(")"))
        assert 0.02 <= target <= 0.06
    follow(finding, model, x)
    assert not measure(model, x, y, loss="mse").findings


def test_an_unknown_layer_that_enlarges_the_signal_gets_no_smaller_target() -> None:
    """The signal grows with the gradient: a scale for each layer mends both."""
    keras.utils.set_random_seed(0)
    scaled = [y for _ in range(4) for y in (layers.Dense(64), layers.Rescaling(30.0))]
    model = keras.Sequential([keras.Input((8,)), *scaled, layers.Dense(1)])
    x, y = normal(128, 8), normal(128, 1)
    remedies = [f.remedy for f in measure(model, x, y, loss="mse").findings]
    assert remedies and not any("target_std" in r for r in remedies)


def factors() -> keras.Model:
    """A factorisation machine: products of all pairs of vectors, added up."""
    inputs = keras.Input((10,), dtype="int32")
    v = layers.Embedding(100, 16, name="factors")(inputs)
    pairs = ops.square(ops.sum(v, 1)) - ops.sum(ops.square(v), 1)
    deep = layers.Dense(16, "relu")(layers.Flatten()(v))
    both = 0.5 * ops.sum(pairs, -1, keepdims=True) + layers.Dense(1)(deep)
    return keras.Model(inputs, layers.Activation("sigmoid", name="prob")(both))


def test_what_sums_and_products_make_of_scaled_layers_is_met_by_smaller_ones() -> None:
    keras.utils.set_random_seed(0)
    model, x = factors(), np.random.default_rng(0).integers(0, 100, (256, 10))
    assert not measure(model, x).findings
    keras_inits.lsuv_init(model, x)
    report = measure(model, x)
    [finding] = report.findings
    assert "of prob is saturated" in finding.text
    assert "before training, keras_inits.lsuv_init(model, x, target_std=0.0" in (
        finding.remedy
    )
    follow(finding, model, x)
    report = measure(model, x)
    assert not report.findings and report["prob"].std < 1.5


def classifier(**head: Any) -> keras.Model:
    keras.utils.set_random_seed(0)
    hidden = [layers.Dense(32, "relu", name=f"d{i}") for i in range(3)]
    stack = [keras.Input((16,)), *hidden, layers.Dense(5, name="head", **head)]
    return keras.Sequential(stack)


@pytest.mark.parametrize("factor", [100.0, 1e4])
@pytest.mark.parametrize("labels", ["classes", "columns", "small"])
def test_a_head_that_is_too_large_is_named_and_nothing_is_asked(
    labels: str, factor: float
) -> None:
    x, y = normal(256, 16), np.arange(256) % 5
    crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    loss: Any = crossentropy if labels == "classes" else "mse"
    if labels == "columns":
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    y = y if labels == "classes" else np.eye(5, dtype="float32")[y]
    model = classifier()
    assert not measure(model, x, y, loss=loss).findings
    enlarge(model.layers[-1].kernel, factor)
    [finding] = measure(model, x, y, loss=loss).findings
    assert finding.layer == "head"
    assert finding.remedy == (
        'draw its kernel: keras_inits.initialize(model, layers=["head"])'
    )
    follow(finding, model, x)
    assert not measure(model, x, y, loss=loss).findings


def test_a_head_as_large_as_its_labels_is_told_to_standardise_them() -> None:
    model, x = classifier(), normal(256, 16)
    enlarge(model.layers[-1].kernel, 1e4)
    y = 1e4 * normal(256, 5)
    [finding] = measure(model, x, y, loss="mse").findings
    assert finding.remedy.startswith("standardise them: y = (y - y.mean(axis=0))")
    [asked] = measure(model, x).findings
    assert asked.remedy.startswith("if its labels are numbers of that size")
    assert "if they are classes" in asked.remedy


def translator(kind: Any = layers.LSTM) -> keras.Model:
    keras.utils.set_random_seed(0)
    source, target = keras.Input((8,), dtype="int32"), keras.Input((8,), dtype="int32")
    e = layers.Embedding(20, 16, name="src")(source)
    d = layers.Embedding(20, 16, name="tgt")(target)
    _, *state = kind(24, return_state=True, name="encoder")(e)
    d = kind(24, return_sequences=True, name="decoder")(d, initial_state=state)
    head = layers.Dense(20, "softmax", name="head")(d)
    return keras.Model([source, target], head)


def sentences() -> tuple[list[Any], Any]:
    source = np.random.default_rng(0).integers(1, 20, (64, 8))
    y = source[:, ::-1].copy()
    return [source, np.pad(y[:, :-1], ((0, 0), (1, 0)))], y


LOSS = {"loss": "sparse_categorical_crossentropy"}


def test_a_large_head_is_to_blame_for_gradients_that_explode_before_it() -> None:
    model, (x, y) = translator(), sentences()
    assert not measure(model, x, y, **LOSS).findings
    enlarge(model.get_layer("head").kernel, 1e3)
    [finding] = measure(model, x, y, **LOSS).findings
    assert finding.layer == "head" and finding.severity == "error"
    assert finding.text.startswith("the kernel of head is too large: it makes what it")
    follow(finding, model, x)
    assert not measure(model, x, y, **LOSS).findings


@pytest.mark.parametrize("kind", [layers.LSTM, layers.GRU, layers.SimpleRNN])
@pytest.mark.parametrize("labelled", [False, True])
def test_a_recurrent_kernel_that_is_too_large_is_named(
    kind: Any, labelled: bool
) -> None:
    model, (x, y) = translator(kind), sentences()
    given = (y,) if labelled else ()
    report = measure(model, x, *given, **(LOSS if labelled else {}))
    assert not report.findings
    assert 0.4 < report["decoder"].recurrent_gain < 1.01
    assert report["head"].recurrent_gain is None
    enlarge(model.get_layer("decoder").cell.recurrent_kernel, 1e4)
    report = measure(model, x, *given, **(LOSS if labelled else {}))
    finding = report.findings[0]
    assert finding.layer == "decoder"
    assert finding.text.startswith("the recurrent kernel of decoder is too large")
    follow(finding, model, x)
    assert not measure(model, x, *given, **(LOSS if labelled else {})).findings


def autoencoder() -> keras.Model:
    """Keras's own start: Conv2DTranspose is given the fans of a convolution."""
    keras.utils.set_random_seed(0)
    conv = {"strides": 2, "padding": "same", "activation": "relu"}
    stack = [layers.Conv2D(16, 3, **conv), layers.Conv2D(8, 3, **conv)]
    stack += [layers.Conv2DTranspose(n, 3, **conv) for n in (8, 16)]
    stack += [layers.Conv2D(1, 3, padding="same", activation="sigmoid")]
    return keras.Sequential([keras.Input((28, 28, 1)), *stack])


def generator() -> keras.Model:
    """That of a DCGAN, without normalisation."""
    keras.utils.set_random_seed(0)
    stack = [layers.Dense(4 * 4 * 64), layers.LeakyReLU(0.2)]
    stack += [layers.Reshape((4, 4, 64))]
    for n in (64, 32, 16):
        up = layers.Conv2DTranspose(n, 4, 2, padding="same")
        stack += [up, layers.LeakyReLU(0.2)]
    stack += [layers.Conv2D(3, 5, padding="same", activation="tanh")]
    return keras.Sequential([keras.Input((64,)), *stack])


def pictures(*shape: int) -> np.ndarray[Any, Any]:
    """Mostly dark, 0 to 1."""
    return np.random.default_rng(0).uniform(size=shape).astype("float32") ** 6


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("made", [autoencoder, generator])
def test_what_only_the_first_kernel_and_the_last_sigmoid_take_off_is_no_fault(
    made: Any, labelled: bool
) -> None:
    """Both train from there: all gradients that weights see are within some 30."""
    model = made()
    drawn = made is generator
    x = normal(64, 64) if drawn else pictures(64, 28, 28, 1)
    y = 2 * pictures(64, 32, 32, 3) - 1 if drawn else x
    loss = {"loss": "mse" if drawn else "binary_crossentropy"}
    given = (y,) if labelled else ()
    assert not measure(model, x, *given, **(loss if labelled else {})).findings


def test_a_long_chain_of_such_layers_is_told_what_it_can_do() -> None:
    """Looks-linear is refused for transposed convolutions, and not proposed."""
    keras.utils.set_random_seed(0)
    conv = {"strides": 2, "padding": "same", "activation": "relu"}
    stack = [layers.Conv2D(16, 3, **conv) for _ in range(3)]
    stack += [layers.Conv2DTranspose(16, 3, **conv) for _ in range(3)]
    stack += [layers.Conv2D(1, 3, padding="same", activation="sigmoid")]
    model = keras.Sequential([keras.Input((32, 32, 1)), *stack])
    x = pictures(64, 32, 32, 1)
    [finding] = measure(model, x).findings
    assert "gradient shrinks" in finding.text
    assert "looks_linear" not in finding.remedy
    with pytest.raises(keras_inits.UnsupportedLayerError, match="cannot be mirrored"):
        keras_inits.initialize(model, "looks_linear")
    follow(finding, model, x)
    assert not measure(model, x).findings


def test_rows_of_a_table_are_not_compared_with_kernels() -> None:
    """Each has a gradient of its own samples alone, however it was initialised."""
    keras.utils.set_random_seed(0)
    users, items = (keras.Input((1,), dtype="int32") for _ in range(2))

    def vectors() -> list[Any]:
        tables = zip((400, 600), (users, items), strict=True)
        return [layers.Flatten()(layers.Embedding(n, 16)(i)) for n, i in tables]

    deep = layers.Dense(32, "relu")(layers.Concatenate()(vectors()))
    deep = layers.Dense(8, "relu")(deep)
    both = layers.Concatenate()([layers.Multiply()(vectors()), deep])
    model = keras.Model([users, items], layers.Dense(1, name="head")(both))
    draw = np.random.default_rng(0)
    x = [draw.integers(0, n, (512, 1)) for n in (400, 600)]
    y = draw.uniform(1, 5, (512, 1))
    assert not measure(model, x, y, loss="mse").findings
    keras_inits.lsuv_init(model, x)
    assert not measure(model, x, y, loss="mse").findings


def towers() -> keras.Model:
    """Two stacks side by side: their layers are called in turns."""
    keras.utils.set_random_seed(0)
    inputs = [keras.Input((8,), name=name) for name in "uv"]
    hidden = [layers.Dense(16, "relu", name=f"{x.name}_1")(x) for x in inputs]
    ends = [
        layers.Dense(8, name=f"{x.name}_2")(h)
        for x, h in zip(inputs, hidden, strict=True)
    ]
    return keras.Model(inputs, layers.Dense(1, name="head")(layers.Multiply()(ends)))


@pytest.mark.parametrize("tower", ["u", "v"])
def test_a_dead_layer_is_the_cause_whatever_is_called_before_it(tower: str) -> None:
    model, x = towers(), [normal(64, 8), normal(64, 8)]
    assert not measure(model, x).findings
    bias = model.get_layer(f"{tower}_1").bias
    bias.assign(0 * bias - 10)
    finding = measure(model, x).findings[0]
    assert finding.layer == f"{tower}_1"
    assert finding.text.startswith("100 % of") and "is dead" in finding.text
    assert finding.remedy.startswith('start from bias_initializer="zeros"')


@pytest.mark.parametrize("kind", [layers.LSTM, layers.GRU, layers.SimpleRNN])
def test_gates_that_a_bias_has_shut_are_named(kind: Any) -> None:
    keras.utils.set_random_seed(0)
    stack = [kind(16, name="loop"), layers.Dense(8, "relu"), layers.Dense(2)]
    model, x = keras.Sequential([keras.Input((12, 8)), *stack]), normal(64, 12, 8)
    assert not measure(model, x).findings
    bias = model.get_layer("loop").cell.bias
    bias.assign(0 * bias - 12)
    finding = measure(model, x).findings[0]
    assert finding.layer == "loop"
    assert finding.text.startswith("loop lets nearly nothing through (std ")
    follow(finding, model, x)
    assert not measure(model, x).findings


@pytest.mark.parametrize("inside", [False, True], ids=["raw", "rescaled inside"])
def test_large_data_that_the_first_kernel_makes_up_for(inside: bool) -> None:
    x = np.random.default_rng(0).integers(0, 256, (128, 8, 8, 3)).astype("float32")
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            *([layers.Rescaling(1 / 127.5, offset=-1)] if inside else []),
            layers.Conv2D(16, 5, activation="relu", name="first"),
            layers.Flatten(),
            layers.Dense(3, name="head"),
        ]
    )
    told = [keras_inits.lsuv_init(model, x), measure(model, x)]
    told += [keras_inits.lsuv_init(model, x, per_channel=True)]
    model.compile("sgd", "mse")
    callback = keras_inits.LSUV(x)
    model.fit(x, normal(128, 3), epochs=1, verbose=0, callbacks=[callback])
    told += [callback.report]
    for report in told:
        if inside:
            assert report.findings == ()
            continue
        [finding] = report.findings
        assert report.inputs.name == finding.layer == "data"
        assert finding.severity == "warning"
        assert "the kernel of first makes up for that" in finding.text
        assert "may move its signal by" in finding.text
        assert "Rescaling(1 / 127.5" in finding.remedy


def test_lsuv_says_that_numbers_beside_an_embedding_are_raw() -> None:
    ids, raw = keras.Input((4,), name="ids"), keras.Input((64,), name="raw")
    vectors = layers.Flatten()(layers.Embedding(50, 8)(ids))
    both = layers.Dense(16, "relu", name="first")(raw), vectors
    model = keras.Model([ids, raw], layers.Dense(3)(layers.Concatenate()(both)))
    rows = np.random.default_rng(0).integers(0, 50, (128, 4))
    x = {"ids": rows, "raw": 300 + 100 * normal(128, 64)}
    [finding] = keras_inits.lsuv_init(model, x).findings
    assert finding.layer == "data['raw']" and "of first makes up" in finding.text
    x["raw"] = normal(128, 64)
    report = keras_inits.lsuv_init(model, x)
    assert report.inputs is None and report.findings == ()


def test_few_inputs_of_any_size_are_no_matter() -> None:
    """3 x 3 pixels in 0..255 train as well raw as standardised."""
    x = np.random.default_rng(0).integers(0, 256, (128, 8, 8, 1)).astype("float32")
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    keras_inits.lsuv_init(model, x)
    assert measure(model, x).findings == ()


@pytest.mark.parametrize(
    ("where", "factor", "labelled"),
    [
        ("encoder", 1e2, True),
        *((x, 1e3, y) for x in ("encoder", "decoder") for y in (False, True)),
    ],
)
@pytest.mark.parametrize("kind", [layers.LSTM, layers.GRU])
def test_a_kernel_that_shuts_its_gates_is_named_and_no_gradient_that_vanishes(
    kind: Any, where: str, factor: float, labelled: bool
) -> None:
    model, (x, y) = translator(kind), sentences()
    labels = {"y": y, **LOSS} if labelled else {}
    assert not measure(model, x, **labels).findings
    enlarge(model.get_layer(where).cell.kernel, factor)
    [finding] = measure(model, x, **labels).findings
    assert finding.layer == where
    assert finding.text.startswith(f"the kernel of {where} is too large: it makes ")
    follow(finding, model, x)
    assert not measure(model, x, **labels).findings


def test_gates_that_take_a_large_signal_are_not_said_to_be_shut() -> None:
    """What a tanh lets through is of size 1 at most, whatever it takes."""
    model, (x, _) = translator(), sentences()
    keras_inits.lsuv_init(model, x)
    enlarge(model.get_layer("encoder").cell.kernel, 1e4)
    finding = measure(model, x).findings[0]
    assert finding.text.startswith("the kernel of encoder is too large")


def compiled(model: keras.Model, *losses: Any) -> keras.Model:
    logits = [loss(from_logits=True) for loss in losses]
    model.compile("sgd", logits if len(logits) > 1 else logits[0])
    return model


BINARY = keras.losses.BinaryCrossentropy
SPARSE = keras.losses.SparseCategoricalCrossentropy


@pytest.mark.parametrize("start", ["own", "lsuv"])
@pytest.mark.parametrize(
    "last", ["softmax", "sigmoid", "Softmax", "from_logits", "from_logits, sigmoid"]
)
def test_a_head_that_is_too_large_is_named_without_labels(
    last: str, start: str
) -> None:
    activation = {"softmax": "softmax", "sigmoid": "sigmoid"}.get(last)
    model, x = classifier(activation=activation), normal(256, 16)
    if last == "Softmax":
        model.add(layers.Softmax())
    elif last.startswith("from_logits"):
        compiled(model, BINARY if "sigmoid" in last else SPARSE)
    if start == "lsuv":
        keras_inits.lsuv_init(model, x)
    assert not measure(model, x).findings
    enlarge(model.get_layer("head").kernel, 60.0)
    squashed = "sigmoid" if "sigmoid" in last else "softmax"
    report = measure(model, x)
    assert report["head"].squashed == (squashed if "from" in last else None)
    [finding] = report.findings
    assert finding.layer == "head" and finding.severity == "warning"
    assert "the kernel of head is too large: it makes what it takes" in finding.text
    assert f"and the {squashed} of that is sure of every sample" in finding.text
    follow(finding, model, x)
    assert not measure(model, x).findings


def test_of_a_large_head_for_regression_nothing_is_said_without_labels() -> None:
    model, x = classifier(), normal(256, 16)
    enlarge(model.get_layer("head").kernel, 60.0)
    for loss in ("mse", None, "sparse_categorical_crossentropy", lambda y, p: p):
        model.compile("sgd", loss)
        report = measure(model, x)
        assert not report.findings and report["head"].squashed is None


def deep_factors(*, layer: bool) -> keras.Model:
    """DeepFM: products of all pairs of vectors, and a stack beside them."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((10,), dtype="int32")
    v = layers.Embedding(100, 16, name="factors")(inputs)
    pairs = ops.square(ops.sum(v, 1)) - ops.sum(ops.square(v), 1)
    pairs = 0.5 * ops.sum(pairs, -1, keepdims=True)
    deep = layers.Dense(1)(layers.Dense(16, "relu")(layers.Flatten()(v)))
    both = layers.Add(name="logit")([pairs, deep]) if layer else pairs + deep
    return keras.Model(inputs, layers.Flatten()(both))


@pytest.mark.parametrize("layer", [True, False])
def test_a_sum_that_a_loss_takes_for_logits_is_looked_at(layer: bool) -> None:
    x = np.random.default_rng(0).integers(0, 100, (256, 10))
    model = deep_factors(layer=layer)
    before = len(measure(model, x))
    compiled(model, BINARY)
    report = measure(model, x)
    assert not report.findings and len(report) == before + 1
    assert report[-1].squashed == "sigmoid"
    given = ops.convert_to_numpy(model(x))
    np.testing.assert_allclose(report[-1].std, given.std(), rtol=1e-4)
    keras_inits.lsuv_init(model, x)
    [finding] = measure(model, x).findings
    assert finding.layer == report[-1].name
    assert "is too large for a sigmoid (std 3" in finding.text
    assert "keras_inits.lsuv_init(model, x, target_std=0.0" in finding.remedy
    follow(finding, model, x)
    report = measure(model, x)
    assert not report.findings and report[-1].std < 1.5


def test_each_of_several_outputs_has_its_own_loss() -> None:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16,))
    h = layers.Dense(32, "relu")(inputs)
    a, c = layers.Dense(5, name="a")(h), layers.Dense(2, name="c")(h)
    b = layers.Dense(2, name="left")(h) + layers.Dense(2, name="right")(inputs)
    model, x = keras.Model(inputs, [a, b, c]), normal(256, 16)
    model.compile("sgd", [SPARSE(from_logits=True), BINARY(from_logits=True), "mse"])
    report = measure(model, x)
    assert not report.findings
    squashed = {row.name: (row.squashed, row.outputs) for row in report}
    [total] = squashed.keys() - {"a", "c", "left", "right", report[0].name}
    assert squashed["a"] == ("softmax", ("a",)) and squashed["c"] == (None, ("c",))
    assert squashed[total][0] == "sigmoid" and len(squashed[total][1]) == 1
    for name, told in (("a", True), ("c", False)):
        enlarge(model.get_layer(name).kernel, 60.0)
        assert (name in {f.layer for f in measure(model, x).findings}) is told
