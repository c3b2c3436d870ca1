"""Pages that are made by a script say what the script says today."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import keras
import pytest

pytestmark = [pytest.mark.any_keras, pytest.mark.any_backend]

TABLES = Path(__file__).parent.parent / "docs" / "tables"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TABLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_weighted_layer_of_keras_has_a_line() -> None:
    """A KeyError here names a layer class that is neither covered nor left alone."""
    layers = script("layers")
    assert len(layers.page().splitlines()) > len(layers.weighted_classes())


def test_what_holds_layers_or_cells_has_a_line_too() -> None:
    """Wrappers, attention, stacked cells: none has weights of its own."""
    page = script("layers").page()
    for name in (
        *("Bidirectional", "TimeDistributed", "StackedRNNCells"),
        *("MultiHeadAttention", "GroupQueryAttention"),
    ):
        assert f"\n| `{name}` | covered | by " in page


def test_the_page_on_layers_is_up_to_date() -> None:
    layers = script("layers")
    written = layers.PAGE.read_text("utf-8")
    if f"(Keras {keras.__version__})" not in written:
        pytest.skip("the page is about another version of Keras")
    assert layers.page() == written
