"""Kernels that `lsuv_init` has made out of next to nothing, and tiny data."""

from __future__ import annotations

import re
from typing import Any

import keras
import pytest
from keras import layers
from models import normal
from textbook import numpy

import keras_inits
from keras_inits import lsuv_init, measure

pytestmark = pytest.mark.any_keras


def normal_of(stddev: float) -> Any:
    return keras.initializers.RandomNormal(stddev=stddev, seed=3)


def residual(stddev: float) -> keras.Model:
    """A branch that starts near 0, and hands on what it is added to."""
    inputs = keras.Input((32,))
    h = layers.Dense(32, "relu", name="stem")(inputs)
    branch = layers.Dense(32, "relu", name="inner")(h)
    branch = layers.Dense(32, kernel_initializer=normal_of(stddev), name="end")(branch)
    return keras.Model(inputs, layers.Dense(4, name="head")(layers.Add()([h, branch])))


@pytest.mark.parametrize(
    "options",
    [{}, {"per_channel": True}, {"center": True}, {"signal": "output"}],
    ids=str,
)
def test_a_kernel_that_was_all_but_zero_is_named_with_its_factor(options: Any) -> None:
    x, model = normal(128, 32), residual(1e-12)
    report = lsuv_init(model, x, **options)
    [finding] = report.findings
    assert (finding.layer, finding.severity) == ("end", "warning")
    told = r"the kernel of end was all but 0 \(std (\S+)\): it is now (\S+) times as"
    figures = re.match(told, finding.text)
    assert figures, finding.text
    std, factor = map(float, figures.groups())
    assert 0.5e-12 < std < 2e-12 and finding.figure == pytest.approx(factor, rel=1e-2)
    scale = report["end"].scale
    largest = max(scale) if isinstance(scale, tuple) else scale
    assert finding.figure == largest > 1e10
    # What is advised: anew, without it.
    for call in re.findall(r"keras_inits\.\w+\([^()]*\)", finding.remedy):
        exec(call, {"keras_inits": keras_inits, "model": model, "x": x})
    assert numpy(model.get_layer("end").kernel).std() < 2e-12
    assert not lsuv_init(model, x, layers=lambda y: y.name != "end").findings


def test_several_are_named_at_once() -> None:
    tiny = {"kernel_initializer": keras.initializers.VarianceScaling(1e-12, seed=1)}
    x = normal(128, 32)
    stack = [layers.Dense(32, "relu", name=f"d{i}", **tiny) for i in range(3)]
    model = keras.Sequential([keras.Input((32,)), *stack, layers.Dense(2)])
    [finding] = lsuv_init(model, x).findings
    assert finding.layer == "d0"
    assert finding.text.endswith("; so it is with 2 more layers")
    assert "['d0', 'd1', 'd2']" in finding.remedy
    assert not lsuv_init(model, x).findings


def test_of_a_kernel_with_few_such_channels_their_number_is_told() -> None:
    x, head = normal(128, 32), layers.Dense(8, name="head")
    model = keras.Sequential([keras.Input((32,)), layers.Dense(32, "relu"), head])
    kernel = numpy(head.kernel)
    kernel[:, 2:5] *= 1e-8
    head.kernel.assign(kernel)
    [finding] = lsuv_init(model, x, per_channel=True).findings
    assert finding.text.startswith("in the kernel of head 3 of 8 parts were all but 0")
    assert ": now up to " in finding.text


FAMILIES = {
    "embedding": lambda init: layers.Embedding(20, 8, embeddings_initializer=init),
    "recurrent": lambda init: layers.LSTM(8, kernel_initializer=init),
    "depthwise": lambda init: layers.DepthwiseConv1D(3, depthwise_initializer=init),
    "transposed": lambda init: layers.Conv1DTranspose(8, 3, kernel_initializer=init),
    "einsum": lambda init: layers.EinsumDense(
        "btc,chd->bthd", (None, 4, 8), kernel_initializer=init
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_of_layers_is_told(family: str) -> None:
    layer = FAMILIES[family](normal_of(1e-7))
    x = normal(64, 12, 32)
    inputs = keras.Input(x.shape[1:])
    if family == "embedding":
        x = (10 * abs(normal(64, 12))).astype("int32") % 20
        inputs = keras.Input((12,), dtype="int32")
    model = keras.Model(inputs, layers.Dense(2)(layer(inputs)))
    [finding] = lsuv_init(model, x).findings
    assert finding.layer == layer.name and "was all but 0" in finding.text


def policy(gain: float) -> Any:
    return keras.initializers.Orthogonal(gain, seed=0)


ON_PURPOSE = {
    "a policy's head": ({}, policy(0.01)),
    "DDPG's head": ({}, keras.initializers.RandomUniform(-3e-3, 3e-3, seed=0)),
    "muP's head": ({}, normal_of(1 / 32)),
    "Fixup": ({"kernel_initializer": policy(0.05)}, policy(0.05)),
}


@pytest.mark.parametrize("name", ON_PURPOSE)
def test_starts_that_are_small_on_purpose_are_scaled_without_a_word(name: str) -> None:
    hidden, head = ON_PURPOSE[name]
    stack = [layers.Dense(32, "tanh", **hidden) for _ in range(3)]
    last = layers.Dense(4, kernel_initializer=head)
    model = keras.Sequential([keras.Input((32,)), *stack, last])
    assert not lsuv_init(model, normal(128, 32)).findings


def test_nor_is_anything_said_of_a_first_kernel_that_was_scaled_to_raw_data() -> None:
    x = normal(128, 32)
    model = keras.Sequential([keras.Input((32,)), layers.Dense(32), layers.Dense(4)])
    lsuv_init(model, 2e3 * x)
    report = lsuv_init(model, x)
    assert report[0].scale > 1e3 and not report.findings


def test_a_large_target_is_no_small_kernel() -> None:
    model = keras.Sequential([keras.Input((32,)), layers.Dense(8), layers.Dense(8)])
    texts = [x.text for x in lsuv_init(model, normal(128, 32), target_std=5e3).findings]
    assert not any("all but 0" in text or "next to nothing" in text for text in texts)


def test_a_layer_that_is_given_next_to_nothing_is_no_small_kernel() -> None:
    hidden = [layers.Dense(32, "relu"), layers.Rescaling(1e-6)]
    last = layers.Dense(4, name="starved")
    model = keras.Sequential([keras.Input((32,)), *hidden, last])
    [finding] = lsuv_init(model, normal(128, 32)).findings
    assert finding.layer == "starved" and finding.severity == "warning"
    told = re.match(r"starved takes next to nothing \(of size (\S+)\)", finding.text)
    assert told and float(told[1]) == pytest.approx(7e-7, rel=0.3)
    assert "measure(model, x)" in finding.remedy


@pytest.mark.parametrize(("size", "told"), [(5e-3, False), (1e-3, True), (1e-8, True)])
def test_tiny_data_that_the_first_kernel_makes_up_for(size: float, told: bool) -> None:
    x = size * normal(128, 32)
    model = keras.Sequential(
        [keras.Input((32,)), layers.Dense(32, "relu", name="d0"), layers.Dense(4)]
    )
    for report in (lsuv_init(model, x), measure(model, x)):
        if not told:
            assert not report.findings
            continue
        [finding] = report.findings
        assert (finding.layer, finding.severity) == ("data", "warning")
        assert "the kernel of d0 makes up for that" in finding.text
        moved = re.search(r"moves its signal by no more than (\S+) dev", finding.text)
        assert moved and float(moved[1]) == pytest.approx(0.032 * size, rel=0.2)
        assert finding.remedy == "standardise the data: " + (
            "x = (x - x.mean(axis=0)) / x.std(axis=0)"
        )
