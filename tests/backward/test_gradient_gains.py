"""Gradient gains, seen from the forward pass, against real backpropagation."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops
from models import normal
from scipy.integrate import quad
from scipy.special import erf

import keras_inits
from keras_inits import measure
from keras_inits.backward import slopes
from keras_inits.backward.gradient_gains import mean_square_slopes
from keras_inits.backward.slopes import Probe, acts_on_each
from keras_inits.statistics.moments import some_rows

pytestmark = pytest.mark.any_keras

Array = np.ndarray[Any, Any]


def pulled_back(model: keras.Model, x: Array, g: Array) -> Array:
    """The gradient of `sum(g * model(x))` for x, by the backend's own autodiff."""
    x, g = ops.convert_to_tensor(x), ops.convert_to_tensor(g)
    backend = keras.backend.backend()
    if backend == "jax":
        jax = sys.modules["jax"]
        found = jax.jit(lambda x, g: jax.vjp(model, x)[1](g)[0])(x, g)
    elif backend == "tensorflow":
        with sys.modules["tensorflow"].GradientTape() as tape:
            tape.watch(x)
            y = model(x)
        found = tape.gradient(y, x, output_gradients=g)
    else:
        x = x.detach().requires_grad_()
        model(x).backward(g)
        found = x.grad
    return np.asarray(ops.convert_to_numpy(found), "float64")


def slope(activation: Any, z: Any) -> float:
    function = keras.activations.get(activation)
    [found] = mean_square_slopes([Probe(ops.convert_to_tensor(z), function)])
    return float(ops.convert_to_numpy(found))


def gauss_gelu_slope(z: float) -> float:
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return float((1 + erf(z / math.sqrt(2))) / 2 + z * density)


SLOPES: dict[str, Callable[[float], float]] = {
    "elu": lambda z: 1.0 if z > 0 else math.exp(z),
    "gelu": gauss_gelu_slope,
    "linear": lambda z: 1.0,
    "relu": lambda z: float(z > 0),
    "sigmoid": lambda z: 1 / (2 * math.cosh(z / 2)) ** 2,
    "softplus": lambda z: 1 / (1 + math.exp(-z)),
    "tanh": lambda z: 1 / math.cosh(z) ** 2,
}


@pytest.mark.parametrize("size", [0.01, 1.0, 3.0])
@pytest.mark.parametrize("name", sorted(SLOPES))
def test_mean_square_slope_is_the_integral_over_the_normal_law(
    name: str, size: float
) -> None:
    def integrand(z: float) -> float:
        return SLOPES[name](size * z) ** 2 * math.exp(-z * z / 2)

    expected = quad(integrand, -9, 9, points=[0.0], limit=200)[0]
    expected /= math.sqrt(2 * math.pi)
    # 60,000 draws: E[f'^2] within 1 %; the mean of the draws is 0, as for ReLU's half.
    z = size * normal(300, 100, seed=3)
    z = np.concatenate([z, -z])
    assert slope(name, z) == pytest.approx(expected, rel=0.02)


def test_alike_probes_are_told_apart() -> None:
    """Evaluated together, each keeps its own place and its own step."""
    tanh = keras.activations.tanh
    sizes = (1.0, 1e-6, 5.0)
    data = [ops.convert_to_tensor(s * normal(40, 20)) for s in sizes]
    together = mean_square_slopes([Probe(z, tanh) for z in data])
    alone = [slope("tanh", s * normal(40, 20)) for s in sizes]
    found = [float(ops.convert_to_numpy(x)) for x in together]
    assert found == pytest.approx(alone, rel=1e-4)
    assert found[1] == pytest.approx(1.0, rel=1e-3)
    assert found[2] < found[0] < found[1]


def test_each_probe_keeps_its_place_beside_other_activations() -> None:
    """On a CPU the slope of ReLU is a number at once, those of others are not."""
    names = ("tanh", "relu", "relu", "sigmoid", "linear", "relu")
    data = [normal(40, 20, seed=i) + i / 3 for i in range(len(names))]
    probes = [
        Probe(ops.convert_to_tensor(z), keras.activations.get(name))
        for name, z in zip(names, data, strict=True)
    ]
    alone = [slope(name, z) for name, z in zip(names, data, strict=True)]
    assert mean_square_slopes(probes) == pytest.approx(alone, rel=1e-4)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_slope_of_relu_where_the_signal_is_not_finite(value: float, dtype: str) -> None:
    z = 10.0 * abs(normal(64, 256))  # in float16 the sum would overflow
    assert slope("relu", ops.cast(z, dtype)) == 1.0
    z[3, 5] = value
    assert math.isnan(slope("relu", ops.cast(z, dtype)))


def test_one_wide_probe_does_not_make_the_others_wide(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On JAX shorter probes are filled up, but not to the length of a few long ones."""
    seen = []
    flat = slopes._flat

    def spied(rows: Any) -> Any:
        stack = flat(rows)
        seen.append(math.prod(stack.shape))
        return stack

    monkeypatch.setattr(slopes, "_flat", spied)
    shapes = [(1, 400, 500), *[(16, 1024)] * 20]
    relu = keras.activations.relu
    probes = [Probe(ops.convert_to_tensor(normal(*s)), relu) for s in shapes]
    found = mean_square_slopes(probes)
    assert found == pytest.approx([0.5] * 21, abs=0.02)
    assert sum(seen) < 2 * sum(math.prod(s) for s in shapes)


@pytest.mark.parametrize("name", ["sigmoid", "softmax", "linear"])
def test_probes_of_unlike_shapes_are_told_apart(name: str) -> None:
    """What is added to a shorter one to evaluate it beside a longer one is not seen."""
    function = keras.activations.get(name)
    data = [4.0 * normal(*s, seed=i) for i, s in enumerate([(40, 20), (3, 7), (5, 50)])]
    probes = [Probe(ops.convert_to_tensor(z), function) for z in data]
    alone = [slope(name, z) for z in data]
    assert mean_square_slopes(probes) == pytest.approx(alone, rel=1e-4)


def test_what_is_known_to_map_each_element_does() -> None:
    known = vars(keras.activations).values()
    functions = {f for f in known if inspect.isfunction(f)}
    functions -= {keras.activations.get, keras.activations.serialize}
    functions -= {keras.activations.deserialize, keras.activations.threshold}
    z = 2.0 * normal(6, 8)
    across = set()
    for function in functions:
        whole = ops.convert_to_numpy(function(ops.convert_to_tensor(z)))
        columns = [ops.convert_to_tensor(z[:, i : i + 2]) for i in range(0, 8, 2)]
        parts = np.concatenate(
            [ops.convert_to_numpy(function(x)) for x in columns], axis=1
        )
        same = parts.shape == whole.shape and np.allclose(parts, whole, atol=1e-6)
        if not same:
            across.add(function)
        assert acts_on_each(function) == same, function
    assert keras.activations.softmax in across
    assert not acts_on_each(ops.normalize)


def test_alike_layers_are_evaluated_together_and_others_are_not() -> None:
    """Two ReLU6 are the same; a ReLU, a LeakyReLU and a tanh are not."""
    functions = [
        layers.ReLU(max_value=0.5),
        layers.ReLU(),
        layers.LeakyReLU(0.3),
        layers.Activation("tanh"),
        layers.ReLU(max_value=0.5),
        layers.Activation("tanh"),
        keras.activations.tanh,
    ]
    rows = [ops.convert_to_tensor(normal(40, 20, seed=i)) for i in range(7)]
    probes = [Probe(z, f) for z, f in zip(rows, functions, strict=True)]
    alone = [mean_square_slopes([probe])[0] for probe in probes]
    assert mean_square_slopes(probes) == pytest.approx(alone, rel=1e-4)
    assert len({round(x, 2) for x in alone[:4]}) == 4


class Scaled(layers.Activation):
    """A user's activation, whose configuration does not tell its factor."""

    def __init__(self, factor: float) -> None:
        super().__init__("linear")
        self.factor = factor

    def call(self, inputs: Any) -> Any:
        return self.factor * inputs


class Noisy(layers.Layer):
    """An activation with a state of its own, that says nothing of its arguments."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function
        self.seed = keras.random.SeedGenerator(0)

    def call(self, inputs: Any) -> Any:
        noise = keras.random.uniform(ops.shape(inputs), 0.5, 1.5, seed=self.seed)
        return self.function(inputs) * noise


def dense_layers(activation: Callable[[], Any], count: int = 12) -> keras.Model:
    keras.utils.set_random_seed(0)
    hidden = [layers.Dense(16, activation=activation()) for _ in range(count)]
    return keras.Sequential([keras.Input((16,)), *hidden])


def test_layers_of_the_user_are_told_apart() -> None:
    factors = iter([1.0, 3.0] * 6)
    model = dense_layers(lambda: Scaled(next(factors)))
    report = measure(model, normal(64, 16))
    for row in report:
        gain = (row.gradient_gain or 0.0) / ((row.kernel_std or 1.0) ** 2 * 16)
        expected = 1.0 if list(report).index(row) % 2 == 0 else 9.0
        assert gain == pytest.approx(expected, rel=0.1)


def test_an_activation_with_a_seed_is_left_as_it_was() -> None:
    """Compiled and not: neither the seed nor the model takes anything along."""
    model, x = dense_layers(lambda: Noisy(ops.tanh)), normal(64, 16)
    before = [ops.convert_to_numpy(v) for v in model.variables]
    for _ in range(2):
        measure(model, x)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), value)
    assert np.isfinite(ops.convert_to_numpy(model(x))).all()


def test_slopes_of_an_activation_with_weights_follow_them() -> None:
    model, x = dense_layers(layers.PReLU), normal(64, 16)
    low = measure(model, x)[0].gradient_gain
    for layer in model.layers:
        layer.activation.alpha.assign(np.ones(16, "float32"))
    high = measure(model, x)[0].gradient_gain
    assert low is not None and high is not None
    assert high > 1.5 * low


@pytest.mark.parametrize("as_layer", [True, False])
def test_a_wide_signal_under_an_activation_with_weights(as_layer: bool) -> None:
    """PReLU has a weight for each column: none may be left out."""
    conv = [layers.Conv2D(16, 3, padding="same"), layers.PReLU()]
    if not as_layer:
        conv = [layers.Conv2D(16, 3, padding="same", activation=layers.PReLU())]
    model = keras.Sequential(
        [keras.Input((40, 40, 3)), *conv, layers.GlobalAveragePooling2D()]
    )
    x = normal(4, 40, 40, 3)
    found = keras_inits.lsuv_init(model, x).gradient_gain
    assert found is not None
    assert measure(model, x).gradient_gain == pytest.approx(found, rel=0.05)


def test_more_values_than_are_looked_at_together() -> None:
    """Each of 20 probes, of two shapes, keeps its place."""
    sizes = np.linspace(0.1, 4.0, 20)
    shapes = [(128, 128) if i % 3 else (64, 256) for i in range(20)]
    data = [s * normal(*shape) for s, shape in zip(sizes, shapes, strict=True)]
    tanh = keras.activations.tanh
    found = mean_square_slopes([Probe(ops.convert_to_tensor(z), tanh) for z in data])
    expected = [np.mean(np.cosh(z.astype("float64")) ** -4) for z in data]
    assert found == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(
    ("shape", "channel_axes", "expected"),
    [
        ((300, 100), (-1,), (163, 100)),
        ((8, 20_000), (-1,), (1, 20_000)),
        ((8, 16, 16, 32), (-1,), (2, 16, 16, 32)),
        ((8, 64, 64, 16), (-1,), (4, 64, 4, 16)),
        ((8, 16, 64, 64), (1,), (4, 16, 4, 64)),
        ((8, 128, 8, 64), (-2, -1), (4, 8, 8, 64)),
        ((2, 500, 4, 64), (-1,), (2, 500, 1, 64)),
    ],
)
def test_rows_of_a_wide_signal_are_cut_off_the_channels(
    shape: tuple[int, ...], channel_axes: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    z = normal(*shape)
    rows = ops.convert_to_numpy(some_rows(ops.convert_to_tensor(z), channel_axes))
    assert rows.shape == expected
    steps = tuple(
        slice(None, None, math.ceil(n / m) if a and n != m else None)
        for a, (n, m) in enumerate(zip(shape, expected, strict=True))
    )
    np.testing.assert_array_equal(rows, z[(slice(expected[0]), *steps[1:])])


def test_slope_of_softmax_is_the_mean_square_of_its_jacobian() -> None:
    z = normal(400, 5)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    jacobian = p[:, :, None] * (np.eye(5) - p[:, None, :])
    expected = (jacobian**2).sum(axis=(1, 2)).mean() / 5
    assert slope("softmax", z) == pytest.approx(expected, rel=0.1)


def unit(layer: Any, *shape: int) -> keras.Model:
    return keras.Sequential([keras.Input(shape), layer])


CASES: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "tanh": (lambda: layers.Dense(128, "tanh"), (128,)),
    "relu": (lambda: layers.Dense(64, "relu"), (128,)),
    "wider": (lambda: layers.Dense(256, "gelu"), (64,)),
    "sum over steps": (lambda: layers.EinsumDense("abc,cd->ad", 64), (5, 32)),
    "convolution": (lambda: layers.Conv2D(16, 3, activation="tanh"), (24, 24, 8)),
    "groups": (lambda: layers.Conv2D(16, 3, groups=4), (24, 24, 8)),
    "depthwise": (lambda: layers.DepthwiseConv2D(3), (24, 24, 8)),
    "transposed": (
        lambda: layers.Conv2DTranspose(8, 4, strides=2, activation="relu"),
        (16, 16, 8),
    ),
    "separable": (lambda: layers.SeparableConv2D(16, 3), (24, 24, 8)),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_gain_is_that_of_real_gradients(name: str) -> None:
    """A gradient without preferred direction, pulled back by the backend.

    Per value of the input, a gradient of mean square 1 at every output gives
    `gain * outputs / inputs`; the rim of an image gets less, hence 15 %.
    """
    build, shape = CASES[name]
    layer = build()
    model = unit(layer, *shape)
    x = normal(16, *shape)
    [row] = measure(model, x)
    g = normal(16, *model.output_shape[1:], seed=1)
    back = pulled_back(model, x, g)
    # |gradient before|^2 over |gradient after|^2, each summed over the whole tensor.
    expected = (back**2).sum() / (g.astype("f8") ** 2).sum()
    assert row.gradient_gain == pytest.approx(expected, rel=0.15)


def test_tanh_at_deviation_1_gains_18_percent() -> None:
    """The contract's figure: E[f'^2] / E[f^2] with z ~ N(0, 1)."""

    def mean(f: Callable[[float], float]) -> float:
        law = quad(lambda z: f(z) * math.exp(-z * z / 2), -9, 9)[0]
        return float(law / math.sqrt(2 * math.pi))

    expected = mean(lambda z: math.cosh(z) ** -4) / mean(lambda z: math.tanh(z) ** 2)
    assert expected == pytest.approx(1.18, abs=0.005)
    model = keras.Sequential(
        [keras.Input((128,)), *(layers.Dense(128, "tanh") for _ in range(4))]
    )
    x = normal(256, 128)
    keras_inits.lsuv_init(model, x)
    gains = [row.gradient_gain for row in measure(model, x)[1:]]
    assert np.mean(gains) == pytest.approx(expected, rel=0.03)


def test_product_along_depth_predicts_the_gradient_at_the_input() -> None:
    model = keras.Sequential(
        [keras.Input((128,)), *(layers.Dense(128, "tanh") for _ in range(8))]
    )
    x = normal(256, 128)
    keras_inits.initialize(model, seed=0)
    g = normal(256, 128, seed=1)
    back = pulled_back(model, x, g)
    grown = (back**2).mean() / (g.astype("f8") ** 2).mean()
    product = measure(model, x).gradient_gain
    assert product == pytest.approx(grown, rel=0.25)


def grown(model: keras.Model, x: Array) -> float:
    """Squared norm of a random gradient at the input, over that at the output."""
    g = normal(len(x), *model.output_shape[1:], seed=1)
    back = pulled_back(model, x, g)
    return float((back**2).sum() / (g.astype("f8") ** 2).sum())


MIRRORED: dict[str, Callable[[], list[Any]]] = {
    "gelu": lambda: [layers.Dense(32, "gelu")],
    "leaky_relu": lambda: [layers.Dense(32, layers.LeakyReLU(0.3))],
    "relu": lambda: [layers.Dense(32, "relu")],
    "silu": lambda: [layers.Dense(32, "silu")],
    "softplus": lambda: [layers.Dense(32, "softplus")],
    "activation layers": lambda: [layers.Dense(32), layers.Activation("gelu")],
}


@pytest.mark.parametrize("name", sorted(MIRRORED))
def test_mirrored_units_count_together(name: str) -> None:
    """A looks-linear stack keeps the gradient, and nothing is found to be wrong.

    Taken one by one, units of softplus would shrink it by 1e-3 over 12 layers.
    """
    stack = [layer for _ in range(12) for layer in MIRRORED[name]()]
    model = keras.Sequential([keras.Input((16,)), *stack, layers.Dense(16)])
    keras_inits.initialize(model, "looks_linear", seed=0)
    x = normal(64, 16)
    report = measure(model, x)
    assert grown(model, x) == pytest.approx(1.0, rel=1e-3)
    assert report.gradient_gain == pytest.approx(1.0, rel=0.01)
    assert report.findings == ()
    report = keras_inits.lsuv_init(model, x)
    assert report.gradient_gain == pytest.approx(grown(model, x), rel=0.1)


def test_mirrored_convolutions_and_the_dense_layer_behind_them() -> None:
    convolutions = [layers.Conv2D(8, 3, padding="same", activation="gelu")]
    convolutions += [
        layers.Conv2D(8, 3, padding="same", activation="gelu") for _ in range(3)
    ]
    model = keras.Sequential(
        [
            keras.Input((6, 6, 4)),
            *convolutions,
            layers.Flatten(),
            layers.Dense(144, "gelu"),
            layers.Dense(144),
        ]
    )
    keras_inits.initialize(model, "looks_linear", seed=0)
    x = normal(32, 6, 6, 4)
    report = measure(model, x)
    # Over all but the first and last layer; those are what they are without partners.
    middle = math.prod(row.gradient_gain for row in list(report)[1:-1])
    assert middle == pytest.approx(1.0, rel=0.01)
    assert report.gradient_gain == pytest.approx(grown(model, x), rel=0.05)


def test_partners_count_as_far_as_they_are_mirrored() -> None:
    """Mirrored but for 6 % of the variance: the gradient shrinks a little."""
    model = keras.Sequential(
        [
            keras.Input((64,)),
            *(layers.Dense(128, "softplus") for _ in range(6)),
            layers.Dense(64),
        ]
    )
    keras_inits.initialize(model, "looks_linear", seed=0)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        kernel = ops.convert_to_numpy(layer.kernel)
        layer.kernel.assign(kernel + rng.normal(size=kernel.shape) * kernel.std() / 4)
    x = normal(256, 64)
    found = measure(model, x).gradient_gain
    assert found == pytest.approx(grown(model, x), rel=0.1)


@pytest.mark.parametrize("width", [63, 64])
def test_independent_units_have_no_partners(width: int) -> None:
    model = keras.Sequential(
        [keras.Input((64,)), *(layers.Dense(width, "gelu") for _ in range(12))]
    )
    keras_inits.initialize(model, "orthonormal", seed=0)
    x = normal(256, 64)
    assert measure(model, x).gradient_gain == pytest.approx(grown(model, x), rel=0.2)


def test_lsuv_and_measure_say_the_same() -> None:
    model = keras.Sequential(
        [
            keras.Input((32,)),
            layers.Dense(32, "gelu"),
            layers.Dense(32, layers.LeakyReLU(0.1)),
            layers.Dense(32, "softmax"),
        ]
    )
    x = normal(64, 32)
    solved = [row.gradient_gain for row in keras_inits.lsuv_init(model, x)]
    seen = [row.gradient_gain for row in measure(model, x)]
    assert solved == pytest.approx(seen, rel=1e-3)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_activation_layers_count_for_lsuv_as_attributes_do(activation: str) -> None:
    """In the gains, and so in the critical target; softmax counts in neither."""

    def stack(apart: bool) -> keras.Model:
        hidden: list[Any] = []
        for _ in range(12):
            hidden.append(layers.Dense(32, None if apart else activation))
            hidden += [layers.Activation(activation)] if apart else []
        last = [layers.Dense(10, "softmax")]
        if apart:
            last = [layers.Dense(10), layers.Softmax()]
        model = keras.Sequential([keras.Input((32,)), *hidden, *last])
        keras_inits.initialize(model, "lsuv_normal", seed=0)
        return model

    x = normal(64, 32)
    for target in (1.0, "critical"):
        one, other = (
            keras_inits.lsuv_init(stack(apart), x, target_std=target)
            for apart in (False, True)
        )
        gains = [[row.gradient_gain for row in r][:-1] for r in (one, other)]
        assert gains[0] == pytest.approx(gains[1], rel=1e-2)
        assert one.target_std == pytest.approx(other.target_std, rel=0.03)


def test_critical_keeps_the_growth_that_the_report_says() -> None:
    """A softmax at the end, whose slope is small, does not make up for the layers."""
    model = keras.Sequential(
        [
            keras.Input((32,)),
            *(layers.Dense(32, "tanh") for _ in range(40)),
            layers.Dense(10, "softmax"),
        ]
    )
    keras_inits.initialize(model, "lsuv_normal", seed=0)
    report = keras_inits.lsuv_init(model, normal(64, 32), target_std="critical")
    assert 8 < report.gradient_gain <= 10


def test_gains_out_of_bounds_are_said_with_a_remedy() -> None:
    model = keras.Sequential(
        [keras.Input((32,)), *(layers.Dense(32, "tanh") for _ in range(80))]
    )
    keras_inits.initialize(model, seed=0)  # deviation 1, by the gain of tanh
    [finding, *_] = measure(model, normal(64, 32)).findings
    assert "gradient grows" in finding.text
    assert 'target_std="critical"' in finding.remedy


def test_critical_leaves_the_target_where_it_does_not_matter() -> None:
    """Whatever the data's size does to the first layer's gain."""
    keras.utils.set_random_seed(0)
    hidden = [layers.Dense(16, activation="relu") for _ in range(20)]
    model = keras.Sequential([keras.Input((16,)), *hidden])
    x = 0.01 * normal(64, 16)
    report = keras_inits.lsuv_init(model, x, target_std="critical")
    assert report.gradient_gain > 10
    assert report.target_std == 1.0


def test_the_gain_of_the_first_layer_is_the_data_s() -> None:
    """After LSUV on data of deviation 1,000 the first kernel is small: told so."""
    keras.utils.set_random_seed(0)
    hidden = [layers.Dense(32, "tanh") for _ in range(4)]
    model = keras.Sequential([keras.Input((8,)), *hidden])
    x = 1000 * np.random.default_rng(0).normal(size=(256, 8)).astype("float32")
    report = keras_inits.lsuv_init(model, x)
    assert report.gradient_gain < 1e-3
    assert [finding.layer for finding in report.findings] == ["data"]


def rising(shape: tuple[int, ...], dtype: Any = None) -> Array:
    """Noise, larger from row to row of the inputs."""
    rows = np.linspace(0.1, 2.0, math.prod(shape[:-1]), dtype="float32")
    return normal(*shape, seed=1) * rows.reshape(*shape[:-1], 1)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: layers.Dense(700, kernel_initializer=rising), (3001,)),
        (lambda: layers.Dense(4, kernel_initializer=rising), (600_001,)),
        (lambda: layers.Dense(300_000, kernel_initializer=rising), (7,)),
        (lambda: layers.Conv2D(512, 3, kernel_initializer="lsuv_normal"), (3, 3, 512)),
        (
            lambda: layers.Conv2D(512, 3, kernel_initializer="delta_orthogonal"),
            (3, 3, 512),
        ),
        (lambda: layers.Dense(1536, kernel_initializer="looks_linear"), (1536,)),
    ],
)
def test_large_kernels_are_seen_in_part(
    layer: Callable[[], layers.Layer], shape: tuple[int, ...]
) -> None:
    """|W|^2 / outputs of all weights, from some of them."""
    model = keras.Sequential([keras.Input(shape), layer()])
    [row] = keras_inits.lsuv_init(model, normal(8, *shape))
    kernel = np.asarray(ops.convert_to_numpy(model.layers[0].kernel), "float64")
    exact = np.square(kernel).sum() / kernel.shape[-1]
    assert row.gradient_gain == pytest.approx(exact, rel=0.01)
