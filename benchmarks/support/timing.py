"""Times within one run: interleaved, so that the machine's mood is shared by all."""

from __future__ import annotations

import contextlib
import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import keras


class Timed(NamedTuple):
    """Seconds of each round, and what is done with them.

    Args:
        seconds: wall time.
        work: processor time of the whole process, all threads: what is left of a
            ratio when others use the machine too.
    """

    seconds: tuple[float, ...]
    work: tuple[float, ...] = ()

    @property
    def median(self) -> float:
        """The middle of the rounds."""
        return statistics.median(self.seconds)

    def over(self, other: Timed) -> float:
        """Median of the ratios to `other`, round by round: drift cancels."""
        pairs = zip(self.seconds, other.seconds, strict=True)
        return statistics.median(a / b for a, b in pairs)

    def work_over(self, other: Timed) -> float:
        """The same of processor time."""
        pairs = zip(self.work, other.work, strict=True)
        return statistics.median(a / b for a, b in pairs)


@contextlib.contextmanager
def no_gradients() -> Iterator[None]:
    """What inference needs: on PyTorch, no graph for a backward pass."""
    if keras.backend.backend() == "torch":
        with sys.modules["torch"].no_grad():
            yield
    else:
        yield


def wait(result: Any) -> None:
    """Until the device has computed `result`: JAX and any GPU answer before it has."""
    leaves = keras.tree.flatten(result)
    for leaf in leaves:
        if hasattr(leaf, "block_until_ready"):
            leaf.block_until_ready()
    devices = {str(getattr(leaf, "device", "")) for leaf in leaves}
    if keras.backend.backend() == "torch" and any("cuda" in x for x in devices):
        sys.modules["torch"].cuda.synchronize()


def seconds(function: Callable[[], Any]) -> tuple[float, float]:
    """Wall time and processor time of one call."""
    start = time.perf_counter(), time.process_time()
    wait(function())
    return time.perf_counter() - start[0], time.process_time() - start[1]


def interleaved(
    functions: Mapping[str, Callable[[], Any]],
    rounds: int,
    before: Callable[[], Any] | None = None,
    warm_up: int = 1,
) -> dict[str, Timed]:
    """Calls every function once in each round, in turn; the warm-up is not counted.

    Args:
        functions: what to time, by name.
        rounds: number of rounds that count.
        before: is called, untimed, before each call and after the last.
        warm_up: number of rounds that do not count.
    """
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in functions}
    for index in range(warm_up + rounds):
        for name, function in functions.items():
            gc.collect()
            if before is not None:
                wait(before())
            took = seconds(function)
            if index >= warm_up:
                times[name].append(took)
    if before is not None:
        before()
    return {
        name: Timed(*map(tuple, zip(*rounds_of, strict=True)))
        for name, rounds_of in times.items()
    }
