"""Figures from a fresh process: the script runs itself once more, as a child."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from typing import Any


def figures(script: str, *arguments: str) -> dict[str, float]:
    """What `script --child ...` prints in its last line, as JSON."""
    command = [sys.executable, script, "--child", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def answer(**found: Any) -> None:
    """What the child prints, last."""
    print(json.dumps(found))


def median_of(rounds: list[dict[str, float]], key: str) -> float:
    """The middle of one figure over the rounds."""
    return statistics.median(found[key] for found in rounds)
