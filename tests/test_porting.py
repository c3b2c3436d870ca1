"""The port tables against PyTorch and JAX themselves, where they are installed.

The other tables have a file of their own, with the formulas of those libraries.
"""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from laws import to_numpy
from scipy import stats

from keras_inits import porting
from keras_inits.errors import UnsupportedLayerError

TABLES = {
    name: getattr(porting, name) for name in porting.__all__ if name != "torch_default"
}
SHAPE = (3, 3, 40, 60)  # Keras's order: window, inputs, outputs


def alike(one: np.ndarray, other: np.ndarray) -> None:
    """Two samples of one law: shape by KS, spread with the sample's own kurtosis."""
    one, other = one.ravel(), other.ravel()
    if len(np.unique(one)) < 3:  # constants, and scales of 1 beside offsets of 0
        np.testing.assert_allclose(np.sort(one), np.sort(other), rtol=1e-6)
        return
    kurtosis = stats.kurtosis(np.concatenate([one, other]))
    error = math.sqrt((kurtosis + 2) * (1 / one.size + 1 / other.size))
    assert abs(math.log(one.var() / other.var())) < 4.5 * error
    assert stats.ks_2samp(one, other).pvalue > 1e-5


@pytest.mark.parametrize("table", sorted(TABLES))
def test_every_row_gives_an_initializer(table: str) -> None:
    """With the defaults of the other library; those without one are given here."""
    needed: dict[str, Any] = {
        "value": 0.3,
        "val": 0.3,
        "fill_value": 0.3,
        "sparsity": 0.3,
        "scale": 2.0,
        "mode": "fan_in",
        "distribution": "normal",
    }
    for row in TABLES[table].values():
        missing = {
            name: needed[name]
            for name, parameter in inspect.signature(row).parameters.items()
            if parameter.default is inspect.Parameter.empty
        }
        initializer = row(**missing)
        assert isinstance(initializer, keras.initializers.Initializer)
        square = isinstance(initializer, keras.initializers.Identity)
        values = initializer((4, 4) if square else (3, 2, 4))
        assert np.isfinite(to_numpy(values)).all()


TORCH_CASES: list[tuple[str, dict[str, Any]]] = [
    ("constant_", {"val": 0.3}),
    ("dirac_", {}),
    ("dirac_", {"groups": 2}),
    ("eye_", {}),
    ("kaiming_normal_", {}),
    ("kaiming_normal_", {"mode": "fan_out", "nonlinearity": "relu"}),
    ("kaiming_normal_", {"a": 0.3, "nonlinearity": "tanh"}),
    ("kaiming_uniform_", {"a": 5**0.5}),
    ("kaiming_uniform_", {"mode": "fan_out", "nonlinearity": "selu"}),
    ("kaiming_uniform_", {"nonlinearity": "sigmoid"}),
    ("normal_", {"mean": 1.0, "std": 0.2}),
    ("ones_", {}),
    ("orthogonal_", {"gain": 2.0}),
    ("sparse_", {"sparsity": 0.25}),
    ("trunc_normal_", {}),
    ("trunc_normal_", {"std": 0.02}),
    ("trunc_normal_", {"mean": 0.5, "std": 0.5, "a": 0.0, "b": 2.0}),
    ("uniform_", {"a": -1.0, "b": 3.0}),
    ("xavier_normal_", {"gain": 2.0}),
    ("xavier_uniform_", {}),
    ("zeros_", {}),
]


@pytest.mark.parametrize("row", ["kaiming_normal_", "kaiming_uniform_"])
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("kind", ["conv", "conv_transpose"])
def test_torch_takes_names_of_convolutions_for_linear(
    row: str, rank: int, kind: str
) -> None:
    name = f"{kind}{rank}d"
    linear = porting.TORCH[row](mode="fan_out", nonlinearity="linear")
    initializer = porting.TORCH[row](mode="fan_out", nonlinearity=name)
    assert linear.get_config() == initializer.get_config()
    torch = pytest.importorskip("torch")
    assert torch.nn.init.calculate_gain(name) == initializer.scale**0.5


@pytest.mark.parametrize("nonlinearity", ["gelu", "conv4d", None, ["conv1d"]])
def test_torch_refuses_what_pytorch_has_no_gain_for(nonlinearity: Any) -> None:
    with pytest.raises(ValueError, match=r"`nonlinearity` must be one of.*Received"):
        porting.TORCH["kaiming_normal_"](nonlinearity=nonlinearity)


def test_every_row_of_torch_is_compared() -> None:
    torch = pytest.importorskip("torch")
    names = {n for n in vars(torch.nn.init) if n.endswith("_") and n[0] != "_"}
    assert set(porting.TORCH) == {name for name, _ in TORCH_CASES} == names


@pytest.mark.parametrize(("name", "arguments"), TORCH_CASES)
def test_torch_draws_the_same_law(name: str, arguments: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    flat = name in ("eye_", "sparse_")
    shape = (120, 150) if flat else SHAPE
    theirs = torch.empty(tuple(reversed(shape)))
    getattr(torch.nn.init, name)(theirs, **arguments)
    initializer = porting.TORCH[name](**arguments)
    ours, reference = to_numpy(initializer(shape)), theirs.numpy()
    if name in ("dirac_", "eye_"):
        axes = (2, 3, 1, 0) if not flat else (1, 0)
        np.testing.assert_array_equal(reference.transpose(axes), ours)
        return
    alike(reference, ours)
    if name == "sparse_":
        assert ((ours == 0).sum(1) == (reference == 0).sum(0)[0]).all()
    if name == "orthogonal_":
        matrix = ours.reshape(-1, ours.shape[-1])
        np.testing.assert_allclose(matrix.T @ matrix, 4 * np.eye(60), atol=1e-5)


JAX_CASES: list[tuple[str, dict[str, Any]]] = [
    ("constant", {"value": 0.3}),
    ("delta_orthogonal", {"scale": 2.0}),
    ("glorot_normal", {}),
    ("glorot_uniform", {}),
    ("he_normal", {}),
    ("he_uniform", {}),
    ("kaiming_normal", {}),
    ("kaiming_uniform", {}),
    ("lecun_normal", {}),
    ("lecun_uniform", {}),
    ("normal", {"stddev": 0.3}),
    ("ones", {}),
    ("orthogonal", {"scale": 2.0}),
    ("truncated_normal", {}),
    ("truncated_normal", {"stddev": 2.0, "lower": -1.0, "upper": 3.0}),
    ("uniform", {}),
    ("variance_scaling", dict(scale=3.0, mode="fan_out", distribution="normal")),
    (
        "variance_scaling",
        dict(scale=0.5, mode="fan_avg", distribution="truncated_normal"),
    ),
    ("variance_scaling", dict(scale=0.5, mode="fan_in", distribution="uniform")),
    ("variance_scaling", dict(scale=0.5, mode="fan_geo_avg", distribution="normal")),
    ("xavier_normal", {}),
    ("xavier_uniform", {}),
    ("zeros", {}),
]


def test_every_row_of_jax_is_compared() -> None:
    jax = pytest.importorskip("jax")
    names = {n for n in vars(jax.nn.initializers) if n[0].islower()}
    assert set(porting.JAX) == {name for name, _ in JAX_CASES} == names


@pytest.mark.parametrize(("name", "arguments"), JAX_CASES)
def test_jax_draws_the_same_law(name: str, arguments: dict[str, Any]) -> None:
    jax = pytest.importorskip("jax")
    function = getattr(jax.nn.initializers, name)
    if name not in ("zeros", "ones"):
        function = function(**arguments)
    reference = np.asarray(function(jax.random.key(1), SHAPE), dtype="float64")
    ours = to_numpy(porting.JAX[name](**arguments)(SHAPE))
    if name == "delta_orthogonal":
        assert np.count_nonzero(ours) == np.count_nonzero(reference)
        reference, ours = reference[1, 1], ours[1, 1]
    alike(reference, ours)


LAYERS: list[tuple[str, Any, Any, tuple[int, ...]]] = [
    ("Linear", (90, 80), keras.layers.Dense(80), (90,)),
    ("Conv1d", (30, 40, 3), keras.layers.Conv1D(40, 3), (8, 30)),
    ("Conv2d", (30, 40, 3), keras.layers.Conv2D(40, 3), (8, 8, 30)),
    ("ConvTranspose2d", (30, 40, 3), keras.layers.Conv2DTranspose(40, 3), (8, 8, 30)),
    ("LSTM", (30, 40), keras.layers.LSTM(40), (8, 30)),
    ("GRU", (30, 40), keras.layers.GRU(40), (8, 30)),
    ("RNN", (60, 70), keras.layers.SimpleRNN(70), (8, 60)),
    ("Embedding", (90, 80), keras.layers.Embedding(90, 80), ()),
    ("BatchNorm2d", (30,), keras.layers.BatchNormalization(), (8, 8, 30)),
    ("LayerNorm", (30,), keras.layers.LayerNormalization(), (30,)),
    ("PReLU", (30,), keras.layers.PReLU(), (30,)),
]


@pytest.mark.parametrize(
    ("name", "arguments", "layer", "shape"), LAYERS, ids=[row[0] for row in LAYERS]
)
def test_torch_default_layers(
    name: str, arguments: tuple[int, ...], layer: keras.Layer, shape: tuple[int, ...]
) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layer = type(layer).from_config(layer.get_config())
    layer.build((None, *shape))
    porting.torch_default(layer, seed=1)
    module = getattr(torch.nn, name)(*arguments)
    parameters = [p.detach().numpy() for p in module.parameters()]

    def split(values: list[np.ndarray]) -> list[np.ndarray]:
        kernels = [v.ravel() for v in values if v.ndim > 1]
        vectors = [v.ravel() for v in values if v.ndim == 1]
        return [np.concatenate(part) for part in (kernels, vectors) if part]

    if name in ("LSTM", "RNN"):  # Keras's bias is the sum of two
        parameters[2:] = [parameters[2] + parameters[3]]
    weights = [to_numpy(w.value) for w in layer.trainable_weights]
    ours, theirs = split(weights), split(parameters)
    if name == "GRU":  # Keras's bias is (2, 3 * units)
        ours, theirs = [np.concatenate(ours)], [np.concatenate(theirs)]
    for one, other in zip(theirs, ours, strict=True):
        alike(one, other)


@pytest.mark.parametrize(
    ("name", "ours", "options"),
    [
        ("LSTM", keras.layers.LSTM, {}),
        ("RNN", keras.layers.SimpleRNN, {}),
        ("GRU", keras.layers.GRU, {"reset_after": False}),
        ("GRU", keras.layers.GRU, {}),
    ],
)
def test_torch_default_adds_both_biases(name: str, ours: Any, options: Any) -> None:
    """`b_ih + b_hh`, as every gate has them, the resetting one of a GRU aside."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layer = ours(800, **options)
    layer.build((None, 5, 3))
    porting.torch_default(layer, seed=1)
    module = getattr(torch.nn, name)(3, 800)
    both = module.bias_ih_l0 + module.bias_hh_l0
    bias = to_numpy(layer.cell.bias.value)
    alike(both.detach().numpy(), bias.sum(axis=0) if bias.ndim == 2 else bias)


def test_torch_default_depthwise() -> None:
    torch = pytest.importorskip("torch")
    layer = keras.layers.DepthwiseConv2D(5, depth_multiplier=2)
    layer.build((None, 9, 9, 200))
    porting.torch_default(layer)
    module = torch.nn.Conv2d(200, 400, 5, groups=200)
    alike(module.weight.detach().numpy(), to_numpy(layer.kernel.value))
    alike(module.bias.detach().numpy(), to_numpy(layer.bias.value))


def test_torch_default_attention() -> None:
    torch = pytest.importorskip("torch")
    layer = keras.layers.MultiHeadAttention(4, 16)
    layer.build((None, 5, 64), (None, 5, 64))
    porting.torch_default(layer)
    module = torch.nn.MultiheadAttention(64, 4)
    inner = [layer.query_dense, layer.key_dense, layer.value_dense]
    ours = np.stack([to_numpy(dense.kernel.value) for dense in inner])
    alike(module.in_proj_weight.detach().numpy(), ours)
    alike(module.out_proj.weight.detach().numpy(), to_numpy(layer.output_dense.kernel))
    assert not any(to_numpy(dense.bias.value).any() for dense in inner)


def test_torch_default_refusals() -> None:
    with pytest.raises(UnsupportedLayerError, match=r"must be built.*'dense'"):
        porting.torch_default(keras.layers.Dense(3, name="dense"))
    layer = keras.layers.EinsumDense("ab,bc->ac", 3, name="einsum")
    layer.build((None, 4))
    with pytest.raises(UnsupportedLayerError, match=r"'einsum' of type EinsumDense"):
        porting.torch_default(layer)
    porting.torch_default(keras.layers.ReLU())
    with pytest.raises(UnsupportedLayerError, match=r"must be a keras\.Layer.*None"):
        porting.torch_default(None)  # type: ignore[arg-type]


def built_dense() -> keras.layers.Dense:
    layer = keras.layers.Dense(8, name="dense")
    layer.build((None, 16))
    return layer


def test_torch_default_leaves_adapters_and_quantized_kernels() -> None:
    dense = built_dense()
    dense.enable_lora(2)
    with pytest.raises(UnsupportedLayerError, match=r"'dense', which has LoRA enabled"):
        porting.torch_default(dense)
    dense = built_dense()
    dense.quantize("int8")
    with pytest.raises(UnsupportedLayerError, match=r"'dense', which is quantized"):
        porting.torch_default(dense)
    attention = keras.layers.MultiHeadAttention(2, 4)
    attention.build((None, 5, 8), (None, 5, 8))
    attention.value_dense.enable_lora(2)
    with pytest.raises(UnsupportedLayerError, match=r"'value', which has LoRA enabled"):
        porting.torch_default(attention)


@pytest.mark.parametrize("seed", [3, np.int64(3), -3, 2**70])
def test_torch_default_repeats_with_a_seed(seed: Any) -> None:
    layer = built_dense()
    draws = []
    for _ in range(2):
        porting.torch_default(layer, seed=seed)
        draws.append(to_numpy(layer.kernel.value))
    np.testing.assert_array_equal(*draws)
    if seed == 3:
        porting.torch_default(layer, seed=int(seed))
        np.testing.assert_array_equal(draws[0], to_numpy(layer.kernel.value))


@pytest.mark.parametrize("seed", ["a", 1.5, [1]])
def test_torch_default_refuses_what_is_no_seed(seed: Any) -> None:
    with pytest.raises(ValueError, match=r"`seed` must be None, an integer.*Received"):
        porting.torch_default(built_dense(), seed=seed)


@pytest.mark.parametrize("kind", ["Dense", "LSTM", "GRU", "SimpleRNN"])
@pytest.mark.parametrize("use_bias", [True, False])
def test_torch_default_draws_frozen_layers_alike(kind: str, use_bias: bool) -> None:
    draws = []
    for trainable in (True, False):
        layer = getattr(keras.layers, kind)(
            4, trainable=trainable, use_bias=use_bias, kernel_initializer="zeros"
        )
        layer.build((None, 3) if kind == "Dense" else (None, 5, 3))
        porting.torch_default(layer, seed=1)
        draws.append([to_numpy(weight.value) for weight in layer.weights])
    for one, other in zip(*draws, strict=True):
        assert one.any()
        np.testing.assert_array_equal(one, other)


def test_mxnet_knows_two_laws_and_three_fans() -> None:
    with pytest.raises(ValueError, match=r"`rnd_type` must be one of.*rnd_type='foo'"):
        porting.MXNET["Xavier"](rnd_type="foo")
    with pytest.raises(ValueError, match=r"`factor_type` must be.*factor_type='fan'"):
        porting.MXNET["Xavier"](factor_type="fan")


def test_the_page_names_every_row() -> None:
    page = Path(__file__).parents[1] / "docs" / "initializers.md"
    lines = page.read_text(encoding="utf-8").splitlines()
    for name, table in TABLES.items():
        line = next(line for line in lines if line.startswith(f"| `{name}` |"))
        assert all(f"`{row}`" in line for row in table)
        assert line.count("`") == 2 + 2 * len(table)
