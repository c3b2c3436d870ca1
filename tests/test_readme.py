"""What the README shows runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [code for tag, code in FENCE.findall(README) if tag == language]


def without_figures(table: str) -> list[str]:
    """Its lines of text, a `#` for each figure, however wide the columns are."""
    lines = (re.sub(r"-?\d[\d.,e-]*", "#", line) for line in table.splitlines())
    return [" ".join(line.split()) for line in lines if not set(line) & set("━─")]


def test_the_python_blocks_run_one_after_another(
    tmp_cwd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    namespace: dict[str, object] = {"__name__": "__main__"}
    printed = []
    for code in blocks("python"):
        exec(compile(code, "README.md", "exec"), namespace)
        printed.append(capsys.readouterr().out)
    assert without_figures(blocks("text")[0]) == without_figures(printed[0])


def test_the_first_python_block_has_at_most_ten_lines() -> None:
    lines = [line for line in blocks("python")[0].splitlines() if line.strip()]
    assert len(lines) <= 10


def test_the_make_commands_exist() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^(\w+):", makefile, re.MULTILINE))
    shown = set(re.findall(r"make (\w+)", " ".join(blocks("sh"))))
    assert {"demo", "test"} <= shown <= targets


def test_links_into_the_repository_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", README)
    assert [] == [link for link in links if not (ROOT / link).exists()]
