"""`LSUV` in `fit`: at the start of training, once, and never on trained weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from checks import assert_equal_weights, assert_target, changed, everything, overrides
from keras import layers, ops
from models import normal
from textbook import numpy

import keras_inits
from keras_inits import LSUV, lsuv_init
from keras_inits.structure.training import has_been_trained

X, Y = 4 * normal(64, 6), normal(64, 6, seed=1)


class AtFirstBatch(keras.callbacks.Callback):
    """Keeps the weights as they are when the first epoch has begun."""

    weights: Any = None
    batches = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.batches += 1


def stack(compiled: bool = True, **options: Any) -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(6, activation="relu"),
            layers.Dropout(0.2),
            layers.Dense(6),
        ]
    )
    if compiled:
        # A step of size 0: what LSUV did can be measured after fit.
        options = {"optimizer": keras.optimizers.SGD(0.0), "loss": "mse"} | options
        model.compile(**options)
    return model


@pytest.mark.parametrize("data", [X, X[:32], None], ids=["data", "part", "none"])
def test_fit_starts_from_initialised_weights(data: Any) -> None:
    model = stack()
    callback = LSUV(data)
    assert callback.report is None
    model.fit(X, Y, batch_size=32, shuffle=False, verbose=0, callbacks=[callback])
    seen = X[:32] if data is None else data
    assert_target(model, seen)
    assert [row.status for row in callback.report] == ["scaled", "scaled"]
    assert int(model.optimizer.iterations.value) == 2


def test_options_are_those_of_lsuv_init() -> None:
    (expected, actual) = (stack(), stack())
    actual.set_weights(expected.get_weights())
    options = {"target_std": 0.5, "per_channel": True, "center": True, "samples": 40}
    lsuv_init(expected, X, **options)
    actual.fit(X, Y, verbose=0, callbacks=[LSUV(X, **options)])
    assert_equal_weights(expected, actual, rtol=1e-6)
    with pytest.raises(TypeError, match="nonsense"):
        stack().fit(X, Y, verbose=0, callbacks=[LSUV(X, nonsense=1)])


def test_without_data_training_goes_on_as_if_nothing_had_happened() -> None:
    """The same weights as lsuv_init on the first batch, then the same fit."""
    expected, actual = stack(optimizer="adam"), stack(optimizer="adam")
    actual.set_weights(expected.get_weights())
    lsuv_init(expected, X[:16])
    losses = []
    for model, callbacks in ((expected, []), (actual, [LSUV()])):
        keras.utils.set_random_seed(3)
        for layer in model.layers:
            if isinstance(layer, layers.Dropout):
                layer.rate = 0.0
        history = model.fit(
            X, Y, batch_size=16, shuffle=False, verbose=0, epochs=2, callbacks=callbacks
        )
        losses.append(history.history["loss"])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    assert_equal_weights(expected, actual, rtol=1e-3)
    assert int(actual.optimizer.iterations.value) == 8


# Every source that fit takes, without data of its own


def batches(count: int) -> Iterator[Any]:
    for index in range(count):
        part = slice(16 * (index % 4), 16 * (index % 4) + 16)
        yield X[part], Y[part]


class Source(keras.utils.PyDataset):
    asked: list[int]

    def __init__(self) -> None:
        super().__init__()
        self.asked = []

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        self.asked.append(index)
        return list(batches(4))[index]


def tf_data() -> Any:
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(16)


def weighted() -> Any:
    return tf_data().map(lambda x, y: (x, y, x[:, 0] * 0 + 1))


def loader() -> Any:
    torch = pytest.importorskip("torch")
    pairs = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    return torch.utils.data.DataLoader(pairs, batch_size=16)


SOURCES: dict[str, Callable[[], Any]] = {
    "generator": lambda: batches(1000),
    "PyDataset": Source,
    "tf.data": tf_data,
    "weighted tf.data": weighted,
    "DataLoader": loader,
}


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
def test_the_first_batch_of_any_source_serves_and_is_trained_on(
    make: Callable[[], Any],
) -> None:
    model, callback, counter = stack(), LSUV(), AtFirstBatch()
    source = make()
    before = everything(model)
    model.fit(
        source,
        shuffle=False,
        verbose=0,
        steps_per_epoch=4 if isinstance(source, Iterator) else None,
        callbacks=[callback, counter],
    )
    assert_target(model, X[:16])
    assert counter.batches == 4
    assert int(model.optimizer.iterations.value) == 4
    assert [row.status for row in callback.report] == ["scaled", "scaled"]
    assert any("kernel" in name for name in changed(before, model))


@pytest.mark.parametrize("steps", [2, 100])
def test_batches_that_the_optimizer_accumulates_are_training(steps: int) -> None:
    """Gradients of the old weights are in hand, and statistics of the old signal."""
    sgd = keras.optimizers.SGD(0.0, gradient_accumulation_steps=steps)
    model, first, later = stack(optimizer=sgd), LSUV(X), LSUV(X)
    model.fit(X, Y, batch_size=64, verbose=0, callbacks=[first])
    assert first.report is not None
    before = model.get_weights()
    model.fit(X, Y, batch_size=64, verbose=0, callbacks=[later])
    assert later.report is None
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


# Models of several inputs

LEFT, RIGHT = X, normal(64, 4, seed=2)


class OfTwo(keras.Model):
    """A subclassed model: its call unpacks what it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = layers.Dense(6)

    def call(self, inputs: Any) -> Any:
        left, right = inputs
        return self.dense(ops.concatenate([left, right], axis=-1))


def functional() -> keras.Model:
    inputs = [keras.Input((6,)), keras.Input((4,))]
    return keras.Model(inputs, layers.Dense(6)(layers.Concatenate()(inputs)))


def in_batches() -> Iterator[Any]:
    for k in range(0, 64, 16):
        part = slice(k, k + 16)
        yield (LEFT[part], RIGHT[part]), Y[part]


class Pairs(keras.utils.PyDataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        return list(in_batches())[index]


def pairs_tf_data() -> Any:
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices(((LEFT, RIGHT), Y)).batch(16)


def pairs_loader() -> Any:
    torch = pytest.importorskip("torch")

    class Rows(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 64

        def __getitem__(self, index: int) -> Any:
            return (LEFT[index], RIGHT[index]), Y[index]

    return torch.utils.data.DataLoader(Rows(), batch_size=16)


PAIRS: dict[str, Callable[[], Any]] = {
    "list": lambda: ([LEFT, RIGHT], Y),
    "tuple": lambda: ((LEFT, RIGHT), Y),
    "generator": in_batches,
    "PyDataset": Pairs,
    "tf.data": pairs_tf_data,
    "DataLoader": pairs_loader,
}


@pytest.mark.parametrize("make", [functional, OfTwo])
@pytest.mark.parametrize("name", PAIRS)
def test_several_inputs_from_what_fit_draws(
    name: str, make: Callable[[], keras.Model]
) -> None:
    if name == "DataLoader" and keras.backend.backend() == "tensorflow":
        pytest.skip("Keras takes no DataLoader of several inputs on TensorFlow")
    model, callback, source = make(), LSUV(), PAIRS[name]()
    model.compile(keras.optimizers.SGD(0.0), "mse")
    options = {"shuffle": False, "verbose": 0, "callbacks": [callback]}
    if isinstance(source, tuple):
        model.fit(*source, batch_size=16, **options)
    else:
        model.fit(source, steps_per_epoch=4, **options)
    assert [row.status for row in callback.report] == ["scaled"]
    assert_target(model, [LEFT[:16], RIGHT[:16]])


@pytest.mark.parametrize("given", [True, False], ids=["data", "none"])
def test_nested_inputs(given: bool) -> None:
    u, v = keras.Input((6,), name="u"), (keras.Input((4,)), keras.Input((4,)))
    y = layers.Dense(6)(layers.Concatenate()([u, *v]))
    model = keras.Model({"u": u, "v": v}, y)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    x = {"u": LEFT, "v": (RIGHT, -RIGHT)}
    callback = LSUV((x, Y) if given else None)
    model.fit(x, Y, batch_size=64, shuffle=False, verbose=0, callbacks=[callback])
    assert_target(model, x)


def test_batches_padded_one_by_one() -> None:
    model, callback = keras.Sequential([layers.Dense(1)]), LSUV()
    model.compile(keras.optimizers.SGD(0.0), "mse")
    batches = [(normal(8, n, 6), normal(8, n, 1)) for n in (3, 5, 3)]
    stream = (batch for batch in batches)
    model.fit(stream, steps_per_epoch=3, verbose=0, callbacks=[callback])
    assert_target(model, batches[0][0])
    lsuv = LSUV(iter(batches))
    again = keras.Sequential([keras.Input((None, 6)), layers.Dense(1)])
    again.compile(keras.optimizers.SGD(0.0), "mse")
    again.fit(*batches[1], verbose=0, callbacks=[lsuv])
    assert_target(again, np.concatenate([batches[0][0], batches[2][0]]))


@pytest.mark.parametrize(
    "options",
    [
        {"run_eagerly": True},
        {"jit_compile": True},
        {"steps_per_execution": 3},
        {"optimizer": "adam"},
    ],
    ids=str,
)
def test_however_the_model_was_compiled(options: dict[str, Any]) -> None:
    if keras.backend.backend() == "torch" and "jit_compile" in options:
        pytest.skip("torch.compile takes longer than the rest of the suite")
    if keras.backend.backend() == "torch" and "steps_per_execution" in options:
        pytest.skip("Keras has no steps_per_execution on PyTorch")
    model, callback, counter = stack(**options), LSUV(), AtFirstBatch()
    if "optimizer" in options:
        model.optimizer.learning_rate = 0.0
    model.fit(
        X, Y, batch_size=16, shuffle=False, verbose=0, callbacks=[callback, counter]
    )
    assert_target(model, X[:16], tolerance=1e-3)
    assert int(model.optimizer.iterations.value) == 4
    assert callback.report is not None


class OwnStep(keras.Model):
    """Subclassed, unbuilt until fit, with a training step of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.one = layers.Dense(6, activation="relu")
        self.two = layers.Dense(6)
        self.steps = 0

    def call(self, x: Any, training: bool = False) -> Any:
        return self.two(self.one(x))

    def train_step(self, *args: Any) -> Any:
        self.steps += 1
        return super().train_step(*args)


@pytest.mark.parametrize("data", [X[:16], None], ids=["data", "none"])
def test_an_unbuilt_model_with_a_training_step_of_its_own(data: Any) -> None:
    model, callback = OwnStep(), LSUV(data)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.fit(X, Y, batch_size=16, shuffle=False, verbose=0, callbacks=[callback])
    assert model.steps
    assert_target(model, X[:16])
    assert len(callback.report) == 2


@pytest.mark.parametrize("data", [X, None], ids=["data", "none"])
def test_an_unbuilt_sequential_is_initialised_on_all_rows(data: Any) -> None:
    """Keras takes the number of rows in its first call for a batch size."""
    model = keras.Sequential([layers.Dense(6, "relu"), layers.Dense(6)])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.fit(X, Y, batch_size=64, shuffle=False, verbose=0, callbacks=[LSUV(data)])
    assert_target(model, X)


# Never on trained weights


def kernels(model: keras.Model) -> list[np.ndarray[Any, Any]]:
    return [numpy(v) for v in model.trainable_variables]


def same(model: keras.Model, before: list[np.ndarray[Any, Any]]) -> bool:
    pairs = zip(kernels(model), before, strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("data", [X, None], ids=["data", "none"])
def test_a_second_fit_does_nothing(data: Any) -> None:
    model, callback = stack(), LSUV(data)
    model.fit(X, Y, verbose=0, callbacks=[callback])
    report = callback.report
    before = kernels(model)
    for options in ({}, {"epochs": 3, "initial_epoch": 2}):
        model.fit(2 * X, Y, verbose=0, callbacks=[callback], **options)
        assert same(model, before)
    assert callback.report is report
    other = LSUV(data)
    model.fit(2 * X, Y, verbose=0, callbacks=[other])
    assert same(model, before) and other.report is None


def test_a_later_initial_epoch_does_nothing() -> None:
    model, callback = stack(), LSUV(X)
    before = kernels(model)
    model.fit(X, Y, verbose=0, initial_epoch=1, epochs=2, callbacks=[callback])
    assert same(model, before) and callback.report is None


def test_a_reloaded_compiled_model_is_left_alone(tmp_path: Path) -> None:
    model = stack()
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    before = kernels(again)
    again.fit(X, Y, verbose=0, callbacks=[LSUV(X), LSUV()])
    assert same(again, before)


@pytest.mark.parametrize("first", ["backup", "lsuv"])
def test_backup_and_restore(tmp_path: Path, first: str) -> None:
    """An interrupted fit is resumed by a new process: an equal, fresh model."""

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch == 1:
                raise KeyboardInterrupt("power cut")

    def callbacks() -> list[keras.callbacks.Callback]:
        pair = [keras.callbacks.BackupAndRestore(tmp_path / "backup"), LSUV(X)]
        return pair if first == "backup" else pair[::-1]

    model = stack()
    with pytest.raises(KeyboardInterrupt, match="power cut"):
        model.fit(X, Y, verbose=0, epochs=3, callbacks=[*callbacks(), Stop()])
    trained = kernels(model)
    assert_target(model, X)
    resumed = stack()
    pair = callbacks()
    resumed.fit(2 * X, Y, verbose=0, epochs=3, callbacks=pair)
    for a, b in zip(kernels(resumed), trained, strict=True):
        np.testing.assert_array_equal(a, b)
    reports = [c.report for c in pair if isinstance(c, LSUV)]
    assert reports == [None]


# What is said, and what happens when it goes wrong


def test_verbose_sums_up(capsys: pytest.CaptureFixture[str]) -> None:
    stack().fit(X, Y, verbose=0, callbacks=[LSUV(X)])
    assert capsys.readouterr().out == ""
    model = stack()
    model.fit(X, Y, verbose=0, callbacks=[LSUV(X, verbose=1)])
    assert model.name in capsys.readouterr().out


@pytest.mark.parametrize("given", [True, False], ids=["data", "none"])
def test_an_error_stops_fit_and_leaves_the_weights(given: bool) -> None:
    model = stack()
    bad = X.copy()
    bad[:, 3] = np.nan
    before, patched = everything(model), overrides(model)
    callback = LSUV(bad if given else None)
    with pytest.raises(keras_inits.DegenerateSignalError, match="not finite"):
        model.fit(bad, Y, verbose=0, callbacks=[callback])
    assert changed(before, model) == []
    assert overrides(model) == patched
    assert callback.report is None
    model.fit(X, Y, verbose=0, callbacks=[LSUV(X)])
    assert_target(model, X)


def test_an_error_without_data_leaves_no_function_in_front_of_the_step() -> None:
    model = stack()
    bad = X * np.nan
    with pytest.raises(keras_inits.DegenerateSignalError, match="not finite"):
        model.fit(bad, Y, verbose=0, callbacks=[LSUV()])
    before = kernels(model)
    model.fit(X, Y, verbose=0)
    assert same(model, before)


def test_a_model_can_be_saved_by_a_callback_while_lsuv_is_due(tmp_path: Path) -> None:
    # No layer as an activation: Keras before 3.12 cannot load that.
    stack = [keras.layers.Dense(6, "relu") for _ in range(3)]
    model, x = keras.Sequential([keras.Input((6,)), *stack]), normal(32, 6)
    model.compile("adam", "mse")
    path = tmp_path / "{epoch}.keras"
    model.fit(
        x,
        normal(32, 6),
        verbose=0,
        callbacks=[LSUV(), keras.callbacks.ModelCheckpoint(path)],
    )
    again = keras.saving.load_model(tmp_path / "1.keras")
    assert_equal_weights(model, again, rtol=0)


def test_a_wrong_option_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="targetstd"):
        LSUV(targetstd=2)
    with pytest.raises(keras_inits.KerasInitsError, match="target_std=-2"):
        LSUV(normal(4, 4), target_std=-2)
    assert LSUV(target_std="critical", center=True).options["center"]


@pytest.mark.parametrize("callback", [LSUV, keras_inits.SignalMonitor])
def test_what_is_no_data_is_refused_at_once(callback: Any) -> None:
    for wrong in (stack(), layers.Dense(2)):
        with pytest.raises(keras_inits.DataError, match=r"the model from fit: LSUV"):
            callback(wrong)
    for wrong in (3, "x_train.npy", {1, 2}):
        with pytest.raises(keras_inits.DataError, match="`data` is what fit"):
            callback(wrong)
    with pytest.raises(keras_inits.DataError, match="samples=0"):
        callback(normal(4, 4), samples=0)
    with pytest.raises(keras_inits.KerasInitsError, match="training='yes'"):
        callback(normal(4, 4), training="yes")
    source = iter([normal(4, 4)])
    callback(source)
    assert next(source).shape == (4, 4)  # nothing was drawn


def test_a_frozen_layer_that_is_named_keeps_its_new_kernel() -> None:
    """On JAX `fit` holds what is not trained apart, and writes it back at the end."""
    model = stack()
    model.layers[0].trainable = False
    model.compile(keras.optimizers.SGD(0.0), "mse")
    callback = LSUV(layers=[layer for layer in model.layers if layer.weights])
    model.fit(X, Y, batch_size=64, shuffle=False, verbose=0, callbacks=[callback])
    assert [row.status for row in callback.report] == ["scaled", "scaled"]
    assert [row.std for row in keras_inits.measure(model, X)] == pytest.approx(
        [1.0, 1.0], rel=1e-3
    )


class Handing(keras.Model):
    """Its optimizer is that of the model it holds."""

    def __init__(self, inner: keras.Model) -> None:
        super().__init__()
        self.inner = inner

    @property
    def optimizer(self) -> Any:
        return self.inner.optimizer

    @optimizer.setter
    def optimizer(self, value: Any) -> None:
        if value is not None:
            self.inner.optimizer = value

    def call(self, x: Any) -> Any:
        return self.inner(x)


def test_an_optimizer_that_is_handed_on_counts() -> None:
    model = Handing(stack())
    model(X)
    model.inner.optimizer.build(model.trainable_variables)
    assert not has_been_trained(model)
    model.inner.optimizer.iterations.assign(2)
    assert has_been_trained(model)


@pytest.mark.parametrize("held", ["alone", "listed", "named"])
def test_an_optimizer_beside_that_of_compile_counts(held: str) -> None:
    """Those of the two networks of a GAN."""
    model, own = stack(), keras.optimizers.SGD(0.0)
    own.build(model.trainable_variables)
    model.own = {"alone": own, "listed": [own], "named": {"first": own}}[held]
    first, second = LSUV(X), LSUV(X)
    model.fit(X, Y, verbose=0, callbacks=[first])
    assert first.report is not None
    model.compile(keras.optimizers.SGD(0.0), "mse")
    own.iterations.assign(3)
    model.fit(X, Y, verbose=0, callbacks=[second])
    assert second.report is None
