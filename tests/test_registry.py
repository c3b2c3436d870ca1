"""The strings: all resolve, none shadows Keras, and they print."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import keras
import pytest

import keras_inits.initializers as inits
import keras_inits.registry as registry
from keras_inits.registry import (
    Preset,
    available,
    custom_objects,
    keras_resolves,
    register,
)

ALIASES = [record.name for record in available() if ">" not in record.name]


def test_every_string_makes_a_new_instance_of_its_class() -> None:
    for record in available():
        first, second = (keras.initializers.get(record.name) for _ in range(2))
        assert record.class_name == type(first).__name__
        assert first is not second


def test_every_class_has_its_registered_name() -> None:
    for name in inits.__all__:
        initializer = keras.initializers.get(f"keras_inits>{name}")
        assert type(initializer) is getattr(inits, name)
        assert f"keras_inits>{name}" == keras.saving.get_registered_name(
            getattr(inits, name)
        )


@pytest.mark.any_backend
def test_no_alias_is_a_name_of_keras() -> None:
    """Asked of the installed Keras, in a process that never saw this package."""
    code = """
import json, sys, keras
found = []
for name in json.loads(sys.argv[1]):
    for module in (keras.initializers, keras.activations, keras.constraints,
                   keras.losses, keras.metrics, keras.optimizers, keras.regularizers):
        try:
            module.get(name)
        except Exception:
            continue
        found.append(name)
print(json.dumps(found))
"""
    names = [*ALIASES, "he_normal"]  # the last one shows that the question works
    result = subprocess.run(
        [sys.executable, "-c", code, json.dumps(names)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ["he_normal"] == json.loads(result.stdout.splitlines()[-1])


@pytest.mark.any_backend
def test_no_alias_is_a_string_that_keras_takes_for_anything() -> None:
    """`deserialize_keras_object` puts a custom object in place of an equal string."""
    source = Path(keras.__file__).parent
    strings = {
        node.value
        for path in source.rglob("*.py")
        if not path.name.endswith("_test.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert {"bilinear", "same", "he_normal"} <= strings
    assert strings.isdisjoint(ALIASES)
    # Nor a word that others may take, but for this one.
    assert [alias for alias in ALIASES if "_" not in alias] == ["orthonormal"]


@pytest.mark.parametrize("alias", ["he_normal", "zeros", "relu", "mse", "adam", "l2"])
def test_registering_a_name_of_keras_is_refused(alias: str) -> None:
    assert keras_resolves(alias)
    with pytest.raises(ValueError, match=f"does not resolve itself.*{alias}"):
        register(alias, law="")(_throw_away())
    assert alias not in keras.saving.get_custom_objects()


def test_a_name_of_another_package_is_left_alone() -> None:
    class Theirs:
        pass

    keras.saving.get_custom_objects()["their_alias"] = Theirs
    with pytest.warns(UserWarning, match="another package registered"):
        register("their_alias", law="")(_throw_away())
    assert keras.saving.get_custom_objects()["their_alias"] is Theirs


def _throw_away() -> type:
    return type("ThrownAway", (inits.HeNormal,), {"get_config": lambda self: {}})


@pytest.fixture(autouse=True)
def _same_names_afterwards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers is gone after it."""
    monkeypatch.setattr(registry, "_RECORDS", list(registry._RECORDS))
    monkeypatch.setattr(registry, "_OBJECTS", dict(registry._OBJECTS))
    names = keras.saving.get_custom_objects()
    before = dict(names)
    yield
    names.clear()
    names.update(before)


def test_available_prints_as_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    lines = str(available()).splitlines()
    assert ["string", "class", "law"] == lines[0].split()
    assert len(available()) + 2 == len(lines)
    assert any(line.startswith("lsuv_normal ") for line in lines)
    assert all(record.law for record in available())
    assert str(available()) == repr(available())


@pytest.mark.parametrize("width", [70, 80, 100])
def test_the_table_follows_the_terminal(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = str(available()).splitlines()
    assert max(map(len, lines)) <= width
    narrow = width < 90
    assert narrow == (lines[-1] == f"Not shown at {width} characters: class.")
    assert narrow == ("LSUVNormal  " not in "\n".join(lines))
    # Nothing is lost: the words of every law stand in the column of the laws.
    column = lines[0].index("law")
    told = " ".join(line[column:].strip() for line in lines[2:])
    for record in available():
        assert " ".join(record.law.split()) in told
        assert any(line.startswith(f"{record.name} ") for line in lines)


@pytest.mark.any_backend
def test_behind_a_pipe_every_record_is_one_line() -> None:
    code = "import keras_inits; print(keras_inits.available())"
    environment = {k: v for k, v in os.environ.items() if k != "COLUMNS"}
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    for record in available():
        assert any(
            line.startswith(record.name) and line.endswith(f"  {record.law}")
            for line in result.stdout.splitlines()
        )


def test_custom_objects_by_every_name() -> None:
    objects = custom_objects()
    for record in available():
        assert record.name in objects
    for name in inits.__all__:
        assert objects[name] is objects[f"keras_inits>{name}"] is getattr(inits, name)
    objects.clear()
    assert custom_objects()


def test_a_preset_is_saved_as_its_class() -> None:
    first = keras.initializers.get("looks_linear_first")
    assert first.mirrored_input is False
    saved = keras.saving.serialize_keras_object(first)
    assert "keras_inits>LooksLinear" == saved["registered_name"]
    assert isinstance(custom_objects()["looks_linear_first"], Preset)
    assert custom_objects()["looks_linear_first"](gain=2.0).gain == 2.0
