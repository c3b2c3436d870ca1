"""SignalMonitor: measures during training, and training does not notice."""

from __future__ import annotations

import copy
import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from checks import everything
from models import normal

import keras_inits
from keras_inits import SignalMonitor


def data(count: int = 40) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    return normal(count, 6), normal(count, 2, seed=1)


def network() -> keras.Model:
    """What training keeps beside weights: statistics, seeds, momenta."""
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, "tanh", name="first"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(8, "relu", name="second"),
            keras.layers.Dense(2, name="last"),
        ]
    )
    model.compile("adam", "mse")
    return model


def plain() -> keras.Model:
    """A model that compiles fast."""
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, "relu", name="first"),
            keras.layers.Dense(2, "tanh", name="last"),
        ]
    )
    model.compile("sgd", "mse")
    return model


def train(
    *callbacks: Any, model: keras.Model | None = None, epochs: int = 1
) -> tuple[Any, Any]:
    model = plain() if model is None else model
    x, y = data()
    history = model.fit(
        x, y, epochs=epochs, batch_size=20, verbose=0, callbacks=callbacks
    )
    return model, history.history


@pytest.fixture(scope="module")
def trained() -> tuple[SignalMonitor, Any, Any]:
    """One training of three epochs that several tests look at."""
    monitor = SignalMonitor(*data())
    return monitor, *train(monitor, epochs=3)


def test_training_is_bit_equal_with_and_without() -> None:
    x, y = data()
    monitor = SignalMonitor(x, y, training=True)
    left, alone = train(model=network(), epochs=2)
    right, watched = train(monitor, model=network(), epochs=2)
    assert list(everything(left).values()) == list(everything(right).values())
    assert alone["loss"] == watched["loss"]
    assert monitor.epochs == [0, 1, 2]


def test_first_report_is_the_start_and_the_last_one_the_end(trained: Any) -> None:
    monitor, model, _ = trained
    assert monitor.epochs == [0, 1, 2, 3]
    x, _ = data()

    def stds(report: Any) -> list[float]:
        return [layer.std for layer in report]

    assert stds(keras_inits.measure(plain(), x)) == stds(monitor.reports[0])
    assert stds(keras_inits.measure(model, x)) == stds(monitor.report)
    assert stds(monitor.reports[1]) != stds(monitor.reports[0])


def test_behind_lsuv_the_first_report_shows_what_it_did() -> None:
    x, _ = data()
    monitor = SignalMonitor(x)
    train(keras_inits.LSUV(x), monitor)
    assert [1.0] * 2 == pytest.approx([layer.std for layer in monitor.reports[0]], 1e-3)


def test_extremes_reach_history_in_every_epoch(trained: Any) -> None:
    monitor, _, history = trained
    for key, figure, extreme in (
        ("signal_std_min", "std", min),
        ("signal_std_max", "std", max),
        ("signal_dead_max", "dead_fraction", max),
        ("signal_saturated_max", "saturated_fraction", max),
        ("gradient_ratio_min", "gradient_ratio", min),
        ("gradient_ratio_max", "gradient_ratio", max),
    ):
        expected = [
            extreme(v for v in (getattr(x, figure) for x in report) if v is not None)
            for report in monitor.reports[1:]
        ]
        assert expected == history[key]


def test_epochs_between_measurements_are_nan(tmp_path: Path) -> None:
    monitor = SignalMonitor(data()[0], every=2)
    log = tmp_path / "log.csv"
    _, history = train(monitor, keras.callbacks.CSVLogger(log), epochs=5)
    assert monitor.epochs == [0, 2, 4]
    measured = [not math.isnan(value) for value in history["signal_std_min"]]
    assert measured == [False, True, False, True, False]
    with log.open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[1]["signal_std_min"]) == history["signal_std_min"][1]


def test_a_signal_of_nan_is_told_as_nan() -> None:
    monitor = SignalMonitor(np.full((4, 6), np.nan, "float32"))
    _, history = train(monitor)
    assert math.isnan(history["signal_std_max"][0])
    assert monitor.report is not None
    assert "NaN" in monitor.report.findings[0].text


def test_the_same_rows_of_a_generator_are_measured_every_time() -> None:
    drawn = []

    def batches() -> Iterator[Any]:
        for i in range(2):
            drawn.append(i)
            yield normal(8, 6, seed=i)

    monitor = SignalMonitor(batches(), samples=16)
    train(monitor, epochs=2)
    assert drawn == [0, 1]
    inputs = [report.inputs for report in monitor.reports]
    assert len(inputs) == 3
    assert inputs[0] == inputs[1] == inputs[2]


def test_a_later_fit_starts_anew_or_goes_on() -> None:
    x, y = data()
    monitor = SignalMonitor(x)
    model, _ = train(monitor, epochs=2)
    model.fit(x, y, initial_epoch=2, epochs=3, verbose=0, callbacks=[monitor])
    assert monitor.epochs == [0, 1, 2, 3]
    model.fit(x, y, epochs=1, verbose=0, callbacks=[monitor])
    assert monitor.epochs == [0, 1]
    assert len(monitor.reports) == 2


def test_a_subclassed_model_is_built_by_its_first_measurement() -> None:
    class Net(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(2, name="inner")

        def call(self, x: Any) -> Any:
            return self.dense(x)

    model = Net()
    model.compile("sgd", "mse")
    x, y = data()
    monitor = SignalMonitor(x)
    model.fit(x, y, verbose=0, callbacks=[monitor])
    assert [r[0].name for r in monitor.reports] == ["inner", "inner"]


class OfTwo(keras.Model):
    """Built by its first call, which unpacks what it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(2, name="inner")

    def call(self, inputs: Any) -> Any:
        left, right = inputs
        return self.dense(left + right)


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("pack", [tuple, list])
def test_several_inputs(pack: Any, labelled: bool) -> None:
    x, y = data()
    inputs = pack([x, 2 * x])
    model = OfTwo()
    model.compile("sgd", "mse")
    monitor = SignalMonitor((inputs, y), y if labelled else None)
    model.fit(inputs, y, verbose=0, callbacks=[monitor])
    expected = keras_inits.measure(model, (inputs, y), y if labelled else None)
    assert monitor.report is not None
    assert monitor.report[0] == expected[0]
    assert (expected[0].weight_gradient_std is not None) == labelled


@pytest.mark.parametrize(("labelled", "count"), [(False, 16), (True, 8)])
def test_batches_of_several_shapes(labelled: bool, count: int) -> None:
    """Labels go with the first rows: no batch is passed over."""
    dense = keras.layers.Dense(2)
    model = keras.Sequential([keras.Input((None, 6)), dense])
    model.compile("sgd", "mse")
    batches = [normal(8, steps, 6, seed=i) for i, steps in enumerate((3, 5, 3))]
    y = normal(24, 3, 2)
    monitor = SignalMonitor(iter(batches), y if labelled else None)
    model.fit(batches[0], y[:8], verbose=0, callbacks=[monitor])
    expected = np.concatenate([batches[0], batches[2]])[:count]
    assert monitor.reports[0].inputs is not None
    assert monitor.reports[0].inputs.std == pytest.approx(expected.std(), rel=1e-5)


def test_only_the_layers_asked_for() -> None:
    monitor = SignalMonitor(data()[0], layers=["last"])
    train(monitor)
    assert [[x.name for x in report] for report in monitor.reports] == [["last"]] * 2


def test_curves_are_drawn(tmp_path: Path, trained: Any) -> None:
    with pytest.raises(ValueError, match="at least one"):
        SignalMonitor(data()[0]).plot()
    trained[0].plot(tmp_path / "signal.png", theme="dark")
    assert (tmp_path / "signal.png").read_bytes().startswith(b"\x89PNG")


def test_tensorboard_summaries_are_written_at_every_measurement(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    train(SignalMonitor(data()[0], logdir=tmp_path))
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert written.count(b"std/first") >= 2


@pytest.mark.parametrize("every", [0, -1, 1.5, True, "2"])
def test_every_is_a_positive_whole_number(every: Any) -> None:
    with pytest.raises(keras_inits.KerasInitsError, match="`every` is a number of"):
        SignalMonitor(data()[0], every=every)


def test_an_unknown_layer_is_said_before_training() -> None:
    model = plain()
    before = everything(model)
    with pytest.raises(keras_inits.UnsupportedLayerError, match="'third'"):
        train(SignalMonitor(data()[0], layers="third"), model=model)
    kernels = {k: v for k, v in before.items() if "kernel" in k}
    assert kernels
    assert kernels == {k: v for k, v in everything(model).items() if k in kernels}


@pytest.mark.parametrize("lost", [False, True], ids=["sizes", "NaN"])
def test_columns_of_a_data_frame_are_told_by_name(lost: bool) -> None:
    x, y = data()
    names = ["age", "income", "height", "rooms", "floor", "year"]
    frame = pytest.importorskip("pandas").DataFrame(x, columns=names)
    frame["income"] = math.nan if lost else 1e3 * frame["income"]
    told = "in column 'income'" if lost else "column 'income': mean"
    monitor = SignalMonitor(frame, y)
    train(monitor, copy.deepcopy(monitor))
    assert all(told in report.findings[0].text for report in monitor.reports)


def test_lsuv_knows_the_names_where_it_has_to_build_the_model() -> None:
    x = 1e3 * data()[0]
    x[:, 2] *= 100
    frame = pytest.importorskip("pandas").DataFrame(x, columns=list("abcdef"))
    model = keras.Sequential([keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    callback = keras_inits.LSUV(frame)
    model.fit(x, data()[1], verbose=0, callbacks=[callback])
    assert "column 'c': mean" in callback.report.findings[0].text
