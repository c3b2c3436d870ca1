"""A function of torch tensors, noted once and played on others."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops
from models import normal

import keras_inits
from keras_inits import backends
from keras_inits.backends import as_step, fused
from keras_inits.backward import probes
from keras_inits.passes import programs, tape
from keras_inits.passes.calls import Unplayable
from keras_inits.passes.tape import Played, Tape
from keras_inits.solving.equations import meet
from keras_inits.statistics.dense_figures import is_dense

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="operations of torch"
)


def tensor(*shape: int, seed: int = 0) -> Any:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float()


BOX = {"table": torch.tensor([1.0, 2.0, 3.0])}


def _written(x: Any) -> Any:
    y = x * 2
    y.add_(1.0)
    y[:, 0] = 7.0
    view = y[:, 1]
    view.mul_(3.0)
    return y.sum(0)


def _parts(x: Any) -> Any:
    first, _, third = torch.split(x, 1, dim=1)
    values, places = torch.max(x, dim=1)
    return torch.cat([third, first * places[:, None], values[:, None]], dim=1)


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "arithmetic": lambda x: 2.0 / (1 + x**2) - x % 3 + (x > 0) * x,
    "constants": lambda x: x + torch.arange(3) * torch.tensor([1.0, 2.0, 3.0]),
    "deep arguments": lambda x: torch.einsum("ij,kj->ik", x, torch.stack([x[0], x[1]])),
    "detached": lambda x: (x.detach() * x.contiguous()).to(torch.float64),
    "devices": lambda x: x.to(torch.device("cpu", 0)) * 2,
    "keywords": lambda x: torch.nn.functional.linear(x, weight=x[:2], bias=x[0, :2]),
    "layers": lambda x: torch.nn.functional.layer_norm(torch.relu(x), (3,)),
    "large constant": lambda x: x.sum() * torch.ones(5000),
    "named tuple": lambda x: torch.sort(x, dim=0).values + torch.var_mean(x)[0],
    "not needed": lambda x: (x.exp(), torch.ones(3), x + 1)[2],
    "of others": lambda x: x * BOX["table"],
    "shape": lambda x: x.reshape(x.shape[1], len(x)) / x.numel() + x.dim(),
    "split": _parts,
    "written": _written,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_it_plays_what_the_function_does(name: str) -> None:
    function = FUNCTIONS[name]
    noted = Tape(lambda x: [function(x)], (tensor(6, 3),))
    assert torch.equal(noted.first[0], function(tensor(6, 3)))
    for seed in (1, 2):
        x = tensor(6, 3, seed=seed)
        before = x.clone()
        [found] = noted((x,))
        assert torch.equal(found, function(x))
        assert torch.equal(x, before)


def test_what_others_change_in_place_is_seen() -> None:
    noted = Tape(lambda x: [x * (2 * BOX["table"])], (tensor(3),))
    BOX["table"].mul_(5.0)
    try:
        x = tensor(3, seed=1)
        assert torch.equal(noted((x,))[0], x * (2 * BOX["table"]))
    finally:
        BOX["table"].div_(5.0)


def _past_functions(x: Any) -> Any:
    with torch._C.DisableTorchFunction():
        return x * 2


# The function, or the operation, that would do something else.
REASON = r"aten|method|function|slot wrapper|built-in"

REFUSED: dict[str, Callable[[Any], Any]] = {
    "a branch": lambda x: x if x.sum() > 0 else -x,
    "a comparison": lambda x: x * torch.equal(x, x),
    "a list": lambda x: x * x.tolist()[0][0],
    "a number": lambda x: x * float(x[0, 0]),
    "an array": lambda x: x + torch.from_numpy(x.numpy() + 1),
    "an array by numpy": lambda x: x + torch.from_numpy(np.asarray(x) + 1),
    "an item": lambda x: x * x[0, 0].item(),
    "a mask": lambda x: x[x > 0].sum() * len(x[x > 0]),
    "a constant written": lambda x: torch.zeros(3).add_(x[0]) + x,
    "an input written": lambda x: x.add_(1.0),
    "an input written by a view": lambda x: x[:, 0].mul_(2.0),
    "of others, written": lambda x: BOX["table"].add_(0.0) * x,
    "dropout": lambda x: torch.nn.functional.dropout(x, 0.5),
    "random numbers": lambda x: x + torch.randn(3),
    "past the functions": _past_functions,
    "unique values": lambda x: torch.unique(x)[0],
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_refuses_what_depends_on_values(name: str) -> None:
    with pytest.raises(Unplayable, match=REASON):
        Tape(lambda x: [REFUSED[name](x)], (tensor(6, 3),))
    # It has ended: nothing is noted any more.
    assert not keras_inits.backends.is_traced(tensor(1))
    assert float(tensor(1)[0]) == tensor(1).tolist()[0]


def test_temporaries_are_freed_while_it_plays() -> None:
    """At most two of the twenty are there at once."""
    alive: list[Any] = []

    def count(x: Any) -> Any:
        alive.append(weakref.ref(x))
        gc.collect()
        most.append(sum(r() is not None for r in alive))
        return x + 1

    most: list[int] = []
    noted = Tape(lambda x: [_twenty(x)], (tensor(4),))
    steps = [(count, *rest) for _, *rest in noted._plan]
    noted._plan = steps
    noted((tensor(4),))
    assert len(most) == 20
    assert max(most) <= 2


def _twenty(x: Any) -> Any:
    for _ in range(20):
        x = torch.relu(x)
    return x


def test_what_is_not_needed_is_not_played() -> None:
    noted = Tape(lambda x: [FUNCTIONS["not needed"](x)], (tensor(6, 3),))
    assert len(noted._plan) == 1


def test_numbers_and_arrays() -> None:
    def function(x: Any, others: Any) -> Any:
        wide = others["wide"].double().mean()
        return [x.mean(), x.sum(0), wide, others["wide"].half()]

    for seed in range(3):
        x, wide = tensor(6, 3, seed=seed), tensor(5, seed=seed)
        if seed == 0:
            played = Played(function, (x, {"wide": wide}))
        mean, sums, other, half = played((x, {"wide": wide}))
        assert mean == pytest.approx(float(x.mean()))
        assert other == pytest.approx(float(wide.mean()))
        np.testing.assert_array_equal(sums, x.sum(0).numpy())
        np.testing.assert_allclose(half, wide.numpy(), rtol=1e-3)


def test_a_step_of_ours_may_look() -> None:
    """It is noted as a whole; what it returns is kept, and cannot be computed with."""

    def larger(x: Any, least: float) -> tuple[Any, bool]:
        return (2 * x if float(x.max()) > least else x), bool(x.max() > least)

    def function(x: Any, other: Any) -> Any:
        y, was = as_step(larger)(x, 0.0)
        z, _ = as_step(larger)(y + other, as_step(float)(other))
        return [y.sum(), was, z, as_step(np.asarray)(z)]

    a, b = tensor(4).abs(), torch.tensor(0.5)
    played = Played(function, (a, b))
    for x in (a, -a, a + 3):
        total, was, z, array = played((x, b))
        y = 2 * x if x.max() > 0 else x
        expected = 2 * (y + b) if (y + b).max() > 0.5 else y + b
        assert total == pytest.approx(float(y.sum()))
        assert was is bool(x.max() > 0)
        np.testing.assert_array_equal(z, expected.numpy())
        np.testing.assert_array_equal(array, expected.numpy())
    for compute in (lambda y: 1 + y, lambda y: a * y, lambda y: torch.full((3,), y)):
        with pytest.raises(TypeError, match="Noted"):
            Tape(lambda x, compute=compute: [compute(as_step(float)(x[0]))], (a,))


MORE: dict[str, list[tuple[Any, ...]]] = {
    "meet": [(1.5,)],
    "_scaled_gain": [(0.5, 2.0)],
    # units, whether none is negative
    "output_figures": [((1,), True), ((1,), False), ((0,), True)],
    # axes, channels, whether to cut, whether linear, whether to keep values
    "_counted": [
        ((-1,), 1040, True, False, True),  # as wide as the map before, not the tensor
        *(((-1,), 520, True, False, True), ((1,), 520, True, True, False)),
        *(((0,), 64, False, False, True), ((-1,), 260, True, False, False)),
    ],
}
KINDS = ["plain", "shifted", "dead", "mirrored", "nan", "inf"]


@pytest.mark.parametrize("function", backends.QUICK)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_quick_versions_do_the_same(function: Any, kind: str, dtype: str) -> None:
    x = tensor(64, 520) + (100.0 if kind == "shifted" else 0.0)
    if kind == "dead":
        x = x.relu()
        x[:, 3] = 0.0
    if kind == "mirrored":
        x[:, 260:] = -x[:, :260]
    if kind in ("nan", "inf"):
        x[5, 7] = float(kind)
    x = x.to(getattr(torch, dtype))
    assert is_dense(x)
    assert not is_dense(x.t())
    for more in MORE.get(function.__name__, [()]):
        y = x.relu() if more[1:] == (True,) else x
        with np.errstate(all="ignore"), keras.device("cpu"):
            quick, plain = (
                f(y.clone(), *more) for f in (backends.QUICK[function], function)
            )
        if not isinstance(plain, tuple):
            quick, plain = (quick,), (plain,)
        for one, two in zip(quick, plain, strict=True):
            assert (one is None) == (two is None)
            if one is not None:
                np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


def test_rows_are_kept_of_opposite_partners_alone() -> None:
    x = tensor(64, 520)
    quick = backends.QUICK[probes._counted]
    about = (-1,), 520, True, False, True
    rows, slope, values = quick(x, *about)
    assert rows is None
    assert slope == pytest.approx(0.5, abs=0.02)
    assert not np.shares_memory(values, x.numpy())
    x[:, 260:] = -x[:, :260]
    rows, slope, _ = quick(x, *about)
    np.testing.assert_array_equal(rows, x[: len(rows)])
    assert not np.shares_memory(rows, x.numpy())


def test_a_step_overwrites_what_is_its_own_alone() -> None:
    w, b, x = tensor(6, 6), tensor(6), tensor(6, 6)

    def own(x: Any) -> list[Any]:
        return [fused(meet)(torch.addmm(b, x, w), 1.0)[0]]

    def read_before(x: Any) -> list[Any]:
        z = torch.addmm(b, x, w)
        kept = z[:2]
        return [fused(meet)(z, 1.0)[0], kept]

    def read_after(x: Any) -> list[Any]:
        z = torch.addmm(b, x, w)
        return [fused(meet)(z, 1.0)[0], z * 2]

    def returned(x: Any) -> list[Any]:
        z = torch.addmm(b, x, w)
        return [fused(meet)(z, 1.0)[0], z]

    def argument(x: Any) -> list[Any]:
        return [fused(meet)(x, 1.0)[0]]

    mine = set(backends.OWN.values())
    for function in (own, read_before, read_after, returned, argument):
        tape_ = Tape(function, (x,))
        played = {call for call, *_ in tape_._plan}
        assert bool(mine & played) == (function is own)
        for other in (x, 3 * x - 1):
            before = other.clone()
            found = tape_((other,))
            for one, two in zip(found, function(other), strict=True):
                np.testing.assert_allclose(one, two, rtol=1e-5)
            np.testing.assert_array_equal(other, before)


def test_large_tensors_are_not_worth_it() -> None:
    size = 4 * tape.MOST
    with pytest.raises(Unplayable, match="longer"):
        Played(lambda x: [x + 1], (tensor(size),))


# Of models


def stack(units: int = 6, **options: Any) -> keras.Model:
    keras.utils.set_random_seed(1)
    options = {"activation": "relu", **options}
    hidden = [layers.Dense(units, **options) for _ in range(12)]
    return keras.Sequential([keras.Input((units,)), *hidden])


def program_of(model: keras.Model) -> Any:
    known = programs.STATES.get(model, {}).values()
    return next((x.program for x in known if x.program is not None), None)


def test_hooks_are_called_in_every_pass() -> None:
    model, x, calls = stack(), normal(32, 6), []
    for _ in range(3):
        keras_inits.measure(model, x)
    assert program_of(model) is not None
    model.layers[4].register_forward_hook(lambda *_: calls.append(1))
    for _ in range(2):
        keras_inits.measure(model, x)
    assert len(calls) == 2


def test_new_weights_are_seen() -> None:
    model, x = stack(), normal(64, 6)
    for scale in (1.0, 2.0, 0.5, 3.0):
        for layer in model.layers:
            layer.kernel.assign(layer.kernel * scale)
        report = keras_inits.measure(model, x)
        first = x @ ops.convert_to_numpy(model.layers[0].kernel)
        assert report[0].std == pytest.approx(first.std(), rel=1e-5)
    assert program_of(model) is not None


@pytest.mark.parametrize("verb", ["lsuv", "measure"])
def test_where_much_cancels(verb: str) -> None:
    """Signals far from zero: their variance is not a difference of mean squares."""
    model, x = stack(16), normal(8192, 16)
    kernel = np.abs(normal(16, 16))
    model.layers[0].kernel.assign(kernel / kernel.sum(axis=0))  # every mean the same
    weights = model.get_weights()
    for shift in (0.0, 0.0, 0.0, 1000.0, 0.0):
        model.set_weights(weights)
        data = x + np.float32(shift)
        if verb == "lsuv":
            keras_inits.lsuv_init(model, data, samples=len(data))
        report = keras_inits.measure(model, data, samples=len(data))
        z = data.astype("float64") @ ops.convert_to_numpy(model.layers[0].kernel)
        assert report[0].std == pytest.approx(z.std(), rel=1e-3)
        if verb == "lsuv":
            assert z.std() == pytest.approx(1.0, rel=1e-3)


def test_another_layout_is_another_pass() -> None:
    x = tensor(6, 3)
    assert tape.layout(([x],)) == tape.layout(([x + 1],))
    assert tape.layout(([x],)) != tape.layout(([x.t().contiguous().t()],))
    assert tape.layout(([x],)) != tape.layout(([x.to("meta")],))


def test_a_signal_that_does_not_vary_is_refused_by_name() -> None:
    model, x = stack(), normal(32, 6)
    for _ in range(3):
        keras_inits.lsuv_init(model, x)
    weights = model.get_weights()
    model.layers[5].kernel.assign(0.0 * model.layers[5].kernel)
    with pytest.raises(keras_inits.DegenerateSignalError, match=model.layers[5].name):
        keras_inits.lsuv_init(model, x)
    for i, (now, before) in enumerate(zip(model.get_weights(), weights, strict=True)):
        assert np.array_equal(now, before) or i == 10


def test_one_tensor_for_two_inputs() -> None:
    first, second = keras.Input((6,)), keras.Input((6,))
    h = layers.Concatenate()([layers.Dense(6)(first), layers.Dense(6)(second)])
    for _ in range(10):
        h = layers.Dense(6, activation="relu")(h)
    model, one, two = keras.Model([first, second], h), tensor(32, 6), tensor(32, 6) * 5
    for _ in range(3):
        keras_inits.measure(model, [one, one])
    own = one.numpy() @ ops.convert_to_numpy(model.layers[2].kernel)
    found = keras_inits.measure(model, [one, two])[model.layers[2].name]
    assert found.std == pytest.approx(own.std(), rel=1e-4)


def test_what_fails_while_it_is_noted_is_forgotten() -> None:
    ids = keras.Input((4,), dtype="int32")
    h = layers.Flatten()(layers.Embedding(10, 8)(ids + 1))
    for _ in range(11):
        h = layers.Dense(8, activation="relu")(h)
    model = keras.Model(ids, h)
    with pytest.raises(IndexError, match="out of range"):
        keras_inits.measure(model, np.full((32, 4), 99, "int32"))
    for _ in range(3):
        keras_inits.measure(model, np.full((32, 4), 3, "int32"))
    other = keras.Sequential([keras.Input((8,)), layers.Dense(8, activation="relu")])
    assert keras_inits.measure(other, normal(32, 8))[0].dead_fraction is not None


def stacked(*front: Any) -> keras.Model:
    hidden = [layers.Dense(6, activation="relu") for _ in range(11)]
    return keras.Sequential([keras.Input((6,)), *front, *hidden])


def test_modules_of_torch_are_called_each_time() -> None:
    inner = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.LeakyReLU(0.1))
    model, x = stacked(layers.TorchModuleWrapper(inner)), normal(64, 6)
    for _ in range(3):
        keras_inits.measure(model, x)
    assert program_of(model) is None
    before = keras_inits.measure(model, x)[0].std
    inner[0].register_forward_hook(lambda module, given, output: 3 * output)
    assert keras_inits.measure(model, x)[0].std == pytest.approx(3 * before, rel=1e-4)


@pytest.mark.parametrize("where", ["argument", "array", "nested call"])
def test_code_that_is_given_to_a_graph(where: str) -> None:
    scale, array = [1.0], np.ones(6, "float32")
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(6, activation="relu")])
    inputs = keras.Input((6,))
    h = layers.Dense(6)(inputs)
    if where == "argument":
        h = ops.map(lambda t: t * scale[0], h)
    elif where == "array":
        h = h * array
    else:
        own = inner.call
        inner.call = lambda x, **options: own(x * scale[0], **options)
        h = inner(h)
    for _ in range(10):
        h = layers.Dense(6, activation="relu")(h)
    model, x = keras.Model(inputs, h), normal(64, 6)
    first = [keras_inits.measure(model, x)[-1].std for _ in range(3)][-1]
    scale[0] = 4.0
    array *= 4.0
    assert keras_inits.measure(model, x)[-1].std == pytest.approx(4 * first, rel=1e-3)
