"""Looks at data in memory: block by block, in float64, without copies."""

from __future__ import annotations

import tracemalloc

import keras
import numpy as np
import pytest

from keras_inits import lsuv_init, measure
from keras_inits.data.arrays import (
    BLOCK,
    all_alike,
    all_finite,
    mean_and_deviation,
    spaced,
    with_rows,
)
from keras_inits.recording.one_pass import recorded
from keras_inits.statistics.moments import SAMPLE, where_to_look
from keras_inits.structure.selection import everything

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "arrays",
    [
        [RNG.standard_normal((3 * BLOCK + 7,), dtype="float32")],
        [1e6 + RNG.standard_normal((500, 700)).astype("float32")],
        [1e30 * RNG.standard_normal((100, 7)).astype("float32")],  # squares: 1e60
        [RNG.integers(0, 255, (300, 28, 28), dtype="uint8"), np.eye(3)],
        [RNG.random((50, 4)) > 0.3, -np.ones((2, 100_000), "float16")],
        [RNG.standard_normal((400, 500))[::3, ::-2]],
        [np.asfortranarray(RNG.standard_normal((400, 500)))],
        [np.full((4, 5), 3.0, "float32")],
        [np.zeros((0, 3)), RNG.standard_normal((2, 3))],
    ],
    ids=range(9),
)
def test_mean_and_deviation_are_those_of_all_values(arrays: list[np.ndarray]) -> None:
    values = np.concatenate([x.astype("float64").ravel() for x in arrays])
    expected = [values.mean(), values.std()]
    np.testing.assert_allclose(mean_and_deviation(arrays), expected, rtol=1e-12)


def test_of_nothing_they_are_zero() -> None:
    assert mean_and_deviation([]) == (0.0, 0.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_is_not_lost(value: float) -> None:
    x = RNG.standard_normal((2 * BLOCK,), dtype="float32")
    assert all_finite(x)
    x[BLOCK + 3] = value
    mean, deviation = mean_and_deviation([x])
    assert not np.isfinite(mean)
    assert np.isnan(deviation)
    assert not all_finite(x)


def test_a_look_takes_no_memory() -> None:
    x = RNG.standard_normal((64, 224, 224, 3), dtype="float32")  # 38 MB
    tracemalloc.start()
    try:
        mean_and_deviation([x])
        all_finite(x)
        assert not all_alike(x)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2e6


def test_rows_are_alike_only_where_every_one_is() -> None:
    x = np.tile(RNG.standard_normal((1, 9)), (5, 1))
    assert all_alike(x)
    x[2, 4] += 1.0  # neither the first nor the last
    assert not all_alike(x)
    assert not all_alike(x[:1])
    assert not all_alike(x[:0])


class Lazy:
    """Rows that are read when they are asked for, as of a file."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.read = values, 0
        self.shape, self.ndim, self.dtype = values.shape, values.ndim, values.dtype

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: object) -> np.ndarray:
        found = self.values[index]
        self.read += len(found)
        return found

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        raise AssertionError("read as a whole")


def test_of_lazy_arrays_only_the_rows_that_are_drawn_are_read() -> None:
    x, y = Lazy(RNG.standard_normal((5000, 3))), Lazy(np.arange(5000.0)[:, None])
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    report = measure(model, x, y, loss="mse", samples=50)
    assert (x.read, y.read) == (50, 50)
    assert report.inputs.std == pytest.approx(x.values[::100].std(), rel=1e-5)
    lsuv_init(model, x, samples=50)
    assert x.read == 100


def test_tensors_of_another_backend_are_data() -> None:
    other = "torch" if keras.backend.backend() == "tensorflow" else "tensorflow"
    module = pytest.importorskip(other)
    x = RNG.standard_normal((500, 3)).astype("float32")
    make = module.constant if other == "tensorflow" else module.tensor
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    report = measure(model, make(x), samples=50)
    assert report.inputs.std == pytest.approx(x[::10].std(), rel=1e-5)


def test_of_frames_only_the_rows_that_are_drawn_are_read() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(RNG.standard_normal((4000, 3)), columns=list("abc"))
    frame["d"] = frame["a"] > 0  # another dtype: as a whole it is made of objects
    [drawn] = [spaced(*with_rows(frame), 40)]
    assert drawn.dtype == "float32" and drawn.shape == (40, 4)
    expected = frame.iloc[::100].to_numpy("float32")
    np.testing.assert_array_equal(drawn, expected)
    tracemalloc.start()
    try:
        spaced(*with_rows(frame), 40)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000  # of 112,000 bytes of values, and as many objects


@pytest.mark.parametrize(
    "shape", [(2, 8, 2048, 2048), (4, 32768, 64), (8, 224, 224, 64), (256, 512)]
)
def test_what_is_kept_of_a_signal_does_not_grow_with_it(shape: tuple[int, ...]) -> None:
    index = where_to_look(shape)
    kept = np.broadcast_to(np.float32(0), shape)[index]
    assert SAMPLE / 2 <= kept.size <= 5 * SAMPLE


def test_the_softmax_of_attention_is_looked_at_in_part() -> None:
    inputs = keras.Input((64, 32))
    attention = keras.layers.MultiHeadAttention(4, 8, dropout=0.1)
    model = keras.Model(inputs, attention(inputs, inputs))
    x = RNG.standard_normal((16, 64, 32)).astype("float32")
    found = recorded(model, x, everything(model), False)
    [softmax] = [r for r in found.records if r.map is None]
    assert softmax.rows.size <= 5 * SAMPLE < 16 * 4 * 64 * 64
    assert np.isfinite(softmax.gradient_gain)


def test_ragged_rows_are_padded() -> None:
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("of TensorFlow")
    ragged = tf.RaggedTensor.from_row_lengths(np.arange(1, 61) % 9, [2, 4] * 10)
    inputs = keras.Input((None,), dtype="int32", ragged=True)
    h = keras.layers.Lambda(lambda t: tf.reduce_mean(t, 1))
    h = h(keras.layers.Embedding(9, 8)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3)(h))
    stream = tf.data.Dataset.from_tensor_slices(ragged).batch(5)
    for data in (ragged, stream, ragged.to_tensor()):
        shown = measure(model, data)
        assert shown[0].output_shape == (None, 4, 8)
        lsuv_init(model, data)
        assert measure(model, data)[-1].std == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("dtype", [">f8", ">f4", ">f2", ">i4"])
@pytest.mark.parametrize("stream", [False, True])
def test_bytes_in_the_order_of_another_machine_are_data(
    dtype: str, stream: bool
) -> None:
    """Of FITS, NetCDF and IDX files."""
    x = (10 * RNG.standard_normal((64, 6))).astype(dtype)
    y = RNG.integers(0, 3, 64).astype(">i8")
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, name="d")])
    data = (part for part in (x[:40], x[40:])) if stream else x
    report = measure(model, data, y, loss=LOSS)
    assert report["d"].weight_gradient_std == pytest.approx(
        measure(model, x.astype(dtype[1:]), y.astype("int64"), loss=LOSS)[
            "d"
        ].weight_gradient_std
    )
    assert lsuv_init(model, x)["d"].std == pytest.approx(1.0, abs=1e-3)


LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
