"""Every Python block of the how-to and explanation pages runs and prints what it says.

The blocks of a page run one after another. A line `print(...)  # 1.0` says what it
prints: words as they are, numbers within 2 %. A line `% backend: jax` above a block
means that it is for that backend alone.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted([*DOCS.glob("howto/*.md"), *DOCS.glob("explanation/*.md")])
BLOCK = re.compile(
    r"^(?:% backend: (?P<backend>\w+)\n)?```python\n(?P<code>.*?)^```",
    re.MULTILINE | re.DOTALL,
)
PRINTS = re.compile(r"^ *print\(.*\)  # (.+)$", re.MULTILINE)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
# A printed line may have as many characters more: another last digit, or two.
DIGITS = 2


def blocks(page: Path, backend: str) -> list[str]:
    found = BLOCK.finditer(page.read_text("utf-8"))
    return [m["code"] for m in found if m["backend"] in (None, backend)]


def assert_says(said: str, printed: str) -> None:
    """`printed` reads as `said`, numbers rounded."""
    assert NUMBER.sub("#", said) == NUMBER.sub("#", printed)
    expected = [float(number) for number in NUMBER.findall(said)]
    actual = [float(number) for number in NUMBER.findall(printed)]
    assert expected == pytest.approx(actual, rel=0.02, abs=1e-6)
    assert len(printed) <= len(said) + DIGITS, "the page rounds, a reader cannot"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_page_runs_and_prints_what_it_says(
    page: Path, backend: str, tmp_cwd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    namespace: dict[str, object] = {"__name__": "__main__"}
    for code in blocks(page, backend):
        exec(compile(code, str(page), "exec"), namespace)
        said = PRINTS.findall(code)
        assert len(said) == code.count("print(")
        printed = capsys.readouterr().out.splitlines()
        assert len(said) <= len(printed)
        for expected, actual in zip(said, printed, strict=len(said) > 0):
            assert_says(expected, actual)


def test_there_are_pages() -> None:
    assert len(PAGES) > 10


@pytest.mark.parametrize(
    ("printed", "seen"),
    [
        ("1.1", r"\[1\.0\] == approx\(\[1\.1"),
        ("std 1.0", "'#' == 'std #'"),
        ("[1.0]", r"'#' == '\[#\]'"),
        ("True", "'#' == 'True'"),
        ("0.9999999508663919", "the page rounds"),
    ],
)
def test_a_page_that_is_wrong_is_noticed(printed: str, seen: str) -> None:
    with pytest.raises(AssertionError, match=seen):
        assert_says("1.0", printed)


def test_the_page_on_reports_has_every_column() -> None:
    """Names, shapes and numbers of parameters speak for themselves."""
    from keras_inits.rendering import tables

    page = (DOCS / "howto" / "read_report.md").read_text("utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    fields = {field for _, field, *_ in tables._COLUMNS}
    for field in fields - {"output_shape", "parameters"} | {"status"}:
        assert any(f"`{field}`" in row for row in rows), field
