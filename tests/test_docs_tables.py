"""The pages on gains and on `initialize` say what their scripts find."""

from __future__ import annotations

import re

import pytest
from test_docs import script


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
