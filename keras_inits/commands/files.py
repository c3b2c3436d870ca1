"""Files read without trust and written all or none.

Arrays are never unpickled, models are loaded with Keras's safe mode on. What is
written goes to a folder beside its target first and is renamed at the end, so that a
refusal, an interrupt or a full disk leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import keras
import numpy as np

from keras_inits.commands.labels import is_label
from keras_inits.commands.refusal import Refusal, one_line
from keras_inits.data.inputs import expected_inputs, input_structure

Arrays = dict[str, np.ndarray[Any, Any]]

# The name of the only array of an .npy file.
SINGLE = "x"


class Outputs:
    """Files to be written together, once all went well.

    Args:
        force: Overwrite what exists.
    """

    def __init__(self, force: bool) -> None:
        self.force = force
        self._planned: list[tuple[Path, Path]] = []
        self._folders = contextlib.ExitStack()

    def __enter__(self) -> Outputs:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._folders.close()

    def add(self, path: str, suffixes: tuple[str, ...]) -> Path:
        """Where to write for now what is to become `path`."""
        target = Path(path)
        if target.suffix.lower() not in suffixes:
            raise Refusal(f"{path} must end in {' or '.join(suffixes)}")
        if target.is_dir():
            raise Refusal(f"{path} is a folder")
        self._check_free(target)
        target = target.resolve()  # a link stays one: its target is replaced
        if target in (planned for _, planned in self._planned):
            raise Refusal(f"{path} is named twice")
        try:
            folder = self._folders.enter_context(
                tempfile.TemporaryDirectory(prefix=".keras-inits-", dir=target.parent)
            )
        except OSError as error:
            raise Refusal(f"cannot write {path}: {error.strerror}") from error
        self._planned.append((Path(folder, target.name), target))
        return self._planned[-1][0]

    def publish(self) -> None:
        """Give every file its name."""
        for _, target in self._planned:
            self._check_free(target)
        for written, target in self._planned:
            try:
                os.replace(written, target)
            except OSError as error:
                raise Refusal(f"cannot write {target}: {error.strerror}") from error

    def _check_free(self, target: Path) -> None:
        if target.exists() and not self.force:
            raise Refusal(f"{target} exists; --force overwrites it")


def _require_file(path: str) -> None:
    if not Path(path).exists():
        raise Refusal(f"no such file: {path}")
    if not Path(path).is_file():
        raise Refusal(f"not a file: {path}")
    if not os.access(path, os.R_OK):
        raise Refusal(f"no permission to read {path}")


def load_model(path: str, *, compiled: bool) -> keras.Model:
    """The model in a `.keras` file; safe mode stays on."""
    _require_file(path)
    # Keras before 3.11.3 loads .h5 without safe mode.
    if Path(path).suffix.lower() != ".keras" or not zipfile.is_zipfile(path):
        again = 'save it again with model.save("model.keras")'
        if path.lower().endswith(".weights.h5"):
            again = f"it holds weights alone: load them into their model, and {again}"
        elif Path(path).suffix.lower() in (".h5", ".hdf5"):
            # With compile=True Keras looks in vain for losses such as "mse".
            load = (
                f"import keras_inits; keras.saving.load_model({path!r}, compile=False)"
            )
            again = f'in Python: {load}.save("model.keras")'
        raise Refusal(f"{path} is not a model in Keras's .keras format; {again}")
    try:
        with warnings.catch_warnings():
            # An optimizer that was never used: nothing is lost.
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
            model = keras.saving.load_model(path, compile=compiled, safe_mode=True)
    except Exception as error:
        raise Refusal(f"cannot load {path}: {_why(error)}") from error
    if not isinstance(model, keras.Model):
        raise Refusal(f"{path} holds a {type(model).__name__}, not a model")
    if not model.built:
        raise Refusal(f"the model in {path} is not built: it has no weights yet")
    return model


def _why(error: BaseException) -> str:
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None:
        chain.append(link)
        link = link.__cause__ or link.__context__
    messages = " ".join(map(str, chain))
    missing = re.search(r"Could not locate (class|function) '([^']+)'", messages)
    if missing:
        return (
            f"it needs the custom {missing[1]} {missing[2]!r}, which no package that "
            "is installed here registers. Use keras_inits from Python, where "
            f"{missing[2]!r} is defined: keras_inits.measure, keras_inits.lsuv_init"
        )
    if "unsafe_deserialization" in messages or "safe_mode=False" in messages:
        return (
            "it holds code (a Lambda layer, for example) that Keras's safe mode does "
            "not run, and this command never turns safe mode off. Use keras_inits from "
            "Python if you trust the file"
        )
    return one_line(error, 300)


def read_arrays(path: str) -> Arrays:
    """Every array of an `.npz` or `.npy` file, by name."""
    _require_file(path)
    try:
        with open(path, "rb") as file:  # NumPy leaves a damaged one open
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                arrays = {SINGLE: loaded}
            else:
                with loaded:
                    arrays = {name: loaded[name] for name in loaded.files}
    except MemoryError as error:
        raise Refusal(f"{path} does not fit into memory") from error
    except Exception as error:  # whatever a damaged file makes of zipfile and zlib
        if "allow_pickle" in str(error) and "Object arrays" in str(error):
            raise Refusal(
                f"{path} holds an array of Python objects, which is never unpickled; "
                "save numbers: np.savez(path, x=np.asarray(x, 'float32'))"
            ) from error
        raise Refusal(
            f"{path} is not a readable .npz or .npy file ({type(error).__name__}); "
            "save it with np.savez(path, x=x)"
        ) from error
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "biufcSU":
            raise Refusal(f"{name!r} in {path} is not an array of numbers")
    return arrays


def inputs_of(model: keras.Model, arrays: Arrays, path: str, *, labels: bool) -> Any:
    """What the model is to be called with: by input name, `x`, or the only array.

    A dict within a dict has names such as `"v/u"`. Inputs in a list also go by their
    places, as `np.savez(path, one, other)` numbers them.
    """
    structure = input_structure(model)
    names = [name for name, _, _ in expected_inputs(model)]
    places = [f"arr_{i}" for i in range(len(names))]
    others = {k: v for k, v in arrays.items() if not (labels and is_label(k))}
    if len(names) > 1 and not isinstance(structure, Mapping) and {*places} == {*others}:
        return keras.tree.pack_sequence_as(structure, [others[x] for x in places])
    missing = [name for name in names if name not in arrays]
    if names and not missing:
        return _filled(structure, {name: arrays[name] for name in names})
    if len(names) <= 1:
        if "x" in others:
            return others["x"]
        if len(others) == 1:
            return next(iter(others.values()))
    wanted = "'x', or a single array"
    if len(names) > 1:
        wanted = f"{_listed(names)}; missing: {_listed(missing)}"
    received = _listed(sorted(arrays)) or "no array"
    raise Refusal(f"{path} must hold {wanted}. Received: {received}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _filled(structure: Any, arrays: Arrays, above: str = "") -> Any:
    """The arrays, by the names that `expected_inputs` has, in the model's structure."""
    if not above and not isinstance(structure, Mapping):
        return keras.tree.pack_sequence_as(structure, list(arrays.values()))
    below = f"{above}/" if above else ""
    if isinstance(structure, Mapping):
        return {k: _filled(x, arrays, f"{below}{k}") for k, x in structure.items()}
    if isinstance(structure, (list, tuple)):
        return [_filled(x, arrays, f"{below}{i}") for i, x in enumerate(structure)]
    return arrays[above]
