"""`torch_default` of cells, wrappers and statistics, against `torch.nn`."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from laws import check_law, flat, to_numpy
from scipy import stats

from keras_inits import porting
from keras_inits.errors import UnsupportedLayerError

layers = keras.layers
UNITS, INPUTS = 60, 50

CELLS = {
    "LSTMCell": layers.LSTMCell,
    "GRUCell": layers.GRUCell,
    "RNNCell": layers.SimpleRNNCell,
}


def of_two(bound: float) -> Any:
    """The law of a sum of two U(-bound, bound)."""
    return stats.triang(0.5, -2 * bound, 4 * bound)


def check_cell(cell: Any, units: int = UNITS) -> None:
    """U(-b, b), b = 1 / sqrt(units); one bias of a cell is the sum of PyTorch's two."""
    bound = units**-0.5
    kernels = [cell.kernel, cell.recurrent_kernel]
    check_law(np.concatenate([to_numpy(k.value).ravel() for k in kernels]), flat(bound))
    bias = to_numpy(cell.bias.value)
    law = flat(bound) if bias.ndim == 2 else of_two(bound)
    assert stats.kstest(bias.ravel(), law.cdf).pvalue > 1e-5
    assert np.abs(bias).max() <= law.support()[1]


def built(layer: Any, *shape: int | None) -> Any:
    layer.build((None, *shape))
    for weight in layer.weights:  # nothing of what Keras drew is to remain
        weight.assign(keras.ops.full(weight.shape, 7.0))
    return layer


@pytest.mark.parametrize("name", sorted(CELLS))
def test_cells(name: str) -> None:
    cell = built(CELLS[name](UNITS + 50), INPUTS)
    porting.torch_default(cell, seed=1)
    check_cell(cell, UNITS + 50)
    torch = pytest.importorskip("torch")
    module = getattr(torch.nn, name)(INPUTS, UNITS + 50)
    bound = (UNITS + 50) ** -0.5
    for parameter in module.parameters():
        assert 0.9 * bound < parameter.abs().max().item() <= bound


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN"])
def test_both_directions(kind: str) -> None:
    inner = getattr(layers, kind)(2 * UNITS)
    layer = built(layers.Bidirectional(inner), 3, INPUTS)
    porting.torch_default(layer, seed=1)
    halves = [layer.forward_layer.cell, layer.backward_layer.cell]
    for cell in halves:
        check_cell(cell, 2 * UNITS)
    one, other = (to_numpy(cell.kernel.value) for cell in halves)
    assert not (one == other).any()


@pytest.mark.parametrize("wrapped", [False, True])
def test_stacked_cells_have_each_their_own_bound(wrapped: bool) -> None:
    cells = [layers.LSTMCell(UNITS), layers.GRUCell(2 * UNITS)]
    stack = layers.StackedRNNCells(cells)
    layer = built(*((layers.RNN(stack), 3) if wrapped else (stack,)), INPUTS)
    porting.torch_default(layer, seed=1)
    check_cell(cells[0], UNITS)
    check_cell(cells[1], 2 * UNITS)


def test_a_layer_draws_the_same_whatever_holds_it() -> None:
    plain, inner = layers.Dense(30), layers.Dense(30)
    porting.torch_default(built(plain, 20), seed=3)
    holder = layers.TimeDistributed(layers.TimeDistributed(inner))
    porting.torch_default(built(holder, 4, 5, 20), seed=3)
    for one, other in zip(plain.weights, inner.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(one.value), to_numpy(other.value))


def test_statistics_start_again() -> None:
    layer = built(layers.BatchNormalization(), 8)
    porting.torch_default(layer)
    found = [to_numpy(w.value) for w in layer.weights]
    torch = pytest.importorskip("torch")
    module = torch.nn.BatchNorm1d(8)
    module.running_mean += 3
    module.running_var += 3
    module.reset_parameters()
    expected = [module.weight, module.bias, module.running_mean, module.running_var]
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one.detach().numpy(), other)


@pytest.mark.parametrize("options", [{}, {"center": False}, {"scale": False}])
def test_statistics_start_again_without_weights(options: dict[str, bool]) -> None:
    layer = built(layers.BatchNormalization(**options, trainable=False), 8)
    porting.torch_default(layer)
    assert not to_numpy(layer.moving_mean.value).any()
    assert (to_numpy(layer.moving_variance.value) == 1).all()


def test_statistics_of_renormalisation_start_again() -> None:
    try:
        layer = built(layers.BatchNormalization(renorm=True), 8)
    except (TypeError, ValueError):
        pytest.skip("this Keras has no renormalisation")
    porting.torch_default(layer)
    assert {0.0, 1.0} == {x for w in layer.weights for x in to_numpy(w.value).flat}


def test_rms_normalization() -> None:
    layer = built(layers.RMSNormalization(), 8)
    porting.torch_default(layer)
    torch = pytest.importorskip("torch")
    expected = torch.nn.RMSNorm(8).weight.detach().numpy()
    np.testing.assert_array_equal(expected, to_numpy(layer.scale.value))


@keras.saving.register_keras_serializable("test_porting_layers")
class Cell(layers.Layer):
    """A cell of the user's own."""

    state_size = 4

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(shape[-1], 4), name="kernel")

    def call(self, x: Any, states: Any) -> Any:
        return x @ self.kernel, states


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: layers.RNN([layers.LSTMCell(4), Cell(name="own")], name="outer"),
            r"layer='own' in 'outer' of type Cell",
        ),
        (
            lambda: layers.Bidirectional(layers.RNN(Cell(name="own")), name="both"),
            r"layer='own' in 'both' of type Cell",
        ),
        (
            lambda: layers.TimeDistributed(
                layers.EinsumDense("ab,bc->ac", 3, name="einsum"), name="steps"
            ),
            r"layer='einsum' in 'steps' of type EinsumDense",
        ),
    ],
)
def test_all_parts_or_none(make: Any, message: str) -> None:
    layer = built(make(), 5, 4)
    with pytest.raises(UnsupportedLayerError, match=message):
        porting.torch_default(layer)
    assert all((to_numpy(w.value) == 7).all() for w in layer.weights)


def test_convolutional_cells_are_unknown() -> None:
    layer = built(layers.ConvLSTM1D(3, 2, name="convolution"), 5, 8, 2)
    with pytest.raises(UnsupportedLayerError, match=r"in 'convolution' of type ConvL"):
        porting.torch_default(layer)


def test_an_adapter_within_a_wrapper_is_left() -> None:
    inner = layers.Dense(8, name="dense")
    layer = layers.TimeDistributed(inner)
    layer.build((None, 5, 16))
    inner.enable_lora(2)
    with pytest.raises(UnsupportedLayerError, match=r"'dense', which has LoRA enabled"):
        porting.torch_default(layer)


def test_wrappers_without_weights_stay() -> None:
    layer = layers.TimeDistributed(layers.ReLU())
    layer.build((None, 5, 16))
    porting.torch_default(layer)
