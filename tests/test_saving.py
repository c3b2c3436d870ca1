"""Models come back with equal initializers, by every road, in every process."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from laws import CLASSES, FIXED, RECORDS, Record, to_numpy

import keras_inits.initializers as inits
from keras_inits.registry import custom_objects

INPUTS = np.linspace(-1, 1, 12, dtype="float32").reshape(2, 6)


def one_of_each() -> keras.Model:
    """All classes side by side in one model; two more layers with Keras's own."""
    inputs = keras.Input((6,))
    outputs = []
    for i, record in enumerate(FIXED):
        bias = record.cls in (inits.ForgetGateBias, inits.LogOddsBias)
        if record.cls is inits.Bilinear:
            continue  # a layer of its own, below
        which = "bias_initializer" if bias else "kernel_initializer"
        layer = keras.layers.Dense(4, **{which: record.build()}, name=f"fixed_{i}")
        outputs.append(keras.layers.Dense(8)(layer(inputs)))
    pixels = keras.layers.Reshape((6, 1))(inputs)
    layer = keras.layers.Conv1DTranspose(1, 4, kernel_initializer="bilinear_upsampling")
    outputs.append(keras.layers.Dense(8)(keras.layers.Flatten()(layer(pixels))))
    for i, record in enumerate(CLASSES):
        layer = keras.layers.Dense(
            8, kernel_initializer=record.build(), name=f"layer_{i}"
        )
        outputs.append(layer(inputs))
    seeded = inits.HeNormal(seed=keras.random.SeedGenerator(3))
    for name, initializer in (
        ("streamed", seeded),
        ("first", "looks_linear_first"),
        ("keras_class", "HeNormal"),
        ("keras_string", "he_normal"),
    ):
        layer = keras.layers.Dense(8, kernel_initializer=initializer, name=name)
        outputs.append(layer(inputs))
    return keras.Model(inputs, keras.layers.add(outputs))


def configs(model: keras.Model) -> dict[tuple[str, str], Any]:
    return {
        (layer.name, which): (
            type(initializer).__module__,
            type(initializer).__name__,
            json.dumps(initializer.get_config(), sort_keys=True),
        )
        for layer in model.layers
        for which, initializer in vars(layer).items()
        if which in ("kernel_initializer", "bias_initializer")
    }


def outputs_of(model: keras.Model) -> np.ndarray:
    return to_numpy(model(INPUTS))


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return one_of_each()


@pytest.mark.parametrize("record", RECORDS + FIXED, ids=lambda record: record.name)
def test_config_round_trip(record: Record) -> None:
    initializer = record.build() if record in FIXED else record.build(seed=3)
    config = initializer.get_config()
    assert config == record.cls.from_config(config).get_config()
    assert config == json.loads(json.dumps(config))
    for name, value in record.config.items():
        assert value == config[name]
    again = keras.initializers.get(keras.initializers.serialize(initializer))
    assert type(again) is record.cls
    np.testing.assert_array_equal(
        to_numpy(initializer((3, 2, 4))), to_numpy(again((3, 2, 4)))
    )


@pytest.mark.parametrize(
    ("cls", "config"),
    [
        (inits.Dirac, {"groups": 2, "gain": 3.0}),
        (inits.ZerO, {"gain": 3.0}),
        (inits.SparseNormal, {"sparsity": 0.5, "stddev": 1.0, "per": "output"}),
    ],
)
def test_files_from_before_these_laws_knew_axes(cls: Any, config: Any) -> None:
    """Their configs name none; that of a law with chance has a seed."""
    seed = {"seed": 3} if cls is inits.SparseNormal else {}
    again = cls.from_config({**config, **seed})
    assert {**config, **seed} | dict.fromkeys(("input_axes", "output_axes")) == (
        again.get_config()
    )


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize("objects", [None, custom_objects()], ids=["import", "dict"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_files_keep_initializers_and_outputs(
    model: keras.Model, suffix: str, objects: Any, tmp_path: Path
) -> None:
    path = tmp_path / f"model.{suffix}"
    model.save(path)
    again = keras.saving.load_model(path, custom_objects=objects)
    assert configs(model) == configs(again)
    np.testing.assert_array_equal(outputs_of(model), outputs_of(again))


@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_copies_keep_initializers_and_outputs(model: keras.Model, way: str) -> None:
    deep = way == "deepcopy"
    again = copy.deepcopy(model) if deep else pickle.loads(pickle.dumps(model))
    assert configs(model) == configs(again)
    np.testing.assert_array_equal(outputs_of(model), outputs_of(again))


@pytest.mark.parametrize("way", ["clone", "json", "config"])
def test_architecture_alone_keeps_initializers(model: keras.Model, way: str) -> None:
    keras.utils.set_random_seed(99)  # else what is drawn again is the same again
    if way == "clone":
        again = keras.models.clone_model(model)
    elif way == "json":
        again = keras.models.model_from_json(model.to_json())
    else:
        again = keras.Model.from_config(model.get_config())
    assert configs(model) == configs(again)
    assert not np.array_equal(outputs_of(model), outputs_of(again))


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_in_another_process(model: keras.Model, tmp_path: Path) -> None:
    """One that imports keras, fails as it must, imports keras_inits, and succeeds."""
    for suffix in ("keras", "h5"):
        model.save(tmp_path / f"model.{suffix}")
    (tmp_path / "model.json").write_text(model.to_json())
    np.save(tmp_path / "inputs.npy", INPUTS)
    code = """
        import sys
        import keras, numpy as np
        from pathlib import Path

        folder = Path(sys.argv[1])
        try:
            keras.saving.load_model(folder / "model.keras")
        except Exception as error:
            assert "keras_inits>" in str(error), error
        else:
            raise AssertionError("loaded without the import")
        import keras_inits

        x = np.load(folder / "inputs.npy")
        for suffix in ("keras", "h5"):
            path = folder / f"model.{suffix}"
            for objects in (None, keras_inits.custom_objects()):
                model = keras.saving.load_model(path, custom_objects=objects)
            y = keras.ops.convert_to_numpy(model(x))
            np.save(folder / f"{suffix}.npy", y)
        keras.models.model_from_json((folder / "model.json").read_text())(x)
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], check=True
    )
    for suffix in ("keras", "h5"):
        np.testing.assert_allclose(
            outputs_of(model), np.load(tmp_path / f"{suffix}.npy"), rtol=1e-6
        )


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="SavedModel")
def test_an_exported_model_runs_without_the_package(tmp_path: Path) -> None:
    small = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(4, kernel_initializer="lsuv_normal")]
    )
    small.export(tmp_path / "exported", verbose=False)
    code = """
        import sys
        import numpy as np, tensorflow as tf

        served = tf.saved_model.load(sys.argv[1] + "/exported")
        assert "keras_inits" not in sys.modules
        np.save(sys.argv[1] + "/y.npy", served.serve(np.load(sys.argv[1] + "/x.npy")))
    """
    np.save(tmp_path / "x.npy", INPUTS)
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], check=True
    )
    np.testing.assert_allclose(
        outputs_of(small), np.load(tmp_path / "y.npy"), rtol=1e-5
    )
