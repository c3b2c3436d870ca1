"""`lsuv_init`: the target is met, as the textbook does it, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest
from checks import (
    assert_equal_weights,
    assert_target,
    changed,
    everything,
    kernels,
    only_kernels_change,
)
from models import MODELS, Built, dense_stack, marked, normal, subclassed, twice
from textbook import recorded, textbook_lsuv

import keras_inits
from keras_inits import SignalReport, lsuv_init


@pytest.mark.parametrize("builder", MODELS.values(), ids=MODELS)
def test_every_layer_meets_the_target_with_the_kernels_of_the_textbook(
    builder: Callable[[], Built],
) -> None:
    (expected, x), (actual, _) = twice(builder)
    report = only_kernels_change(actual, x)
    found = assert_target(actual, x)
    passes = textbook_lsuv(expected, x)
    assert passes >= 2 * len(found)
    assert_equal_weights(expected, actual)
    done = [row for row in report if row.status == "scaled"]
    assert [row.name for row in done] == [layer.name for layer in found]
    for row in done:
        assert row.std == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("builder", MODELS.values(), ids=MODELS)
def test_a_second_call_finds_nothing_to_do(builder: Callable[[], Built]) -> None:
    model, x = builder()
    lsuv_init(model, x)
    before = everything(model)
    report = lsuv_init(model, x)
    assert changed(before, model) == []
    scaled = [row for row in report if row.scale is not None]
    assert scaled
    for row in scaled:
        assert row.status == "unchanged"
        np.testing.assert_allclose(row.scale, 1.0, atol=1e-5)


def test_the_model_is_called_once() -> None:
    model, x = subclassed()
    with recorded() as calls:
        lsuv_init(model, x)
    per_layer = [
        sum(c.layer is layer for c in calls) for layer in {c.layer for c in calls}
    ]
    assert set(per_layer) == {1}


def test_only_marked_layers_are_scaled_where_some_are_marked() -> None:
    model, x = marked()
    before = kernels(model)
    report = lsuv_init(model, x)
    chosen = [model.get_layer("asks"), model.get_layer("asks_too")]
    assert_target(model, x, chosen)
    assert [row.name for row in report] == ["asks", "asks_too"]
    after = kernels(model)
    moved = {
        path.split("/")[-2] for path in before if (before[path] != after[path]).any()
    }
    assert moved == {"asks", "asks_too"}


def test_the_report_says_what_was_there_before_and_what_is_now() -> None:
    model, x = dense_stack()
    kernel = model.layers[0].kernel
    old = keras.ops.convert_to_numpy(kernel).copy()
    report = lsuv_init(model, x)
    assert isinstance(report, SignalReport)
    assert report.target_std == 1.0
    row = report[0]
    z = x.astype("float64") @ old
    assert row.std_before == pytest.approx(z.std(), rel=1e-5)
    assert row.mean_before == pytest.approx(z.mean(), abs=1e-5)
    assert row.scale == pytest.approx(1 / z.std(), rel=1e-5)
    assert row.mean == pytest.approx(z.mean() / z.std(), abs=1e-5)
    assert (row.layer_type, row.output_shape) == ("Dense", (None, 6))
    assert (row.parameters, row.kernel_shape) == (42, (6, 6))
    assert (row.activation, row.shift, row.status) == ("relu", None, "scaled")
    assert keras.ops.convert_to_numpy(kernel) == pytest.approx(
        old * row.scale, rel=1e-6
    )
    assert row.name in str(report)


def test_weights_do_not_depend_on_the_scale_of_the_data_but_for_the_first_layer() -> (
    None
):
    (one, x), (other, _) = twice(dense_stack)
    lsuv_init(one, x)
    lsuv_init(other, 1024 * x)
    first = [keras.ops.convert_to_numpy(m.layers[0].kernel) for m in (one, other)]
    np.testing.assert_allclose(first[1] * 1024, first[0], rtol=1e-5)
    other.layers[0].kernel.assign(first[0])
    assert_equal_weights(one, other, rtol=2e-5)


def test_far_from_one_in_either_direction() -> None:
    for size in (1e-12, 1e12):
        model, x = dense_stack()
        kernel = model.layers[0].kernel
        kernel.assign(size * keras.ops.convert_to_numpy(kernel))
        lsuv_init(model, x)
        assert_target(model, x)


def test_a_large_mean_does_not_hide_the_variance() -> None:
    """E[x^2] - E[x]^2 in float32 would be off by more than the variance."""
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(6, use_bias=False)])
    x = (normal(32, 6) + 3000).astype("float32")
    lsuv_init(model, x)
    assert_target(model, x)


def test_data_none_draws_normal_inputs_and_leaves_the_users_generators_alone() -> None:
    (model, _), (other, _) = twice(dense_stack)
    np.random.seed(3)
    state = np.random.get_state()[1].tolist()
    keras.utils.clear_session()  # before Keras 3.13 a seed alone does not restart
    keras.utils.set_random_seed(11)
    expected = keras.ops.convert_to_numpy(keras.random.normal((3,)))
    keras.utils.clear_session()  # before Keras 3.13 a seed alone does not restart
    keras.utils.set_random_seed(11)
    np.random.seed(3)
    lsuv_init(model)
    assert np.random.get_state()[1].tolist() == state
    drawn = keras.ops.convert_to_numpy(keras.random.normal((3,)))
    np.testing.assert_array_equal(drawn, expected)
    lsuv_init(other)
    assert_equal_weights(model, other, rtol=0)
    assert_target(model, normal(4096, 6), [model.layers[0]], tolerance=0.15)


def test_an_initialised_model_trains() -> None:
    """Twenty layers, through which the default signal has died out."""
    x = normal(32, 6)
    stack = [keras.layers.Dense(6, activation="relu") for _ in range(20)]
    model = keras.Sequential([keras.Input((6,)), *stack, keras.layers.Dense(6)])
    keras_inits.lsuv_init(model, x)
    assert_target(model, x)
    model.compile("sgd", "mse")
    history = model.fit(x, x, verbose=0, epochs=2)
    assert np.isfinite(history.history["loss"]).all()


def test_a_model_without_kernels_is_told_so() -> None:
    model = keras.Sequential([keras.Input((6,)), keras.layers.ReLU()])
    report = lsuv_init(model, normal(8, 6))
    assert len(report) == 0
    assert report.notes == ("No layer of the model has a kernel to scale.",)
    for shown in (str(report), report._repr_html_()):
        assert shown.count("No layer") == 1 and report.notes[0] in shown
