"""Which functions of torch a function calls, noted so that they can be called again.

What depends on the values of tensors is refused: the notes would not say so.
"""

from __future__ import annotations

import functools
import operator
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from keras_inits.backends import QUICK, noted
from keras_inits.passes.calls import (
    Noted,
    Place,
    Step,
    Unplayable,
    is_tensor,
    tensors_of,
)
from keras_inits.statistics.dense_figures import is_dense

Tensor = Any
Call = Callable[..., Any]

# Results of more values, of no tensor of others, are made anew each time.
SMALL = 1024
# What may be returned that is no tensor: it follows from shapes and dtypes alone.
_FIXED = frozenset(
    {
        *(
            "__len__",
            "dim",
            "element_size",
            "get_device",
            "is_complex",
            "is_contiguous",
        ),
        *("is_floating_point", "is_inference", "ndimension", "nelement", "numel"),
        *("_set_grad_enabled", "result_type", "size", "storage_offset", "stride"),
    }
)
_PROPERTIES = frozenset(
    {
        *(
            "data",
            "device",
            "dtype",
            "grad_fn",
            "is_cpu",
            "is_cuda",
            "is_leaf",
            "is_meta",
        ),
        *("is_mkldnn", "is_mps", "is_nested", "is_quantized", "is_sparse", "is_xpu"),
        *("itemsize", "layout", "names", "nbytes", "ndim", "requires_grad", "shape"),
    }
)


class Notes:
    """All calls of functions of torch on this thread, as long as it is entered."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        from torch.utils.weak import WeakTensorKeyDictionary

        self.steps: list[Step] = []
        self.fixed: dict[Place, Tensor] = {}
        self.values = self.calls = 0
        self._made: set[Place] = set()
        self._written = self._calling = False
        self._within = False  # a step of ours
        self._lasting = set(map(_memory, inputs))
        self._places: Any = WeakTensorKeyDictionary()
        for tensor in inputs:
            self._places[tensor] = Place()

    def __enter__(self) -> None:
        functions, operations = _modes()
        self._modes = functions(self._note), operations(self._look)
        self._token = noted.set(self)
        for mode in self._modes:
            mode.__enter__()

    def __exit__(self, *error: Any) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)
        noted.reset(self._token)

    def place_of(self, tensor: Any) -> Place:
        """Of one that nobody has made here: it stays as it is."""
        if isinstance(tensor, Noted):
            return tensor.place
        place = self._places.get(tensor)
        if place is None:
            place = self._places[tensor] = Place()
            self.fixed[place] = tensor
            self._lasting.add(_memory(tensor))
        return place

    def step(self, function: Call, *args: Any, **kwargs: Any) -> Any:
        """Call a function that is played as a whole: it may look at values."""
        if function in QUICK and is_dense(args[0]):
            function = QUICK[function]
        step = Step(function, self._named(args), self._named(kwargs))
        token, self._within = noted.set(None), True
        try:
            result = function(*_bare(args), **_bare(kwargs))
        finally:
            noted.reset(token)
            self._within = False
        self.steps.append(step)
        if not isinstance(result, tuple):
            return self._kept(result, step.made)
        parts = [Step(operator.getitem, (step.made, i), {}) for i in range(len(result))]
        self.steps += parts
        kept = [self._kept(x, part.made) for x, part in zip(result, parts, strict=True)]
        return type(result)(*kept) if hasattr(result, "_fields") else tuple(kept)

    def _kept(self, x: Any, place: Place) -> Any:
        if not is_tensor(x):
            return Noted(x, place)
        self._places[x] = place
        self.values += x.numel()
        self.calls += 1
        return x

    def _look(self, operation: Any, args: Any, kwargs: dict[str, Any]) -> None:
        """At what a function does: whether that depends on values, what it writes."""
        if self._within:
            return
        if not self._calling or not _refused().isdisjoint(operation.tags):
            raise Unplayable(operation)
        if operation._schema.is_mutable:
            written = map(_memory, _written(operation._schema, args, kwargs))
            if not self._lasting.isdisjoint(written):
                raise Unplayable(f"{operation} writes into what outlasts the pass")
            self._written = True

    def _note(self, function: Call, args: Any, kwargs: dict[str, Any]) -> Any:
        if self._within:
            return function(*args, **kwargs)
        step = Step(function, self._named(args), self._named(kwargs))
        self._written, self._calling = False, True
        try:
            result = function(*args, **kwargs)
        finally:
            self._calling = False
        if self._written:
            return self._note_written(step, args, result)
        if not is_tensor(result):
            self._note_others(step, result)
            return result
        if any(result is x for x in args):  # contiguous, to: it was so already
            return result
        given = list(tensors_of((args, kwargs)))
        if function.__name__ == "detach":
            self._places[result] = self.place_of(args[0])
            return result
        of_none = self._made.issuperset(map(self._places.get, given))
        if of_none and result.numel() <= SMALL:
            self._made.add(self.place_of(result))
            return result
        self._places[result] = step.made
        self.steps.append(step)
        self.values += result.numel()
        self.calls += 1
        return result

    def _note_written(self, step: Step, args: Any, result: Any) -> Any:
        if result is not None and not any(result is x for x in args):
            raise Unplayable(step.function)
        step.writes = True
        self.steps.append(step)
        return result

    def _note_others(self, step: Step, result: Any) -> None:
        if isinstance(result, (list, tuple)) and any(map(is_tensor, result)):
            if not all(map(is_tensor, result)):
                raise Unplayable(step.function)
            self.steps.append(step)
            for i, x in enumerate(result):
                part = Step(operator.getitem, (step.made, i), {})
                self._places[x] = part.made
                self.steps.append(part)
        elif any(step.read()) and not _is_fixed(step.function):
            raise Unplayable(step.function)

    def _named(self, x: Any) -> Any:
        if is_tensor(x):
            return self.place_of(x)
        if isinstance(x, Noted):
            return x.place
        if isinstance(x, dict):
            return {k: self._named(y) for k, y in x.items()}
        return type(x)(map(self._named, x)) if type(x) in (list, tuple) else x


def _memory(tensor: Tensor) -> int:
    """Where it lies: a view lies where its base does."""
    return int(tensor.untyped_storage().data_ptr())


def _written(schema: Any, args: Any, kwargs: dict[str, Any]) -> Iterator[Tensor]:
    """The arguments of an operation that it writes into."""
    names = [x.name for x in schema.arguments]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    return tensors_of([given.get(x.name) for x in schema.arguments if _writes(x)])


def _writes(argument: Any) -> bool:
    alias = argument.alias_info
    return alias is not None and bool(alias.is_write)


@functools.cache
def _refused() -> frozenset[Any]:
    """Tags of operations whose result, or its shape, depends on more than shapes."""
    tags = sys.modules["torch"].Tag
    names = "data_dependent_output", "dynamic_output_shape", "nondeterministic_seeded"
    return frozenset(getattr(tags, name) for name in names)


def _bare(x: Any) -> Any:
    """Arguments with the values of what was noted."""
    if isinstance(x, Noted):
        return x.value
    if isinstance(x, dict):
        return {k: _bare(y) for k, y in x.items()}
    return type(x)(map(_bare, x)) if type(x) in (list, tuple) else x


def _is_fixed(function: Call) -> bool:
    """Whether what it returns, no tensor, is the same for other values."""
    owner = getattr(function, "__self__", None)
    if function.__name__ == "__get__":
        return getattr(owner, "__name__", None) in _PROPERTIES
    return function.__name__ in _FIXED


def _modes() -> tuple[Any, Any]:
    from torch.overrides import TorchFunctionMode
    from torch.utils._python_dispatch import TorchDispatchMode

    class Functions(TorchFunctionMode):
        """Sees the functions that are called by name."""

        def __init__(self, note: Call) -> None:
            super().__init__()
            self.note = note

        def __torch_function__(
            self, func: Call, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            return self.note(func, args, kwargs or {})

    class Operations(TorchDispatchMode):
        """Sees what they do."""

        def __init__(self, look: Call) -> None:
            super().__init__()
            self.look = look

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            self.look(func, args, kwargs or {})
            return func(*args, **(kwargs or {}))

    return Functions, Operations
