"""Docstrings as they are read in a terminal, made into what Sphinx reads.

Tables and fences are Markdown's, and code stands indented or behind `>>>`. Sections
such as `Args:` are left to napoleon, which comes after this.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sphinx.application import Sphinx

SECTIONS = ("Args:", "Attributes:", "Raises:", "References:")
EXAMPLES = ("Example:", "Examples:")
ARXIV = re.compile(r"\barXiv:(\d{4}\.\d{4,5})")
# Before napoleon, which has Sphinx's default priority of 500.
EARLY = 400


def to_rst(lines: list[str]) -> list[str]:
    """The lines of one docstring as reStructuredText."""
    return list(_Converter(lines).convert())


class _Converter:
    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.at = 0

    def convert(self) -> Iterator[str]:
        while self.at < len(self.lines):
            line = self.lines[self.at]
            blank_before = self.at == 0 or not self.lines[self.at - 1].strip()
            if line in SECTIONS:
                yield from map(_linked, self._section())
            elif line == "Returns:":
                yield from self._returns()
            elif line in EXAMPLES:
                self.at += 1
                yield from (f".. rubric:: {line[:-1]}", "")
            elif line.startswith("```"):
                yield from self._fence()
            elif line.startswith(">>> "):
                yield from _code("pycon", self._while(bool))
            elif line.startswith("|"):
                yield from _table(self._while(lambda x: x.startswith("|")))
            elif line.startswith("    ") and blank_before:
                block = self._while(lambda x: not x.strip() or x.startswith("    "))
                yield from _code("python", [x[4:] for x in block])
            else:
                self.at += 1
                yield _linked(line)

    def _while(self, belongs: Any) -> list[str]:
        start = self.at
        while self.at < len(self.lines) and belongs(self.lines[self.at]):
            self.at += 1
        return self.lines[start : self.at]

    def _section(self) -> list[str]:
        self.at += 1
        inside = self._while(lambda x: not x.strip() or x.startswith(" "))
        return [self.lines[self.at - len(inside) - 1], *inside]

    def _returns(self) -> Iterator[str]:
        """As a field: napoleon takes what is before a colon for the type."""
        first, *others = (line.strip() for line in self._section()[1:])
        yield from ("", f":returns: {_linked(first)}")
        yield from (f"   {_linked(line)}" if line else "" for line in others)

    def _fence(self) -> list[str]:
        language = self.lines[self.at][3:] or "text"
        self.at += 1
        block = self._while(lambda x: not x.startswith("```"))
        self.at += 1
        return _code(language, block)


def _code(language: str, block: list[str]) -> list[str]:
    while block and not block[-1].strip():
        block = block[:-1]
    return ["", f".. code-block:: {language}", "", *(f"   {x}" for x in block), ""]


def _table(rows: list[str]) -> list[str]:
    cells = [[x.strip() for x in row.strip("|").split("|")] for row in rows]
    out = ["", ".. list-table::", "   :header-rows: 1", ""]
    for row in [cells[0], *cells[2:]]:
        out += [f"   {'*' if i == 0 else ' '} - {cell}" for i, cell in enumerate(row)]
    return [*out, ""]


def _linked(line: str) -> str:
    return ARXIV.sub(r"`arXiv:\1 <https://arxiv.org/abs/\1>`__", line)


def _process(
    app: Sphinx, what: str, name: str, item: Any, options: Any, lines: list[str]
) -> None:
    lines[:] = to_rst(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    app.setup_extension("sphinx.ext.autodoc")  # which declares the event
    app.connect("autodoc-process-docstring", _process, priority=EARLY)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
