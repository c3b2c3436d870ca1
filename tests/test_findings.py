"""Findings on simulated networks: the first one names the true cause.

The networks are simulated in NumPy, so that the figures are those of real signals
and none of the code under test takes part in making them.
"""

import dataclasses
import math
import re

import numpy as np
import pytest

from keras_inits.findings import find, is_plain
from keras_inits.records import LayerSignal

pytestmark = pytest.mark.any_keras

WIDTH, SAMPLES = 128, 200


def sigmoid(z):
    return 1 / (1 + np.exp(-np.clip(z, -700, 700)))


ACTIVATIONS = {
    "linear": (lambda z: z, np.ones_like),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(float)),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "sigmoid": (sigmoid, lambda z: sigmoid(z) * (1 - sigmoid(z))),
}


def record(name, z, y, slope, kernel, activation, **extra):
    steepest = {"sigmoid": 0.25}.get(activation, 1.0)
    flat = activation in ("tanh", "sigmoid")
    return LayerSignal(
        name=name,
        layer_type="Dense",
        output_shape=(None, z.shape[1]),
        mean=z.mean(),
        std=z.std(),
        batch_std=math.sqrt(z.var(axis=0).mean()),
        output_mean=y.mean(),
        output_std=y.std(),
        dead_fraction=(y == 0).all(axis=0).mean() if activation == "relu" else None,
        saturated_fraction=(slope < 0.01 * steepest).mean() if flat else None,
        gradient_gain=kernel.shape[0] * kernel.var() * (slope**2).mean(),
        kernel_std=kernel.std(),
        kernel_shape=kernel.shape,
        parameters=kernel.size + kernel.shape[1],
        activation=activation,
        **extra,
    )


def simulate(
    depth,
    activation="relu",
    *,
    kernel_std=None,
    lsuv=False,
    bias=None,
    frozen=None,
    x=None,
    target=1.0,
):
    """Records of a plain stack; `bias` and `frozen` map layer indices to values."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((SAMPLES, WIDTH)) if x is None else x
    inputs = LayerSignal(
        name="x",
        layer_type="InputLayer",
        output_shape=(None, x.shape[1]),
        mean=x.mean(),
        std=x.std(),
    )
    f, slope = ACTIVATIONS[activation]
    rows = [inputs]
    for i in range(depth):
        # Glorot's deviation, Keras's default.
        std = kernel_std or math.sqrt(2 / (x.shape[1] + WIDTH))
        kernel = std * rng.standard_normal((x.shape[1], WIDTH))
        if frozen == i:
            kernel = np.zeros_like(kernel)
        if lsuv:
            kernel *= target / (x @ kernel).std()
        z = x @ kernel + (bias or {}).get(i, 0.0)
        x = f(z)
        mean = np.mean((bias or {}).get(i, 0.0))
        row = record(f"dense_{i}", z, x, slope(z), kernel, activation, bias_mean=mean)
        rows.append(row)
    return rows


def without(rows, *fields):
    return [dataclasses.replace(row, **dict.fromkeys(fields)) for row in rows]


def pixels():
    return np.random.default_rng(1).integers(0, 256, (SAMPLES, WIDTH)).astype(float)


SICK = {
    "vanishing sigmoid": (
        lambda: simulate(30, "sigmoid"),
        r"signal vanishes from dense_\d+ on",
        r"lsuv_init\(model, x, center=True\)",
    ),
    "vanishing relu": (
        lambda: simulate(40, "relu"),
        r"signal vanishes from dense_\d+ on \(std [\d.e-]+; [\d.e-]+ at dense_39\)",
        r"lsuv_init\(model, x\)",
    ),
    "exploding linear": (
        lambda: simulate(20, "linear", kernel_std=0.2),
        r"signal explodes from dense_\d+ on \(std .*; .* at dense_19\)",
        r"lsuv_init\(model, x\)",
    ),
    "dead by bias": (
        lambda: simulate(12, "relu", bias={4: -30.0}),
        r"100 % of dense_4 is dead .*mean -30 is far below 0",
        r'bias_initializer="zeros".*center=True',
    ),
    "dead by a moderate bias everywhere": (
        lambda: simulate(30, "relu", bias=dict.fromkeys(range(30), -2.0)),
        r"\d+ % of dense_\d is dead .*far below 0",
        r'bias_initializer="zeros".*center=True',
    ),
    "pixels": (
        lambda: simulate(6, "relu", x=pixels()),
        r"input x is not standardised \(mean 12\d, std 7\d",
        r"standardise the data: x = ",
    ),
    "frozen": (
        lambda: simulate(10, "relu", frozen=3),
        r"dense_3 is frozen at zero",
        r'initialize\(model, layers=\["dense_3"\]\)',
    ),
    "frozen, with later biases": (
        lambda: simulate(10, "tanh", frozen=3, bias={5: np.linspace(-1, 1, WIDTH)}),
        r"dense_3 is frozen at zero",
        r'initialize\(model, layers=\["dense_3"\]\)',
    ),
    "saturated tanh": (
        lambda: simulate(4, "tanh", kernel_std=2.0),
        r"\d+ % of dense_0 is saturated \(std 2\d\).* 3 more layers",
        r"lsuv_init\(model, x\).*in a trained model, a smaller learning rate",
    ),
    "tanh at std 1, gradient grows": (
        lambda: simulate(100, "tanh", lsuv=True),
        r"gradient grows .*-fold \(squared norm\) between dense_99 and dense_0",
        r'lsuv_init\(model, x, target_std="critical", orthonormal=True\)',
    ),
    "sigmoid, spread between samples not measured": (
        lambda: without(simulate(30, "sigmoid"), "batch_std"),
        r"gradient shrinks .*-fold",
        r"lsuv_init\(model, x, center=True\)",
    ),
    "exploding until it overflows": (
        lambda: overflow(simulate(20, "linear", kernel_std=0.2), 15),
        r"signal explodes from dense_\d+ on .* its variance overflows at dense_14",
        r"lsuv_init\(model, x\)",
    ),
}


def overflow(rows, start):
    lost = {"mean": math.nan, "std": math.inf, "output_std": math.nan}
    late = [dataclasses.replace(row, **lost) for row in rows[start:]]
    return rows[:start] + late


@pytest.mark.parametrize("name", SICK)
def test_first_finding_names_the_cause(name):
    make, text, remedy = SICK[name]
    found = find(make())
    assert found
    assert found[0].severity == "error"
    assert re.search(text, found[0].text), found[0].text
    assert re.search(remedy, found[0].remedy), found[0].remedy
    assert found[0].layer is not None
    assert isinstance(found[0].figure, float)


@pytest.mark.parametrize("name", SICK)
def test_findings_are_few_and_short(name):
    found = find(SICK[name][0]())
    assert len(found) <= 3
    assert all(len(finding.text) < 160 for finding in found)


HEALTHY = {
    "lsuv relu": lambda: simulate(12, "relu", lsuv=True),
    "lsuv linear": lambda: simulate(40, "linear", lsuv=True),
    "small tanh": lambda: simulate(60, "tanh", lsuv=True, target=0.1),
    "shallow default": lambda: simulate(5, "relu"),
    "images in 0..1": lambda: simulate(5, "relu", x=pixels() / 255),
    "nothing measured": lambda: [LayerSignal(name="a", layer_type="Dense")],
    "empty": list,
}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_has_no_findings(name):
    assert find(HEALTHY[name]()) == ()


def bottlenecks(blocks=16):
    """Rows as a freshly built ResNet50 gives them: std 0.03 to 2, gains 0.4 to 1.6."""
    rng = np.random.default_rng(0)
    rows, channels = [], 64
    for block in range(blocks):
        wide = 64 * 2 ** (block // 4)
        for i, out in ((0, 4 * wide), (1, wide), (2, wide), (3, 4 * wide)):
            if i == 0 and block % 4:
                continue
            into = channels if i in (0, 1) else wide
            rows.append(
                LayerSignal(
                    name=f"conv{block}_{i}",
                    layer_type="Conv2D",
                    output_shape=(None, 8, 8, out),
                    mean=0.01,
                    std=float(rng.uniform(0.03, 2)),
                    gradient_gain={0: 0.4, 1: 0.4, 2: 0.5, 3: 1.6}[i],
                    kernel_std=0.05,
                    kernel_shape=(1, 1, into, out),
                    activation="linear",
                )
            )
        channels = 4 * wide
    return rows


def transformer(blocks=12):
    rows = []
    for block in range(blocks):
        for name in ("query", "key", "value", "attention_output"):
            rows.append(
                LayerSignal(
                    name=name,
                    layer_type="EinsumDense",
                    std=1.0,
                    gradient_gain=4.0,
                    kernel_shape=(64, 4, 16),
                    output_shape=(None, 64, 4, 16),
                    path=f"block_{block}/{name}",
                )
            )
        rows.append(LayerSignal(name=f"mlp_{block}", layer_type="Dense", std=0.5))
    return rows


@pytest.mark.parametrize("make", [bottlenecks, transformer])
def test_skip_connections_and_normalisation_raise_no_alarm(make):
    assert not is_plain(make())
    assert find(make()) == ()


def test_plain_given_overrides_the_judgement():
    [finding] = find(transformer(), plain=True)
    assert "gradient grows" in finding.text
    assert find(simulate(100, "tanh", lsuv=True), plain=False) == ()


def test_a_signal_that_recovers_has_not_vanished():
    rows = simulate(10, "relu", lsuv=True)
    for i in (4, 5, 6):
        rows[i] = dataclasses.replace(rows[i], std=1e-6, batch_std=1e-6)
    assert find(rows) == ()


def test_a_small_head_is_not_a_vanishing_signal():
    rows = simulate(6, "relu", lsuv=True)
    small = {"std": 1e-5, "batch_std": 1e-5}
    rows[-1] = dataclasses.replace(rows[-1], **small, kernel_std=1e-6)
    assert find(rows) == ()
    # Not so where what it takes is small, though the layer before puts out enough.
    rows[-1] = dataclasses.replace(rows[-1], kernel_std=0.1)
    assert "vanishes from dense_5" in find(rows)[0].text


def test_vanishing_where_normalisation_may_mend_it_is_a_warning():
    found = find(simulate(40, "relu"), plain=False)
    assert found[0].severity == "warning"
    assert "measure(model, x, training=True)" in found[0].remedy


def test_zero_kernel_before_a_skip_connection_is_a_warning_only():
    rows = simulate(10, "relu", lsuv=True)
    zero = {"kernel_std": 0.0, "std": 0.0, "mean": 0.0, "batch_std": 0.0}
    rows[4] = dataclasses.replace(rows[4], **zero, gradient_gain=None)
    [finding] = find(rows)
    assert (finding.layer, finding.severity) == ("dense_3", "warning")


def test_partly_dead_layers_are_grouped():
    rows = simulate(8, "relu", lsuv=True)
    for i, share in ((3, 0.41), (5, 0.3), (6, 0.6)):
        rows[i] = dataclasses.replace(rows[i], dead_fraction=share)
    [finding] = find(rows)
    assert finding.text.startswith("41 % of dense_2 is dead")
    assert "2 more layers, up to 60 % of dense_5" in finding.text
    assert (finding.layer, finding.figure) == ("dense_2", 0.41)
    assert finding.severity == "warning"


def test_pixels_are_found_without_a_row_for_the_input():
    rows = simulate(6, "relu", x=pixels())[1:]
    assert "input is not standardised" in find(rows)[0].text
    assert "input is not standardised" in find(without(rows, "kernel_std"))[0].text


def test_large_kernels_are_not_blamed_on_the_input():
    rows = simulate(12, "linear", kernel_std=2.0)
    assert "explodes" in find(rows)[0].text
    assert "explodes" in find(rows[1:])[0].text
    assert "explodes" in find(without(rows[1:], "kernel_std"))[0].text


def test_what_lsuv_has_scaled_says_nothing_of_the_input():
    rows = simulate(3, "relu", lsuv=True, target=20.0)[1:]
    scaled = [dataclasses.replace(x, scale=14.0, gradient_gain=1.0) for x in rows]
    assert "input is not standardised" in find(without(rows, "kernel_std"))[0].text
    assert find(without(scaled, "kernel_std")) == ()


def test_integer_tokens_are_not_called_unscaled():
    rows = simulate(5, "relu", x=pixels())
    rows.insert(1, LayerSignal(name="tokens", layer_type="Embedding", std=0.03))
    assert "standardised" in find(rows)[0].text  # a table of positions
    rows[0] = dataclasses.replace(rows[0], indices=True)
    assert not any("standardised" in finding.text for finding in find(rows))


def test_nan_in_the_data_kernel_or_layer():
    rows = simulate(5, "relu", lsuv=True)
    data = [dataclasses.replace(rows[0], mean=math.nan, std=math.nan), *rows[1:]]
    assert "input x holds NaN" in find(data)[0].text
    lost = {"std": math.nan, "mean": math.nan}
    bad = dataclasses.replace(rows[3], **lost)
    assert find([*rows[:3], bad])[0].text == "NaN appears at dense_2"
    kernel = dataclasses.replace(bad, kernel_std=math.nan)
    assert "kernel of dense_2 holds NaN" in find([*rows[:3], kernel])[0].text


def with_gradients(rows, ratios):
    signals = [x for x in rows if x.layer_type != "InputLayer"]
    return [
        dataclasses.replace(x, weight_gradient_std=r, gradient_ratio=r)
        for x, r in zip(signals, ratios, strict=True)
    ]


def test_measured_gradients():
    rows = simulate(9, "relu", lsuv=True)
    assert find(with_gradients(rows, np.geomspace(0.02, 0.01, 9))) == ()
    [vanishing] = find(with_gradients(rows, np.geomspace(1e-9, 1e-2, 9)))
    assert "gradient vanishes towards the input" in vanishing.text
    assert "1e-09 at dense_0" in vanishing.text
    assert 'initialize(model, "looks_linear")' in vanishing.remedy
    [exploding] = find(with_gradients(rows, np.geomspace(1e9, 1e-2, 9)))
    assert "gradient explodes towards the input" in exploding.text
    [lost] = find(with_gradients(rows, [math.nan] * 9))
    assert "gradient of dense_0 is NaN" in lost.text


@pytest.mark.parametrize(
    ("factor", "severity"), [(1.02, None), (1.05, "warning"), (1.08, "error")]
)
def test_gradients_that_grow_steadily_are_told_with_labels_too(factor, severity):
    depth = 100
    rows = gains(factor**2, "tanh", depth=depth)
    labelled = with_gradients(rows, np.geomspace(factor**depth, 1.0, depth) / 100)
    for told in (find(rows), find(labelled)):
        assert [x.severity for x in told] == ([severity] if severity else [])
        assert all('target_std="critical"' in x.remedy for x in told)
    # Where the gains say the reverse, or nothing, thirtyfold is not enough.
    for gain in (factor**-2, None):
        other = [dataclasses.replace(x, gradient_gain=gain) for x in labelled]
        assert bool(find(other)) == (factor == 1.08)
    # Beside skip connections thirds are compared: single layers say less there.
    assert find(labelled, plain=False) == ()


@pytest.mark.parametrize("activation", ["mish", "selu"])
def test_who_has_just_scaled_every_layer_is_not_told_to_scale_them(activation):
    rows = gains(0.1, activation)
    uneven = [dataclasses.replace(x, std=0.9**i) for i, x in enumerate(rows)]
    [finding] = find(uneven)
    assert finding.remedy.startswith("keras_inits.lsuv_init(model, x); or")
    [finding] = find(rows)
    assert finding.remedy.startswith('kernel_initializer="looks_linear"')
    [mirrored] = find(rows, mirrors=False)
    assert mirrored.remedy == "add skip connections or normalisation"
    [pooled] = find(gains(0.1, "gelu", "Conv2D"), mirrors=False)
    assert pooled.remedy == "add skip connections or normalisation"


def test_who_has_just_scaled_every_layer_is_told_of_a_smaller_target():
    """Looks-linear initialisation, which these refuse, has nothing to do with it."""
    [finding] = find(gains(1.2, "tanh", depth=60), mirrors=False)
    assert finding.remedy.startswith("keras_inits.lsuv_init(model, x, target_std=")


@pytest.mark.parametrize("plain", [True, False])
def test_a_gate_that_is_shut_says_nothing_of_the_gradient(plain):
    """In a branch; in a chain all gradients before a layer without one are 0."""
    rows = with_gradients(simulate(9, "relu", lsuv=True), [*[0.1] * 7, 0.0, 0.1])
    assert [x.text[:17] for x in find(rows, plain=plain)] == [
        "gradient explodes"
    ] * plain


def test_the_gradient_of_a_signal_that_fades_beside_normalisation_is_no_news():
    rows = without(simulate(40, "relu"), "dead_fraction")
    rows = with_gradients(rows, np.geomspace(1e9, 1e-9, 40))
    [fades] = find(rows, plain=False)
    assert "signal vanishes" in fades.text
    assert "gradient explodes" in find(rows, plain=True)[1].text
    steady = with_gradients(simulate(9, "relu", lsuv=True), np.geomspace(1e9, 1e-9, 9))
    [explodes] = find(steady, plain=False)
    assert "gradient explodes" in explodes.text
    assert "training=True" in explodes.remedy
    assert "looks_linear" not in explodes.remedy
    # The size of a head is its own affair.
    large = replaced(steady, -1, activation="linear", std=1e6, batch_std=1e6)
    assert "gradient explodes" in find(large, plain=False)[1].text


def gains(value, activation, layer_type="Dense", depth=10):
    return [
        LayerSignal(
            name=f"a{i}",
            layer_type=layer_type,
            std=1.0,
            activation=activation,
            gradient_gain=value,
        )
        for i in range(depth)
    ]


@pytest.mark.parametrize(
    ("activation", "layer_type", "remedy"),
    [
        ("tanh", "Dense", 'target_std="critical"'),
        ("elu", "Dense", 'target_std="critical"'),
        ("relu", "Dense", 'initialize(model, "looks_linear")'),
        ("gelu", "Conv2D", 'initialize(model, "looks_linear")'),
        ("silu", "Dense", 'initialize(model, "looks_linear")'),
        ("softplus", "Dense", 'initialize(model, "looks_linear")'),
        ("squareplus", "Dense", 'initialize(model, "looks_linear")'),
        ("linear", "Conv2D", 'initialize(model, "delta_orthogonal")'),
        ("sigmoid", "Dense", "center=True"),
    ],
)
def test_gradient_remedy_fits_the_activation(activation, layer_type, remedy):
    [finding] = find(gains(3.0, activation, layer_type))
    assert remedy in finding.remedy
    assert "skip connections" in finding.remedy


@pytest.mark.parametrize("layer_type", ["Dense", "Conv2D"])
def test_linear_kernels_beside_normalisation_are_not_to_be_orthonormal(layer_type):
    rows = with_gradients(gains(1.0, None, layer_type, depth=9), [1e4] * 4 + [1.0] * 5)
    [finding] = find(rows, plain=False)
    assert "gradient explodes towards the input" in finding.text
    assert "lsuv_init(model, x)" in finding.remedy
    assert "orthogonal" not in finding.remedy and "normal" not in finding.remedy


@pytest.mark.parametrize(
    ("activation", "remedy"), [("relu", "looks_linear"), (None, "lsuv_normal")]
)
def test_activations_that_are_layers_decide_on_the_gradient_remedy(activation, remedy):
    """A row of its own for each, behind that of a linear layer."""
    rows = gains(3.0, None)
    for row in rows[1::2]:
        rows[rows.index(row)] = dataclasses.replace(row, activation=activation)
    [finding] = find([*rows, dataclasses.replace(rows[0], name="head")])
    assert remedy in finding.remedy


@pytest.mark.parametrize(
    ("inside", "head", "remedy"),
    [
        ("softmax", "softmax", 'another activation, as activation="relu"'),
        ("softmax", "linear", 'another activation, as activation="relu"'),
        ("relu", "softmax", 'initialize(model, "looks_linear")'),
    ],
)
def test_softmax_inside_a_stack_is_to_be_another_activation(inside, head, remedy):
    rows = [dataclasses.replace(x, activation=inside) for x in gains(1.0, None)]
    rows = replaced(rows, -1, activation=head)
    [finding] = find(with_gradients(rows, np.geomspace(1e-9, 1e-2, 10)))
    assert remedy in finding.remedy


@pytest.mark.parametrize("depth", [3, 4])
@pytest.mark.parametrize("activation", ["softmax", "linear", None])
def test_stacks_of_one_activation_alone_have_a_remedy(activation, depth):
    """Softmax alone once left nothing to count."""
    rows = [dataclasses.replace(x, activation=activation) for x in gains(1.0, None)]
    [finding] = find(with_gradients(rows[:depth], np.geomspace(1e-9, 1, depth)))
    assert "gradient vanishes" in finding.text
    assert finding.remedy


def test_beside_normalisation_an_explosion_is_no_error():
    """Before training BatchNormalization does nothing in inference mode."""
    rows = [gains(1.0, "relu")[0]]
    rows += [dataclasses.replace(rows[0], name=f"b{i}", std=1e4) for i in range(3)]
    [found] = find(rows, plain=False)
    assert found.severity == "warning" and "training=True" in found.remedy
    [found] = find(rows, plain=True)
    assert found.severity == "error" and "training=True" not in found.remedy


def test_gradient_gain_bounds():
    """1e-3 to 1e3 over ten layers is 0.501 to 1.995 per layer."""
    assert find(gains(1.99, "tanh")) == ()
    assert find(gains(0.505, "tanh")) == ()
    [grows] = find(gains(2.0, "tanh"))
    assert "grows 1,024-fold (squared norm) between a9 and a0" in grows.text
    assert grows.figure == pytest.approx(1024)
    [shrinks] = find(gains(0.5, "tanh"))
    assert "shrinks 1,024-fold" in shrinks.text
    [nothing] = find(gains(0.0, "tanh"))
    assert "shrinks infinitely" in nothing.text


def test_softmax_says_nothing_of_the_gradient():
    rows = gains(1.0, "relu")
    rows[-1] = dataclasses.replace(rows[-1], activation="softmax", gradient_gain=1e-15)
    assert find(rows) == ()


def test_deep_relu_stack_after_lsuv_is_partly_dead():
    """True, if unwelcome: signals of all samples align with depth."""
    [finding] = find(simulate(40, "relu", lsuv=True))
    assert finding.severity == "warning"
    assert "is dead" in finding.text


def test_constant_input():
    rows = simulate(3, "relu", x=np.zeros((SAMPLES, WIDTH)))
    assert "input x is constant" in find(rows)[0].text


def replaced(rows, index, **fields):
    rows = list(rows)
    rows[index] = dataclasses.replace(rows[index], **fields)
    return rows


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "softplus"])
def test_outputs_that_are_rounded_to_zero_are_not_dead(activation):
    rows = replaced(
        simulate(6, "relu", lsuv=True), -1, dead_fraction=0.95, activation=activation
    )
    assert find(rows) == ()


def test_branches_that_start_at_zero_have_no_gradient_yet():
    rows = simulate(9, "relu", lsuv=True)
    zero = {"kernel_std": 0.0, "std": 0.0, "mean": 0.0, "batch_std": 0.0}
    rows = replaced(rows, 2, **zero, gradient_gain=None, dead_fraction=1.0)
    [finding] = find(with_gradients(rows, [0.0, 0.1, 0.0, *[0.1] * 6]), plain=False)
    assert "dense_1 is frozen" in finding.text


@pytest.mark.parametrize(
    ("activation", "remedy"),
    [
        ("softplus", r'center=True\); or .*"looks_linear"'),
        ("relu", r'center=True\); or .*"looks_linear"'),
        ("sigmoid", r"^scale and centre: .*center=True\)$"),
        ("tanh", r"^scale and centre: .*center=True\)$"),
    ],
)
def test_samples_that_look_alike_are_not_parted_by_a_scale(activation, remedy):
    rows = [
        LayerSignal(
            name=f"a{i}",
            layer_type="Dense",
            std=1.0,
            batch_std=10.0 ** -(i + 1),
            activation=activation,
        )
        for i in range(6)
    ]
    first = find(rows)[0]
    assert "samples look alike" in first.text
    assert re.search(remedy, first.remedy), first.remedy


@pytest.mark.parametrize(
    ("mean", "std", "found"), [(0.5, 1.0, 0), (0.5, 1e-4, 1), (0.5, 3e-3, 1)]
)
def test_one_unit_that_tells_samples_apart_has_them_back(mean, std, found):
    """A trained head has; before training it follows what comes before it."""
    layer = {"layer_type": "Dense", "std": 1.0, "batch_std": 1e-3, "mean": 0.0}
    rows = [LayerSignal(name=f"a{i}", **layer) for i in range(3)]
    one = {"mean": mean, "std": std, "batch_std": std, "output_shape": (None, 1)}
    head = LayerSignal(name="head", layer_type="Dense", **one)
    texts = [x.text for x in find([*rows, head])]
    assert len(texts) == found
    assert all("vanishes from a0 on" in text for text in texts)


def test_the_same_row_again_and_again():
    rows = replaced(simulate(4, "relu"), 0, batch_std=0.0)
    [finding] = find(rows)
    assert "rows of input x are all the same" in finding.text
    assert "samples that differ" in finding.remedy


def test_one_input_of_several_that_is_off():
    rows = simulate(3, "linear", lsuv=True)
    # A later layer takes it, and explodes by it.
    wide = rows[2].kernel_std * math.sqrt(WIDTH) * 1e5
    for i in (2, 3):
        rows = replaced(rows, i, std=wide, batch_std=wide)
    rows = replaced(rows, 0, name="data[1]", path="data[1]", std=1e5)
    [finding, *_] = find(rows)
    assert "input data[1] is not standardised" in finding.text
    assert not any("explodes" in x.text for x in find(rows))
    nothing = replaced(rows, 0, std=0.0, mean=0.0)  # which explodes nowhere
    assert "explodes" in find(nothing)[0].text
    # Not where it is the only one: its first layer has rescaled it.
    assert "explodes" in find(replaced(rows, 0, path=None))[0].text


@pytest.mark.parametrize(("std", "found"), [(1e4, 1), (0.03, 0), (1.0, 0), (1e-6, 1)])
def test_embeddings_far_from_any_scale(std, found):
    row = LayerSignal(name="tokens", layer_type="Embedding", std=std, output_std=std)
    rows = [row, *simulate(3, "relu", lsuv=True)[1:]]
    texts = [x.text for x in find(rows, plain=False)]
    assert sum("vectors of tokens" in text for text in texts) == found


def test_dead_behind_a_normalisation_that_has_no_bias_of_its_own():
    row = LayerSignal(
        name="re_lu", layer_type="ReLU", mean=-100.0, std=1.0, dead_fraction=1.0
    )
    [finding] = find([row], plain=False)
    assert "training=True" in finding.remedy
    assert "bias" not in finding.remedy
    own = dataclasses.replace(
        row, layer_type="Dense", kernel_shape=(4, 4), bias_mean=-100.0
    )
    [finding] = find([own], plain=False)
    assert "bias_initializer" in finding.remedy


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("bias", [None, 0.0, -0.1, -2.0])
def test_the_remedy_for_dead_units_follows_from_the_bias(bias, plain):
    row = LayerSignal(
        name="squeeze",
        layer_type="Dense",
        mean=-2.0,
        std=1.0,
        dead_fraction=1.0,
        kernel_shape=(4, 4),
        bias_mean=bias,
    )
    [finding] = find([row], plain=plain)
    by_bias = bias == -2.0
    assert ("bias_initializer" in finding.remedy) == by_bias
    assert ('layers=["squeeze"]' in finding.remedy) != by_bias
    assert "center=True" in finding.remedy


def test_the_bias_that_an_activation_layer_takes_is_that_of_the_layer_before():
    dense = LayerSignal(
        name="dense", layer_type="Dense", mean=-5.0, std=1.0, kernel_shape=(4, 4)
    )
    relu = {"layer_type": "ReLU", "kernel_shape": None, "dead_fraction": 1.0}
    for bias, named in ((-5.0, True), (0.0, False)):
        before = dataclasses.replace(dense, bias_mean=bias)
        [finding] = find([before, dataclasses.replace(dense, name="relu", **relu)])
        assert finding.layer == "relu"
        assert ("bias_initializer" in finding.remedy) == named


@pytest.mark.parametrize(
    "fields",
    [
        {"kernel_shape": (1, 1)},
        {"kernel_shape": (WIDTH, 1)},
        {"layer_type": "DepthwiseConv2D", "kernel_shape": (3, 3, 8, 2)},
    ],
)
def test_kernels_that_may_be_constant(fields):
    """One weight, the mean of all channels, a blur of each."""
    assert (
        find(replaced(simulate(4, "relu", lsuv=True), 2, kernel_std=0.0, **fields))
        == ()
    )


@pytest.mark.parametrize("activation", ["sigmoid", "softplus", "exponential"])
def test_units_that_a_bias_has_silenced_are_dead(activation):
    rows = simulate(6, "relu", lsuv=True)
    dead = {"mean": -200.0, "dead_fraction": 1.0, "activation": activation}
    rows = replaced(rows, 2, **dead, bias_mean=-200.0)
    for i in (3, 4, 5, 6):
        rows = replaced(rows, i, std=0.0, mean=0.0, batch_std=0.0)
    first = find(rows)[0]
    assert "100 % of dense_1 is dead" in first.text
    assert "bias_initializer" in first.remedy


def test_an_activation_that_is_silent_beside_normalisation_is_its_affair():
    rows = simulate(5, "relu", lsuv=True)
    faint = {"mean": -5.0, "std": 0.3, "output_std": 1e-5, "dead_fraction": 0.0}
    bare = {"kernel_shape": None, "kernel_std": None, "parameters": 0}
    rows = replaced(rows, 3, activation="gelu", bias_mean=-5.0, **faint, **bare)
    [finding] = find(rows, plain=False)
    assert finding.text.startswith("dense_2 lets nearly nothing through")
    assert finding.remedy.startswith("BatchNormalization revives them")


def test_kernels_that_explode_behind_an_input_that_is_off():
    rows = simulate(12, "linear", kernel_std=2.0, x=pixels())
    rows = replaced(rows, 0, path="x")
    texts = [x.text for x in find(rows)]
    assert "input x is not standardised" in texts[0]
    assert any("explodes" in text for text in texts)


def test_a_head_of_zeros():
    rows = simulate(5, "relu", lsuv=True)
    zero = {"kernel_std": 0.0, "std": 0.0, "mean": 0.0, "gradient_gain": 0.0}
    [finding] = find(replaced(rows, -1, **zero, batch_std=0.0, activation="linear"))
    assert (finding.layer, finding.severity) == ("dense_4", "warning")
    assert "frozen" in finding.text


def test_a_layer_that_nothing_reaches():
    rows = simulate(4, "relu", lsuv=True)
    zero = {"std": 0.0, "mean": 0.0, "batch_std": 0.0, "dead_fraction": 1.0}
    [finding, *_] = find(replaced(rows, 3, **zero))
    assert finding.text == "nothing reaches dense_2: all that it takes is 0"
    assert "gamma is 0" in finding.remedy


def test_a_weight_that_is_not_finite_is_named():
    lost = {"mean": math.nan, "std": math.nan, "broken": "net/dense_2/bias"}
    [finding] = find(replaced(simulate(5, "relu", lsuv=True), 3, **lost))
    assert finding.text.startswith("net/dense_2/bias holds NaN or infinity")
    assert "initialize(model, None)" in finding.remedy


def test_a_head_as_large_as_its_labels():
    rows = simulate(4, "relu", lsuv=True)
    head = {"activation": "linear", "std": 1e6, "batch_std": 1e6, "gradient_gain": 1e9}
    [finding] = find(replaced(rows, -1, **head))
    assert finding.severity == "warning"
    assert "output of dense_3 is large" in finding.text
    assert "standardise them" in finding.remedy


def enlarged(rows, index, **fields):
    width = rows[index].kernel_shape[0]
    large = {"kernel_std": 200 / math.sqrt(width), "std": 150.0, "batch_std": 150.0}
    return replaced(rows, index, **large, saturated_fraction=None, **fields)


@pytest.mark.parametrize("plain", [True, False])
def test_a_kernel_too_large_is_named_though_the_signal_recovers(plain):
    rows = enlarged(simulate(5, "relu", lsuv=True), 3)
    [finding] = find(rows, plain=plain)
    assert (finding.layer, finding.severity) == ("dense_2", "warning")
    assert "the kernel of dense_2 is too large" in finding.text
    assert "200 times as large (std 1.5e+02)" in finding.text
    assert finding.remedy.endswith('initialize(model, layers=["dense_2"])')
    # And not the gradient before it.
    [finding] = find(with_gradients(rows, [1e2, 1e2, 1e-3, 1e-3, 1e-3]), plain=plain)
    assert finding.layer == "dense_2"
    # Of frozen layers, and of large data, it is no fault.
    assert find(replaced(rows, 3, trainable=False), plain=False) == ()
    assert find(replaced(rows, 3, kernel_std=0.1), plain=False) == ()


def test_of_large_heads_those_that_are_squashed_are_named():
    rows = enlarged(simulate(4, "relu", lsuv=True), -1, activation="softmax")
    [finding] = find(rows, plain=False)
    assert "the kernel of dense_3 is too large" in finding.text
    assert find(replaced(rows, -1, activation="linear"), plain=False) == ()
    # Labels of that size would be no remedy.
    [finding] = find(replaced(rows, -1, std=1e6, gradient_gain=1.0))
    assert "the output of dense_3 is large" in finding.text
    assert finding.remedy.endswith('initialize(model, layers=["dense_3"])')


def test_a_tiny_head_scales_all_gradients_alike():
    rows = simulate(4, "relu", lsuv=True)
    head = {"activation": "linear", "gradient_gain": 1e-20, "kernel_std": 1e-12}
    assert find(replaced(rows, -1, **head)) == ()


def test_layers_whose_units_are_copies_are_told_together():
    rows = simulate(5, "relu", lsuv=True)
    head = replaced(rows, -1, copies=True)
    assert [x.severity for x in find(head)] == ["warning"]
    for more in ("; so are those of dense_4", "; so are those of 2 more layers"):
        head = replaced(head, 2 if "dense_4" in more else 3, copies=True)
        [found] = find(head)
        assert (found.layer, found.severity) == ("dense_1", "error")
        assert found.text.endswith(more)
    assert [x.severity for x in find(head, plain=False)] == ["warning"]
    # Of a constant kernel more is said.
    [constant] = find(replaced(rows, 2, copies=True, kernel_std=0.0))
    assert "is constant: its units are all equal" in constant.text


def test_gradients_a_little_out_of_bounds_are_a_warning():
    assert find(gains(2.5, "tanh"))[0].severity == "warning"  # 9,537-fold
    assert find(gains(5.0, "tanh"))[0].severity == "error"


def test_a_classifier_that_is_sure_of_itself():
    rows = simulate(3, "tanh", lsuv=True, target=0.3)
    sure = {"activation": "sigmoid", "saturated_fraction": 0.98}
    [finding] = find(replaced(rows, -1, **sure))
    assert finding.severity == "warning"
    assert "no harm" in finding.remedy


def headed(count, **fields):
    """Three hidden layers that go on to heads of two layers each, named by both."""
    *rows, neck, head = simulate(5, "relu", lsuv=True)
    for i in range(count):
        outputs = (f"head_{i}",) if count > 1 else ()
        rows.append(dataclasses.replace(neck, name=f"neck_{i}", outputs=outputs))
        new = {"name": f"head_{i}", "outputs": outputs, **fields}
        rows.append(dataclasses.replace(head, **new))
    return rows


ZEROS = {"std": 0.0, "mean": 0.0, "batch_std": 0.0, "kernel_std": 0.0}


@pytest.mark.parametrize(
    "fields",
    [
        {**ZEROS, "activation": "linear"},
        {"activation": "sigmoid", "saturated_fraction": 0.95, "std": 60.0},
        {"activation": "sigmoid", "dead_fraction": 0.95},
        {"activation": "linear", "std": 1e-5, "kernel_std": 1e-6},
        {"activation": "linear", "std": 1e6, "batch_std": 1e6},
        {"activation": "relu", "dead_fraction": 1.0, "mean": -9.0},
    ],
    ids=["zeros", "sure", "rounded to zero", "tiny", "large", "dead"],
)
def test_each_head_is_judged_as_a_single_one_is(fields):
    [*single] = find(headed(1, **fields), plain=False)
    found = find(headed(3, **fields), plain=False)
    assert len(found) == 3 * len(single)
    for i in range(3):
        own = [x for x in found if x.layer == f"head_{i}"]
        assert [
            dataclasses.replace(
                x, **{n: getattr(x, n).replace("head_0", f"head_{i}") for n in TEXTS}
            )
            for x in single
        ] == own


TEXTS = ("layer", "text", "remedy")


def test_what_is_wrong_before_the_heads_is_said_once():
    rows = replaced(headed(3), 2, kernel_std=0.0)
    [finding] = find(rows, plain=False)
    assert finding.layer == "dense_1"


def test_one_head_of_several_is_named():
    tiny = {"std": 1e-5, "batch_std": 1e-5, "activation": "linear"}
    rows = headed(2)
    # The first head, and what leads to it alone; the second one is well.
    rows = replaced(replaced(rows, 4, **tiny), 5, **tiny)
    [finding] = find(rows, plain=False)
    assert "vanishes from neck_0 on (std 1e-05; 1e-05 at head_0)" in finding.text


def test_one_row_may_well_give_one_value():
    row = LayerSignal(
        name="dense",
        layer_type="Dense",
        mean=0.7,
        std=None,
        kernel_std=0.0,
        kernel_shape=(1, 1),
    )
    assert find([row]) == ()
    frozen = dataclasses.replace(row, mean=0.0)
    assert "frozen at zero (kernel and output are 0)" in find([frozen])[0].text


@pytest.mark.parametrize(
    ("units", "says"),
    [(4, "is constant: its units are all equal"), (1, "gives 0.7 in every row")],
)
def test_a_kernel_of_zeros_beside_a_bias_is_not_said_to_give_zero(units, says):
    biased = {**ZEROS, "mean": 0.7, "kernel_shape": (WIDTH, units)}
    [finding] = find(replaced(simulate(3, "relu", lsuv=True), -1, **biased))
    assert says in finding.text
    assert finding.severity == "warning"


def test_a_softmax_over_one_unit_at_each_step():
    row = LayerSignal(
        name="head", layer_type="Dense", output_shape=(None, 10, 1), std=1.0
    )
    row = dataclasses.replace(row, activation="softmax")
    assert "softmax over 1 unit" in find([row])[0].text
    # Over time, as attention does.
    assert find([dataclasses.replace(row, layer_type="Softmax")]) == ()


def test_constant_kernels_are_named_together():
    rows = simulate(6, "relu", lsuv=True)
    for i in (2, 4):
        rows = replaced(rows, i, kernel_std=0.0)
    [finding, *_] = find(rows)
    assert finding.severity == "error"
    assert "its units are all equal; so is dense_3" in finding.text
    assert 'layers=["dense_1", "dense_3"]' in finding.remedy
    assert find(rows, plain=False)[0].severity == "warning"


def test_a_constant_kernel_is_not_said_to_be_zero():
    rows = simulate(6, "relu", lsuv=True)
    rows = replaced(rows, 1, kernel_std=0.0, std=0.0, mean=0.0)
    for last, more in ((2, "the kernel of dense_2 is"), (3, "2 more kernels are")):
        for i in range(2, last + 1):
            rows = replaced(rows, i + 1, kernel_std=0.0)
        [finding, *_] = find(rows)
        expected = (
            f"dense_0 is frozen at zero (kernel and output are 0); {more} constant"
        )
        assert finding.text == expected
        assert finding.remedy.startswith("draw their kernels")
    rows = replaced(rows, 3, std=0.0, mean=0.0)
    assert "so is dense_2; the kernel of dense_3 is constant" in find(rows)[0].text


@pytest.mark.parametrize(
    ("mean", "std", "remedy"),
    [
        (128.0, 74.0, "Rescaling(1 / 127.5, offset=-1) as the first layer"),
        (5e-5, 2.5e-5, "Rescaling(4e+04, offset=-2)"),
        (32768.0, 20000.0, "Rescaling(5e-05, offset=-1.64)"),
    ],
)
def test_images_are_rescaled_by_what_they_are(mean, std, remedy):
    shape = (None, 8, 8, 3)
    rows = replaced(simulate(3, "relu"), 0, mean=mean, std=std, output_shape=shape)
    rows = replaced(rows, 1, std=std, mean=0.0)
    [finding, *_] = find(rows)
    assert "not standardised" in finding.text
    assert remedy in finding.remedy


def test_a_recurrent_kernel_that_explodes():
    row = LayerSignal(name="rnn", layer_type="SimpleRNN", mean=0.0, std=math.inf)
    assert 'recurrent_initializer="orthogonal"' in find([row])[0].remedy


def test_dead_units_behind_normalisation_are_its_affair():
    row = LayerSignal(
        name="relu", layer_type="Activation", mean=0.1, std=1.0, dead_fraction=0.4
    )
    [finding] = find([row], plain=False)
    assert "training=True" in finding.remedy
    assert "center=True" not in finding.remedy


@pytest.mark.parametrize("field", ["mean", "output_mean", "output_std", "std"])
@pytest.mark.parametrize(("value", "word"), [(math.nan, "NaN"), (math.inf, "infinity")])
def test_nan_is_not_called_infinity(field, value, word):
    figures = {"mean": 0.0, "std": 1.0, "output_mean": 0.0, "output_std": 1.0}
    row = LayerSignal(name="a", layer_type="Dense", **{**figures, field: value})
    [finding] = find([row])
    assert finding.text.startswith(f"{word} appears at a")
