"""A traced function that runs in pieces returns what it returns as a whole."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from models import normal

from keras_inits.passes.pieces import in_pieces, pieces_of
from keras_inits.passes.steps import Trace

pytestmark = pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX")
if keras.backend.backend() == "jax":
    import jax
    from jax import numpy as jnp

Function = Callable[..., list[Any]]
DEPTH = 6


def compile(lowered: Any) -> Any:
    """As XLA does by default."""
    return lowered.compile()


def trace_of(function: Function, *arguments: Any) -> Trace:
    return Trace(jax.make_jaxpr(function)(*arguments))


def run_in_pieces(trace: Trace, arguments: Any, compile: Any) -> list[Any] | None:
    made = in_pieces(trace, arguments, compile)
    return None if made is None else made(arguments)()


def programs_for(function: Function, *arguments: Any) -> tuple[int, int]:
    """How many programs and pieces there are; the results are compared."""
    lowered: list[Any] = []

    def counting(one: Any) -> Any:
        lowered.append(one)
        return one.compile()

    trace = trace_of(function, *arguments)
    made = in_pieces(trace, arguments, counting)
    assert made is not None
    for inputs in (arguments, [1.1 * x for x in arguments]):  # and once more
        found, expected = made(inputs)(), function(*inputs)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)
    return len(lowered), len(pieces_of(trace))


def kernels(depth: int = DEPTH) -> list[Any]:
    return [normal(5, 5, seed=i) for i in range(depth)]


def stack(layer: Callable[[Any, Any, int], Any]) -> Function:
    """The last signal, as its piece alone returns it, and the mean of each."""

    def function(x: Any, *weights: Any) -> list[Any]:
        means = []
        for i, kernel in enumerate(weights):
            x = layer(x, kernel, i)
            means.append(x)
        return [x, *[jnp.mean(z) for z in means]]  # asked for at the end

    return function


def test_alike_layers_share_a_program() -> None:
    plain = stack(lambda x, kernel, i: jax.nn.relu(x @ kernel))
    assert programs_for(plain, normal(4, 5), *kernels()) == (2, DEPTH)


@pytest.mark.parametrize(
    ("where", "layer"),
    [
        ("a literal", lambda x, kernel, i: (x @ kernel) * (2.0 if i == 3 else 3.0)),
        ("an operation", lambda x, k, i: (jnp.tanh if i == 3 else jnp.sin)(x @ k)),
        ("an axis", lambda x, k, i: jnp.tanh(jnp.flip(x @ k, int(i == 3)))),
        ("a shape", lambda x, k, i: (jnp.pad(x, ((0, i // 6), (0, 0))) @ k)[:4]),
        ("what is read", lambda x, k, i: x - x @ k if i == 3 else x @ k - x),
        (
            "a loop",
            lambda x, k, i: jax.lax.scan(
                lambda h, _: ((h * 1.5 if i == 3 else h * 0.5), None), x @ k, None, 2
            )[0],
        ),
    ],
)
def test_a_layer_that_differs_has_its_own(where: str, layer: Any) -> None:
    made, pieces = programs_for(stack(layer), normal(4, 5), *kernels(12))
    alike, _ = programs_for(
        stack(lambda x, k, i: layer(x, k, 0)), normal(4, 5), *kernels(12)
    )
    assert alike < made < pieces, where


def test_constants_of_different_layers_are_told_apart() -> None:
    tables = [np.full((4, 5), i + 1.0, "float32") for i in range(DEPTH)]

    def layer(x: Any, kernel: Any, i: int) -> Any:
        return jax.jit(lambda x: x @ kernel + tables[i])(x)

    assert programs_for(stack(layer), normal(4, 5), *kernels())[0] < DEPTH


def test_functions_with_a_derivative_or_a_branch_of_their_own() -> None:
    @jax.custom_vjp
    def own(x: Any) -> Any:
        return jnp.sin(x)

    own.defvjp(lambda x: (own(x), x), lambda x, g: (g * jnp.cos(x),))

    def layer(x: Any, kernel: Any, i: int) -> Any:
        x = jax.checkpoint(jnp.tanh)(own(jax.nn.silu(x @ kernel)))
        return jax.lax.cond(x.sum() > 0, lambda x: 2 * x, lambda x: x - 1, x)

    made, pieces = programs_for(stack(layer), normal(4, 5), *kernels(12))
    assert 2 * made <= pieces


def test_arguments_literals_and_one_tensor_twice_as_results() -> None:
    def function(x: Any, *weights: Any) -> list[Any]:
        y = stack(lambda x, kernel, i: x @ kernel)(x, *weights)[0]
        return [x, jnp.float32(3.0), y, y, weights[0]]

    programs_for(function, normal(4, 5), *kernels())


def test_nan_is_passed_on() -> None:
    x = normal(4, 5)
    x[1, 2] = np.nan
    function = stack(lambda x, kernel, i: jax.nn.relu(x @ kernel))
    programs_for(function, x, *kernels())
    found = run_in_pieces(trace_of(function, x, *kernels()), [x, *kernels()], compile)
    assert found is not None and np.isnan(found[0]).any()


def test_a_product_with_a_vector_is_part_of_a_piece() -> None:
    means = stack(lambda x, kernel, i: x @ kernel + jnp.full((4,), 0.25) @ x)
    assert programs_for(means, normal(4, 5), *kernels()) == (2, DEPTH)


def test_large_and_small_results_and_those_that_are_read_on() -> None:
    def function(x: Any, *weights: Any) -> list[Any]:
        results = []
        for kernel in weights:
            x = x @ kernel
            small = jnp.mean(x)
            x = x / small  # a result, and read by the next piece
            results += [x, small, jnp.tile(x, (90, 1)), jnp.tile(x, (90, 2)), x > 0]
        return results

    programs_for(function, normal(4, 5), *kernels())


def test_where_few_layers_are_alike_it_does_not_pay() -> None:
    widths = [5, 6, 7, 8, 9, 10]
    weights = [normal(n, m) for n, m in itertools.pairwise(widths)]
    trace = trace_of(stack(lambda x, k, i: x @ k), normal(4, 5), *weights)
    assert run_in_pieces(trace, [normal(4, 5), *weights], compile) is None


def test_a_function_that_prints_is_left_alone() -> None:
    def layer(x: Any, kernel: Any, i: int) -> Any:
        jax.debug.callback(lambda: None)
        return x @ kernel

    arguments = [normal(4, 5), *kernels()]
    trace = trace_of(stack(layer), *arguments)
    assert run_in_pieces(trace, arguments, compile) is None


def test_what_nobody_reads_is_not_computed() -> None:
    def layer(x: Any, kernel: Any, i: int) -> Any:
        kernel @ kernel
        return x @ kernel

    assert programs_for(stack(layer), normal(4, 5), *kernels())[1] == DEPTH


def test_signals_are_let_go_when_their_last_reader_has_run() -> None:
    """All of them at once would take the memory of the whole depth."""
    alive: list[weakref.ref[Any]] = []
    most: list[int] = []

    def watching(lowered: Any) -> Any:
        program = lowered.compile()

        def run(*arguments: Any) -> Any:
            found = program(*arguments)
            alive.extend(weakref.ref(x) for x in found if x.ndim == 2)
            most.append(sum(r() is not None for r in alive))
            return found

        return run

    function = stack(lambda x, kernel, i: jnp.tanh(x @ kernel))
    arguments = [normal(4, 5), *kernels(20)]
    assert run_in_pieces(trace_of(function, *arguments), arguments, watching)
    assert len(most) == 20 and max(most) <= 2


def test_a_failing_compilation_is_told() -> None:
    def failing(lowered: Any) -> Any:
        raise RuntimeError("no such option")

    arguments = [normal(4, 5), *kernels()]
    trace = trace_of(stack(lambda x, k, i: x @ k), *arguments)
    with pytest.raises(RuntimeError, match="no such option"):
        run_in_pieces(trace, arguments, failing)


def test_compilations_that_wait_are_given_up_after_an_error() -> None:
    begun: list[Any] = []
    over = threading.Event()

    def failing(lowered: Any) -> Any:
        begun.append(lowered)
        if lowered is not begun[0]:
            over.wait(10)
        raise RuntimeError("no such option")

    def layer(x: Any, kernel: Any, i: int) -> Any:
        return x @ kernel + i % 50  # fifty programs, more than there are threads

    arguments = [normal(4, 5), *kernels(110)]
    with pytest.raises(RuntimeError, match="no such option"):
        run_in_pieces(trace_of(stack(layer), *arguments), arguments, failing)
    over.set()
    for thread in threading.enumerate():
        if thread.name.startswith("keras_inits"):
            thread.join()
    assert len(begun) < 50


@pytest.mark.parametrize("loop", ["cond", "fori", "scan"])
def test_constants_in_the_body_of_a_loop_are_told_apart(loop: str) -> None:
    tables = [np.full((4, 5), 1.0 + i / 10, "float32") for i in range(DEPTH)]

    def layer(x: Any, kernel: Any, i: int) -> Any:
        scale = jax.jit(lambda h: h * tables[i])
        if loop == "cond":
            return jax.lax.cond(x.sum() > -1e9, scale, lambda h: h, x @ kernel)
        if loop == "fori":
            return jax.lax.fori_loop(0, 2, lambda _, h: scale(h), x @ kernel)
        return jax.lax.scan(lambda h, _: (scale(h), None), x @ kernel, None, 2)[0]

    arguments = [normal(4, 5), *kernels()]
    keys = {p.key() for p in pieces_of(trace_of(stack(layer), *arguments))}
    assert len(keys) >= DEPTH


def test_options_of_jax_that_hold_around_an_operation() -> None:
    def layer(x: Any, kernel: Any, i: int) -> Any:
        with jax.threefry_partitionable(i % 2 == 0):
            return x @ kernel + jax.random.uniform(jax.random.key(i % 2), (4, 5))

    assert programs_for(stack(layer), normal(4, 5), *kernels(12))[0] >= 2


def test_tables_that_differ_far_from_their_ends() -> None:
    """`str` would leave out the middle of a long one."""
    long = np.zeros(3000, "float32")
    other = long.copy()
    other[1500] = 1.0

    def layer(x: Any, kernel: Any, i: int) -> Any:
        table = jnp.asarray(other if i % 2 else long)
        return x @ kernel + table.sum()

    programs_for(stack(layer), normal(4, 5), *kernels(12))


def test_arguments_on_another_device_are_left_to_one_program() -> None:
    function, arguments = stack(lambda x, k, i: x @ k), [normal(4, 5), *kernels()]
    trace = trace_of(function, *arguments)
    here = [jnp.asarray(x) for x in arguments]
    assert run_in_pieces(trace, here, compile) is not None

    class Elsewhere:
        sharding = type("Sharding", (), {"device_set": {"another"}})()

    assert run_in_pieces(trace, [*here[:-1], Elsewhere()], compile) is None
