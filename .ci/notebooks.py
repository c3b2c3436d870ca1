"""Executes notebooks/*.ipynb, or those named, and writes nothing back.

    python .ci/notebooks.py [NOTEBOOK ...]

Fails if a cell raises, or if a notebook was committed with its outputs. What was
executed lies in docs/_build/notebooks afterwards, where the documentation finds it.
"""

import resource
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError

# A notebook takes under 4 minutes on two cores; on cores that others use, longer.
SECONDS_PER_CELL = 900
EXECUTED = Path("docs/_build/notebooks")


def problem_with(path: Path) -> str | None:
    """What is wrong with a notebook, or None."""
    notebook = nbformat.read(path, as_version=4)
    if any(cell.get("outputs") for cell in notebook.cells):
        return "has outputs: clear them before committing"
    client = NotebookClient(
        notebook,
        timeout=SECONDS_PER_CELL,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
    )
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError) as error:
        return str(error)
    EXECUTED.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, EXECUTED / path.name)
    return None


def processor_seconds() -> float:
    """Of the kernels that have ended, all threads together."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(names: list[str]) -> int:
    paths = [Path(name) for name in names] or sorted(Path("notebooks").glob("*.ipynb"))
    failed = 0
    for path in paths:
        start, processor = time.monotonic(), processor_seconds()
        problem = problem_with(path)
        failed += problem is not None
        verdict = f"FAILED: {problem}" if problem else "ok"
        took = time.monotonic() - start
        work = processor_seconds() - processor
        print(f"{path} ({took:.0f} s, {work:.0f} of work): {verdict}", flush=True)
    print(f"{len(paths) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
