"""Portable models: same weights, same laws, no trace of this package."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from laws import CLASSES, FIXED, RECORDS, Record, check_law, to_numpy

import keras_inits.initializers as inits
from keras_inits.errors import KerasInitsError, UnsupportedLayerError
from keras_inits.registry import available
from keras_inits.verbs.portable import portable, to_builtin

X = np.linspace(-1, 1, 12, dtype="float32").reshape(2, 6)


def build_model() -> keras.Model:
    """Every class, and a nested model; with an optimizer's state."""
    inputs = keras.Input((6,))
    outputs = []
    for record in CLASSES:
        outputs.append(keras.layers.Dense(6, kernel_initializer=record.build())(inputs))
    for record in FIXED:
        if record.cls in (inits.ForgetGateBias, inits.LogOddsBias):
            layer = keras.layers.Dense(4, bias_initializer=record.build())
            outputs.append(keras.layers.Dense(6)(layer(inputs)))
    pixels = keras.layers.Reshape((6, 1))(inputs)
    outputs.append(
        keras.layers.Flatten()(
            keras.layers.Conv1DTranspose(
                1, 3, padding="same", kernel_initializer="bilinear"
            )(pixels)
        )
    )
    inner = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(6, kernel_initializer="hadamard"),
            keras.layers.Dense(6, kernel_initializer="dirac"),
        ]
    )
    outputs.append(inner(inputs))
    heads = keras.layers.MultiHeadAttention(2, 3, kernel_initializer="lsuv_normal")
    outputs.append(keras.layers.Flatten()(heads(pixels, pixels)))
    model = keras.Model(inputs, keras.layers.average(outputs))
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    model.optimizer.iterations.assign(3)
    return model


def test_loads_where_this_package_is_not(tmp_path: Path) -> None:
    model = build_model()
    before = model.to_json()
    for record in available():
        assert f'"keras_inits>{record.class_name}"' in before
    copy = portable(model)
    assert before == model.to_json()
    assert "keras_inits" not in copy.to_json()
    for one, other in zip(model.variables, copy.variables, strict=True):
        np.testing.assert_array_equal(to_numpy(one.value), to_numpy(other.value))
    ours, theirs = model.optimizer.variables, copy.optimizer.variables
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(to_numpy(one.value), to_numpy(other.value))
    copy.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", X)
    code = """
        import sys
        sys.modules["keras_inits"] = None  # as if it were not installed
        import keras, numpy as np

        model = keras.saving.load_model(sys.argv[1] + "/model.keras")
        y = model(np.load(sys.argv[1] + "/x.npy"))
        np.save(sys.argv[1] + "/y.npy", keras.ops.convert_to_numpy(y))
        keras.models.clone_model(model)  # each initializer can draw its kernel
        keras.models.model_from_json(model.to_json())
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], check=True
    )
    y = to_numpy(model(X))
    np.testing.assert_allclose(y, np.load(tmp_path / "y.npy"), rtol=1e-4, atol=1e-6)


# Laws that Keras has no name for: theirs is the normal law of the same deviation, or
# one that loads.
WITHOUT_NAMESAKE = {
    "TruncatedNormal(mean=1.0,stddev=0.5,lower=-1.0,upper=3.0)",
    "TruncatedNormal(stddev=2.0,lower=1.0,upper=2.5)",
    "TruncatedNormal(stddev=1.0,lower=-9.0,upper=9.0)",
    "BoundedNormal(mean=0.5,stddev=0.2,lower=0.4,upper=1.0)",
    "Siren(first=True)",
    "VarianceScaling(scale=1.5,mode=fan_geo_avg,distribution=uniform)",
}


@pytest.mark.parametrize(
    "record",
    [r for r in RECORDS if r.law and r.name not in WITHOUT_NAMESAKE],
    ids=lambda record: record.name,
)
def test_builtin_follows_the_same_law(record: Record) -> None:
    """Bounds aside: Keras's samplers exceed theirs by rounding, and on torch more."""
    assert record.law is not None
    builtin = to_builtin(record.build(seed=4))
    assert type(builtin).__module__.startswith("keras.")
    shape = (23, 21, 43)
    law = record.law(shape)
    low, high = law.support()
    values = to_numpy(builtin(shape))
    inside = (low <= values) & (values <= high)
    assert inside.mean() > 1 - 1e-4
    check_law(values[inside], law)


@pytest.mark.parametrize("record", RECORDS + FIXED, ids=lambda record: record.name)
def test_every_class_has_a_builtin(record: Record) -> None:
    initializer = record.build()
    builtin: Any = to_builtin(initializer)
    assert type(builtin).__module__.startswith("keras.")
    assert tuple(builtin((3, 2, 4)).shape) == (3, 2, 4)


def test_axes_go_along() -> None:
    initializer = inits.HeNormal(seed=1, input_axes=[0], output_axes=[1, 2])
    try:
        keras.initializers.VarianceScaling(input_axes=[0], output_axes=[1])
    except TypeError:
        pytest.skip("this Keras knows no axes")
    builtin: Any = to_builtin(initializer)
    assert [0] == builtin.input_axes


@pytest.mark.parametrize("value", [3, None, "model", keras.layers.Dense(2)])
def test_what_is_no_model_is_refused(value: Any) -> None:
    with pytest.raises(KerasInitsError, match=r"`model` must be a keras\.Model.*type"):
        portable(value)


def test_an_unbuilt_model_is_refused() -> None:
    model = keras.Sequential([keras.layers.Dense(2)], name="empty")
    with pytest.raises(ValueError, match=r"'empty' is not built: it has no weights"):
        portable(model)


def test_a_class_that_keras_cannot_find() -> None:
    class Unregistered(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.head = keras.layers.Dense(2)

        def call(self, x: Any) -> Any:
            return self.head(x)

    model = Unregistered()
    model(np.ones((1, 3), "float32"))
    match = "Register its own classes"
    with pytest.raises(UnsupportedLayerError, match=match):
        portable(model)


def test_a_lambda_is_named_as_the_reason() -> None:
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(3, kernel_initializer="lsuv_normal"),
            keras.layers.Lambda(lambda t: 2 * t),
        ]
    )
    with pytest.raises(UnsupportedLayerError, match="give lambdas a name"):
        portable(model)
