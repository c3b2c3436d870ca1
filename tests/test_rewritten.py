"""Wrappers that make the kernel of the layer within anew: a scale is undone by them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops
from models import normal
from textbook import numpy

import keras_inits
from keras_inits import lsuv_init, measure
from keras_inits.solving.one_pass import OnePass

pytestmark = pytest.mark.any_keras

SKIPPED = "skipped: {} ({}) makes its kernel anew in every call"


class Weighted(layers.Wrapper):
    """The kernel of its layer is `g * v / |v|`, as of tensorflow-addons."""

    def build(self, input_shape: Any) -> None:
        if not self.layer.built:
            self.layer.build(input_shape)
        shape = self.layer.kernel.shape
        self.v = self.add_weight(shape=shape, initializer="glorot_normal", name="v")
        self.g = self.add_weight(shape=shape[-1:], initializer="ones", name="g")
        self.built = True

    def made(self) -> Any:
        v = ops.convert_to_tensor(self.v)
        axes = tuple(range(len(v.shape) - 1))
        return self.g * v / ops.sqrt(ops.sum(ops.square(v), axis=axes))


class Assigned(Weighted):
    def call(self, x: Any) -> Any:
        self.layer.kernel.assign(self.made())
        return self.layer(x)


class Swapped(Weighted):
    """Puts a tensor in the place of the kernel for the time of a call."""

    def call(self, x: Any) -> Any:
        kernel, self.layer._kernel = self.layer._kernel, self.made()
        try:
            return self.layer(x)
        finally:
            self.layer._kernel = kernel


class Masked(Weighted):
    """What it writes is made of the kernel itself, and scales with it."""

    def made(self) -> Any:
        kernel = ops.convert_to_tensor(self.layer.kernel)
        kept = np.arange(kernel.shape[-1]) % 3 > 0
        return kernel * ops.convert_to_tensor(kept.astype("float32"))


class MaskAssigned(Masked, Assigned):
    pass


class MaskSwapped(Masked, Swapped):
    pass


def network(kind: Any, blocks: int = 1) -> keras.Model:
    keras.utils.set_random_seed(0)
    hidden = []
    for i in range(blocks):
        own = layers.Dense(24, name=f"own{i}")
        own.bias_initializer = keras.initializers.RandomNormal(stddev=0.1, seed=i)
        hidden += [kind(own, name=f"wrapper{i}"), layers.ReLU()]
        hidden += [layers.Dense(24, name=f"plain{i}")]
    last = layers.Dense(4, name="last")
    model = keras.Sequential([keras.Input((12,)), *hidden, last])
    # Far from what the pass aims at.
    for x in hidden[::3]:
        x.g.assign(2 * ops.ones(x.g.shape))
    return model


@pytest.mark.parametrize("orthonormal", [False, True])
@pytest.mark.parametrize("blocks", [1, 6])
@pytest.mark.parametrize("kind", [Assigned, Swapped])
def test_the_report_says_that_a_scale_would_be_undone(
    kind: Any, blocks: int, orthonormal: bool
) -> None:
    """Deep ones are compiled: by the second call on all backends."""
    x, model = normal(128, 12), network(kind, blocks)
    owns = [model.get_layer(f"wrapper{i}").layer for i in range(blocks)]
    for _ in range(1 if orthonormal else 2):
        before = [numpy(own.kernel) for own in owns]
        report = lsuv_init(model, x, orthonormal=orthonormal)
        for i, (own, kernel) in enumerate(zip(owns, before, strict=True)):
            expected = SKIPPED.format(f"wrapper{i}", kind.__name__)
            assert report[own.name].status == expected
            assert np.array_equal(numpy(own.kernel), kernel)
        assert "would be undone by the next call: own0" in report.notes[0]
        scaled = [row.name for row in report if row.std is not None]
        assert len(scaled) == blocks + 1
        # What is said to be so is.
        for row in measure(model, x):
            if row.name in scaled:
                assert row.std == pytest.approx(1.0, abs=1e-3), row.name


@pytest.mark.parametrize("kind", [MaskAssigned, MaskSwapped])
def test_a_kernel_that_scales_with_itself_is_scaled(kind: Any) -> None:
    x, model = normal(128, 12), network(kind)
    report = lsuv_init(model, x)
    assert report["own0"].status == "scaled" and not report.notes
    for row in measure(model, x):
        if row.name != "re_lu":
            assert row.std == pytest.approx(1.0, abs=1e-3), row.name


@pytest.mark.parametrize("name", ["own0", "wrapper0"])
def test_by_name_it_is_refused_and_nothing_is_changed(name: str) -> None:
    x, model = normal(128, 12), network(Swapped)
    model.get_layer("wrapper0").v.trainable = False
    before = [numpy(v) for v in model.variables]
    with pytest.raises(
        keras_inits.UnsupportedLayerError,
        match=r"'own0' \(Dense\) was chosen, but .* wrapper0 \(Swapped\) makes its "
        r"kernel anew in every call, and so undoes a scale\. .*register_linear_map",
    ):
        lsuv_init(model, x, layers=[name])
    assert all(map(np.array_equal, before, map(numpy, model.variables)))


def test_described_by_what_scales_its_output_it_is_scaled() -> None:
    class Described(Assigned):
        pass

    @keras_inits.register_linear_map(Described)
    def described(layer: Any) -> keras_inits.LinearMap:
        g, bias = layer.g, layer.layer.bias
        return keras_inits.LinearMap(
            layer, g, input_axes=(), output_axes=(0,), off={}, bias=bias
        )

    x, model = normal(128, 12), network(Described)
    before = numpy(model.get_layer("wrapper0").g)
    report = lsuv_init(model, x)
    assert report["wrapper0"].status == "scaled"
    after = numpy(model.get_layer("wrapper0").g)
    assert after == pytest.approx(before * report["wrapper0"].scale)
    for row in measure(model, x):
        if row.name != "re_lu":
            assert row.std == pytest.approx(1.0, abs=1e-3), row.name


def test_a_model_that_leaves_its_kernels_alone_takes_one_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Block(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = layers.Dense(12, "relu"), layers.Dense(12)
            self.norm = layers.BatchNormalization()

        def call(self, x: Any, training: bool = False) -> Any:
            return x + self.norm(self.two(self.one(x)), training=training)

    passes = []
    run = OnePass._run

    def counted(self: Any, options: Any) -> Any:
        passes.append(options)
        return run(self, options)

    monkeypatch.setattr(OnePass, "_run", counted)
    inputs = keras.Input((12,))
    model = keras.Model(inputs, layers.Dense(2)(Block()(Block()(inputs))))
    lsuv_init(model, normal(64, 12), training=True)
    assert len(passes) == 1
