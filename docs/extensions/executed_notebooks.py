"""Puts the notebooks among the tutorials: executed, where `make notebooks` has run.

Sphinx reads what lies below its own folder. A notebook that was executed comes with
its outputs; one that was not, or that has changed since, comes without, and says so.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.util import logging

HERE = Path(__file__).parent.parent
SOURCES = HERE.parent / "notebooks"
EXECUTED = HERE / "_build" / "notebooks"
TUTORIALS = HERE / "tutorials"

NOTE = """```{note}
This notebook was not executed when the site was built. `make notebooks docs` shows it
with its outputs.
```"""


def copy_notebooks(app: Sphinx) -> None:
    for path in TUTORIALS.glob("*.ipynb"):
        if not (SOURCES / path.name).exists():
            path.unlink()
    for source in sorted(SOURCES.glob("*.ipynb")):
        text = json.dumps(_shown(source), indent=1)
        target = TUTORIALS / source.name
        # Sphinx reads again what is newer than its last build.
        if not target.exists() or target.read_text("utf-8") != text:
            target.write_text(text, "utf-8")


def _shown(source: Path) -> dict[str, Any]:
    notebook = _read(source)
    executed = EXECUTED / source.name
    if executed.exists():
        outcome = _read(executed)
        if _code(outcome) == _code(notebook):
            return outcome
    logging.getLogger(__name__).info("%s: shown without outputs", source.name)
    note = {"cell_type": "markdown", "id": "note", "metadata": {}, "source": NOTE}
    notebook["cells"].insert(1, note)
    return notebook


def _read(path: Path) -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return notebook


def _code(notebook: dict[str, Any]) -> list[str]:
    return ["".join(cell["source"]) for cell in notebook["cells"]]


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", copy_notebooks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
