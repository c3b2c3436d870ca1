"""What holds for any architecture: random ones, drawn by hypothesis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from checks import (
    assert_equal_weights,
    assert_target,
    changed,
    everything,
    only_kernels_change,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from models import normal
from textbook import measured, numpy, textbook_lsuv

from keras_inits import lsuv_init

EXAMPLES = settings(max_examples=10, derandomize=True, deadline=None)
ACTIVATIONS = ("linear", "relu", "tanh", "gelu", "leaky_relu", "sigmoid")
# Few shapes, so that JAX compiles few programs.
KINDS = ("Dense", "Conv1D", "Einsum", "LSTM", "Norm", "Dropout", "Residual")
MAPS = ("Dense", "Conv1D", "Einsum", "LSTM")


@dataclass(frozen=True)
class Plan:
    """A stack on `(batch, 5, 6)`: kind and activation of each block, bias, scale."""

    blocks: tuple[tuple[str, str], ...]
    bias: bool
    scale: float

    def build(self) -> tuple[keras.Model, np.ndarray[Any, Any]]:
        x = inputs = keras.Input((5, 6))
        for kind, activation in self.blocks:
            x = self._block(kind, activation, x)
        model = keras.Model(inputs, layers.Dense(6)(x))
        for seed, v in enumerate(model.trainable_variables):
            value = normal(*v.shape, seed=seed)
            if v.ndim > 1:
                v.assign(self.scale * value / np.sqrt(np.prod(v.shape[:-1])))
            elif v.name == "bias" and self.bias and "lstm" not in v.path:
                v.assign(0.3 * value)
        return model, normal(16, 5, 6, seed=99)

    def _block(self, kind: str, activation: str, x: Any) -> Any:
        if kind == "Dense":
            return layers.Dense(6, activation=activation)(x)
        if kind == "Conv1D":
            return layers.Conv1D(6, 3, padding="same", activation=activation)(x)
        if kind == "Einsum":
            return layers.EinsumDense(
                "abc,cd->abd", (None, 6), activation=activation, bias_axes="d"
            )(x)
        if kind == "LSTM":
            return layers.LSTM(6, return_sequences=True)(x)
        if kind == "Norm":
            return layers.BatchNormalization()(x)
        if kind == "Dropout":
            return layers.Dropout(0.3)(x)
        return layers.Add()([x, layers.Dense(6, activation=activation)(x)])


blocks = st.tuples(st.sampled_from(KINDS), st.sampled_from(ACTIVATIONS))
plans = st.builds(
    Plan,
    blocks=st.lists(blocks, min_size=1, max_size=5).map(tuple),
    bias=st.booleans(),
    scale=st.sampled_from([1e-3, 0.3, 1.0, 40.0]),
)


@EXAMPLES
@given(plan=plans)
def test_target_textbook_idempotence_and_nothing_else(plan: Plan) -> None:
    expected, x = plan.build()
    actual, _ = plan.build()
    only_kernels_change(actual, x)
    assert_target(actual, x)
    textbook_lsuv(expected, x, tolerance=1e-5, max_iterations=60)
    # Where a bias takes part, the textbook ends within its tolerance, not at the root.
    assert_equal_weights(expected, actual, rtol=1e-3)
    before = everything(actual)
    report = lsuv_init(actual, x)
    for row in report:
        np.testing.assert_allclose(row.scale, 1.0, atol=2e-5)
    moved = changed(before, actual)
    assert all("kernel" in name for name in moved)


@EXAMPLES
@given(plan=plans, power=st.integers(-8, 8))
def test_scaling_the_input_scales_the_first_kernel_back(plan: Plan, power: int) -> None:
    """And no other: what the second layer sees is the same as before."""
    maps = [block for block in plan.blocks if block[0] in MAPS] or [("Dense", "relu")]
    plan = Plan((maps[0], *plan.blocks), plan.bias, plan.scale)
    one, x = plan.build()
    other, _ = plan.build()
    lsuv_init(one, x)
    lsuv_init(other, x * 2.0**power)
    (first, *_) = measured(other, x).values()
    kernel = first[0].kernel
    kernel.assign(numpy(kernel) * 2.0**power)
    assert_equal_weights(one, other, rtol=1e-4)


@EXAMPLES
@given(plan=plans, target=st.sampled_from([0.3, 2.0]))
def test_center_and_target_change_kernels_and_biases_only(
    plan: Plan, target: float
) -> None:
    model, x = plan.build()
    before = everything(model)
    lsuv_init(model, x, center=True, target_std=target)
    names = changed(before, model)
    assert all("kernel" in name or "bias" in name for name in names)
    for layer, parts in measured(model, x).items():
        if isinstance(layer, layers.LSTM):
            continue  # the bias is not in `x W`: see the tests of the layers
        channels = parts[0].channels
        np.testing.assert_allclose(channels.mean(axis=0), 0, atol=1e-3 * target)
        assert abs(channels.std() - target) <= 1e-3 * target
    again = everything(model)
    report = lsuv_init(model, x, center=True, target_std=target)
    for row in report:
        np.testing.assert_allclose(row.scale, 1.0, atol=1e-4)
        np.testing.assert_allclose(row.shift, 0.0, atol=1e-4 * target)
    assert len(again) == len(before)
