"""The other processes that hold the same model."""

from __future__ import annotations

import contextlib
import math
import os
import pickle
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Protocol

import keras
import numpy as np

from keras_inits.distribution import on_jax, on_tensorflow, on_torch
from keras_inits.errors import DistributionError, KerasInitsError

Tensor = Any

# Seconds to wait for another process: its data may be slow, its model still compiling.
PATIENCE = 300.0
# Bytes of what a process says of itself: enough for a sentence.
WORDS = 512


class Channel(Protocol):
    """What each backend supplies; all processes make the same calls."""

    rank: int
    count: int
    errors: tuple[type[Exception], ...]  # what it raises where one does not come

    def gather(self, words: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Bytes `(n,)` of each process -> `(processes, n)`."""

    def first(self, value: Tensor) -> Tensor:
        """The value that process 0 passes; equal shapes and dtypes everywhere."""

    def close(self) -> None:
        """Give back what was opened."""


class Peers:
    """The processes, and what they say to each other.

    Args:
        channel: The backend's way to do it.
        limit: Seconds to wait for each answer.
        variables: Those of the model, in an order that all processes share.
    """

    def __init__(
        self, channel: Channel, limit: float, variables: list[keras.Variable]
    ) -> None:
        self._channel, self.limit, self.variables = channel, limit, variables
        self.is_first = channel.rank == 0

    def meet(self, words: str, failed: bool = False) -> None:
        """Wait until every process is here and says the same.

        Raises:
            DistributionError: One has failed, says something else, or does not come.
        """
        said = (("!" if failed else " ") + words).encode()[:WORDS].ljust(WORDS, b"\0")
        mine = np.frombuffer(said, "uint8")
        with self._patience(words):
            heard = self._channel.gather(mine)
        if failed:
            return  # the others raise; here the error itself does
        for rank, row in enumerate(heard):
            other = bytes(row).rstrip(b"\0").decode(errors="ignore")
            if other[:1] == "!":
                raise DistributionError(
                    f"Nothing was changed, because process {rank} failed: {other[1:]}"
                )
            if bytes(row) != said:
                raise DistributionError(
                    "All processes must make the same calls of keras_inits on the same "
                    f"model. Received: {words!r} here (process {self._channel.rank}), "
                    f"{other[1:]!r} in process {rank}."
                )

    def first(self, value: Tensor) -> Tensor:
        """What process 0 passes; equal shapes and dtypes everywhere."""
        with self._patience("a value of process 0"):
            return self._channel.first(value)

    def first_object(self, value: Any, words: str) -> Any:
        """What process 0 passes, of any kind.

        All `meet` first: one may have failed instead of coming here.
        """
        self.meet(words)
        data = np.frombuffer(pickle.dumps(value) if self.is_first else b"", "uint8")
        length = self.first(np.asarray([len(data)], "int32"))
        if not self.is_first:
            data = np.zeros(int(np.asarray(length)[0]), "uint8")
        # The processes of one job trust each other, as in `all_gather_object`.
        return pickle.loads(np.asarray(self.first(data)).tobytes())

    @contextlib.contextmanager
    def _patience(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._channel.errors as error:
            first_line = str(error).strip().split("\n")[0][:200]
            raise DistributionError(
                f"Not every one of the {self._channel.count} processes answered at "
                f"{what!r} in {self.limit:g} s ({type(error).__name__}: {first_line}). "
                "Nothing was changed. One may have died or still be busy: look at its "
                "output, or raise KERAS_INITS_TIMEOUT, in seconds. Where one process "
                "alone initialises, set it to 0: each process is then on its own."
            ) from error


# The processes that take part in the verb that is running, if there are any: what it
# computes and what it writes must go through one channel. A context variable, as a verb
# of another thread has nothing to do with them.
_PEERS: ContextVar[Peers | None] = ContextVar("peers", default=None)


def current_peers() -> Peers | None:
    """The processes that take part in the verb that is running; None where alone."""
    return _PEERS.get()


@contextlib.contextmanager
def peers_of(model: keras.Model) -> Iterator[Peers | None]:
    """Finds the processes that hold `model`; None where this one is alone."""
    limit = patience()
    channel = _channel(model, limit) if limit else None
    if channel is None:
        yield None
        return
    peers = Peers(channel, limit, model.variables)
    token = _PEERS.set(peers)
    try:
        yield peers
    finally:
        _PEERS.reset(token)
        channel.close()


def patience() -> float:
    """Seconds to wait for other processes, from `KERAS_INITS_TIMEOUT`; 0: do not."""
    text = os.environ.get("KERAS_INITS_TIMEOUT", "")
    try:
        seconds = float(text) if text else PATIENCE
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise KerasInitsError(
            "KERAS_INITS_TIMEOUT is a number of seconds, 0 for not waiting. "
            f"Received: KERAS_INITS_TIMEOUT={text!r}"
        )
    return seconds


def _channel(model: keras.Model, limit: float) -> Channel | None:
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return on_tensorflow.channel(model, limit)
    if backend == "jax":
        return on_jax.channel(limit)
    return on_torch.channel(limit) if backend == "torch" else None
