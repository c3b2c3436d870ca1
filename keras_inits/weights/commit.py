"""Write new weights, all of them or none: in this process, and in all others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import keras

from keras_inits.backends import snapshot
from keras_inits.distribution import Peers, current_peers, is_global, laid_out_like
from keras_inits.errors import DistributionError
from keras_inits.weights.in_place import can_multiply_in_place, in_place
from keras_inits.weights.interrupts import insist
from keras_inits.weights.trial import Product

Tensor = Any
Change = tuple[keras.Variable, Tensor | Callable[[], Tensor]]
R = TypeVar("R")


def assign_all(changes: Sequence[Change]) -> None:
    """Assign every value; whatever goes wrong, put back what was assigned.

    An interrupt counts as going wrong. Earlier values are kept for that long, on the
    device and in their sharding.

    Args:
        changes: Pairs `(variable, value)`, in the shape and dtype of the variable. A
            value may be a function that computes it, of no other variable: it is called
            when the value is written, so that not all of them take memory at once. A
            product of the variable's own value is formed in place, without a copy of
            the model: see `in_place`. Once begun, all of these are written; `changes`
            does not hold their old values any more.
    """
    stored = not _in_stateless_scope()
    products: list[tuple[keras.Variable, Tensor]] = []
    others: list[Change] = []
    for variable, value in changes:
        if isinstance(value, Product) and stored and _is_own(variable, value):
            value.release()
            products.append((variable, value.factor))
        else:
            others.append((variable, value))
    last = in_place(products)
    values = (computed(x) for _, x in others)
    _assign([v for v, _ in others], values, last, lambda: last.written)


def commit(changes: Sequence[Change], result: R) -> R:
    """Assign the values of process 0 in every process, or nothing in any.

    Values of a variable of which each process holds a part are not sent: all have
    computed them together.

    Args:
        changes: As for `assign_all`. Only process 0 decides which variables change.
        result: What goes with them.

    Returns:
        The result of process 0.

    Raises:
        DistributionError: A process is missing or has failed; every weight in every
            process that raises is as before.
    """
    peers = current_peers()
    if peers is None:
        assign_all(changes)
        return result
    held = list(
        {id(v): v for v in (*peers.variables, *(v for v, _ in changes))}.values()
    )
    places = {id(v): place for place, v in enumerate(held)}
    own = {places[id(v)]: value for v, value in changes}
    chosen, result = peers.first_object((sorted(own), result), "has new weights")
    if chosen and chosen[-1] >= len(held):
        raise DistributionError(
            "The model has other variables here than in process 0. Received: "
            f"{len(held)} variables. Build it in the same way in every process."
        )
    variables = [held[place] for place in chosen]
    # All are here before the first is written: one who cannot write says so when the
    # others listen.
    values = list(_values(peers, variables, [own.get(place) for place in chosen]))
    _assign(variables, values, lambda: peers.meet("has written its weights"))
    return result


def computed(value: Tensor | Callable[[], Tensor]) -> Tensor:
    """The value of a change."""
    return value() if callable(value) else value


def _in_stateless_scope() -> bool:
    """Whether somebody around keeps what is assigned to himself, and makes nothing."""
    with keras.StatelessScope(initialize_variables=False) as within:
        return within.original_scope is not None


def _is_own(variable: keras.Variable, product: Product) -> bool:
    if product.known is not None:
        return False
    return product.base is variable.value and can_multiply_in_place(variable)


def _values(
    peers: Peers, variables: Iterable[keras.Variable], own: Iterable[Tensor | None]
) -> Iterator[Tensor]:
    """Those of process 0, one after the other."""
    for variable, value in zip(variables, own, strict=True):
        mine = variable.value if value is None else computed(value)
        yield mine if is_global(variable.value) else peers.first(mine)


def _assign(
    variables: Sequence[keras.Variable],
    values: Iterable[Tensor],
    finish: Callable[[], None] = lambda: None,
    finished: Callable[[], bool] = lambda: False,
) -> None:
    before = [(variable, snapshot(variable)) for variable in variables]
    try:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(laid_out_like(variable, value))
        finish()
    except BaseException:
        if not finished():
            for variable, value in before:
                insist(variable.assign, value)
        raise
