"""A report as HTML, for notebooks."""

from __future__ import annotations

import html

from keras_inits.rendering.tables import columns
from keras_inits.rendering.text import (
    EMPTY,
    Report,
    gain_line,
    headline,
    shown,
    verdict,
)

# Colours are inherited and rules are half transparent: right in light and dark.
_CSS = """
.keras-inits table {border-collapse: collapse; font-variant-numeric: tabular-nums}
.keras-inits th, .keras-inits td {padding: .15em .7em; white-space: nowrap;
  border-bottom: 1px solid rgba(128, 128, 128, .35)}
.keras-inits .left {text-align: left}
.keras-inits .right {text-align: right}
.keras-inits .scroll {overflow: auto; max-height: 40em}
"""


def _html_cell(tag: str, text: str, justify: str) -> str:
    return f'<{tag} class="{justify}">{html.escape(text)}</{tag}>'


def _html_findings(report: Report) -> str:
    if not report.findings:
        if report.notes and not len(report):
            return ""
        return f"<p>{html.escape(verdict(report) if len(report) else EMPTY)}</p>"
    items = "".join(
        f"<li><b>{html.escape(finding.text)}</b><br>"
        f"<code>{html.escape(finding.remedy)}</code></li>"
        for finding in report.findings
    )
    return f"<ol>{items}</ol>"


def to_html(report: Report) -> str:
    """The table for a notebook: all columns, scrolling where it is too large."""
    rows = shown(report)
    found = columns(rows)
    head = "".join(_html_cell("th", column.label, column.justify) for column in found)
    body = "".join(
        "<tr>" + "".join(_html_cell("td", c.cells[i], c.justify) for c in found)
        + "</tr>"
        for i in range(len(rows))
    )  # fmt: skip
    notes = [html.escape(note) for note in report.notes]
    if report.plain and report.gradient_gain is not None:
        notes.insert(0, gain_line(report, report.gradient_gain))
    return (
        f'<div class="keras-inits"><style>{_CSS}</style>'
        f"<p><b>{html.escape(headline(report))}</b></p>"
        '<div class="scroll"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        + "".join(f"<p>{note}</p>" for note in notes)
        + f"{_html_findings(report)}</div>"
    )
