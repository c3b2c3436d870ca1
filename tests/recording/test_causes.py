"""Units that are copies of one another; where looks-linear is not proposed."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import keras_inits
from keras_inits import measure


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def columns(shape: tuple[int, ...], apart: float) -> np.ndarray[Any, Any]:
    """A kernel whose columns differ by a share of their size."""
    one, noise = normal(*shape[:-1], 1), np.random.default_rng(1).normal(size=shape)
    return (0.3 * (one + apart * noise)).astype("float32")


@pytest.mark.parametrize("apart", [0.0, 1e-5, 1e-4])
@pytest.mark.parametrize("kind", ["Dense", "Conv1D", "EinsumDense"])
def test_units_that_are_copies_are_named(kind: str, apart: float) -> None:
    made = {
        "Dense": lambda: layers.Dense(12, "relu", name="twins"),
        "Conv1D": lambda: layers.Conv1D(12, 3, activation="relu", name="twins"),
        "EinsumDense": lambda: layers.EinsumDense(
            "btc,cd->btd", (None, 12), bias_axes="d", activation="relu", name="twins"
        ),
    }
    twins, head = made[kind](), layers.Dense(4, name="head")
    model = keras.Sequential([keras.Input((6, 8)), twins, head])
    x = normal(64, 6, 8)
    assert measure(model, x).findings == ()

    twins.kernel.assign(columns(tuple(twins.kernel.shape), apart))
    report = measure(model, x)
    assert [row.copies for row in report] == [True, False]
    [found] = report.findings
    assert (found.layer, found.severity) == ("twins", "error")
    assert found.text == "the units of twins are copies of one another: equal weights"
    assert (
        found.remedy
        == 'draw its kernel: keras_inits.initialize(model, layers=["twins"])'
    )

    twins.trainable = False  # a filter that is meant
    assert measure(model, x).findings == ()
    twins.trainable = True
    keras_inits.initialize(model, layers=["twins"])
    assert measure(model, x).findings == ()


@pytest.mark.parametrize(
    ("which", "share"),
    [("half", 0.5), ("quarter", 0.25), ("pairs", 1.0), ("one pair", 2 / 16)],
)
@pytest.mark.parametrize("kind", ["Dense", "Conv1D"])
def test_units_of_which_some_are_copies_are_counted(
    kind: str, which: str, share: float
) -> None:
    more = {"Dense": (), "Conv1D": (3,)}[kind]
    twins = getattr(layers, kind)(16, *more, activation="relu", name="twins")
    model = keras.Sequential([keras.Input((6, 8)), twins, layers.Dense(4)])
    x = normal(64, 6, 8)
    assert measure(model, x)[0].copied_fraction == 0.0

    kernel = np.array(keras.ops.convert_to_numpy(twins.kernel))
    if which == "pairs":
        kernel[..., 8:] = kernel[..., :8]
    first = {"half": 8, "quarter": 4, "one pair": 2}.get(which, 0)
    kernel[..., :first] = kernel[..., :1]
    twins.kernel.assign(kernel)
    report = measure(model, x)
    assert report[0].copied_fraction == share and not report[0].copies
    assert [f.text for f in report.findings] == [
        f"{100 * share:.0f} % of the units of twins are copies of others: equal weights"
    ] * (which != "one pair")
    for finding in report.findings:
        assert (finding.layer, finding.severity) == ("twins", "warning")
        assert 'keras_inits.initialize(model, layers=["twins"])' in finding.remedy

    twins.bias.assign(normal(16))  # they see the same and do not give it
    report = measure(model, x)
    assert report[0].copied_fraction == 0.0 and not report.findings


def test_units_that_are_equal_and_no_copies() -> None:
    """Filters that see a channel each, pruned units, single weights of few digits."""
    blur = layers.DepthwiseConv2D(3, depthwise_initializer="ones", name="blur")
    pruned = layers.Dense(8, "relu", name="pruned")
    model = keras.Sequential([keras.Input((6, 6, 8)), blur, pruned, layers.Dense(4)])
    few = 0.1 + 0 * normal(3, 3, 8, 1)
    few[0, 0] = 0.2
    blur.kernel.assign(few)
    kernel = np.array(keras.ops.convert_to_numpy(pruned.kernel))
    kernel[:, :3] = 0
    pruned.kernel.assign(kernel)
    report = measure(model, normal(64, 6, 6, 8))
    assert [row.copied_fraction for row in report] == [None, 0.0, 0.0]
    assert not any("copies" in x.text for x in report.findings)
    one = layers.Dense(1024, "tanh", dtype="bfloat16")
    model = keras.Sequential([keras.Input((1,)), one, layers.Dense(4)])
    assert not measure(model, normal(64, 1)).findings


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("apart", [False, True], ids=["own", "layer behind"])
def test_units_whose_weights_are_zero_are_said_to_be_so(
    center: bool, apart: bool
) -> None:
    keras.utils.set_random_seed(0)
    part = layers.Dense(16, None if apart else "relu", name="part")
    rest = [layers.ReLU(name="relu")] if apart else []
    model = keras.Sequential([keras.Input((8,)), part, *rest, layers.Dense(4)])
    kernel = np.array(keras.ops.convert_to_numpy(part.kernel))
    kernel[:, :6] = 0
    part.kernel.assign(kernel)
    x = normal(256, 8)
    keras_inits.lsuv_init(model, x, center=center)
    report = measure(model, x)
    assert report["part"].zero_fraction == 6 / 16
    [finding] = report.findings
    assert finding.layer == "part" and finding.severity == "warning"
    text = "38 % of part is dead (zero for the whole batch): the kernel is 0 for 38 %"
    assert finding.text.startswith(f"{text} of its units")
    assert 'keras_inits.initialize(model, layers=["part"])' in finding.remedy

    part.bias.assign(np.r_[np.ones(6), -9 * np.ones(10)])  # the others are dead
    report = measure(model, x)
    assert report["part"].zero_fraction == 6 / 16
    assert "the kernel is 0" not in report.findings[0].text


def test_a_model_that_started_from_constants_shows_it_after_training() -> None:
    start = {"kernel_initializer": keras.initializers.Constant(0.1)}
    hidden = [layers.Dense(12, "tanh", **start, name=f"a{i}") for i in range(2)]
    model = keras.Sequential([keras.Input((8,)), *hidden, layers.Dense(3, name="head")])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(normal(64, 8), normal(64, 3), epochs=2, verbose=0)
    report = measure(model, normal(64, 8))
    assert all(row.kernel_std > 0 for row in report)
    # What comes back from the head, which was drawn, takes the second layer apart.
    assert [row.copies for row in report] == [True, False, False]
    assert report.findings[0].layer == "a0"


@pytest.mark.parametrize(
    "what", ["columns", "biases", "two of them", "zeros", "infinity"]
)
def test_units_that_differ_are_no_copies(what: str) -> None:
    layer = layers.Dense(12, "relu")
    model = keras.Sequential([keras.Input((128,)), layer, layers.Dense(4)])
    kernel = columns((128, 12), 1e-2 if what == "columns" else 0.0)
    if what == "two of them":
        kernel[:, 1:-1] = normal(128, 10)
    if what == "infinity":
        kernel[:, -1] = np.inf
    if what == "zeros":  # in the rows that are looked at first
        kernel = np.concatenate([0 * normal(64, 12), normal(64, 12)])
        kernel = kernel.reshape(2, 64, 12).swapaxes(0, 1).reshape(128, 12)
    layer.kernel.assign(kernel)
    if what == "biases":
        layer.bias.assign(normal(12))
    assert not measure(model, normal(64, 128))[0].copies


@pytest.mark.parametrize(
    "options", [{"max_value": 6.0}, {"threshold": 0.5}, {"negative_slope": 0.1}]
)
def test_looks_linear_is_proposed_where_accepted(options: dict[str, Any]) -> None:
    shift = keras.initializers.Constant(30.0 if "max_value" in options else -30.0)
    first = layers.Dense(12, bias_initializer=shift)
    model = keras.Sequential(
        [keras.Input((8,)), first, layers.ReLU(**options), layers.Dense(4)]
    )
    report = measure(model, normal(64, 8))
    first.bias.assign(0 * first.bias)
    accepted = "negative_slope" in options
    assert (report.mirrors is None) == accepted
    if accepted:
        keras_inits.initialize(model, "looks_linear")
        return
    assert report.findings
    assert "looks_linear" not in " ".join(x.remedy for x in report.findings)
    with pytest.raises(keras_inits.UnsupportedLayerError, match="is no multiple of x"):
        keras_inits.initialize(model, "looks_linear")
