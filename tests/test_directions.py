"""How many directions samples lie along, and what is said where it is one."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from models import normal

import keras_inits
from keras_inits.records import Finding
from keras_inits.statistics import directions
from keras_inits.statistics.directions import participation_ratio, some_samples

LINE = "samples come to lie along one line"


def by_singular_values(samples: Any) -> float:
    """The same from the definition: variances of the principal components."""
    centred = samples - samples.mean(axis=0)
    variances = np.linalg.svd(centred, compute_uv=False) ** 2
    return float(variances.sum() ** 2 / np.sum(variances**2))


@pytest.mark.parametrize("shape", [(64, 12), (12, 64), (2, 5)])
@pytest.mark.parametrize("size", [1.0, 1e-30, 1e30])
def test_it_is_the_ratio_of_the_principal_components(
    shape: tuple[int, int], size: float
) -> None:
    samples = normal(*shape).astype("float64") * np.linspace(1, 3, shape[1]) + 5
    found = participation_ratio(size * samples)
    assert found == pytest.approx(by_singular_values(samples))


def test_of_n_equal_directions_it_is_n_and_of_a_line_1() -> None:
    corners = np.vstack([np.eye(7), -np.eye(7)])
    assert participation_ratio(corners) == pytest.approx(7)
    line = 3.0 + np.outer(np.arange(9.0), [1.0, -2.0, 0.5])
    assert participation_ratio(line) == pytest.approx(1)


@pytest.mark.parametrize(
    "samples",
    [np.ones((9, 4)), np.zeros((9, 4)), np.full((9, 4), np.nan), np.ones((1, 4))],
)
def test_of_samples_that_do_not_vary_there_is_none(samples: Any) -> None:
    assert participation_ratio(samples) is None


def test_some_values_of_every_channel_are_looked_at() -> None:
    z = np.broadcast_to(np.arange(64.0), (100, 40, 40, 64)).astype("float32")
    found = keras.ops.convert_to_numpy(some_samples(keras.ops.convert_to_tensor(z)))
    assert len(found) == directions.SAMPLES
    assert directions.VALUES / 2 < found.shape[1] < 2 * directions.VALUES
    assert set(found[0]) == set(range(64))


def stack(activation: Any, depth: int = 59, units: int = 24) -> keras.Model:
    start = "glorot_uniform" if activation == "tanh" else "he_normal"
    layers = [
        keras.layers.Dense(units, activation, kernel_initializer=start)
        for _ in range(depth)
    ]
    return keras.Sequential([keras.Input((20,)), *layers, keras.layers.Dense(3)])


def said(report: keras_inits.SignalReport) -> list[Finding]:
    return [x for x in report.findings if x.text.startswith(LINE)]


@pytest.mark.parametrize(
    "activation, remedy",
    [
        ("tanh", "keras_inits.lsuv_init(model, x, target_std=0.1, orthonormal=True)"),
        ("relu", 'keras_inits.initialize(model, "looks_linear")'),
        ("leaky_relu", 'keras_inits.initialize(model, "looks_linear")'),
    ],
)
def test_what_is_said_helps(activation: str, remedy: str) -> None:
    model, x = stack(activation), normal(200, 20)
    if activation == "relu":
        keras_inits.lsuv_init(model, x, verbose=0)  # else it vanishes
    reports = [keras_inits.measure(model, x) for _ in range(3)]  # compiled, played
    for report in reports:
        [finding] = said(report)
        row = report["dense_58"]  # the last that is wide
        assert finding.layer == row.name
        assert finding.figure == row.directions == reports[0]["dense_58"].directions
        assert row.directions < 2 < 10 < report.inputs.directions
        assert finding.severity == "error"
        assert finding.remedy.startswith(remedy)
        assert [x.name for x in report if x.directions] == [row.name]
    exec(remedy, {"keras_inits": keras_inits, "model": model, "x": x})
    after = keras_inits.measure(model, x)
    assert after["dense_58"].directions > 5
    assert not after.findings


def test_the_figure_is_that_of_the_pre_activation() -> None:
    model, x = stack("tanh", depth=30), normal(70, 20)
    *before, hidden, _ = model.layers
    y = x[: directions.SAMPLES]
    for layer in before:
        y = np.tanh(y @ layer.get_weights()[0])
    expected = by_singular_values((y @ hidden.get_weights()[0]).astype("float64"))
    found = keras_inits.measure(model, x)[hidden.name].directions
    assert found == pytest.approx(expected, rel=1e-2)


def test_lsuv_says_it_of_what_it_has_made() -> None:
    model, x = stack("leaky_relu"), normal(200, 20)
    for _ in range(3):
        report = keras_inits.lsuv_init(model, x, verbose=0)
        [finding] = said(report)
        assert finding.layer == "dense_58"
        assert report.inputs is not None
    sound = keras_inits.lsuv_init(stack("elu"), x, verbose=0, orthonormal=True)
    assert sound[-2].directions > 5
    assert sound.inputs is None
    assert not said(sound)


def test_fewer_layers_find_their_way() -> None:
    report = keras_inits.measure(stack("leaky_relu", depth=20), normal(200, 20))
    assert not any(x.directions for x in report)
    assert report.inputs.directions is None
    [finding] = said(keras_inits.measure(stack("leaky_relu", 40), normal(200, 20)))
    assert finding.severity == "warning"


def test_data_that_lie_on_a_line_themselves_are_not_the_models_doing() -> None:
    x = (normal(200, 1) * np.ones(20)).astype("float32")
    report = keras_inits.measure(stack("leaky_relu"), x)
    assert report.inputs.directions == pytest.approx(1)
    assert not said(report)


def test_a_trained_model_may_keep_as_few_as_its_classes() -> None:
    model, x = stack("leaky_relu", 40), normal(64, 20)
    assert said(keras_inits.measure(model, x))
    model.compile("sgd", "mse")
    model.fit(x, normal(64, 3), batch_size=64, verbose=0)
    assert not said(keras_inits.measure(model, x))
    assert not said(keras_inits.lsuv_init(model, x, verbose=0))


def test_skip_connections_bring_directions_that_no_kernel_shows() -> None:
    inputs = y = keras.Input((24,))
    for _ in range(40):
        y = keras.layers.Add()([0.0 * y, keras.layers.Dense(24, "leaky_relu")(y)])
    report = keras_inits.measure(keras.Model(inputs, y), normal(200, 24))
    assert report[-1].directions < 2
    assert not said(report)


def test_of_few_samples_and_of_large_signals_there_is_no_figure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = stack("leaky_relu", 40)
    few = keras_inits.measure(model, normal(15, 20))
    assert not any(x.directions for x in few)
    monkeypatch.setattr(directions, "LARGE", 24 * 200 - 1)
    large = keras_inits.measure(model, normal(200, 20))
    assert not any(x.directions for x in large)
