"""The pages on gains and on `initialize` say what their scripts find."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
from test_docs import script

pytestmark = pytest.mark.any_keras


@pytest.mark.any_backend  # the gains themselves: test_gains.py
def test_the_page_on_gains_is_up_to_date() -> None:
    gains = script("gains")
    assert gains.page() == gains.PAGE.read_text("utf-8")


def test_a_string_means_the_same_for_every_layer() -> None:
    """The column of `initialize` in the page: variance 1 for each of the cases."""
    initialize = script("initialize")
    written = initialize.PAGE.read_text("utf-8")
    rows = re.findall(r"^\| (`.*) \| ([\d.]+) \| ([\d.]+) \| ", written, re.MULTILINE)
    assert [name for name, _, _ in rows] == [case.name for case in initialize.cases()]
    assert [float(ours) for _, _, ours in rows] == pytest.approx([1] * len(rows), 0.03)


@pytest.mark.parametrize("index", [3, 6, 9])  # depthwise, transposed, gates
def test_the_page_on_initialize_is_up_to_date(index: int) -> None:
    initialize = script("initialize")
    case = initialize.cases()[index]
    [row] = [
        line
        for line in initialize.PAGE.read_text("utf-8").splitlines()
        if line.startswith(f"| {case.name} |")
    ]
    for ours, cell in zip((False, True), row.split(" | ")[1:3], strict=True):
        found = initialize.variance(case, ours, seed=0)
        # One draw of the kernel, the page is the mean over several.
        assert found == pytest.approx(float(cell), rel=0.15)


@pytest.mark.parametrize(
    ("kind", "gates", "said"),
    [
        ("SimpleRNN", 1, "`SimpleRNN`"),
        ("GRU", 3, "0.33"),
        ("LSTM", 4, "0.25"),
    ],
)
def test_what_the_page_says_of_recurrent_kernels(
    kind: str, gates: int, said: str
) -> None:
    """Keras's own ones, which `initialize` leaves: variance of `U h` for each gate."""
    initialize = script("initialize")
    layer = getattr(keras.layers, kind)(64)
    layer.build((None, 8, 64))
    kernel = keras.ops.convert_to_numpy(layer.cell.recurrent_kernel)
    state = np.random.default_rng(0).standard_normal((4000, 64))
    per_gate = [np.var(state @ gate) for gate in np.split(kernel, gates, axis=1)]
    assert per_gate == pytest.approx([1 / gates] * gates, rel=0.1)
    page = initialize.PAGE.read_text("utf-8")
    assert page.endswith(initialize.FOOT.format())
    assert said in page
