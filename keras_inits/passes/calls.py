"""Calls of a noted pass: what is called, and where its tensors are kept."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

Tensor = Any
Call = Callable[..., Any]


class Unplayable(Exception):
    """Played again on other values, it would do something else."""


@dataclass(eq=False)
class Place:
    """Where a tensor is kept while the tape plays."""

    number: int = -1


@dataclass(eq=False)
class Step:
    """One call.

    Args:
        function: What is called.
        args: With places where tensors were.
        kwargs: Likewise.
        made: The place of the result.
        writes: Whether it changes one of its arguments: a temporary of the pass.
    """

    function: Call
    args: Any
    kwargs: dict[str, Any]
    made: Place = field(default_factory=Place)
    writes: bool = False

    def read(self) -> Iterator[Place]:
        """The places of its arguments."""
        leaves = leaves_of((self.args, self.kwargs))
        return (x for x in leaves if isinstance(x, Place))


@dataclass(eq=False)
class Noted:
    """What a step has returned that is no tensor, and where it is kept.

    Nobody can compute with it: that would be noted nowhere.
    """

    value: Any
    place: Place
    shape: tuple[int, ...] = ()


def leaves_of(x: Any) -> Iterator[Any]:
    """In order; what no container holds."""
    if isinstance(x, dict):
        x = list(x.values())
    if type(x) in (list, tuple):
        for y in x:
            yield from leaves_of(y)
    else:
        yield x


def tensors_of(x: Any) -> Iterator[Tensor]:
    """The tensors among them."""
    return filter(is_tensor, leaves_of(x))


def is_tensor(x: Any) -> bool:
    """Whether it is one of torch."""
    return isinstance(x, sys.modules["torch"].Tensor)
