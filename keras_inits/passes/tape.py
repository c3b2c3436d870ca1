"""A pass that is noted once and played from then on: PyTorch.

What takes the time of a pass over small layers is Python between its operations,
Keras's and ours. Played, these alone are called, on other tensors of the same shapes.
"""

from __future__ import annotations

import operator
import sys
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any

from keras_inits.backends import OWN, read
from keras_inits.passes.calls import (
    Noted,
    Place,
    Step,
    Unplayable,
    is_tensor,
    tensors_of,
)
from keras_inits.passes.notes import Notes

Tensor = Any
Call = Callable[..., Any]

# Mean number of values of a result beyond which Python takes no part of the time.
MOST = 2**17


class Played:
    """A pass that is noted when it runs for the first time, and played from then on.

    Args:
        function: From tensors to a list of tensors.
        arguments: The tensors of the first pass, in any structure.

    Raises:
        Unplayable: See `Tape`; or operations, not Python, take the time of a pass.
    """

    def __init__(self, function: Call, arguments: tuple[Any, ...]) -> None:
        self._torch = sys.modules["torch"]
        self._single: list[bool] = []

        def packed(*arguments: Any) -> list[Tensor]:
            found = function(*arguments)
            self._single = [is_tensor(x) and x.dim() == 0 for x in found]
            pairs = list(zip(found, self._single, strict=True))
            several = [x for x, single in pairs if not single]
            together = [x for x, single in pairs if single]
            wide = self._torch.float64
            if any(x.dtype == wide for x in together):
                together = [x.to(wide) for x in together]
            return [*([self._torch.stack(together)] if together else []), *several]

        with self._torch.no_grad():
            self._tape = Tape(packed, arguments)
        on_cpu = all(x.device.type == "cpu" for x in tensors_of(arguments))
        if on_cpu and self._tape.values > MOST:
            raise Unplayable("It takes longer than what is computed at once.")
        self._first: list[Tensor] | None = self._tape.first
        self._tape.first = []

    def __call__(self, arguments: tuple[Any, ...]) -> list[Any]:
        """Numbers, NumPy arrays, and whatever else steps of ours return."""
        found, self._first = self._first, None
        if found is None:
            with self._torch.no_grad():
                found = self._tape(arguments)
        together = any(self._single)
        single = iter(found[0].tolist() if together else ())
        several = iter(read(found[1:] if together else found))
        return [next(single if x else several) for x in self._single]


def layout(arguments: tuple[Any, ...]) -> Hashable:
    """How these tensors lie in memory, and where; which are one and the same."""
    torch = sys.modules["torch"]
    numbers: dict[int, int] = {}
    rows = [
        (x.device, x.stride(), numbers.setdefault(id(x), len(numbers)))
        for x in tensors_of(arguments)
    ]
    # What narrows operations of torch, unseen by Keras.
    narrowed = [torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda")]
    return tuple(rows), *narrowed


class Tape:
    """A function of tensors as the calls that it leads to.

    Args:
        function: From tensors to a list of tensors. It is called once.
        arguments: The tensors that it is called with, in any structure.

    Attributes:
        first: What that call returned.
        values: Mean number of values that a call returned.

    Raises:
        Unplayable: It reads values, draws random numbers, writes into tensors, or calls
            what cannot be noted.
    """

    def __init__(self, function: Call, arguments: tuple[Any, ...]) -> None:
        leaves = list(tensors_of(arguments))
        notes = Notes(leaves)
        with notes:
            found = function(*arguments)
        self.first = [x.value if isinstance(x, Noted) else x for x in found]
        self._results = [notes.place_of(x) for x in found]
        self._inputs = [notes.place_of(x) for x in leaves]
        steps = _needed(notes.steps, self._results)
        self.values = notes.values / max(1, notes.calls)
        self._plan, self._start = _plan(steps, self._inputs, self._results, notes.fixed)

    def __call__(self, arguments: tuple[Any, ...]) -> list[Tensor]:
        """What the function would return; tensors of the same shapes and dtypes."""
        values = self._start.copy()
        for place, tensor in zip(self._inputs, tensors_of(arguments), strict=True):
            values[place.number] = tensor
        for call, given, made, last in self._plan:
            values[made] = call(*given(values))
            for number in last:
                values[number] = None
        return [values[place.number] for place in self._results]


def _needed(steps: Sequence[Step], results: Sequence[Place]) -> list[Step]:
    """Without the steps whose results nobody reads."""
    wanted, found = set(results), []
    for step in reversed(steps):
        if step.writes or step.made in wanted:
            found.append(step)
            wanted.update(step.read())
    return found[::-1]


def _plan(
    steps: Sequence[Step],
    inputs: Sequence[Place],
    results: Sequence[Place],
    fixed: dict[Place, Tensor],
) -> tuple[list[Any], list[Any]]:
    """Each step as a function, the numbers it reads, makes, reads last; the values."""
    start: list[Any] = []

    def number(value: Any) -> int:
        start.append(value)
        return len(start) - 1

    _overwrite_own(steps, results)
    for place in (*inputs, *(x.made for x in steps)):
        place.number = number(None)
    for place, tensor in fixed.items():
        place.number = number(tensor)
    kept = {*results, *fixed, *inputs}
    plan = []
    for step in reversed(steps):
        read = list(step.read())
        last = tuple({x.number for x in (*read, step.made) if x not in kept})
        kept.update(read)
        call, numbers = step.function, [x.number for x in read]
        if len(read) != sum(isinstance(x, Place) for x in step.args):
            call = partial(_nested, call, step.args, step.kwargs)
        else:
            numbers = [
                x.number if isinstance(x, Place) else number(x) for x in step.args
            ]
            call = partial(call, **step.kwargs) if step.kwargs else call
        plan.append((call, _getter(numbers), step.made.number, last))
    return plan[::-1], start


def _overwrite_own(steps: Sequence[Step], results: Sequence[Place]) -> None:
    """Let a step write into its first tensor, new, and read by nobody else."""
    torch = sys.modules["torch"]
    fresh = {torch.addmm, torch.add, torch.mm, torch.matmul}
    made = {x.made for x in steps if x.function in fresh and not x.writes}
    readers = Counter([*results, *(place for x in steps for place in x.read())])
    for step in steps:
        if step.function in OWN:
            first = step.args[0]
            if first in made and readers[first] == 1:
                step.function = OWN[step.function]


def _getter(numbers: Sequence[int]) -> Callable[[list[Any]], Sequence[Any]]:
    if len(numbers) > 1:
        return operator.itemgetter(*numbers)
    first = numbers[0] if numbers else 0
    return operator.itemgetter(slice(first, first + len(numbers)))


def _nested(function: Call, args: Any, kwargs: dict[str, Any], *tensors: Tensor) -> Any:
    """A call with tensors deeper in its arguments, in the order of the places."""
    found = iter(tensors)

    def filled(x: Any) -> Any:
        if isinstance(x, Place):
            return next(found)
        if isinstance(x, dict):
            return {k: filled(y) for k, y in x.items()}
        return type(x)(map(filled, x)) if type(x) in (list, tuple) else x

    return function(*filled(args), **filled(kwargs))
