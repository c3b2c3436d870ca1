"""A batch from whatever `fit` accepts, and what a source gives up for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import scipy.sparse
from keras import layers, ops
from models import normal
from textbook import numpy

from keras_inits import DataError, DegenerateDataError, lsuv_init
from keras_inits.data import draw_batch, rows


def one_input(shape: tuple[int, ...] = (3,)) -> keras.Model:
    return keras.Sequential([keras.Input(shape), layers.Dense(2, use_bias=False)])


def two_inputs() -> keras.Model:
    left, right = keras.Input((3,), name="left"), keras.Input((2,), name="right")
    return keras.Model({"left": left, "right": right}, layers.Dense(2)(left))


X = np.arange(30, dtype="float32").reshape(10, 3)
Y = np.arange(10)
ROWS = [0, 2, 5, 7]  # four of ten, evenly spaced


def drawn(data: Any, samples: int = 4, model: keras.Model | None = None) -> Any:
    batch = draw_batch(model or one_input(), data, samples)
    return keras.tree.map_structure(numpy, batch)


@pytest.mark.parametrize(
    "data",
    [
        X,
        [X],
        (X, Y),
        (X, Y, np.ones(10)),
        X.tolist(),
        ops.convert_to_tensor(X),
        X.astype("float64"),
        X.astype("int64"),
    ],
    ids=[
        "array",
        "list of one",
        "(x, y)",
        "(x, y, w)",
        "numbers",
        "tensor",
        "wide",
        "integers",
    ],
)
def test_rows_of_arrays_are_spaced_evenly(data: Any) -> None:
    (batch,) = keras.tree.flatten(drawn(data))
    np.testing.assert_array_equal(batch, X[ROWS])


def test_all_rows_where_there_are_no_more_than_asked_for() -> None:
    for samples in (10, 11, 256):
        np.testing.assert_array_equal(drawn(X, samples), X)


def test_dicts_are_matched_by_name_not_by_order() -> None:
    data = {"right": X[:, :2], "left": X}
    for given in (data, (data, Y)):
        batch = drawn(given, model=two_inputs())
        np.testing.assert_array_equal(batch["left"], X[ROWS])
        np.testing.assert_array_equal(batch["right"], X[ROWS, :2])


def test_data_frames() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": X[:, 0], "b": X[:, 1].astype(int), "c": X[:, 2]})
    np.testing.assert_array_equal(drawn(frame), X[ROWS])
    series = pandas.Series(X[:, 0], index=range(5, 15))
    batch = drawn(series, model=one_input((1,)))
    np.testing.assert_array_equal(np.ravel(batch), X[ROWS, 0])
    batch = drawn((frame, frame["a"]))
    np.testing.assert_array_equal(batch, X[ROWS])
    lsuv_init(one_input(), frame)


# Sources of batches


class Source(keras.utils.PyDataset):
    """Batches of three rows; counts what is drawn."""

    def __init__(self, form: str = "xy", batches: int | None = 5) -> None:
        super().__init__()
        self.form, self.batches, self.asked = form, batches, []

    @property
    def num_batches(self) -> int | None:
        return self.batches

    def __getitem__(self, index: int) -> Any:
        self.asked.append(index)
        x = batch_of(index)
        return {"x": x, "xy": (x, x), "xyw": (x, x, np.ones(3)), "list": [x, x]}[
            self.form
        ]


def batch_of(index: int) -> np.ndarray[Any, Any]:
    return X[:3] + 100 * index


def generator(batches: int = 1000, form: str = "xy") -> Iterator[Any]:
    source = Source(form)
    return (source[index] for index in range(batches))


def tf_dataset() -> Any:
    tf = pytest.importorskip("tensorflow")
    signature = tf.TensorSpec((3, 3), "float32")
    return tf.data.Dataset.from_generator(
        lambda: generator(1000, "x"), output_signature=signature
    )


SOURCES: dict[str, Callable[[], Any]] = {
    "generator": generator,
    "generator of x": lambda: generator(form="x"),
    "generator of lists": lambda: generator(form="list"),
    "generator with weights": lambda: generator(form="xyw"),
    "PyDataset": Source,
    "PyDataset with weights": lambda: Source("xyw"),
    "infinite PyDataset": lambda: Source(batches=None),
    "tf.data": tf_dataset,
    "tf.data with weights": lambda: tf_dataset().map(lambda x: (x, x, x[:, 0])),
    "infinite tf.data": lambda: tf_dataset().repeat(),
}


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
@pytest.mark.parametrize("samples", [1, 3, 7])
def test_whole_batches_are_gathered(make: Callable[[], Any], samples: int) -> None:
    expected = np.concatenate([batch_of(0), batch_of(1), batch_of(2)])[:samples]
    np.testing.assert_array_equal(drawn(make(), samples), expected)


@pytest.mark.parametrize("samples", [1, 3, 4, 7])
def test_nothing_is_drawn_beyond_what_is_needed(samples: int) -> None:
    needed = math.ceil(samples / 3)
    source = Source()
    drawn(source, samples)
    assert source.asked == list(range(needed))
    rest = generator()
    drawn(rest, samples)
    np.testing.assert_array_equal(next(rest)[0], batch_of(needed))


def test_a_source_that_ends_early_gives_what_it_has() -> None:
    assert drawn(generator(2), 256).shape == (6, 3)
    source = Source(batches=2)
    assert drawn(source, 256).shape == (6, 3)
    assert source.asked == [0, 1]


def test_a_used_up_generator_says_so() -> None:
    source = generator(1)
    drawn(source)
    with pytest.raises(DataError, match="used up"):
        drawn(source)


def test_batches_of_dicts() -> None:
    def batches() -> Iterator[Any]:
        for index in range(3):
            yield {"left": batch_of(index), "right": batch_of(index)[:, :2]}, Y[:3]

    batch = drawn(batches(), 5, two_inputs())
    assert {name: x.shape for name, x in batch.items()} == {
        "left": (5, 3),
        "right": (5, 2),
    }


def test_data_loader() -> None:
    torch = pytest.importorskip("torch")
    asked = []

    class Rows(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 10

        def __getitem__(self, index: int) -> Any:
            asked.append(index)
            return torch.from_numpy(X[index]), index

    loader = torch.utils.data.DataLoader(Rows(), batch_size=3)
    np.testing.assert_array_equal(drawn(loader, 4), X[:4])
    assert asked == list(range(6))
    lsuv_init(one_input(), loader)


# Models that say what they take


def test_a_fixed_batch_size_is_kept() -> None:
    inputs = keras.Input(batch_shape=(8, 3))
    model = keras.Model(inputs, layers.Dense(2)(inputs))
    for data in (X, generator(), None):
        assert drawn(data, 4, model).shape == (8, 3)


def test_keras_adds_or_drops_a_last_axis_of_one() -> None:
    assert drawn(X[:, 0], 4, one_input((1,))).shape in ((4,), (4, 1))
    lsuv_init(one_input((1,)), X[:, 0])


def test_none_draws_standard_normal_rows_in_the_structure_of_the_inputs() -> None:
    batch = drawn(None, 500, two_inputs())
    assert {name: x.shape for name, x in batch.items()} == {
        "left": (500, 3),
        "right": (500, 2),
    }
    for x in batch.values():
        assert abs(x.mean()) < 0.1 and abs(x.std() - 1) < 0.1
    assert not np.array_equal(batch["left"][:, :2], batch["right"])


def test_constant_inputs_beside_others_are_no_error() -> None:
    data = {"left": X, "right": np.ones((10, 2), "float32")}
    drawn(data, model=two_inputs())
    with pytest.raises(DegenerateDataError, match="constant"):
        drawn({"left": 0 * X, "right": data["right"]}, model=two_inputs())


def test_rows_that_are_the_same_are_constant_even_where_columns_differ() -> None:
    with pytest.raises(DegenerateDataError, match="constant"):
        drawn(np.tile(X[:1], (10, 1)))


def test_one_row_alone_may_vary_over_its_features() -> None:
    """A single row is no reason to refuse: the deviation is over the whole tensor."""
    assert drawn(X[:1]).shape == (1, 3)
    report = lsuv_init(one_input((4, 3)), normal(1, 4, 3))
    assert report[0].std == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"left": X}, r"missing: \['right'\]"),
        ([X], "takes 2 inputs.*1 array"),
        ({"left": X, "right": X}, r"'right'.*\(None, 2\).*\(4, 3\)"),
        ({"left": X, "right": X[:5, :2]}, r"same number of rows.*\(5, 2\)"),
        ({"left": X[:0], "right": X[:0, :2]}, "no rows"),
    ],
)
def test_what_does_not_fit_the_inputs(data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        drawn(data, model=two_inputs())


def test_text_for_a_preprocessing_layer_is_let_through() -> None:
    pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("text is a dtype of TensorFlow")
    inputs = keras.Input((), dtype="string")
    words = layers.StringLookup(vocabulary=["a", "b", "c"])(inputs)
    x = layers.Flatten()(layers.Embedding(5, 4)(ops.expand_dims(words, -1)))
    model = keras.Model(inputs, layers.Dense(2, use_bias=False)(x))
    report = lsuv_init(model, np.array(["a", "b", "c", "a"] * 3))
    assert [row.status for row in report] == ["scaled", "scaled"]


@pytest.mark.parametrize("kind", ["coo", "csr"])
def test_a_sparse_matrix_is_drawn_by_rows(kind: str) -> None:
    sparse = scipy.sparse.random(400, 30, 0.1, format=kind, random_state=0)
    expected = sparse.toarray()[np.arange(256) * 400 // 256]
    np.testing.assert_array_equal(rows(sparse, 256), expected)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="of TensorFlow")
def test_a_sparse_tensor() -> None:
    import tensorflow as tf

    x = normal(50, 6) * (normal(50, 6, seed=1) > 0)
    found = rows(tf.sparse.from_dense(x), 10)
    np.testing.assert_array_equal(numpy(found), x[::5])


def test_a_set_is_no_data() -> None:
    with pytest.raises(DataError, match=r"Received: \{1\}"):
        rows({1}, 4)
