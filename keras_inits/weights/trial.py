"""New values of variables that nobody sees but the pass that tries them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import keras

from keras_inits.backends import fused, fused_arithmetic, outside_traces
from keras_inits.weights.in_place import multiply

Tensor = Any


@dataclass
class Product:
    """A value that is computed when it is written: `base * factor`."""

    base: Tensor
    factor: Tensor
    known: Tensor | None = None  # the product, where the pass has computed it

    def __call__(self) -> Tensor:
        if self.known is not None:
            return self.known
        value: Tensor = fused_arithmetic(multiply)(self.base, self.factor)
        return value

    def release(self) -> None:
        """The variable alone holds the base from now on."""
        self.base = None


class Trial(keras.StatelessScope):
    """New values of variables, seen inside the scope only.

    A kernel is multiplied when somebody reads it, and not before: most kernels are
    used once in a pass, and the tensor in hand is scaled instead.
    """

    def __init__(
        self,
        variables: Iterable[keras.Variable],
        values: Iterable[Tensor] | None = None,
    ) -> None:
        super().__init__()
        # Read before the pass: inside it, autocast would narrow what is read.
        self._base = {id(v): v.value for v in variables}
        self._traced = values is not None
        if values is not None:
            self._base = dict(zip(self._base, values, strict=True))
            self.state_mapping.update(self._base)
        self._pending: dict[int, Tensor] = {}
        self._set: dict[int, keras.Variable] = {}
        self.factors: dict[int, Tensor] = {}
        self.products: dict[int, Tensor] = {}  # of them those that are known already
        self.written: set[int] = set()  # by code of the model's own
        self._multiply = fused(multiply)

    def set(self, variable: keras.Variable, value: Tensor) -> None:
        """Let later reads of `variable` see `value`."""
        self._set[id(variable)] = variable
        self._base[id(variable)] = self.state_mapping[id(variable)] = value

    def base(self, variable: keras.Variable) -> Tensor:
        """What was set, or the stored value in the variable's own dtype."""
        known = id(variable) in self._base
        return self._base[id(variable)] if known else variable.value

    def scale(self, variable: keras.Variable, factor: Tensor) -> None:
        """Let later reads of `variable` see it multiplied by `factor`."""
        key = id(variable)
        if key in self.factors:
            factor = factor * self.factors[key]
        self.factors[key] = self._pending[key] = factor
        if self._traced:  # a later read may lie in a trace within: not the place
            self.get_current_value(variable)

    def add_update(self, update: tuple[keras.Variable, Tensor]) -> None:
        """Takes note of what is assigned in a call: that is what is seen from now."""
        key = id(update[0])
        self._pending.pop(key, None)
        self.written.add(key)
        super().add_update(update)

    def get_current_value(self, variable: keras.Variable) -> Tensor | None:
        """What a read of `variable` sees; None: the variable's own value."""
        key = id(variable)
        if key in self._pending:
            with outside_traces():
                self.state_mapping[key] = self.scaled(variable)
            del self._pending[key]
        return self.state_mapping.get(key)

    def scaled(self, variable: keras.Variable) -> Tensor:
        """The value of `variable` times its factor, in the variable's own dtype."""
        return self._multiply(self._base[id(variable)], self.factors[id(variable)])

    def changes(
        self, scaled: Iterable[keras.Variable]
    ) -> list[tuple[keras.Variable, Tensor | Product]]:
        """New values: of what was set, and of the variables named, scaled.

        A scaled one is a product to be computed. The trial ends with this, and holds no
        value any more.
        """
        new: dict[int, tuple[keras.Variable, Any]] = {
            key: (v, self._base[key]) for key, v in self._set.items()
        }
        for v in scaled:
            base, factor = self._base[id(v)], self.factors[id(v)]
            new[id(v)] = v, Product(base, factor, self.products.get(id(v)))
        self._base.clear()
        self.products.clear()
        self.state_mapping.clear()
        return list(new.values())
