"""Every public name is in the reference, and the examples of docstrings are true."""

from __future__ import annotations

import doctest
import inspect
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import keras_inits
from keras_inits import initializers, plotting, porting, report

pytestmark = pytest.mark.any_keras

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"
DIRECTIVE = re.compile(r"^\.\. auto(\w+):: (\S+)$", re.MULTILINE)


def documented() -> set[str]:
    found = [
        x for p in REFERENCE.glob("*.md") for x in DIRECTIVE.findall(p.read_text())
    ]
    names = {name.rpartition(".")[2] for _, name in found}
    # The page on initializers has all that their package exports.
    return names | set(initializers.__all__)


def test_every_public_name_is_in_the_reference() -> None:
    assert set() == set(keras_inits.__all__) - documented()


def test_the_reference_has_no_names_that_are_gone() -> None:
    rooms = (keras_inits, initializers, plotting, porting, report)
    known = {name for room in rooms for name in room.__all__}
    assert set() == documented() - known - {"initializers"}


class FiguresOnly(doctest.OutputChecker):
    """An example without a result may show any; figures agree to 1e-6."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        if not want or super().check_output(want, got, optionflags):
            return True
        try:
            return float(got) == pytest.approx(float(want), rel=1e-6)
        except ValueError:
            return False


def run_examples(
    item: Any, name: str, namespace: dict[str, Any]
) -> doctest.TestResults:
    text = inspect.getdoc(item) or ""
    test = doctest.DocTestParser().get_doctest(text, namespace, name, None, 0)
    runner = doctest.DocTestRunner(FiguresOnly(), verbose=False)
    return runner.run(test, out=lambda message: print(message, end=""))


@pytest.mark.parametrize("name", [*keras_inits.__all__, "porting.torch_default"])
def test_the_examples_of_the_docstring_run(name: str, tmp_cwd: Path) -> None:
    item: Any = keras_inits
    for part in name.split("."):
        item = getattr(item, part)
    dense = keras.layers.Dense(3, kernel_initializer="lsuv_normal")
    model = keras.Sequential([keras.Input((4,)), dense])
    model.save("model.keras")
    namespace = {
        **{"keras": keras, "keras_inits": keras_inits, "np": np},
        **{"compute_fans": keras_inits.compute_fans, "model": model, "layer": dense},
    }
    assert run_examples(item, name, namespace).failed == 0


def test_an_example_that_is_wrong_fails() -> None:
    def wrong() -> None:
        """Adds.

        >>> 1.0 + 1.0
        2.1
        """

    assert run_examples(wrong, "wrong", {}).failed == 1
