"""What is asked of layers by name is done to them, or refused with the reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops
from models import normal

import keras_inits
from keras_inits import UnsupportedLayerError, initialize, lsuv_init, measure


class Mix(layers.Layer):
    """Holds a kernel that nothing describes."""

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight((shape[-1], 5), name="kernel")

    def call(self, x: Any) -> Any:
        return ops.matmul(x, self.kernel)


def backbone() -> keras.Model:
    inner = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, name="inside"),
            layers.BatchNormalization(name="bn"),
            layers.PReLU(name="prelu"),
        ],
        name="backbone",
    )
    return keras.Sequential([keras.Input((6,)), inner, layers.Dense(2, name="head")])


def moved(model: keras.Model) -> dict[str, Any]:
    for v in model.variables:
        v.assign(v.value + 7.0)
    return {v.path: ops.convert_to_numpy(v.value) for v in model.variables}


@pytest.mark.parametrize(
    ("layers_", "expected"),
    [
        (["backbone"], {"inside", "bn", "prelu"}),
        ("bn", {"bn"}),
        (layers.PReLU, {"prelu"}),
        (lambda x: x.name in ("bn", "head"), {"bn", "head"}),
        (lambda x: True, {"inside", "bn", "prelu", "head"}),
    ],
    ids=range(5),
)
def test_a_reset_by_name_is_of_all_weights(layers_: Any, expected: set[str]) -> None:
    model = backbone()
    before = moved(model)
    initialize(model, None, layers=layers_)
    changed = {
        v.path.split("/")[-2]
        for v in model.variables
        if (ops.convert_to_numpy(v.value) != before[v.path]).any()
    }
    assert changed == expected


def test_a_reset_that_chooses_nothing_is_refused() -> None:
    with pytest.raises(UnsupportedLayerError, match="chose none"):
        initialize(backbone(), None, layers=lambda x: False)
    with pytest.raises(UnsupportedLayerError, match=r"no layer 'prelo'.*'prelu'"):
        initialize(backbone(), None, layers=["prelo"])


def mixed() -> keras.Model:
    return keras.Sequential(
        [keras.Input((6,)), Mix(name="mix"), layers.Dense(3, name="head")]
    )


@pytest.mark.parametrize(
    ("initializer", "options"),
    [
        ("he_normal", {"layers": ["mix"]}),
        ("auto", {"layers": "mix"}),
        ({"mix": "zeros"}, {}),
        ({Mix: "zeros", "head": "zeros"}, {}),
    ],
    ids=range(4),
)
def test_a_layer_that_nothing_describes_is_not_drawn_in_silence(
    initializer: Any, options: Any
) -> None:
    with pytest.raises(UnsupportedLayerError, match=r"'mix' .*register_linear_map"):
        initialize(mixed(), initializer, **options)


@pytest.mark.parametrize(
    "options",
    [{}, {"initializer": {"*": "zeros"}}, {"layers": lambda layer: True}],
)
def test_beside_others_it_stays_as_it_is_and_is_named(options: dict[str, Any]) -> None:
    model = mixed()
    before = ops.convert_to_numpy(model.layers[0].kernel)
    expected = r"left kernels as they are: mix \(Mix: no linear map.*layers="
    with pytest.warns(UserWarning, match=expected) as caught:
        initialize(model, **options)
    assert caught[0].filename == __file__  # the line that called
    np.testing.assert_array_equal(ops.convert_to_numpy(model.layers[0].kernel), before)


@pytest.mark.parametrize(
    "options",
    [
        {"initializer": {"head": "zeros"}},
        {"initializer": {"head": "zeros", "mix": None}},
        {"layers": ["head"]},
        {"initializer": None},
    ],
)
def test_nothing_is_said_of_what_was_not_meant(options: dict[str, Any]) -> None:
    initialize(mixed(), **options)  # warnings are errors


def test_looks_linear_names_what_stays_behind_its_stack() -> None:
    dense = [layers.Dense(8, "relu"), layers.Dense(8)]
    model = keras.Sequential([keras.Input((4,)), *dense, Mix(name="mix")])
    with pytest.raises(UserWarning, match=r"as they are: mix \(Mix: no linear map"):
        initialize(model, "looks_linear")  # warnings are errors here


def test_where_a_warning_is_an_error_nothing_is_written() -> None:
    model = mixed()
    before = model.get_weights()
    with pytest.raises(UserWarning, match="as they are"):
        initialize(model)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_report_says_that_it_was_left_out() -> None:
    report = lsuv_init(mixed(), normal(32, 6))
    assert [row.status for row in report] == [
        "scaled",
        "skipped: no linear map is known, see register_linear_map",
    ]


@pytest.mark.parametrize(
    ("chosen", "scaled"),
    [
        (lambda layer: True, {"head"}),
        (lambda layer: isinstance(layer, Mix), {"mix"}),
        (Mix, {"mix"}),
        (["mix", "head"], {"mix", "head"}),
    ],
    ids=["all", "by its class", "its class", "names"],
)
def test_a_rule_that_holds_for_described_layers_leaves_others(
    chosen: Any, scaled: set[str]
) -> None:
    """What is added to a signal (a position, a token) is not to be scaled unasked."""
    model = mixed()
    before = [ops.convert_to_numpy(x.kernel) for x in model.layers]
    report = lsuv_init(model, 5 * normal(32, 6), layers=chosen)
    changed = {
        layer.name
        for layer, old in zip(model.layers, before, strict=True)
        if not np.array_equal(ops.convert_to_numpy(layer.kernel), old)
    }
    assert changed == scaled
    statuses = {row.name: row.status for row in report if row.name not in scaled}
    assert all("no linear map is known" in x for x in statuses.values()), statuses


def test_a_quantized_layer_is_not_reset() -> None:
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4, name="small")])
    model.layers[0].quantize("int8")
    with pytest.raises(UnsupportedLayerError, match=r"'small' .*quantized .int8"):
        initialize(model, None)


# What a graph says of bypasses


def tower(merge: Any, heads: int = 1) -> keras.Model:
    inputs = h = keras.Input((8,))
    for _ in range(3):
        h = merge(h, layers.Dense(8, "tanh")(h))
    return keras.Model(inputs, [layers.Dense(1)(h) for _ in range(heads)])


def test_layers_called_elsewhere_before_are_a_chain_here() -> None:
    one, other = layers.Dense(8), layers.Dense(8)
    elsewhere, inputs = keras.Input((8,)), keras.Input((8,))
    one(elsewhere), other(elsewhere)
    model = keras.Model(inputs, other(one(inputs)))
    assert measure(model, normal(32, 8)).plain


@pytest.mark.parametrize(
    ("merge", "heads", "plain"),
    [
        (lambda h, f: f, 1, True),
        (lambda h, f: layers.Dropout(0.1)(ops.relu(f) + 1.0), 1, True),
        (lambda h, f: f * 2.0, 1, False),
        (lambda h, f: ops.sin(f), 1, False),
        (lambda h, f: layers.Lambda(ops.sin)(f), 1, False),
        (lambda h, f: h + f, 1, False),
        (lambda h, f: layers.Add()([h, f]), 1, False),
        (lambda h, f: ops.concatenate([h, f]), 1, False),
        (lambda h, f: f, 3, False),
    ],
    ids=[
        "chain",
        "known",
        "factor",
        "sine",
        "Lambda",
        "sum",
        "Add",
        "concatenate",
        "heads",
    ],
)
def test_sums_and_several_heads_are_no_chain(
    merge: Any, heads: int, plain: bool
) -> None:
    assert measure(tower(merge, heads), normal(32, 8)).plain is plain


class Twice(layers.Layer):
    """A user's own, around a layer of Keras's."""

    def __init__(self, units: int = 8) -> None:
        super().__init__()
        self.dense = layers.Dense(units, "relu")

    def build(self, shape: Any) -> None:
        self.dense.build(shape)

    def call(self, x: Any) -> Any:
        return 2.0 * self.dense(x)


class Doubled(layers.Layer):
    def call(self, x: Any) -> Any:
        return 2.0 * x


class Residual(keras.Model):
    """Nobody but its `call` knows of the additions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = layers.Dense(8), layers.Dense(1)
        self.blocks = [layers.Dense(8, "relu") for _ in range(16)]

    def call(self, x: Any) -> Any:
        x = self.first(x)
        for block in self.blocks:
            x = x + 0.25 * block(x)
        return self.last(x)


CHAINS: dict[str, tuple[Callable[[], list[Any]], bool]] = {
    "own layer in front": (lambda: [Doubled(), layers.Dense(8), layers.Dense(8)], True),
    "own layer behind": (lambda: [layers.Dense(8), layers.Dense(8), Doubled()], True),
    "own layer between": (lambda: [layers.Dense(8), Doubled(), layers.Dense(8)], False),
    "layers in own layers": (lambda: [Twice(), Twice()], False),
    "factor": (
        lambda: [layers.Dense(8), layers.Rescaling(30.0), layers.Dense(8)],
        False,
    ),
    "normalised": (
        lambda: [layers.Dense(8), layers.BatchNormalization(), layers.Dense(8)],
        False,
    ),
    "recurrent": (
        lambda: [layers.Dense(8), layers.Reshape((4, 2)), layers.LSTM(8)],
        False,
    ),
    "nested": (
        lambda: [
            layers.Dense(8),
            keras.Sequential([layers.Dense(8), layers.ReLU()]),
            layers.Dropout(0.1),
            tower(lambda h, f: f),
        ],
        True,
    ),
    "nested with branches": (
        lambda: [layers.Dense(8), tower(lambda h, f: h + f)],
        False,
    ),
    "convolutions": (
        lambda: [
            *(layers.Reshape((4, 4, 1)), layers.Conv2D(4, 3), layers.MaxPooling2D()),
            *(layers.Flatten(), layers.Dense(8, "relu"), layers.Dense(2)),
        ],
        True,
    ),
    "time steps": (
        lambda: [
            *(layers.Reshape((4, 4)), layers.TimeDistributed(layers.Dense(8))),
            *(layers.GlobalAveragePooling1D(), layers.Dense(2)),
        ],
        True,
    ),
}


@pytest.mark.parametrize("case", CHAINS)
def test_a_chain_is_where_all_between_the_maps_is_known(case: str) -> None:
    build, plain = CHAINS[case]
    model = keras.Sequential([keras.Input((16,)), *build()])
    assert measure(model, normal(32, 16)).plain is plain


def test_a_subclassed_residual_model_is_not_said_to_lose_its_gradient() -> None:
    """Its gradient is what the identities let through, whatever the gains say."""
    keras.utils.set_random_seed(3)
    model, x = Residual(), normal(64, 8)
    model(x)
    report = measure(model, x)
    assert np.prod([row.gradient_gain for row in report]) < 1e-4
    assert not report.plain
    assert not any("gradient" in finding.text for finding in report.findings)
    [note] = lsuv_init(model, x, target_std="critical").notes
    assert "one chain" in note


def test_an_adapter_that_returns_nothing_is_named() -> None:
    class Forgetful(layers.Layer):
        def build(self, shape: Any) -> None:
            self.kernel = self.add_weight((shape[-1], 2))

        def call(self, x: Any) -> Any:
            return x @ self.kernel

    keras_inits.register_linear_map(Forgetful)(lambda layer: None)
    model = keras.Sequential([keras.Input((3,)), Forgetful(name="it")])
    with pytest.raises(UnsupportedLayerError, match=r"Forgetful .*None for layer 'it'"):
        lsuv_init(model, normal(8, 3))


@pytest.mark.parametrize("verb", [lsuv_init, measure])
def test_a_number_names_no_layer(verb: Any) -> None:
    with pytest.raises(UnsupportedLayerError, match=r"Received: 3 \(of type int\)"):
        verb(mixed(), normal(8, 6), layers=3)


def test_gain_leaves_a_users_layer_alone() -> None:
    prelu = layers.PReLU()
    assert keras_inits.gain(prelu) == pytest.approx(2**0.5, rel=1e-5)
    assert not prelu.built


@pytest.mark.parametrize("verb", [measure, lsuv_init], ids=["measure", "lsuv_init"])
def test_the_list_of_layers_is_of_those_that_can_be_chosen(verb: Any) -> None:
    wanted = r"Its layers: backbone, bn, head, inside, prelu\.$"
    with pytest.raises(UnsupportedLayerError, match=wanted):
        verb(backbone(), normal(16, 6), layers=["nothing"])


def test_a_layer_of_another_model_is_said_to_be_one() -> None:
    other, mine = backbone().layers[-1], backbone()
    wanted = r"does not hold this layer, though one of the name 'head': pass the name"
    with pytest.raises(UnsupportedLayerError, match=wanted) as caught:
        measure(mine, normal(16, 6), layers=[other])
    assert "Did you mean" not in str(caught.value)
    with pytest.raises(
        UnsupportedLayerError, match=r"layer 'else' \(Dense\) of another"
    ):
        initialize(mine, None, layers=[layers.Dense(2, name="else")])
    assert measure(mine, normal(16, 6), layers=["head"])["head"].std > 0
