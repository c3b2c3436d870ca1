"""Portable models: same weights, same laws, no trace of this package."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from laws import CLASSES, FIXED, RECORDS, Record, check_law, to_numpy
from scipy import stats

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
                1, 3, padding="same", kernel_initializer="bilinear_upsampling"
            )(pixels)
        )
    )
    inner = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(6, kernel_initializer="hadamard_identity"),
            keras.layers.Dense(6, kernel_initializer="dirac_delta"),
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


@keras.saving.register_keras_serializable("test_portable")
class Recorded(keras.layers.Layer):
    """Keras records the arguments itself."""

    def __init__(self, init: Any, law: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.init, self.law = init, law

    def build(self, shape: Any) -> None:
        initializer = self.law or self.init
        if isinstance(initializer, (list, tuple)):
            initializer = initializer[0]
        self.w = self.add_weight(shape=(shape[-1], 6), initializer=initializer)

    def call(self, x: Any) -> Any:
        return keras.ops.matmul(x, self.w)


@keras.saving.register_keras_serializable("test_portable")
class Returned(keras.layers.Layer):
    """get_config returns what was passed."""

    def __init__(self, kernel_initializer: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kernel_initializer = kernel_initializer
        self.dense = keras.layers.Dense(6, kernel_initializer=kernel_initializer)

    def build(self, shape: Any) -> None:
        self.dense.build(shape)

    def call(self, x: Any) -> Any:
        return self.dense(x)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {**config, "kernel_initializer": self.kernel_initializer}


@keras.saving.register_keras_serializable("test_portable")
class Subclassed(keras.Model):
    def __init__(self, init: Any = "siren_uniform", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.init = init
        self.dense = keras.layers.Dense(6, kernel_initializer=init)

    def call(self, x: Any) -> Any:
        return self.dense(x)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "init": self.init}


@keras.saving.register_keras_serializable("test_portable")
class InItsCode(keras.layers.Layer):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(6, kernel_initializer="lsuv_normal")

    def build(self, shape: Any) -> None:
        self.dense.build(shape)

    def call(self, x: Any) -> Any:
        return self.dense(x)


@keras.saving.register_keras_serializable("test_portable")
class StringsOnly(Recorded):
    def __init__(self, init: str, **kwargs: Any) -> None:
        super().__init__(init.lower(), **kwargs)


STRINGS = sorted(
    {record.name for record in available()}
    | {f"keras_inits>{record.class_name}" for record in available()}
)


def one_layer(layer: keras.layers.Layer, name: str | None = None) -> keras.Model:
    return keras.Sequential([keras.Input((6,)), layer], name=name)


def test_strings_in_custom_layers_load_where_this_package_is_not(
    tmp_path: Path,
) -> None:
    kernels = [
        name
        for name in STRINGS
        if not any(part in name.lower() for part in ("bias", "bilinear"))
    ]
    layers = [make(name) for name in kernels for make in (Recorded, Returned)]
    layers.append(Recorded(["orthonormal", "siren_uniform"]))
    layers.append(Recorded({"class_name": "siren_uniform", "config": {"omega": 7.0}}))
    inputs = keras.Input((6,))
    model = keras.Model(inputs, keras.layers.average([x(inputs) for x in layers]))
    subclassed = Subclassed()
    for number, original in enumerate((model, subclassed)):
        y = to_numpy(original(X))
        copy = portable(original)
        assert not [name for name in STRINGS if f'"{name}"' in copy.to_json()]
        copy.save(tmp_path / f"{number}.keras")
        np.save(tmp_path / f"{number}.npy", y)
    np.save(tmp_path / "x.npy", X)
    source = Path(__file__).read_text(encoding="utf-8").splitlines()
    start = source.index('@keras.saving.register_keras_serializable("test_portable")')
    end = next(i for i, line in enumerate(source) if line.startswith("STRINGS"))
    code = """
import sys
sys.modules["keras_inits"] = None  # as if it were not installed
import keras, numpy as np
from typing import Any
CLASSES
for number in range(2):
    model = keras.saving.load_model(f"{sys.argv[1]}/{number}.keras")
    y = keras.ops.convert_to_numpy(model(np.load(sys.argv[1] + "/x.npy")))
    expected = np.load(f"{sys.argv[1]}/{number}.npy")
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-6)
    keras.models.model_from_json(model.to_json())
""".replace("CLASSES", "\n".join(source[start:end]))
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_a_string_becomes_a_string_where_keras_has_one() -> None:
    copy = portable(one_layer(Recorded("lsuv_normal")))
    assert copy.layers[0].init == "Orthogonal"
    copy = portable(one_layer(Recorded("keras_inits>HeNormal")))
    law: Any = keras.initializers.get(dict(copy.layers[0].init))
    assert (2.0, "fan_in") == (law.scale, law.mode)


def test_what_is_only_called_like_an_initializer_stays() -> None:
    layer = Returned("orthonormal", name="lsuv_normal")
    copy = portable(one_layer(layer, name="siren_uniform"))
    assert ("siren_uniform", "lsuv_normal") == (copy.name, copy.layers[0].name)
    zeros = Recorded("zeros", name="init", law="glorot_uniform")
    copy = portable(one_layer(zeros))
    assert ("zeros", "glorot_uniform") == (copy.layers[0].init, copy.layers[0].law)


@pytest.mark.parametrize(
    ("layer", "match"),
    [
        (lambda: InItsCode(name="odd"), "needs keras_inits: layer 'odd' .InItsCode"),
        (
            lambda: Recorded("zeros", law="lsuv_normal", name="odd"),
            "needs keras_inits: layer 'odd' .Recorded.*does not contain 'init'",
        ),
        (
            lambda: StringsOnly("siren_uniform", name="odd"),
            "because of 'odd' .StringsOnly.*keras.initializers.get",
        ),
        (
            lambda: Recorded(inits.LSUVNormal(), name="odd"),
            "because of 'odd' .Recorded.*implement get_config",
        ),
    ],
    ids=["code", "another key", "strings only", "no config"],
)
def test_what_would_not_load_is_refused_by_name(layer: Any, match: str) -> None:
    names = keras.saving.get_custom_objects().copy()
    inner = keras.Sequential([keras.Input((6,)), keras.layers.Dense(6), layer()])
    model = keras.Sequential([keras.Input((6,)), inner, keras.layers.Dense(2)])
    with pytest.raises(UnsupportedLayerError, match=match):
        portable(model)
    assert names == keras.saving.get_custom_objects()
    keras.initializers.get("lsuv_normal")


SEEDS = (None, 0, 7, -5, 2**31, 2**33 + 1, 2**64 + 1, -(2**80))


@pytest.mark.parametrize("seed", SEEDS)
def test_every_seed_is_one_that_the_builtin_accepts(seed: int | None) -> None:
    for record in RECORDS:
        to_builtin(record.build(seed=seed))((4, 4))
    reduced = to_builtin(inits.HeNormal(seed=seed)).get_config()["seed"]
    if seed is not None and 0 <= seed < 2**31:
        assert seed == reduced
    model = one_layer(keras.layers.Dense(4, kernel_initializer=inits.HeNormal()))
    model.layers[0].kernel_initializer = inits.HeNormal(seed=seed)
    kernel = portable(model).layers[0].kernel
    np.testing.assert_array_equal(to_numpy(model.layers[0].kernel), to_numpy(kernel))


@pytest.mark.parametrize(
    ("mean", "stddev", "lower", "upper"),
    [(0.0, 1.0, 1.0, 3.0), (0.5, 0.2, 0.4, 1.0), (-1.0, 2.0, -1e200, 0.5)],
)
def test_unsymmetric_bounds_keep_mean_and_deviation(
    mean: float, stddev: float, lower: float, upper: float
) -> None:
    # scipy overflows far beyond the values; the tail past 100 deviations is nothing.
    a, b = max(-100.0, (lower - mean) / stddev), (upper - mean) / stddev
    law = stats.truncnorm(a, b, mean, stddev)
    config = to_builtin(inits.BoundedNormal(mean, stddev, lower, upper)).get_config()
    assert config["mean"] == pytest.approx(law.mean(), rel=1e-9)
    assert config["stddev"] == pytest.approx(law.std(), rel=1e-9)
    sigma = stddev / stats.truncnorm(a, b).std()
    law = stats.truncnorm(a, b, mean, sigma)
    config = to_builtin(inits.TruncatedNormal(mean, stddev, a, b)).get_config()
    assert config["mean"] == pytest.approx(law.mean(), rel=1e-9)
    assert config["stddev"] == pytest.approx(stddev, rel=1e-9)


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


def test_the_optimizer_stays_after_a_model_was_saved_as_h5(tmp_path: Path) -> None:
    """Keras drops it from what the live model was compiled with."""
    layer = keras.layers.Dense(2, kernel_initializer="lsuv_normal")
    model = keras.Sequential([keras.Input((6,)), layer])
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    model.compile(keras.optimizers.Adam(schedule, beta_1=0.8), "mae")
    model.fit(X, np.zeros((2, 2)), epochs=3, verbose=0)
    model.save(tmp_path / "model.h5")
    copy = portable(model)
    assert type(copy.optimizer) is type(model.optimizer)
    assert copy.optimizer is not model.optimizer
    assert copy.optimizer.get_config() == model.optimizer.get_config()
    pairs = zip(copy.optimizer.variables, model.optimizer.variables, strict=True)
    for mine, theirs in pairs:
        np.testing.assert_array_equal(to_numpy(mine), to_numpy(theirs))
    assert copy.loss == "mae"


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


def test_two_threads_at_once() -> None:
    """One of them would find the names that the other one hides gone."""
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, kernel_initializer="lsuv_normal")]
    )
    with ThreadPoolExecutor(4) as pool:
        copies = list(pool.map(portable, [model] * 8))
    for copy in copies:
        found = copy.layers[0].kernel_initializer
        assert type(found) is keras.initializers.Orthogonal
