"""PyTorch as it goes on a GPU, where nothing is looked at: here, on a CPU's tensors."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from checks import assert_equal_weights, assert_target
from keras import layers, ops
from models import normal
from textbook import numpy, textbook_lsuv

import keras_inits
from keras_inits import backends
from keras_inits.backward import probes
from keras_inits.passes import notes, programs
from keras_inits.statistics import moments, on_gpu, reductions

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="the others have no such difference"
)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def looks(x: Any) -> bool:
        return isinstance(x, np.ndarray)

    for module in (reductions, probes):
        monkeypatch.setattr(module, "looks", looks)
    monkeypatch.setattr(notes, "is_dense", lambda x: False)
    monkeypatch.setattr(on_gpu, "has", lambda x: isinstance(x, torch.Tensor))


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("shift", [0.0, 100.0])
@pytest.mark.parametrize("shape", [(64, 12), (32, 5, 6, 4), (1, 9)])
def test_figures(shape: tuple[int, ...], shift: float) -> None:
    x = normal(*shape) * np.linspace(1, 2, shape[-1], dtype="float32") + shift
    wide = x.astype("float64")
    mean, variance, between = moments.spread(ops.convert_to_tensor(x))
    assert all(isinstance(y, torch.Tensor) for y in (mean, variance, between))
    assert float(mean) == pytest.approx(wide.mean(), abs=1e-6 * (1 + shift))
    assert float(variance) == pytest.approx(wide.var(), rel=1e-4)
    assert float(between) == pytest.approx(wide.var(0).mean(), rel=1e-4, abs=1e-9)
    found = [float(y) for y in moments.figures(ops.convert_to_tensor(x))]
    assert found == pytest.approx([float(mean), float(variance)], rel=1e-4, abs=1e-7)


def test_where_these_figures_are_taken() -> None:
    """Of no values the variance is undefined, says torch, and warnings are errors."""
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        assert on_gpu.has(torch.empty((2, 3), device="cuda"))
        assert not on_gpu.has(torch.empty((0, 3), device="cuda"))
        assert not on_gpu.has(torch.empty((3, 0), device="cuda"))
        assert not on_gpu.has(torch.empty((2, 3), device="cpu"))


def stack() -> keras.Model:
    hidden = [layers.Dense(16, activation="relu") for _ in range(10)]
    image = [layers.Conv2D(4, 3, activation="tanh"), layers.Flatten()]
    return keras.Sequential([keras.Input((6, 6, 3)), *image, *hidden, layers.Dense(3)])


@pytest.mark.usefixtures("gpu")
def test_lsuv_is_played_and_finds_what_the_textbook_does() -> None:
    model, x = stack(), normal(64, 6, 6, 3)
    expected = keras.models.clone_model(model)
    weights = model.get_weights()
    expected.set_weights(weights)
    textbook_lsuv(expected, x)
    for _ in range(3):
        model.set_weights(weights)
        keras_inits.lsuv_init(model, x)
        assert_equal_weights(expected, model)
    assert_target(model, x)
    assert any(s.program for s in programs.STATES[model].values())


def test_the_same_report(request: pytest.FixtureRequest) -> None:
    model, x = stack(), normal(64, 6, 6, 3)
    plain = keras_inits.measure(model, x)
    request.getfixturevalue("gpu")
    for _ in range(3):
        report = keras_inits.measure(model, x)
        for one, other in zip(report, plain, strict=True):
            for name in ("mean", "std", "batch_std", "gradient_gain", "dead_fraction"):
                figure = getattr(other, name)
                assert getattr(one, name) == pytest.approx(figure, rel=1e-4, abs=1e-6)
    assert any(s.program for s in programs.STATES[model].values())


def test_generators_are_put_back_without_a_word_on_a_machine_of_several(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """torch warns there unless it is told of which GPUs, and warnings are errors."""
    if torch.cuda.is_available():
        pytest.skip("a machine of none")
    monkeypatch.setattr(torch.random, "_fork_rng_warned_already", False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    torch.manual_seed(0)
    expected = numpy(torch.randn(3))
    torch.manual_seed(0)
    with backends.generators_kept():
        torch.randn(5)
    np.testing.assert_array_equal(numpy(torch.randn(3)), expected)
