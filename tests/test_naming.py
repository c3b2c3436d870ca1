"""What is asked of layers by name is done to them, or refused with the reason."""

from __future__ import annotations

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


@pytest.mark.parametrize("initializer", ["auto", {"*": "zeros"}, {"head": "zeros"}])
def test_beside_others_it_stays_as_it_is(initializer: Any) -> None:
    model = mixed()
    before = ops.convert_to_numpy(model.layers[0].kernel)
    initialize(model, initializer)
    np.testing.assert_array_equal(ops.convert_to_numpy(model.layers[0].kernel), before)


def test_the_report_says_that_it_was_left_out() -> None:
    report = lsuv_init(mixed(), normal(32, 6))
    assert [row.status for row in report] == [
        "scaled",
        "skipped: no linear map is known, see register_linear_map",
    ]


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
        (lambda h, f: f * 2.0 + 1.0, 1, True),
        (lambda h, f: h + f, 1, False),
        (lambda h, f: layers.Add()([h, f]), 1, False),
        (lambda h, f: ops.concatenate([h, f]), 1, False),
        (lambda h, f: f, 3, False),
    ],
    ids=["chain", "constants", "sum", "Add", "concatenate", "heads"],
)
def test_sums_and_several_heads_are_no_chain(
    merge: Any, heads: int, plain: bool
) -> None:
    assert measure(tower(merge, heads), normal(32, 8)).plain is plain


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
