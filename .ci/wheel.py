"""Checks an installed wheel: run by .ci/run, outside the source tree."""

import importlib.metadata
import importlib.resources
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import keras
import numpy as np

import keras_inits


def installed_outside_the_source_tree() -> None:
    site = Path(sysconfig.get_paths()["purelib"]).resolve()
    assert Path(keras_inits.__file__).resolve().is_relative_to(site)


def states_its_version() -> None:
    assert importlib.metadata.version("keras-inits") == keras_inits.__version__


def ships_its_type_marker_and_licence() -> None:
    assert importlib.resources.files("keras_inits").joinpath("py.typed").is_file()
    files = importlib.metadata.files("keras-inits") or []
    assert any(path.name == "LICENSE" for path in files)
    assert not any(path.parts[0] == "tests" for path in files)


def strings_resolve() -> None:
    for name in ("lsuv_normal", "kaiming_uniform", "keras_inits>LSUVNormal"):
        initializer = keras.initializers.get(name)
        assert type(initializer).__module__.startswith("keras_inits")


def a_model_is_initialised_saved_and_reloaded() -> None:
    model = keras.Sequential([keras.Input((8,))])
    for _ in range(3):
        model.add(
            keras.layers.Dense(16, "relu", kernel_initializer="lsuv_normal"),
        )
    x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
    keras_inits.lsuv_init(model, x)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        model.save(path)
        reloaded = keras.models.load_model(path)
    np.testing.assert_array_equal(
        model.predict(x, verbose=0), reloaded.predict(x, verbose=0)
    )


def the_console_script_runs() -> None:
    script = Path(sysconfig.get_paths()["scripts"], "keras-inits")
    listed = subprocess.run([script, "list"], capture_output=True, text=True)
    assert listed.returncode == 0, listed.stderr
    assert "lsuv_normal" in listed.stdout


CHECKS = (
    installed_outside_the_source_tree,
    states_its_version,
    ships_its_type_marker_and_licence,
    strings_resolve,
    a_model_is_initialised_saved_and_reloaded,
    the_console_script_runs,
)


def main() -> int:
    for check in CHECKS:
        check()
        print(f"ok: {check.__name__.replace('_', ' ')}")
    print(f"{len(CHECKS)} passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
