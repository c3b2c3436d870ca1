"""All or nothing: whatever goes wrong, every bit is as before, nothing is patched."""

from __future__ import annotations

import ast
import itertools
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
from checks import assert_target, changed, everything, overrides
from keras import layers
from models import Built, convnet, dense_stack, nested, normal
from textbook import numpy

import keras_inits
from keras_inits import (
    DataError,
    DegenerateSignalError,
    KerasInitsError,
    lsuv_init,
)
from keras_inits.recording.recorder import Recorder
from keras_inits.solving.solver import Solver


def trained(builder: Callable[[], Built] = convnet) -> Built:
    """A model that has been compiled and trained: optimizer slots, statistics."""
    model, x = builder()
    model.compile("adam", "mse")
    model.fit(x, np.ones((32, 6), "float32"), verbose=0)
    return model, x


class Untouched:
    """Takes note of a model; `check` compares."""

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self.bits, self.patched = everything(model), overrides(model)
        self.losses = list(map(numpy, model.losses))

    def check(self) -> None:
        assert changed(self.bits, self.model) == []
        assert overrides(self.model) == self.patched
        assert list(map(numpy, self.model.losses)) == self.losses

    def still_trains(self, x: Any) -> None:
        before = everything(self.model)
        self.model.fit(x, np.ones((32, 6), "float32"), verbose=0)
        assert changed(before, self.model)
        lsuv_init(self.model, x)
        assert_target(self.model, x)


class Faulty(layers.Layer):
    """Passes its input on; in the sweep, does `fault` when called."""

    fault: Any = None

    def call(self, x: Any) -> Any:
        return x if self.fault is None else self.fault(x)


def with_fault(fault: Callable[[Any], Any] | None = None) -> Built:
    """Five layers, a faulty one in the middle."""
    first = [layers.Dense(6, activation="relu"), layers.Dropout(0.5), layers.Dense(6)]
    faulty = Faulty(name="faulty")
    model = keras.Sequential(
        [
            keras.Input((6,)),
            *first,
            layers.BatchNormalization(),
            faulty,
            layers.Dense(6),
        ]
    )
    faulty.fault = fault
    return model, normal(32, 6)


class Boom(Exception):
    """Takes more than a message, so that Keras cannot raise it again as itself."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(code, detail)


def raising(error: BaseException) -> Callable[[Any], Any]:
    def fault(x: Any) -> Any:
        raise error

    return fault


FAULTS: list[tuple[BaseException, type[BaseException], str]] = [
    (ValueError("no luck"), ValueError, "no luck"),
    (KeyboardInterrupt("stop"), KeyboardInterrupt, "stop"),
    (SystemExit(3), SystemExit, "3"),
    (Boom(7, "odd"), Exception, "Faulty"),
    (MemoryError("full"), MemoryError, "full"),
]


def test_an_exception_in_the_middle_of_the_pass() -> None:
    model, x = with_fault()
    model.compile("adam", "mse")
    model.fit(x, np.ones((32, 6), "float32"), verbose=0)
    untouched = Untouched(model)
    for error, raised, message in FAULTS:
        model.get_layer("faulty").fault = raising(error)
        for training in (False, True):
            with pytest.raises(raised, match=message):
                lsuv_init(model, x, training=training)
            untouched.check()
    model.get_layer("faulty").fault = None
    untouched.still_trains(x)


@pytest.mark.parametrize("error", [KeyboardInterrupt("stop"), ValueError("no luck")])
def test_kernels_drawn_in_vain_leave_the_seeds_as_they_were(
    error: BaseException,
) -> None:
    model, x = with_fault()
    state = random.getstate()
    model.get_layer("faulty").fault = raising(error)
    with pytest.raises(type(error)):
        lsuv_init(model, x, orthonormal=True)
    assert random.getstate() == state
    model.get_layer("faulty").fault = None
    lsuv_init(model, x, orthonormal=True)
    assert random.getstate() != state


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_a_signal_that_dies_on_the_way_names_the_layer_behind(value: float) -> None:
    model, x = with_fault(lambda x: x * value)
    model.layers[-1].name = "behind"
    untouched = Untouched(model)
    wanted = "does not vary" if value == 0 else "not finite"
    with pytest.raises(DegenerateSignalError, match=f"'behind'.*{wanted}") as error:
        lsuv_init(model, x)
    untouched.check()
    assert isinstance(error.value, (ValueError, KerasInitsError))
    if value == 0:
        assert "layers=" in str(error.value) and "1 row" not in str(error.value)
        report = lsuv_init(model, x, layers=lambda layer: layer.name != "behind")
        assert len(report) == 2


@pytest.mark.parametrize("options", [{}, {"center": True}, {"per_channel": True}])
@pytest.mark.parametrize("signal", ["pre_activation", "output"])
def test_one_row_of_one_value_is_said_to_be_too_few(options: Any, signal: Any) -> None:
    units = [layers.Dense(6, name="wide"), layers.Dense(1, name="head")]
    model = keras.Sequential([keras.Input((6,)), *units])
    untouched = Untouched(model)
    first = "wide" if options else "head"  # of which each channel is one value
    with pytest.raises(KerasInitsError, match=f"'{first}'.*The batch is 1 row: pass"):
        lsuv_init(model, normal(1, 6), signal=signal, **options)
    untouched.check()
    lsuv_init(model, normal(8, 6), signal=signal, **options)


@pytest.mark.parametrize(
    ("size", "what"), [(1e20, "large"), (1e25, "large"), (1e-20, "small")]
)
def test_data_of_which_float32_holds_no_squares(size: float, what: str) -> None:
    model, x = dense_stack()
    untouched = Untouched(model)
    expected = f"'{model.layers[0].name}'.*(too {what} for float32|smaller than 1e-18)"
    with pytest.raises(DegenerateSignalError, match=expected):
        lsuv_init(model, size * x)
    untouched.check()
    finding = keras_inits.measure(model, size * x).findings[0]
    assert finding.text.startswith("input data is") and "standardise" in finding.remedy


@pytest.mark.parametrize("size", [1e20, 1e25])
def test_such_data_in_a_layer_that_nothing_describes(size: float) -> None:
    class Own(layers.Layer):
        def build(self, shape: Any) -> None:
            self.w = self.add_weight(shape=(6, 4), initializer="lsuv_normal", name="w")

        def call(self, x: Any) -> Any:
            return keras.ops.matmul(x, self.w)

    model = keras.Sequential([keras.Input((6,)), Own(name="own")])
    with pytest.raises(DegenerateSignalError, match=r"'own'.*too large for float32"):
        lsuv_init(model, size * normal(32, 6))


@pytest.mark.parametrize("size", [1e-15, 1e15])
def test_data_of_which_float32_holds_squares(size: float) -> None:
    model, x = dense_stack()
    lsuv_init(model, size * x)
    assert_target(model, size * x)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_kernel_that_is_not_finite(value: float) -> None:
    model, x = dense_stack()
    model.layers[2].kernel.assign(np.full((6, 6), value, "float32"))
    untouched = Untouched(model)
    with pytest.raises(DegenerateSignalError, match=f"'{model.layers[2].name}'"):
        lsuv_init(model, x)
    untouched.check()


@pytest.mark.parametrize("advice", ["initialize", "layers"])
def test_kernels_of_zeros_are_told_at_once_with_advice_that_helps(advice: str) -> None:
    inputs = h = keras.Input((6,))
    for name in ("first_end", "second_end", "third_end"):
        end = layers.Dense(6, kernel_initializer="zeros", name=name)
        h = layers.Add()([h, end(layers.Dense(6, "relu")(h))])
    model, x = keras.Model(inputs, layers.Dense(2)(h)), normal(32, 6)
    ends = "['first_end', 'second_end', 'third_end']"
    with pytest.raises(DegenerateSignalError, match=r"'first_end'.*zero") as error:
        lsuv_init(model, x)
    told = str(error.value)
    assert "as are those of 'second_end', 'third_end'" in told
    if advice == "initialize":
        assert f"keras_inits.initialize(model, layers={ends})" in told
        keras_inits.initialize(model, layers=ast.literal_eval(ends))
        assert len(lsuv_init(model, x)) == 7
    else:
        code = told[told.index("layers=lambda") + len("layers=") :].rstrip(".")
        assert len(lsuv_init(model, x, layers=eval(code))) == 4


def test_a_kernel_of_zeros() -> None:
    model, x = nested()
    last = model.layers[-1]
    last.kernel.assign(np.zeros((6, 6), "float32"))
    untouched = Untouched(model)
    with pytest.raises(
        DegenerateSignalError, match=rf"'{last.name}' \(Dense, kernel \(6, 6\)\).*zero"
    ):
        lsuv_init(model, x)
    untouched.check()


# An interrupt while the new kernels are written


def test_an_interrupt_in_the_middle_of_the_commit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before and after each bias (not on torch: kernel) was written."""
    model, x = trained()
    untouched = Untouched(model)
    original, written = keras.Variable.assign, []

    for position, late in itertools.product((0, 1, 3), (False, True)):

        def assign(
            self: keras.Variable,
            value: Any,
            position: int = position,
            late: bool = late,
        ) -> Any:
            written.append(self.path)
            if len(written) == position + 1 and not late:
                raise KeyboardInterrupt("here")
            result = original(self, value)
            if len(written) == position + 1 and late:
                raise KeyboardInterrupt("here")
            return result

        written.clear()
        with monkeypatch.context() as patch:
            patch.setattr(keras.Variable, "assign", assign)
            with pytest.raises(KeyboardInterrupt, match="here"):
                lsuv_init(model, x, center=True)
        assert len(written) > position
        untouched.check()
    untouched.still_trains(x)


# Bad data


def frozen_stream() -> Iterator[Any]:
    yield normal(4, 6)
    raise RuntimeError("the disk is gone")


def with_nan() -> np.ndarray[Any, Any]:
    x = normal(32, 6)
    x[5, 2] = np.nan
    return x


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (with_nan, DegenerateSignalError, r"1 value.* not finite.*nan in row 5"),
        (lambda: np.ones((8, 6), "float32"), DegenerateSignalError, "constant.*8, 6"),
        (lambda: np.ones((8, 6), "float32"), DataError, "constant"),
        (lambda: normal(8, 5), DataError, r"takes shape \(None, 6\).*\(8, 5\)"),
        (lambda: normal(8, 6, 2), DataError, r"\(None, 6\).*\(8, 6, 2\)"),
        (lambda: normal(6), DataError, r"\(None, 6\).*\(6,\)"),
        (lambda: normal(0, 6), DataError, r"no rows.*\(0, 6\)"),
        (lambda: [], DataError, "no rows|empty"),
        (lambda: iter([]), DataError, "empty.*make a new one"),
        (lambda: [normal(8, 6), normal(8, 6)], DataError, "takes 1 input.*2 arrays"),
        (lambda: {"left": normal(8, 6)}, DataError, r"keys \['left'\]"),
        (lambda: "x_train.npy", DataError, "Received: 'x_train.npy'"),
        (lambda: 3.0, DataError, "Received: 3.0"),
        (lambda: np.array([["a"] * 6] * 2), DataError, "numbers|text"),
        (lambda: np.array([[object()] * 6] * 2), DataError, "Python objects"),
        (lambda: np.zeros((8, 6), "M8[s]"), DataError, r"times.*datetime64\[s\]"),
        (frozen_stream, RuntimeError, "disk is gone"),
    ],
)
def test_bad_data(
    data: Callable[[], Any],
    error: type[Exception],
    message: str,
) -> None:
    model, _ = dense_stack()
    untouched = Untouched(model)
    with pytest.raises(error, match=message):
        lsuv_init(model, data())
    untouched.check()


def test_a_model_that_is_not_built() -> None:
    model = keras.Sequential([layers.Dense(6)], name="unbuilt")
    with pytest.raises(KerasInitsError, match=r"'unbuilt' is not built.*model\("):
        lsuv_init(model, normal(32, 6))
    assert not model.built


class Pair(keras.Model):
    """Two networks and a training step, as the GANs of Keras's own examples."""

    def __init__(self, built: bool) -> None:
        super().__init__(name="pair")
        self.made = keras.Sequential([keras.Input((3,)), layers.Dense(4)], name="made")
        self.told = keras.Sequential([keras.Input((4,)), layers.Dense(1)], name="told")
        self.built = built

    def train_step(self, *args: Any) -> Any:
        raise AssertionError("training has begun")


@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize("verb", [lsuv_init, keras_inits.measure])
def test_a_model_without_a_call_is_told_to_pass_what_it_holds(
    verb: Any, built: bool
) -> None:
    model, x = Pair(built), normal(32, 3)
    untouched = Untouched(model)
    with pytest.raises(KerasInitsError, match=r"no `call`.*holds 'made', 'told'"):
        verb(model, x)
    untouched.check()
    assert verb(model.made, x)[0].std > 0


@pytest.mark.parametrize("given", [False, True])
def test_so_is_fit(given: bool) -> None:
    model, x = Pair(True), normal(32, 3)
    model.compile("sgd", run_eagerly=True)
    lsuv = keras_inits.LSUV(x if given else None)
    with pytest.raises(KerasInitsError, match="has no `call`"):
        model.fit(x, callbacks=[lsuv], verbose=0)


class OnLatents(Pair):
    """One whose `call` takes what `fit` is never given."""

    def call(self, z: Any) -> Any:
        return self.told(self.made(z))


@pytest.mark.parametrize("verb", [lsuv_init, keras_inits.measure])
def test_a_call_that_does_not_take_the_data_is_told_what_it_takes(verb: Any) -> None:
    model, x = OnLatents(False), normal(32, 3)
    model(x)
    untouched = Untouched(model)
    expected = (
        r"'pair'.*\(None, 3\).*built for inputs of shape \(32, 3\).*"
        r"Received: data of shape \(32, 5, 5, 1\)\. If its `call` takes other"
    )
    with pytest.raises(DataError, match=expected):
        verb(model, normal(32, 5, 5, 1))
    untouched.check()
    assert verb(model, x)[0].std > 0


@pytest.mark.parametrize("callback", [keras_inits.LSUV, keras_inits.SignalMonitor])
def test_so_are_the_callbacks(callback: Any) -> None:
    """On JAX and PyTorch `fit` builds the model on its own data before: it refuses."""
    model, x = OnLatents(False), normal(32, 5, 5, 1)
    model.compile("sgd", run_eagerly=True)
    chosen = callback(x)
    chosen.set_model(model)
    with pytest.raises(DataError, match=r"\(None, 3\) *, but.*LSUV\(data\)") as error:
        chosen.on_epoch_begin(0)
    assert "built for" not in str(error.value)


@pytest.mark.parametrize("verb", [lsuv_init, keras_inits.measure])
def test_what_the_model_itself_takes_is_no_matter_of_the_data(
    verb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slip of ours within the pass is not told as one of the user's data."""
    model, x = OnLatents(True), normal(32, 3)
    for visitor in (Solver, Recorder):

        def slip(*args: Any) -> Any:
            raise RuntimeError("slip")

        monkeypatch.setattr(visitor, "signal", slip)
    with pytest.raises(RuntimeError, match="slip"):
        verb(model, x)


def test_no_model_at_all() -> None:
    with pytest.raises((TypeError, ValueError), match="model"):
        lsuv_init("model", normal(32, 6))  # type: ignore[arg-type]


def test_data_none_where_inputs_cannot_be_drawn() -> None:
    inputs = keras.Input((6,), dtype="int32", name="words")
    model = keras.Model(inputs, layers.Dense(6)(layers.Embedding(7, 6)(inputs)))
    with pytest.raises(DataError, match=r"'words'.*int32.*data="):
        lsuv_init(model)
    inputs = keras.Input((None, 6), name="sequences")
    model = keras.Model(inputs, layers.Dense(6)(inputs))
    with pytest.raises(DataError, match=r"'sequences'.*\(None, None, 6\)"):
        lsuv_init(model)


# What a successful run leaves alone


def test_nothing_but_kernels_changes_in_a_trained_model() -> None:
    """Optimizer, moving statistics, seeds of dropout, metrics: bit for bit."""
    model, x = trained()
    for training in (False, True):
        untouched = Untouched(model)
        assert any("seed" in name for name in untouched.bits)
        lsuv_init(model, x, training=training)
        moved = changed(untouched.bits, model)
        assert moved and all(name.endswith("kernel") for name in moved)
        assert overrides(model) == untouched.patched


def test_losses_of_activity_regularizers_stay_as_they_are() -> None:
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(6, activity_regularizer="l2", kernel_regularizer="l2"),
        ]
    )
    x = normal(32, 6)
    model(x)
    own = numpy(model.losses[0])
    keras_inits.measure(model, x)
    keras_inits.measure(model, x, x, loss="mse")
    lsuv_init(model, x)
    assert len(model.losses) == 2 and numpy(model.losses[0]) == own
    model(x)
    assert len(model.losses) == 2 and numpy(model.losses[0]) != own


def test_the_global_generator_and_that_of_torch_go_on_as_before() -> None:
    model, x = with_fault()
    drawn = []
    for run in (False, True):
        keras.utils.clear_session()  # before Keras 3.13 a seed alone does not restart
        keras.utils.set_random_seed(5)
        if run:
            lsuv_init(model, x, training=True)
        values = [numpy(keras.random.normal((4,))), np.random.random(4)]
        if keras.backend.backend() == "torch":
            import torch

            values.append(torch.rand(4).numpy())
        drawn.append(np.concatenate(values))
    np.testing.assert_array_equal(*drawn)


def test_the_names_of_later_layers_do_not_depend_on_lsuv() -> None:
    names = []
    for run in (False, True):
        keras.utils.clear_session(free_memory=False)
        model = keras.Sequential(
            [
                keras.Input((5, 6)),
                layers.RNN([layers.LSTMCell(4), layers.GRUCell(4), layers.GRUCell(4)]),
                layers.Dense(6),
            ]
        )
        if run:
            lsuv_init(model, normal(32, 5, 6))
        names.append([layers.Dense(1).name, layers.RNN(layers.GRUCell(1)).name])
    assert names[0] == names[1]


def test_other_threads_see_the_layers_as_they_are() -> None:
    """A call from another thread during the sweep gets the old answer."""
    model, x = with_fault()
    expected = numpy(model(x))
    seen: list[np.ndarray[Any, Any]] = []
    faulty = model.get_layer("faulty")

    def ask() -> None:
        faulty.fault = None
        seen.append(numpy(model(x)))

    def fault(value: Any) -> Any:
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        return value

    faulty.fault = fault
    lsuv_init(model, x)
    (actual,) = seen
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)


def test_errors_are_value_errors_of_one_tree() -> None:
    tree = [
        keras_inits.DataError,
        keras_inits.DegenerateSignalError,
        keras_inits.ConvergenceError,
        keras_inits.UnsupportedLayerError,
    ]
    for kind in tree:
        assert issubclass(kind, KerasInitsError) and issubclass(kind, ValueError)
        assert str(kind("message")) == "message"


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="no float64 in the tests")
@pytest.mark.parametrize("size", [1e160, 1e165, 1e200])
def test_float64_beyond_its_squares(size: float) -> None:
    x = np.random.default_rng(0).normal(size=(64, 16))
    options: dict[str, Any] = {"dtype": "float64"}
    stack = [keras.Input((16,), **options)]
    stack += [layers.Dense(16, **options) for _ in range(8)]
    model = keras.Sequential(stack)
    with np.errstate(all="ignore"):
        for _ in range(3):  # eagerly, and as it is played or compiled
            with pytest.raises(DegenerateSignalError, match="not finite"):
                lsuv_init(model, x * size)
            kernel = model.layers[0].kernel
            kernel.assign(np.full((16, 16), size))
            report = keras_inits.measure(model, x)
            assert report[0].kernel_std == 0 or not np.isfinite(report[0].kernel_std)
            kernel.assign(np.eye(16))
