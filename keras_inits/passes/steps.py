"""A traced function as the steps that it takes: JAX."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Tensor = Any

# A piece begins with each; and with products of matrices.
_BEGINNINGS = frozenset({"conv_general_dilated", "scan", "while"})
# Equations that only call what they hold; nobody differentiates here.
_CALLS = frozenset({"custom_jvp_call", "custom_vjp_call", "jit", "pjit"})
_HELD = ("call_jaxpr", "fun_jaxpr", "jaxpr")


class Variable:
    """A tensor of the trace.

    Args:
        aval: Its shape and dtype.
    """

    def __init__(self, aval: Any) -> None:
        self.aval = aval


@dataclass(eq=False)
class Step:
    """One operation. What it reads are variables, and literals, which have a `val`."""

    primitive: Any
    parameters: dict[str, Any]
    context: Any
    read: list[Any]
    made: list[Variable]

    @property
    def begins(self) -> bool:
        """Whether it is a product of more than vectors, or a loop over such."""
        wide = [len(x.aval.shape) > 1 for x in self.read]
        if self.primitive.name == "dot_general":
            return all(wide)
        return self.primitive.name in _BEGINNINGS and any(wide)

    @property
    def variables(self) -> list[Variable]:
        """What it reads, without literals."""
        return [x for x in self.read if isinstance(x, Variable)]

    def __call__(self, values: dict[Variable, Tensor]) -> None:
        """Adds what it makes to the values."""
        read = [values[x] if isinstance(x, Variable) else x.val for x in self.read]
        bound = self.primitive.get_bind_params(self.parameters)
        # Versions of JAX differ in what they return.
        functions, named = ((), bound) if isinstance(bound, dict) else bound
        with self.context.manager:  # options of JAX that held around it
            found = self.primitive.bind(*functions, *read, **named)
        several = self.primitive.multiple_results
        values.update(zip(self.made, found if several else [found], strict=True))


class Trace:
    """A traced function as steps; functions that it calls are steps in their place.

    Args:
        closed: What `jax.make_jaxpr` makes.
    """

    def __init__(self, closed: Any) -> None:
        self._closed = closed
        self.steps: list[Step] = []
        self.has_effects = bool(closed.effects)
        self.constants: dict[Variable, Tensor] = {}
        self.arguments = [Variable(v.aval) for v in closed.jaxpr.invars]
        self.results = self._add(closed, self.arguments)

    def _add(self, closed: Any, arguments: Sequence[Any]) -> list[Any]:
        jaxpr = closed.jaxpr
        known = dict(zip(jaxpr.invars, arguments, strict=True))
        for v, constant in zip(jaxpr.constvars, closed.consts, strict=True):
            known[v] = Variable(v.aval)
            self.constants[known[v]] = constant

        def named(x: Any) -> Any:
            return x if hasattr(x, "val") else known[x]

        for equation in jaxpr.eqns:
            read, held = list(map(named, equation.invars)), _held(equation)
            if held is not None:
                made = self._add(held, read)
            else:
                made = [Variable(v.aval) for v in equation.outvars]
                what = equation.primitive, equation.params, equation.ctx
                self.steps.append(Step(*what, read, made))
            known.update(zip(equation.outvars, made, strict=True))
        return list(map(named, jaxpr.outvars))

    def __call__(self, *arguments: Tensor) -> list[Tensor]:
        """What the function returns. XLA compiles it faster so than step by step."""
        from jax.extend.core import jaxpr_as_fun

        found: list[Tensor] = jaxpr_as_fun(self._closed)(*arguments)
        return found

    def needed(self, wanted: Iterable[Variable]) -> list[Step]:
        """The steps that these variables take."""
        wanted, found = set(wanted), []
        for step in reversed(self.steps):
            if not wanted.isdisjoint(step.made):
                found.append(step)
                wanted.update(step.variables)
        return found[::-1]


def _held(equation: Any) -> Any:
    """The function that an equation does nothing but call, or None."""
    if equation.primitive.name not in _CALLS:
        return None
    held = (equation.params.get(name) for name in _HELD)
    return next((x for x in held if hasattr(x, "consts")), None)
