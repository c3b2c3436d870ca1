"""What must not stay half done: interrupts wait for it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

# Errors that are overheard in a row.
ATTEMPTS = 100
# Signals that come from outside, or from a timer; not those of a fault.
_NAMES = (
    *("SIGINT", "SIGBREAK", "SIGTERM", "SIGHUP", "SIGALRM", "SIGVTALRM", "SIGPROF"),
    *("SIGUSR1", "SIGUSR2", "SIGTSTP", "SIGCONT", "SIGCHLD", "SIGWINCH"),
)
_SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))


def insist(function: Callable[..., Any], *arguments: Any) -> None:
    """Call what must not stay half done, and does the same again: interrupts wait."""
    for _ in range(ATTEMPTS):
        with contextlib.suppress(KeyboardInterrupt):
            function(*arguments)
            return


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Signals are heard afterwards.

    Handlers that are written in Python run in the main thread, between any two steps of
    it, and may raise: Ctrl-C, an alarm. Other threads they do not disturb.
    """
    heard: list[tuple[int, Any]] = []
    with contextlib.ExitStack() as handlers:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                handler = signal.getsignal(number)
                if callable(handler):
                    handlers.callback(signal.signal, number, handler)
                    signal.signal(number, lambda *call: heard.append(call))
        yield
    for call in heard:
        handler = signal.getsignal(call[0])
        if callable(handler):
            handler(*call)
