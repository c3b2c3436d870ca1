"""`initialize`: the right variance for every layer, all or nothing; looks-linear."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from checks import changed, everything
from keras import layers, ops
from models import MODELS, normal

import keras_inits
from keras_inits import initialize
from keras_inits.errors import KerasInitsError

Array = np.ndarray[Any, Any]


def numpy(x: Any) -> Array:
    return np.asarray(ops.convert_to_numpy(x), "float64")


def sequential(*stack: Any, inputs: int = 16) -> keras.Model:
    return keras.Sequential([keras.Input((inputs,)), *stack])


def output_of(model: keras.Model, x: Any) -> Array:
    if keras.backend.backend() == "jax":  # one compilation, not one per operation
        return numpy(sys.modules["jax"].jit(model)(x))
    return numpy(model(x))


# Variance: what the string promises, for every kind of layer


def inner(y: Array, rim: int) -> Array:
    """Without the rim, where padding lets an output see fewer inputs."""
    middle = (slice(None), *(slice(rim, -rim) for _ in range(y.ndim - 2)))
    return y[middle]


LAYERS: dict[str, tuple[Callable[[], Any], tuple[int, ...], int]] = {
    "Dense": (lambda: layers.Dense(256), (128,), 0),
    "EinsumDense": (
        lambda: layers.EinsumDense("abc,cde->abde", (None, 8, 16)),
        (6, 64),
        0,
    ),
    "Conv1D": (lambda: layers.Conv1D(64, 5), (40, 16), 0),
    "Conv2D": (lambda: layers.Conv2D(64, 3), (14, 14, 16), 0),
    "grouped Conv2D": (lambda: layers.Conv2D(64, 3, groups=8), (14, 14, 64), 0),
    "DepthwiseConv2D": (lambda: layers.DepthwiseConv2D(5), (14, 14, 128), 0),
    "DepthwiseConv2D, multiplier": (
        lambda: layers.DepthwiseConv2D(5, depth_multiplier=3),
        (14, 14, 64),
        0,
    ),
    "SeparableConv2D": (lambda: layers.SeparableConv2D(128, 5), (14, 14, 128), 0),
    "Conv2DTranspose": (lambda: layers.Conv2DTranspose(16, 3), (14, 14, 64), 2),
    "Conv2DTranspose, stride 2": (
        lambda: layers.Conv2DTranspose(32, 4, strides=2),
        (14, 14, 64),
        4,
    ),
    "Conv1DTranspose, stride 3": (
        lambda: layers.Conv1DTranspose(32, 6, strides=3),
        (40, 32),
        6,
    ),
}


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_lecun_normal_gives_unit_variance(name: str) -> None:
    build, shape, rim = LAYERS[name]
    model = keras.Sequential([keras.Input(shape), build()])
    initialize(model, "lecun_normal", seed=1)
    y = output_of(model, normal(24, *shape))
    # The kernel's own sampling error: about sqrt(2 / values), at most 5 % here.
    assert (inner(y, rim) if rim else y).var() == pytest.approx(1.0, rel=0.1)


def test_an_embedding_has_rows_of_unit_variance() -> None:
    model = keras.Sequential(
        [keras.Input((5,), dtype="int32"), layers.Embedding(500, 32)]
    )
    initialize(model, "lecun_normal")
    assert numpy(model.layers[0].embeddings).var() == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("law", ["he_normal", "kaiming_uniform", "standard_uniform"])
def test_the_factor_of_a_law_counts_once_in_a_separable_convolution(law: str) -> None:
    """Its stages have no activation between them: as one convolution has it."""
    found = []
    for layer in (layers.SeparableConv2D(128, 3), layers.Conv2D(128, 3)):
        model = keras.Sequential([keras.Input((14, 14, 64)), layer])
        initialize(model, law, seed=0)
        found.append(output_of(model, normal(8, 14, 14, 64)).var())
    assert found[0] == pytest.approx(found[1], rel=0.15)


@pytest.mark.parametrize("string", ["orthonormal", "siren_uniform", "sparse_normal"])
def test_laws_without_a_factor_draw_both_stages(string: str) -> None:
    layer = layers.SeparableConv2D(32, 3)
    model = keras.Sequential([keras.Input((6, 6, 16)), layer])
    before = [numpy(v) for v in layer.trainable_variables[:2]]
    initialize(model, string, seed=0)
    for old, v in zip(before, layer.trainable_variables, strict=False):
        assert (old != numpy(v)).any()


def test_a_law_without_a_seed_differs_from_call_to_call_in_each_stage() -> None:
    layer = layers.SeparableConv2D(32, 3)
    model, law = keras.Sequential([keras.Input((6, 6, 16)), layer]), "he_normal"
    instance = keras.initializers.get(law)
    drawn = []
    for _ in range(2):
        initialize(model, instance)
        drawn.append([numpy(v) for v in layer.trainable_variables[:2]])
    assert all((a != b).any() for a, b in zip(*drawn, strict=True))


@pytest.mark.parametrize(("cls", "gates"), [("LSTM", 4), ("GRU", 3), ("SimpleRNN", 1)])
def test_each_gate_has_variance_by_its_own_fans(cls: str, gates: int) -> None:
    layer = getattr(layers, cls)(64)
    model = keras.Sequential([keras.Input((4, 32)), layer])
    before = numpy(layer.cell.recurrent_kernel)
    for string, variance in (
        ("lecun_normal", 1 / 32),
        ("glorot_uniform", 2 / (32 + 64)),
    ):
        initialize(model, string, seed=2)
        kernel = numpy(layer.cell.kernel)
        for gate in np.split(kernel, gates, axis=1):
            assert gate.var() == pytest.approx(variance, rel=0.1)
        parts = np.split(kernel, gates, axis=1)
        assert all((a != parts[0]).any() for a in parts[1:])
    np.testing.assert_array_equal(numpy(layer.cell.recurrent_kernel), before)


BEHIND: dict[str, tuple[Callable[[], Any], float]] = {
    "ReLU": (layers.ReLU, 2.0),
    "Activation": (lambda: layers.Activation("relu"), 2.0),
    "PReLU": (layers.PReLU, 2.0),
    "LeakyReLU": (lambda: layers.LeakyReLU(negative_slope=0.5), 2 / 1.25),
    "tanh": (lambda: layers.Activation("tanh"), keras_inits.gain("tanh") ** 2),
    "linear": (lambda: layers.Activation("linear"), 1.0),
    "Softmax": (layers.Softmax, 1.0),
    "softmax": (lambda: layers.Activation("softmax"), 1.0),
    "normalised": (layers.LayerNormalization, 1.0),
}


@pytest.mark.parametrize("case", BEHIND)
@pytest.mark.parametrize("graph", [False, True])
def test_auto_knows_the_activation_layer_behind(case: str, graph: bool) -> None:
    build, variance = BEHIND[case]
    dense, behind = layers.Dense(300), build()
    if graph:
        inputs = keras.Input((200,))
        outputs = layers.Dense(4, "relu")(behind(dense(inputs)))
        model = keras.Model(inputs, keras.layers.Dropout(0.1)(outputs))
    else:
        model = sequential(dense, behind, layers.Dense(4, "relu"), inputs=200)
    initialize(model, seed=1)
    assert numpy(dense.kernel).var() * 200 == pytest.approx(variance, rel=0.03)


@pytest.mark.parametrize(
    ("apply", "variance"),
    [
        (ops.relu, 2.0),
        (keras.activations.relu, 2.0),
        (lambda h: keras.activations.relu(h, negative_slope=0.5), 2 / 1.25),
        (lambda h: ops.leaky_relu(h, 0.5), 2 / 1.25),
        (lambda h: layers.ReLU()(layers.Dropout(0.2)(h)), 2.0),
        (lambda h: ops.relu(ops.reshape(layers.Dropout(0.2)(h), (-1, 30, 10))), 2.0),
        (ops.tanh, keras_inits.gain("tanh") ** 2),
        (ops.softmax, 1.0),
        (lambda h: ops.relu(2.0 * h), 1.0),
        (lambda h: ops.relu(h + h), 1.0),
        (ops.glu, 1.0),
    ],
)
def test_auto_knows_operations_behind(apply: Any, variance: float) -> None:
    dense, inputs = layers.Dense(300), keras.Input((200,))
    h = layers.Flatten()(apply(dense(inputs)))
    initialize(keras.Model(inputs, layers.Dense(4)(h)), seed=1)
    assert numpy(dense.kernel).var() * 200 == pytest.approx(variance, rel=0.03)


def test_auto_looks_through_dropout_in_a_sequence() -> None:
    dense, other = layers.Dense(300), layers.Dense(300)
    noise = layers.Dropout(0.2), layers.GaussianNoise(0.1)
    initialize(sequential(dense, *noise, layers.ReLU(), other, inputs=200), seed=1)
    assert numpy(dense.kernel).var() * 200 == pytest.approx(2.0, rel=0.03)
    assert numpy(other.kernel).var() * 300 == pytest.approx(1.0, rel=0.03)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "glu", "sparsemax"])
def test_auto_beside_activations_that_mix_units(name: str, own: bool) -> None:
    dense = layers.Dense(300, name if own else None)
    behind = [] if own else [layers.Activation(name)]
    model = sequential(dense, *behind, layers.Dense(2), inputs=200)
    initialize(model, seed=1)
    assert numpy(dense.kernel).var() * 200 == pytest.approx(1.0, rel=0.03)


def test_auto_takes_prelu_for_the_relu_that_it_starts_as() -> None:
    dense = layers.Dense(300, activation=layers.PReLU())
    model = sequential(dense, inputs=200)
    model(normal(2, 200))  # now it has weights, for this shape alone
    initialize(model, seed=1)
    assert numpy(dense.kernel).var() * 200 == pytest.approx(2.0, rel=0.03)


def test_auto_names_the_layer_whose_activation_leaves_nothing() -> None:
    model = sequential(layers.Dense(8), layers.Dense(8, lambda x: 0.0 * x, name="dead"))
    before = everything(model)
    match = r"'dead' \(Dense, kernel \(8, 8\)\).*mean square 0\.0"
    with pytest.raises(keras_inits.UnsupportedLayerError, match=match):
        initialize(model)
    assert changed(before, model) == []


def refused(shape: Any, dtype: Any = None) -> Any:
    raise TypeError("no luck")


def interrupted(shape: Any, dtype: Any = None) -> Any:
    raise KeyboardInterrupt


@pytest.mark.parametrize("last", [refused, interrupted])
def test_a_failure_leaves_the_seeds_as_they_were(last: Any) -> None:
    """What has been drawn before it, and in vain, is drawn again by the next call."""
    model = sequential(layers.Dense(4, name="first"), layers.Dense(4, name="last"))
    state = random.getstate()
    with pytest.raises((keras_inits.UnsupportedLayerError, KeyboardInterrupt)):
        initialize(model, {"first": "he_normal", "last": last})
    assert random.getstate() == state
    initialize(model, {"first": "he_normal"})
    assert random.getstate() != state


def test_auto_knows_every_caller_of_a_shared_activation_layer() -> None:
    act, denses = layers.ReLU(), [layers.Dense(300) for _ in range(3)]
    act(keras.Input((7,)))  # somewhere else
    inputs = h = keras.Input((300,))
    for dense in denses:
        h = act(dense(h))
    model = keras.Model(inputs, layers.Dense(2)(h))
    initialize(model, seed=1)
    for dense in denses:
        assert numpy(dense.kernel).var() * 300 == pytest.approx(2.0, rel=0.03)


class OfNormOne(keras.initializers.RandomNormal):
    """A user's own: of the whole block, not value by value."""

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        values = super().__call__(shape, dtype)
        assert len(shape) == 4
        return values / ops.sqrt(ops.sum(ops.square(values)))


def test_a_users_own_law_is_drawn_block_by_block() -> None:
    kernel = drawn(layers.DepthwiseConv2D(3), (8, 8, 6), OfNormOne(stddev=1.0))
    np.testing.assert_allclose((kernel**2).sum(axis=(0, 1, 3)), np.ones(6), rtol=1e-5)


@pytest.mark.parametrize(
    ("alias", "tap"), [("dirac_delta", [1, 0]), ("hadamard_identity", [0.5**0.5] * 2)]
)
def test_fixed_laws_are_drawn_channel_by_channel(alias: str, tap: list[float]) -> None:
    kernel = drawn(layers.DepthwiseConv2D(3, depth_multiplier=2), (8, 8, 6), alias)
    np.testing.assert_allclose(kernel[1, 1], [tap] * 6, rtol=1e-6)
    assert np.count_nonzero(kernel) == np.count_nonzero(kernel[1, 1])


def test_zeros_are_counted_channel_by_channel() -> None:
    law = keras_inits.SparseNormal(0.3, per="output")
    kernel = drawn(layers.DepthwiseConv2D(3, depth_multiplier=2), (8, 8, 6), law)
    np.testing.assert_array_equal((kernel == 0).sum(axis=(0, 1)), np.full((6, 2), 3))


def test_auto_takes_a_layers_own_activation_before_the_one_behind() -> None:
    dense = layers.Dense(300, "relu")
    initialize(sequential(dense, layers.Activation("tanh"), inputs=200), seed=1)
    assert numpy(dense.kernel).var() * 200 == pytest.approx(2.0, rel=0.03)


def drawn(layer: Any, shape: tuple[int, ...], initializer: Any) -> Array:
    """The kernel that `initialize` gives a layer."""
    model = keras.Sequential([keras.Input(shape), layer])
    initialize(model, initializer, seed=3)
    return numpy(layer.weights[0])


@pytest.mark.parametrize("initializer", ["lecun_normal", "auto", "orthonormal"])
def test_a_sum_over_steps_counts_in_the_fan_in(initializer: str) -> None:
    layer = layers.EinsumDense("abc,cd->ad", 64)
    kernel = drawn(layer, (6, 64), initializer)
    assert kernel.var() == pytest.approx(1 / (6 * 64), rel=0.05)


def test_a_sum_over_steps_that_nobody_has_counted_is_refused() -> None:
    layer = layers.EinsumDense("abc,cd->ad", 4, name="summed")
    model = keras.Sequential([keras.Input((None, 8)), layer])
    before = everything(model)
    reason = r"'summed' .*fixed size.*layers="
    with pytest.raises(keras_inits.UnsupportedLayerError, match=reason):
        initialize(model, "lecun_normal")
    assert changed(before, model) == []
    initialize(model, "ones")  # a law that counts nothing
    report = keras_inits.lsuv_init(model, normal(32, 5, 8))
    assert "summed sums over an axis" in report.notes[0]


# A kernel of 4 x 4 at stride 2: an output sees a quarter of its taps.
TRANSPOSED = (lambda: layers.Conv2DTranspose(32, 4, strides=2), (14, 14, 64))
SEEN, SENT = 64 * 4, 32 * 16


@pytest.mark.parametrize(
    ("mode", "count"),
    [
        ("fan_in", SEEN),
        ("fan_out", SENT),
        ("fan_avg", (SEEN + SENT) / 2),
        ("fan_geo_avg", math.sqrt(SEEN * SENT)),
    ],
)
@pytest.mark.parametrize("keras_own", [False, True])
def test_every_mode_counts_what_the_map_has(
    mode: Any, count: float, keras_own: bool
) -> None:
    if keras_own and mode == "fan_geo_avg":
        pytest.skip("Keras does not have it")
    maker = keras.initializers if keras_own else keras_inits
    build, shape = TRANSPOSED
    kernel = drawn(build(), shape, maker.VarianceScaling(2.0, mode))
    assert kernel.var() * count == pytest.approx(2.0, rel=0.04)


@pytest.mark.parametrize("law", ["lecun_normal", "lecun_uniform", "siren_uniform"])
@pytest.mark.parametrize("keras_own", [False, True])
def test_outputs_that_see_less_than_one_tap(law: str, keras_own: bool) -> None:
    """A kernel of 2 x 2 at stride 4 and one channel: a quarter of a product each."""
    if keras_own and law == "siren_uniform":
        pytest.skip("Keras does not have it")
    own = keras.initializers if keras_own else keras_inits
    kinds = {"lecun_normal": "LecunNormal", "lecun_uniform": "LecunUniform"}
    draw = getattr(own, kinds.get(law, "Siren"))()
    layer = layers.Conv2DTranspose(2048, 2, strides=4, padding="same")
    kernel = drawn(layer, (4, 4, 1), draw)
    expected = 4.0 if law != "siren_uniform" else 2 / (30**2 / 4)
    assert kernel.var() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("name", ["orthogonal", "orthonormal", "lsuv_normal"])
@pytest.mark.parametrize(("inputs", "filters"), [(1, 16), (64, 32)])
def test_orthonormal_transposed_convolutions_know_their_stride(
    name: str, inputs: int, filters: int
) -> None:
    layer = layers.Conv2DTranspose(filters, 2, strides=2)
    kernel = drawn(layer, (4, 4, inputs), name)
    # Drawn as (2, 2, inputs, outputs), of which an output sees one tap.
    vectors = max(4 * inputs, filters)
    assert (kernel**2).mean() == pytest.approx(4 / vectors, rel=1e-5)


@pytest.mark.parametrize("rows", [20, 64, 500])
def test_orthonormal_look_ups_are_vectors_of_length_one(rows: int) -> None:
    table = drawn(layers.Embedding(rows, 64), (3,), "orthonormal")
    lengths = np.linalg.norm(table, axis=1)
    assert (lengths**2).mean() == pytest.approx(1.0, rel=1e-5)
    if rows <= 64:
        np.testing.assert_allclose(table @ table.T, np.eye(rows), atol=1e-5)


@pytest.mark.skipif(
    not hasattr(layers, "ReversibleEmbedding"), reason="Keras 3.13 and later"
)
@pytest.mark.parametrize("law", ["auto", "lecun_normal", "orthonormal"])
def test_a_table_that_makes_the_logits_has_their_fan_in(law: str) -> None:
    inputs = keras.Input((50,), dtype="int32")
    layer = layers.ReversibleEmbedding(500, 64, tie_weights=True)
    rows = keras.Input((64,))
    model = keras.Model([inputs, rows], [layer(inputs), layer(rows, reverse=True)])
    initialize(model, law, seed=0)
    logits = normal(256, 64) @ numpy(layer.embeddings).T
    assert logits.std() == pytest.approx(1.0, rel=0.03)


@pytest.mark.parametrize("table", [False, True])
@pytest.mark.parametrize("law", ["forget_gate_bias", keras_inits.LogOddsBias(0.1)])
def test_laws_for_biases_draw_no_kernels(law: Any, table: bool) -> None:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8)])
    before = model.get_weights()
    with pytest.raises(KerasInitsError, match=r"biases.*as bias_init"):
        initialize(model, {"*": law} if table else law)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_laws_that_do_not_go_by_a_root_get_the_fans_too() -> None:
    build, shape = TRANSPOSED
    kernel = drawn(build(), shape, "siren_first")
    assert 0.99 / SEEN < abs(kernel).max() <= 1 / SEEN


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_bounds_hold_in_half_precision_too(dtype: str) -> None:
    layer = layers.Conv2DTranspose(32, 5, strides=3, dtype=dtype)
    kernel = drawn(layer, (6, 6, 64), keras_inits.LecunUniform())
    bound = math.sqrt(3 / (64 * 25 / 9))
    assert 0.98 * bound < abs(kernel).max() <= bound
    table = drawn(layers.Embedding(500, 64, dtype=dtype), (3,), "xavier_uniform")
    assert abs(table).max() <= math.sqrt(3 / ((1 + 64) / 2))


def test_gates_are_orthonormal_each() -> None:
    layer = layers.LSTM(16)
    initialize(keras.Sequential([keras.Input((4, 32)), layer]), "lsuv_normal")
    for gate in np.split(numpy(layer.cell.kernel), 4, axis=1):
        np.testing.assert_allclose(gate.T @ gate, np.eye(16), atol=1e-5)


def test_attention_projections_have_unit_variance() -> None:
    attention = layers.MultiHeadAttention(4, 16)
    inputs = keras.Input((6, 64))
    model = keras.Model(inputs, attention(inputs, inputs))
    initialize(model, "lecun_normal", seed=0)
    x = normal(64, 6, 64)
    for row in keras_inits.measure(model, x):
        fed_by_data = row.name in ("query", "key", "value")
        assert not fed_by_data or row.std == pytest.approx(1.0, rel=0.05)
    output = next(
        v for v in model.trainable_variables if "attention_output/kernel" in v.path
    )
    assert numpy(output).var() == pytest.approx(1 / 64, rel=0.1)  # 4 heads of 16


def test_fan_out_and_average_count_the_outputs_that_an_input_feeds() -> None:
    layer = layers.DepthwiseConv2D(5, depth_multiplier=4)
    model = keras.Sequential([keras.Input((9, 9, 128)), layer])
    for mode, count in (("fan_in", 25), ("fan_out", 100), ("fan_avg", 62.5)):
        law = keras.initializers.VarianceScaling(3.0, mode, "uniform")
        initialize(model, law)
        assert numpy(layer.kernel).var() == pytest.approx(3 / count, rel=0.05)


# "auto": variance preserved through the layer's own activation


@pytest.mark.parametrize(
    "activation", ["relu", "elu", "gelu", "silu", "tanh", "selu", "softplus", None]
)
def test_auto_keeps_the_mean_square_through_one_layer(activation: str | None) -> None:
    model = sequential(layers.Dense(2000, activation), inputs=200)
    initialize(model, seed=3)
    y = output_of(model, normal(100, 200))
    gain = keras_inits.gain(activation) if activation else 1.0
    # Var(W x) = gain^2, so only homogeneous activations come out at exactly 1.
    expected = gain**2 / 200
    assert numpy(model.layers[0].kernel).var() == pytest.approx(expected, rel=0.02)
    if activation in ("relu", None):
        assert (y**2).mean() == pytest.approx(1.0, rel=0.1)


def test_auto_keeps_the_mean_square_along_50_relu_layers() -> None:
    model = sequential(*(layers.Dense(128, "relu") for _ in range(50)), inputs=128)
    initialize(model, seed=1)
    y = output_of(model, normal(200, 128))
    assert 0.1 < (y**2).mean() < 10  # He's law: no factor of 2^50


def test_auto_counts_leaky_slopes_and_activation_objects() -> None:
    model = sequential(layers.Dense(500, layers.LeakyReLU(0.5)), inputs=200)
    initialize(model, seed=1)
    expected = 2 / (1 + 0.5**2) / 200
    assert numpy(model.layers[0].kernel).var() == pytest.approx(expected, rel=0.02)


def test_auto_treats_softmax_and_gates_as_linear() -> None:
    model = keras.Sequential(
        [keras.Input((4, 100)), layers.LSTM(50), layers.Dense(400, "softmax")]
    )
    initialize(model, seed=1)
    lstm, dense = model.layers
    assert numpy(lstm.cell.kernel).var() == pytest.approx(1 / 100, rel=0.03)
    assert numpy(dense.kernel).var() == pytest.approx(1 / 50, rel=0.03)


# Which layers, which initializer


def values(model: keras.Model) -> dict[str, Array]:
    return {v.path: numpy(v) for v in model.variables if "seed" not in v.path}


def moved(before: dict[str, Array], model: keras.Model) -> set[str]:
    after = values(model)
    return {path for path in before if (before[path] != after[path]).any()}


def named() -> keras.Model:
    return sequential(
        layers.Dense(16, "relu", name="body_1"),
        layers.Dense(16, "relu", name="body_2"),
        layers.BatchNormalization(name="norm"),
        layers.Dense(4, name="head"),
    )


def paths(model: keras.Model, *names: str) -> set[str]:
    return {model.get_layer(name).kernel.path for name in names}


def test_kernels_of_trainable_layers_change_and_nothing_else() -> None:
    model = named()
    model.get_layer("body_2").trainable = False
    before = values(model)
    initialize(model)
    assert moved(before, model) == paths(model, "body_1", "head")


def test_only_the_layers_asked_for() -> None:
    model = named()
    before = values(model)
    initialize(model, "he_normal", layers=["body_2"])
    assert moved(before, model) == paths(model, "body_2")
    initialize(model, layers=lambda layer: layer.name == "head")
    assert moved(before, model) == paths(model, "body_2", "head")


def test_a_dict_of_patterns_and_classes_the_first_that_matches_counts() -> None:
    model = named()
    before = values(model)
    initialize(model, {"body_1": "zeros", "body_*": "ones", layers.Dense: "auto"})
    assert (numpy(model.get_layer("body_1").kernel) == 0).all()
    assert (numpy(model.get_layer("body_2").kernel) == 1).all()
    assert moved(before, model) == paths(model, "body_1", "body_2", "head")
    again = values(model)
    initialize(model, {layers.Conv2D: "zeros", "h*": keras_inits.HeNormal(seed=1)})
    assert moved(again, model) == paths(model, "head")


def test_an_instance_and_a_config_are_taken_too() -> None:
    model = named()
    law = keras.initializers.RandomUniform(2.0, 3.0)
    for initializer in (law, keras.initializers.serialize(law)):
        initialize(model, "zeros")
        initialize(model, initializer)
        assert numpy(model.get_layer("head").kernel).min() >= 2.0


def test_a_seed_repeats_the_draw_and_layers_still_differ() -> None:
    model = named()
    for initializer in ("auto", "he_normal", "lsuv_normal", keras_inits.HeUniform()):
        initialize(model, initializer, seed=5)
        first = values(model)
        initialize(model, initializer, seed=6)
        assert moved(first, model) == paths(model, "body_1", "body_2", "head")
        initialize(model, initializer, seed=5)
        assert moved(first, model) == set()
        a, b = (numpy(model.get_layer(f"body_{i}").kernel) for i in (1, 2))
        assert (a != b).any()


def test_without_a_seed_each_call_draws_anew_and_set_random_seed_repeats() -> None:
    model = named()
    keras.utils.set_random_seed(1)
    initialize(model, "he_normal")
    first = values(model)
    initialize(model, "he_normal")
    assert moved(first, model) == paths(model, "body_1", "body_2", "head")
    keras.utils.set_random_seed(1)
    initialize(model, "he_normal")
    assert moved(first, model) == set()


def test_an_instance_with_a_seed_gives_layers_values_of_their_own() -> None:
    model = named()
    initialize(model, keras.initializers.HeNormal(seed=7))
    a, b = (numpy(model.get_layer(f"body_{i}").kernel) for i in (1, 2))
    assert (a != b).any()


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_kind_of_model_can_be_initialised(name: str) -> None:
    model, _ = MODELS[name]()
    before = values(model)
    initialize(model, seed=0)
    assert moved(before, model)
    assert all(np.isfinite(v).all() for v in values(model).values())


# None: reset


def test_none_redraws_every_weight_by_its_own_initializer() -> None:
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(32, 3, bias_initializer="ones"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(64, kernel_initializer="orthogonal", name="square"),
            layers.Dense(10, kernel_initializer=keras.initializers.Constant(0.5)),
        ]
    )
    for variable in model.variables:
        if "seed" not in variable.path:
            variable.assign(np.full(variable.shape, 3.0, variable.dtype))
    initialize(model, None, seed=1)
    first = values(model)
    conv, norm, _, square, last = model.layers
    assert numpy(conv.kernel).std() > 0
    assert numpy(conv.kernel).var() == pytest.approx(2 / (27 + 288), rel=0.15)
    assert (numpy(conv.bias) == 1).all()
    assert (numpy(norm.gamma) == 1).all()
    assert (numpy(norm.moving_mean) == 0).all()
    assert (numpy(last.kernel) == 0.5).all()
    wide = numpy(square.kernel)
    np.testing.assert_allclose(wide.T @ wide, np.eye(64), atol=1e-4)
    initialize(model, None, seed=2)
    assert moved(first, model) == {conv.kernel.path, square.kernel.path}
    initialize(model, None, seed=1)
    assert moved(first, model) == set()


def test_none_resets_cells_attention_nested_models_and_chosen_layers() -> None:
    attention = layers.MultiHeadAttention(2, 4)
    inputs = keras.Input((5, 8))
    x = attention(inputs, inputs)
    x = layers.GRU(6, name="gru")(x)
    block = keras.Sequential([keras.Input((6,)), layers.Dense(6, name="inside")])
    model = keras.Model(inputs, layers.Dense(2, name="head")(block(x)))
    before = values(model)
    initialize(model, None)
    still = set(before) - moved(before, model)
    assert {path for path in still if "bias" not in path} == set()
    again = values(model)
    initialize(model, None, layers="head")
    assert moved(again, model) == {model.get_layer("head").kernel.path}


class Stubborn(layers.Layer):
    """Cannot be made again from its config."""

    def __init__(self, size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = size

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_weight(shape=(input_shape[-1], self.size))

    def call(self, x: Any) -> Any:
        return x @ ops.convert_to_tensor(self.kernel)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name}


def test_a_layer_that_cannot_be_reset_is_named_and_nothing_changes() -> None:
    model = sequential(layers.Dense(16), Stubborn(4, name="stubborn"))
    before = everything(model)
    with pytest.raises(keras_inits.UnsupportedLayerError, match="'stubborn'"):
        initialize(model, None)
    assert changed(before, model) == []


# All or nothing


class Breaks(keras.initializers.Initializer):
    """Draws twice, then fails."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        self.calls += 1
        if self.calls == 3:
            raise KeyboardInterrupt("by the user")
        return ops.ones(shape, dtype)

    def get_config(self) -> dict[str, Any]:
        return {}


class Picky(Breaks):
    """Takes square kernels only."""

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        if shape[0] != shape[1]:
            raise ValueError("not square")
        return ops.ones(shape, dtype)


def test_an_interrupt_leaves_every_weight_as_it_was() -> None:
    model = named()
    before = everything(model)
    with pytest.raises(KeyboardInterrupt, match="by the user"):
        initialize(model, Breaks())
    assert changed(before, model) == []


def test_none_in_a_table_resets_what_it_stands_beside() -> None:
    """Every weight of those layers; a kernel elsewhere in the table is drawn."""
    model = named()
    for v in model.variables:
        v.assign(np.full(v.shape, 7.0, "float32"))
    body, other, norm, head = (model.get_layer(x) for x in NAMES)
    initialize(model, {"head": None, "norm": None, "body_1": "zeros"}, seed=0)
    assert (numpy(other.kernel) == 7).all() and (numpy(body.bias) == 7).all()
    assert (numpy(body.kernel) == 0).all() and (numpy(head.bias) == 0).all()
    assert np.abs(numpy(head.kernel)).max() < 2 and numpy(head.kernel).std() > 0.1
    assert [numpy(v)[0] for v in norm.variables] == [1, 0, 0, 1]
    initialize(model, {"*": None}, layers="body_2")
    assert (numpy(body.bias) == 7).all() and (numpy(other.bias) == 0).all()


def test_an_array_in_a_table_is_what_it_holds() -> None:
    """It is no None, and is not asked whether it equals one."""
    model, own = named(), np.arange(64, dtype="float32").reshape(16, 4)
    initialize(model, {"head": own, "norm": None})
    np.testing.assert_array_equal(numpy(model.get_layer("head").kernel), own)


def test_a_reset_in_a_table_leaves_what_is_frozen() -> None:
    """Unless it is named; and it asks nothing of a layer but its initializers."""
    model = named()
    body, _, norm, _ = (model.get_layer(x) for x in NAMES)
    body.trainable = False
    before = numpy(body.kernel)
    initialize(model, {"head": "zeros", "*": None})
    np.testing.assert_array_equal(numpy(body.kernel), before)
    initialize(model, {"head": "zeros", "body_1": None})
    assert (numpy(body.kernel) != before).any()
    norm.gamma.assign(np.full(16, 7.0, "float32"))
    initialize(model, {"norm": None}, layers=["norm"])
    assert (numpy(norm.gamma) == 1).all()
    own = sequential(layers.Dense(4), Undescribed(name="own"))
    own.layers[-1].w.assign(np.full((4, 4), 7.0, "float32"))
    initialize(own, {"own": None, "dense*": "zeros"})
    assert np.abs(numpy(own.layers[-1].w)).max() < 2


class Undescribed(layers.Layer):
    """No adapter describes it."""

    def build(self, shape: Any) -> None:
        self.w = self.add_weight(shape=(4, 4), initializer="he_normal", name="w")

    def call(self, x: Any) -> Any:
        return keras.ops.matmul(x, self.w)


NAMES = ("body_1", "body_2", "norm", "head")


def two_by_two(shape: Any, dtype: Any = None) -> Any:
    return np.zeros((2, 2), "float32")


@pytest.mark.parametrize(
    ("initializer", "options", "reason"),
    [
        ("he_normol", {}, "Received: 'he_normol'. Did you mean 'he_normal'"),
        ("lsuv-normal", {}, "Received: 'lsuv-normal'. Did you mean 'lsuv_normal'"),
        ("LSUV_Normal", {}, "Received: 'LSUV_Normal'. Did you mean 'lsuv_normal'"),
        ({3: "zeros"}, {}, "name patterns or layer classes"),
        ("auto", {"seed": 1.5}, "`seed` must be an integer or None"),
        ("auto", {"seed": True}, "`seed` must be an integer or None"),
        ("auto", {"layers": "hed"}, "Did you mean 'head'"),
        (Picky(), {}, r"'head' \(Dense, kernel \(16, 4\)\) cannot be drawn by Picky"),
        ("auto", {"layers": ["norm"]}, "it has no linear map"),
        (two_by_two, {}, r"by two_by_two: asked.* \(\d+, 16\), .* shape \(2, 2\)"),
        (lambda shape, dtype=None: None, {}, "it returned None"),
        (np.ones((3, 3)), {}, r"'body_1' .* cannot be drawn .*\(3, 3\)"),
        ({"hed": None}, {}, "Received: 'hed'"),
    ],
)
def test_refusals_name_what_is_wrong_and_change_nothing(
    initializer: Any, options: dict[str, Any], reason: str
) -> None:
    model = named()
    before = everything(model)
    with pytest.raises(keras_inits.KerasInitsError, match=reason):
        initialize(model, initializer, **options)
    assert changed(before, model) == []


def test_the_whole_map_of_a_lora_layer_is_drawn() -> None:
    """What LoRA has learnt is not added to the new kernel."""
    layer = layers.Dense(64, name="adapted")
    model = keras.Sequential([keras.Input((64,)), layer])
    layer.enable_lora(8)
    layer.lora_kernel_b.assign(np.ones((8, 64)))
    initialize(model, "lecun_normal", layers=["adapted"], seed=0)
    drawn = numpy(ops.convert_to_tensor(layer.kernel))
    assert drawn.std() == pytest.approx(1 / 8, rel=0.05)
    assert np.any(numpy(layer.lora_kernel_a))  # and it can learn again


def test_under_lora_too_a_looks_linear_stack_is_linear() -> None:
    stack = [layers.Dense(16, "relu") for _ in range(3)]
    model = keras.Sequential([keras.Input((8,)), *stack, layers.Dense(4)])
    for layer in model.layers:
        layer.enable_lora(2)
        layer.lora_kernel_b.assign(np.ones(layer.lora_kernel_b.shape))
    initialize(model, "looks_linear", layers=model.layers, seed=0)
    x = normal(32, 8)
    other = normal(32, 8, seed=1)
    outputs = [numpy(model(z)) for z in (x, other, x + other)]
    assert outputs[0].std() > 0.1
    np.testing.assert_allclose(outputs[0] + outputs[1], outputs[2], atol=1e-4)


@pytest.mark.parametrize(
    "named_so", ["XavierNormal", {"class_name": "XavierNormal", "config": {"gain": 1}}]
)
def test_names_of_classes_do_as_well(named_so: Any) -> None:
    """As Keras takes those of its own; they are what its error proposed."""
    one, other = named(), named()
    initialize(one, named_so, seed=1)
    initialize(other, "xavier_normal", seed=1)
    for ours, theirs in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_model_without_weights_is_refused() -> None:
    with pytest.raises(keras_inits.KerasInitsError, match="is not built"):
        initialize(keras.Sequential([layers.Dense(3)]))


# Looks-linear


def linear_map_of(model: keras.Model, inputs: int) -> Array:
    """The matrix of the model's Jacobian, read off at the unit vectors."""
    zero = output_of(model, np.zeros((1, inputs), "float32"))
    return output_of(model, np.eye(inputs, dtype="float32")) - zero


def assert_linear(model: keras.Model, inputs: int, atol: float = 1e-3) -> Array:
    matrix = linear_map_of(model, inputs)
    x = normal(20, inputs)
    zero = output_of(model, np.zeros((1, inputs), "float32"))
    np.testing.assert_allclose(output_of(model, x) - zero, x @ matrix, atol=atol)
    return matrix


def test_200_layers_are_a_rotation() -> None:
    model = sequential(*(layers.Dense(16, "relu") for _ in range(199)), layers.Dense(8))
    initialize(model, "looks_linear")
    matrix = assert_linear(model, 16)
    # The first layer keeps 8 of 16 directions, since units come in pairs.
    singular = np.linalg.svd(matrix, compute_uv=False)
    np.testing.assert_allclose(singular, np.ones(8), atol=1e-3)


@pytest.mark.parametrize(
    "activation",
    [
        *("gelu", "silu", "softplus", "leaky_relu", layers.LeakyReLU(0.4)),
        *("hard_silu", "hard_swish", "log_sigmoid", "sparse_plus", "squareplus"),
    ],
)
def test_activations_for_which_it_holds(activation: Any) -> None:
    model = sequential(*(layers.Dense(16, activation) for _ in range(5)), inputs=8)
    model = keras.Sequential([*model.layers, layers.Dense(8)])
    model.build((None, 8))
    initialize(model, "looks_linear")
    matrix = assert_linear(model, 8)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(8), atol=1e-3)


def test_activation_layers_count_as_the_activation() -> None:
    stack = [
        layer
        for _ in range(4)
        for layer in (layers.Dense(16), layers.ReLU(negative_slope=0.2))
    ]
    model = sequential(*stack, layers.Dense(8), inputs=8)
    initialize(model, "looks_linear")
    matrix = assert_linear(model, 8)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(8), atol=1e-3)


@pytest.mark.parametrize(
    "apply", [ops.relu, lambda h: keras.activations.relu(h, negative_slope=0.3)]
)
def test_operations_count_as_the_activation(apply: Any) -> None:
    inputs = h = keras.Input((8,))
    for _ in range(4):
        h = apply(layers.Dense(16)(h))
    model = keras.Model(inputs, layers.Dense(8)(h))
    initialize(model, "looks_linear")
    matrix = assert_linear(model, 8)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(8), atol=1e-3)


def test_dense_layers_behind_flattened_convolutions() -> None:
    model = keras.Sequential(
        [
            keras.Input((6, 6, 4)),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dense(32, "relu"),
            layers.Dense(5),
        ]
    )
    initialize(model, "looks_linear")
    flat = keras.Sequential([keras.Input((144,)), layers.Reshape((6, 6, 4)), model])
    assert_linear(flat, 144)


def test_the_last_layer_may_have_any_activation() -> None:
    model = sequential(layers.Dense(16, "relu"), layers.Dense(5, "softmax"))
    initialize(model, "looks_linear")
    model.layers[-1].activation = keras.activations.linear
    assert_linear(keras.Sequential(model.layers), 16)


@pytest.mark.parametrize(
    ("middle", "reason"),
    [
        (
            lambda: layers.Dense(16, "tanh"),
            "activation 'tanh'.*critical\", orthonormal=True",
        ),
        (lambda: layers.Dense(16, "elu"), "activation 'elu'"),
        (lambda: layers.Dense(16, "sigmoid"), "It holds for gelu, leaky_relu, relu"),
        (lambda: layers.Dense(16, lambda x: x * x), r"f\(x\) - f\(-x\)"),
        (lambda: layers.BatchNormalization(), "does not keep units in pairs"),
    ],
)
def test_where_it_does_not_hold_it_is_refused(
    middle: Callable[[], Any], reason: str
) -> None:
    model = sequential(layers.Dense(16, "relu"), middle(), layers.Dense(4))
    before = everything(model)
    with pytest.raises(keras_inits.UnsupportedLayerError, match=reason):
        initialize(model, "looks_linear")
    assert changed(before, model) == []


def test_strided_and_grouped_layers_are_refused_or_left_out() -> None:
    model = keras.Sequential(
        [
            keras.Input((8, 8, 4)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.Conv2D(8, 3, groups=2, activation="relu", name="grouped"),
        ]
    )
    with pytest.raises(keras_inits.UnsupportedLayerError, match=r"'grouped'.*mirrored"):
        initialize(model, "looks_linear")


def nonlinearity(model: keras.Model, x: Array) -> float:
    """max |f(a + c) - f(a) - f(c) + f(0)| / max |f(a + c) - f(0)|."""
    a, c = x[:8], x[8:16]
    whole, one, two, zero = (output_of(model, v) for v in (a + c, a, c, 0 * a))
    return float(abs(whole - one - two + zero).max() / abs(whole - zero).max())


def chain(shape: tuple[int, ...], *stack: Any) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *stack])


def graph(between: Callable[[Any, Any], Any]) -> keras.Model:
    """Two layers, something from their outputs, one layer."""
    inputs = keras.Input((8,))
    one = layers.Dense(16, "relu", name="one")(inputs)
    two = layers.Dense(16, "relu", name="two")(one)
    return keras.Model(inputs, layers.Dense(4, name="last")(between(one, two)))


def conv(filters: int = 16, **options: Any) -> Any:
    return layers.Conv2D(filters, 3, padding="same", activation="relu", **options)


def between_dense(*layer: Any) -> keras.Model:
    return chain(
        (8,), layers.Dense(64, "relu", name="one"), *layer, layers.Dense(4, name="last")
    )


def between_conv(*layer: Any) -> keras.Model:
    return chain((4, 4, 3), conv(name="one"), *layer, layers.Dense(4, name="last"))


def biased(value: float) -> keras.Model:
    model = between_dense()
    model.layers[0].bias.assign(np.full(64, value, "float32"))
    return model


def heads() -> keras.Model:
    inputs = keras.Input((8,))
    trunk = layers.Dense(16, "relu")(inputs)
    names = ("first", "second")
    return keras.Model(inputs, [layers.Dense(4, name=x)(trunk) for x in names])


def left_out() -> keras.Model:
    model = between_dense(layers.Dense(16, name="frozen"))
    model.get_layer("frozen").trainable = False
    return model


class Unknown(layers.Layer):
    """A layer that nobody knows."""

    def call(self, x: Any) -> Any:
        return ops.abs(x)


BREAKS: dict[str, tuple[str, Callable[[], keras.Model]]] = {
    "odd channels, flattened": (
        "'conv'.*15 channels.*even",
        lambda: chain(
            (4, 4, 3), conv(15, name="conv"), layers.Flatten(), layers.Dense(4)
        ),
    ),
    "permuted channels": (
        "'bad'",
        lambda: between_conv(layers.Permute((3, 1, 2), name="bad"), layers.Flatten()),
    ),
    "permuted units": (
        "'bad'",
        lambda: chain(
            (4, 8),
            layers.Dense(8, "relu"),
            layers.Permute((2, 1), name="bad"),
            layers.Dense(4),
        ),
    ),
    "units made positions": (
        "'bad'",
        lambda: between_dense(layers.Reshape((8, 8), name="bad")),
    ),
    "channels on another axis": (
        "'bad'.*another axis",
        lambda: between_conv(
            layers.AveragePooling2D(2, data_format="channels_first", name="bad"),
            layers.Flatten(),
        ),
    ),
    "half of the channels read": (
        "'last'.*does not read",
        lambda: chain(
            (4, 8),
            layers.EinsumDense("abc,cde->abde", (None, 4, 8), activation="relu"),
            layers.Dense(4, name="last"),
        ),
    ),
    "second activation": (
        "'bad'.*'tanh'",
        lambda: between_dense(layers.Activation("tanh", name="bad")),
    ),
    "second activation layer": (
        "'bad'.*'tanh'",
        lambda: chain(
            (8,),
            layers.Dense(16),
            layers.ReLU(),
            layers.Activation("tanh", name="bad"),
            layers.Dense(4),
        ),
    ),
    "bounded ReLU": (
        r"'bad'.*relu\(max_value=1.0\)",
        lambda: chain(
            (8,),
            layers.Dense(16, name="bad"),
            layers.ReLU(max_value=1.0),
            layers.Dense(4),
        ),
    ),
    "second activation, an operation": (
        "'tanh.*'tanh'",
        lambda: graph(lambda one, two: ops.tanh(two)),
    ),
    "bounded ReLU, of the layer": (
        r"'bad'.*relu\(max_value=1.0\)",
        lambda: chain(
            (8,),
            layers.Dense(16, layers.ReLU(max_value=1.0), name="bad"),
            layers.Dense(4),
        ),
    ),
    "ReLU with a threshold": (
        r"'bad'.*relu\(threshold=0.5\)",
        lambda: chain(
            (8,),
            layers.Dense(16, layers.ReLU(threshold=0.5), name="bad"),
            layers.Dense(4),
        ),
    ),
    "bias": ("'one'.*bias.*0.5.*zeros", lambda: biased(0.5)),
    "operation": ("Tanh", lambda: graph(lambda one, two: ops.tanh(two))),
    "product": ("Multiply", lambda: graph(lambda one, two: ops.multiply(one, two))),
    "sum": ("Add", lambda: graph(lambda one, two: one + two)),
    "branch": ("'second'.*follow", heads),
    "attention": (
        "'bad'",
        lambda: graph(
            lambda one, two: layers.MultiHeadAttention(2, 4, name="bad")(
                two[:, None], two[:, None]
            )
        ),
    ),
    "layer left out": ("'frozen'.*not chosen", left_out),
    "Lambda": (
        "'bad'",
        lambda: between_dense(layers.Lambda(lambda x: ops.tanh(x), name="bad")),
    ),
    "a layer that nobody knows": ("'bad'", lambda: between_dense(Unknown(name="bad"))),
    "offset": (
        "'bad'.*offset",
        lambda: between_dense(layers.Rescaling(2.0, offset=1.0, name="bad")),
    ),
    "normalisation": (
        "'bad'",
        lambda: between_dense(layers.GroupNormalization(4, name="bad")),
    ),
    "unit normalisation": (
        "'bad'",
        lambda: between_dense(layers.UnitNormalization(name="bad")),
    ),
    "max pooling": (
        "'bad'",
        lambda: between_conv(layers.GlobalMaxPooling2D(name="bad")),
    ),
}
if hasattr(layers, "RMSNormalization"):
    BREAKS["RMS normalisation"] = (
        "'bad'",
        lambda: between_dense(layers.RMSNormalization(name="bad")),
    )


@pytest.mark.parametrize("name", sorted(BREAKS))
def test_what_breaks_pairs_is_refused_by_name(name: str) -> None:
    reason, build = BREAKS[name]
    model = build()
    before = everything(model)
    with pytest.raises(keras_inits.UnsupportedLayerError, match=f"(?i){reason}"):
        initialize(model, "looks_linear")
    assert changed(before, model) == []


KEEPS: dict[str, Callable[[], keras.Model]] = {
    "Dense": lambda: between_dense(layers.Dense(32, "gelu"), layers.Dense(32)),
    "odd units": lambda: between_dense(layers.Dense(33, "relu")),
    "Dropout, Identity, Rescaling": lambda: between_dense(
        layers.Dropout(0.5), layers.Identity(), layers.Rescaling(0.5)
    ),
    "Activation linear, ReLU twice": lambda: between_dense(
        layers.Activation("linear"), layers.ReLU()
    ),
    "RepeatVector, Flatten": lambda: between_dense(
        layers.RepeatVector(3), layers.Flatten()
    ),
    "Flatten": lambda: between_conv(layers.Flatten()),
    "Flatten twice": lambda: between_conv(layers.Flatten(), layers.Flatten()),
    "Reshape to one axis": lambda: between_conv(layers.Reshape((256,))),
    "GlobalAveragePooling2D": lambda: between_conv(layers.GlobalAveragePooling2D()),
    "by channel": lambda: between_conv(
        layers.AveragePooling2D(2),
        layers.UpSampling2D(3),
        layers.Cropping2D(1),
        layers.ZeroPadding2D(1),
        layers.SpatialDropout2D(0.5),
        conv(8),
        layers.Flatten(),
    ),
    "two output axes": lambda: chain(
        (4, 8),
        layers.EinsumDense("abc,cde->abde", (4, 4, 8), activation="relu"),
        layers.Flatten(),
        layers.Dense(4),
    ),
    "TimeDistributed": lambda: chain(
        (4, 8), layers.TimeDistributed(layers.Dense(8, "relu")), layers.Dense(4)
    ),
    "prepared input": lambda: chain(
        (8,),
        layers.Rescaling(0.5, offset=1.0),
        layers.Dense(16, "relu"),
        layers.Dense(4),
    ),
    "graph": lambda: graph(lambda one, two: two),
    "graph, nested": lambda: graph(
        lambda one, two: chain((16,), layers.Dense(8, "relu"))(two)
    ),
}


@pytest.mark.parametrize("name", sorted(KEEPS))
def test_what_keeps_pairs_is_linear(name: str) -> None:
    model = KEEPS[name]()
    initialize(model, "looks_linear", seed=1)
    assert nonlinearity(model, normal(16, *model.input_shape[1:])) < 1e-5


def test_the_measure_of_linearity_sees_a_stack_that_is_not() -> None:
    assert nonlinearity(between_dense(), normal(16, 8)) > 0.01


def test_the_bias_of_the_last_layer_may_be_anything() -> None:
    model = between_dense()
    model.layers[-1].bias.assign(np.ones(4, "float32"))
    initialize(model, "looks_linear")
    assert nonlinearity(model, normal(16, 8)) < 1e-5


def test_looks_linear_is_repeatable_by_seed() -> None:
    model = sequential(*(layers.Dense(16, "relu") for _ in range(3)))
    initialize(model, "looks_linear", seed=1)
    first = values(model)
    initialize(model, "looks_linear", seed=1)
    assert moved(first, model) == set()
    initialize(model, keras_inits.LooksLinear(), seed=2)
    assert len(moved(first, model)) == 3
    assert math.isfinite(sum(v.sum() for v in values(model).values()))


def test_a_name_that_no_layer_has() -> None:
    """A class or a pattern may go unused, in a table that serves many models."""
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2, name="head")])
    before = numpy(model.layers[0].kernel)
    with pytest.raises(
        keras_inits.UnsupportedLayerError, match=r"'haed'.*layers: head"
    ):
        keras_inits.initialize(model, {"haed": "zeros", "head": "zeros"})
    with pytest.raises(keras_inits.UnsupportedLayerError, match="Conv2D"):
        keras_inits.initialize(model, {layers.Conv2D: "zeros"})
    np.testing.assert_array_equal(numpy(model.layers[0].kernel), before)
    keras_inits.initialize(
        model, {layers.Conv2D: "zeros", "enc*": "zeros", "h*": "ones"}
    )
    assert (numpy(model.layers[0].kernel) == 1).all()


def test_what_a_layer_was_adapted_to_stays_at_a_reset(tmp_path: Path) -> None:
    x = 50 * normal(500, 4) + 300
    norm = layers.Normalization()
    norm.adapt(x)
    model = keras.Sequential([keras.Input((4,)), norm, layers.Dense(3)])
    kernel = numpy(model.layers[1].kernel)
    initialize(model, None, seed=7)
    assert not np.array_equal(numpy(model.layers[1].kernel), kernel)
    assert abs(numpy(norm(x)).mean()) < 1e-3
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(numpy(loaded(x)), numpy(model(x)), rtol=1e-5, atol=1e-5)


def test_an_empty_table() -> None:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    with pytest.raises(keras_inits.KerasInitsError, match="without a row"):
        initialize(model, {})


def test_seeds_of_numpy() -> None:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    initialize(model, "he_normal", seed=np.int64(3))
    first = numpy(model.layers[0].kernel)
    initialize(model, "he_normal", seed=3)
    np.testing.assert_array_equal(numpy(model.layers[0].kernel), first)


class Pair(keras.Model):
    """Two networks and, of its own, no more than a `train_step`: a GAN."""

    def __init__(self, *networks: keras.Model) -> None:
        super().__init__()
        self.made, self.told = networks


@pytest.mark.parametrize("law", ["auto", "he_normal", "looks_linear", None])
def test_networks_of_a_model_without_a_call_are_drawn_as_by_themselves(
    law: str | None,
) -> None:
    def networks() -> list[keras.Model]:
        keras.utils.set_random_seed(0)
        made = [keras.Input((4,)), layers.Dense(8, "relu"), layers.Dense(6)]
        told = [keras.Input((6,)), layers.Dense(8, "relu"), layers.Dense(1)]
        return [keras.Sequential(made), keras.Sequential(told)]

    model, before = Pair(*networks()), [x.get_weights() for x in networks()]
    initialize(model, law, seed=1)
    [alone, _] = networks()
    initialize(alone, law, seed=1)
    for old, network in zip(before, (model.made, model.told), strict=True):
        for w, v in zip(old, network.get_weights(), strict=True):
            assert w.ndim == 1 or not np.array_equal(w, v)
    for w, v in zip(alone.get_weights(), model.made.get_weights(), strict=True):
        assert law is None or np.array_equal(w, v)  # which counts what holds them
    unbuilt = Pair(keras.Sequential([layers.Dense(2)]), model.told)
    if law is not None:
        with pytest.raises(KerasInitsError, match="Pass each network"):
            initialize(unbuilt, law)
