"""Command line and tables of the benchmark scripts."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import sys
from collections.abc import Sequence
from typing import Any

import keras


def parser(question: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the script's own docstring, with `--full`."""
    made = argparse.ArgumentParser(
        description=question, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "--full", action="store_true", help="all sizes (minutes), not the quick ones"
    )
    return made


def print_machine(question: str | None) -> None:
    """The first line of the question, and what it was asked of."""
    backend = keras.backend.backend()
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("keras", backend)
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else "?"
    print((question or "").strip().splitlines()[0])
    threads = os.environ.get("OMP_NUM_THREADS")
    limit = f", OMP_NUM_THREADS={threads}" if threads else ""
    python = platform.python_version()
    print(f"Python {python}, {versions}, {cores} cores{limit}{_gpu()}, float32")
    print()


def _gpu() -> str:
    """The first GPU that the backend uses, by name."""
    module, names = sys.modules[keras.backend.backend()], []
    if keras.backend.backend() == "torch" and module.cuda.is_available():
        names = [module.cuda.get_device_name(0)]
    elif keras.backend.backend() == "jax":
        names = [x.device_kind for x in module.devices() if x.platform == "gpu"]
    elif keras.backend.backend() == "tensorflow":
        names = [x.name for x in module.config.list_physical_devices("GPU")]
    return "".join(f", {name}" for name in names[:1])


def shown(value: Any) -> str:
    """A cell: text as it is, None as a dash, ratios and errors with three digits."""
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    if value == 0 or 1e-2 <= abs(value) < 1e4:
        return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
    return f"{value:.1e}"


def print_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Text to the left, figures to the right."""
    cells = [list(header), *([shown(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    text = [all(isinstance(row[i], str) for row in rows) for i in range(len(cells[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if left else cell.rjust(width)
            for cell, width, left in zip(row, widths, text, strict=True)
        ).rstrip()
        for row in cells
    ]
    lines.insert(1, "-" * max(map(len, lines)))
    print("\n".join(lines), flush=True)
    print()
