"""A batch from whatever `fit` accepts, and what a source gives up for it."""

from __future__ import annotations

import itertools
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

from keras_inits import (
    DataError,
    DegenerateDataError,
    DegenerateSignalError,
    lsuv_init,
    measure,
)
from keras_inits.data.batch import OTHERS, draw_batch, labels_of, rows


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


def test_none_in_the_place_of_x_is_no_data() -> None:
    with pytest.raises(DataError, match="Received: None"):
        drawn((None, X))


def test_data_frames() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": X[:, 0], "b": X[:, 1].astype(int), "c": X[:, 2]})
    np.testing.assert_array_equal(drawn(frame), X[ROWS])
    series = pandas.Series(X[:, 0], index=range(5, 15))
    batch = drawn(series, model=one_input((1,)))
    np.testing.assert_array_equal(np.ravel(batch), X[ROWS, 0])
    named = frame.rename(columns={"a": "has_value"})  # as TensorFlow's Optional has
    np.testing.assert_array_equal(drawn(named), X[ROWS])
    batch = drawn((frame, frame["a"]))
    np.testing.assert_array_equal(batch, X[ROWS])
    lsuv_init(one_input(), frame)


def test_text_in_a_data_frame() -> None:
    """A column of text among numbers is refused; text alone is for a text layer."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abc"))
    for column in ("x", pandas.Categorical(["u", "v"] * 5)):
        with pytest.raises(DataError, match=r"`data` is a DataFrame.*get_dummies"):
            drawn(frame.assign(b=column))
    with pytest.raises(DataError, match="`y` is a DataFrame"):
        labels_of(frame.assign(b="x"), X, X)
    text = pandas.Series(["one", "two"] * 5)
    assert ["one", "two"] == list(rows(text, 2 * len(X))[:2])
    with pytest.raises(DataError, match=r"takes numbers .*Received: text"):
        drawn(pandas.DataFrame({c: text for c in "abc"}))


@pytest.mark.parametrize("shape", [(3,), (4, 4, 3)])
def test_single_samples_are_told_to_be_batched(shape: tuple[int, ...]) -> None:
    model = one_input(shape)
    for data in (normal(*shape), (normal(*shape) for _ in range(8))):
        with pytest.raises(DataError, match=r"axis for the rows: .*\.batch\(32\)"):
            draw_batch(model, data)
    with pytest.raises(DataError, match=r"takes shape .*Rows come first") as error:
        draw_batch(model, normal(8, *shape[:-1], 7))
    assert "batch(" not in str(error.value)


# Structures of arrays


def nested_inputs() -> keras.Model:
    u = keras.Input((3,), name="u")
    v = keras.Input((2,), name="v0"), keras.Input((1,), name="v1")
    features = [layers.Dense(2, use_bias=False)(x) for x in (u, *v)]
    return keras.Model({"u": u, "v": v}, layers.Add()(features))


def in_a_list() -> keras.Model:
    inputs = [keras.Input((3,)), keras.Input((2,))]
    features = [layers.Dense(2, use_bias=False)(x) for x in inputs]
    return keras.Model(inputs, layers.Add()(features))


PAIR = (X, X[:, 1:])
NESTED = {"v": (X[:, 1:], X[:, 2:]), "u": X}


def in_batches(data: Any, labels: bool = True) -> Iterator[Any]:
    """Five batches of two rows."""
    for k in range(0, 10, 2):
        x = keras.tree.map_structure(lambda x, k=k: x[k : k + 2], data)
        yield (x, Y[k : k + 2]) if labels else x


STRUCTURES: dict[str, tuple[Callable[[], keras.Model], Any, Any]] = {
    "list": (in_a_list, [*PAIR], [*PAIR]),
    "list with labels": (in_a_list, ([*PAIR], Y), [*PAIR]),
    "tuple": (in_a_list, (PAIR,), PAIR),
    "tuple with labels": (in_a_list, (PAIR, Y), PAIR),
    "tuple with weights": (in_a_list, (PAIR, Y, np.ones(10)), PAIR),
    "tuple of sparse": (
        in_a_list,
        (tuple(map(scipy.sparse.coo_matrix, PAIR)), Y),
        PAIR,
    ),
    "nested": (nested_inputs, NESTED, NESTED),
    "nested with labels": (nested_inputs, (NESTED, Y), NESTED),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_rows_of_a_structure_are_spaced_evenly(name: str) -> None:
    make, data, expected = STRUCTURES[name]
    model = make()
    batch = drawn(data, model=model)
    expected = keras.tree.map_structure(lambda x: x[ROWS], expected)
    keras.tree.assert_same_structure(expected, batch)
    keras.tree.map_structure(np.testing.assert_array_equal, batch, expected)
    statuses = [row.status for row in lsuv_init(model, data)]
    assert statuses == ["scaled"] * len(model.inputs)
    assert len(measure(model, data)) >= len(model.inputs)


def test_inputs_of_one_width_in_a_tuple_stay_apart() -> None:
    found = rows(((X, -X), Y), 4)
    np.testing.assert_array_equal(np.stack(found), np.stack([X[ROWS], -X[ROWS]]))


@pytest.mark.parametrize("name", ["tuple", "nested"])
def test_streams_of_a_structure(name: str) -> None:
    make, _, data = STRUCTURES[name]
    model = make()
    batch = drawn(in_batches(data), 5, model)
    expected = keras.tree.map_structure(lambda x: x[:5], data)
    keras.tree.map_structure(np.testing.assert_array_equal, batch, expected)
    lsuv_init(model, in_batches(data))


def test_random_rows_in_a_nested_structure() -> None:
    batch = drawn(None, model=nested_inputs())
    shapes = keras.tree.map_structure(np.shape, {"u": batch["u"], "v": [*batch["v"]]})
    assert shapes == {"u": (4, 3), "v": [(4, 2), (4, 1)]}
    lsuv_init(nested_inputs())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"u": X, "v": (X[:, 1:],)}, r"missing: \['v/1'\]"),
        ({"u": X, "v": (X, X[:, 2:])}, r"'v/0'.*\(None, 2\).*\(4, 3\)"),
        ({"u": X, "v": (X[:5, 1:], X[:, 2:])}, "same number of rows"),
    ],
)
def test_what_does_not_fit_nested_inputs(data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        drawn(data, model=nested_inputs())


def test_rows_of_numbers_are_one_array() -> None:
    for data in (X.tolist(), [*map(tuple, X.tolist())], (tuple(X.tolist()), Y)):
        np.testing.assert_array_equal(rows(data, 4), X[ROWS])
    scalars = list(X[:, 0])
    np.testing.assert_array_equal(rows(scalars, 4), X[ROWS, 0])
    stream = iter([(X.tolist(), Y)])
    np.testing.assert_array_equal(rows(stream, 4), X[:4])


# Labels


@pytest.mark.parametrize("streamed", [False, True])
def test_labels_in_a_nested_structure(streamed: bool) -> None:
    y = {"a": X, "q": {"b": (Y, -Y)}}
    data = generator() if streamed else X
    found = labels_of(y, data, X[ROWS])
    chosen = range(4) if streamed else ROWS
    np.testing.assert_array_equal(found["a"], X[chosen])
    for sign, labels in zip((1, -1), found["q"]["b"], strict=True):
        np.testing.assert_array_equal(labels, sign * Y[chosen])


def test_the_gradient_of_nested_outputs() -> None:
    inputs = keras.Input((3,))
    one, two = layers.Dense(1, name="a"), layers.Dense(1, name="b")
    model = keras.Model(inputs, {"a": one(inputs), "q": {"b": two(inputs)}})
    model.compile("sgd", {"a": "mse", "q": {"b": "mse"}})
    y = Y.astype("float32")[:, None]
    first, second = measure(model, X, {"a": y, "q": {"b": y}})
    assert first.weight_gradient_std and second.weight_gradient_std


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([[1], [2, 3]], "`y` is not an array"),
        ([object()] * 10, r"`y` holds Python objects.*np.asarray\(y,"),
        (5, r"`y` is what fit\(\) accepts"),
        ({"a": Y, "b": Y[:3]}, "All arrays of `y` need the same number"),
        (Y[:0], "`y` holds no rows"),
        (iter([]), "`y` is empty"),
        (iter([Y[:3]]), "`y` needs one row for each row"),
        (Y * 1j, "`y` takes real numbers.*complex128"),
    ],
)
def test_errors_about_labels_name_them(y: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        labels_of(y, X, X)


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


# Batches that differ in the shape of their rows


class Padded:
    """Text padded batch by batch: two rows, of so many steps."""

    def __init__(self, *lengths: int, labels: bool = True) -> None:
        self.lengths, self.labels, self.asked = lengths, labels, 0

    def __iter__(self) -> Iterator[Any]:
        for k, length in enumerate(self.lengths):
            self.asked = k + 1
            x = np.full((2, length, 3), k, "float32") + X[: 2 * length].reshape(
                2, length, 3
            )
            yield (x, x[:, 0]) if self.labels else x


def sequences() -> keras.Model:
    return keras.Sequential([keras.Input((None, 3)), layers.Dense(2, use_bias=False)])


def test_batches_like_the_first_one_serve() -> None:
    source = Padded(4, 5, 4, 3, 4, 4)
    batch = draw_batch(sequences(), source, 6, first_rows=False)
    assert batch.shape == (6, 4, 3)
    np.testing.assert_array_equal(batch[:, 0, 0] % 12, [0, 0, 2, 2, 4, 4])
    assert source.asked == 5
    lsuv_init(sequences(), Padded(4, 5, 4, 3))


@pytest.mark.parametrize("labels", [True, False])
def test_a_stream_without_any_more_of_them_ends(labels: bool) -> None:
    source = Padded(4, *[5] * 1000, labels=labels)
    assert draw_batch(sequences(), source, 6, first_rows=False).shape == (2, 4, 3)
    assert source.asked == 1 + OTHERS


def test_empty_batches_do_not_set_the_shape() -> None:
    source = (x for x in [X[:0, :2], X[:3], X[:0, :2], X[3:5], X])
    np.testing.assert_array_equal(drawn(source, 5), X[:5])
    with pytest.raises(DataError, match="no batch with rows"):
        drawn(itertools.repeat(X[:0]))


def test_labels_go_with_the_first_rows_only() -> None:
    """To pass over a batch would give its labels to the next one's rows."""
    source = Padded(4, 4, 5, 4)
    assert draw_batch(sequences(), source, 8).shape == (4, 4, 3)
    assert source.asked == 3


# Complex numbers


class Untold(keras.Model):
    """Does not say what it takes."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, x: Any) -> Any:
        return self.dense(x)


@pytest.mark.parametrize("tensor", [False, True], ids=["array", "tensor"])
@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_data_are_refused(dtype: str, tensor: bool) -> None:
    if dtype == "complex128" and keras.backend.backend() == "jax" and tensor:
        pytest.skip("JAX has no 64-bit numbers unless told to")
    z = (X * 1j).astype(dtype)
    z = ops.convert_to_tensor(z, dtype) if tensor else z
    untold = Untold()
    untold(X)
    for model in (one_input(), untold):
        for data in (z, iter([(z, Y)])):
            with pytest.raises(DataError, match=rf"real numbers.*{dtype}.*np\.stack"):
                lsuv_init(model, data)


def test_complex_data_for_a_model_that_takes_them() -> None:
    inputs = keras.Input((3,), dtype="complex64")
    model = keras.Model(inputs, layers.Dense(2, use_bias=False)(ops.absolute(inputs)))
    z = (X * 1j).astype("complex64")
    assert lsuv_init(model, z)[0].std == pytest.approx(1, abs=1e-3)
    with pytest.raises(DegenerateDataError, match="not finite"):
        lsuv_init(model, z * np.nan)


# Models that say what they take


def test_a_fixed_batch_size_is_kept() -> None:
    inputs = keras.Input(batch_shape=(8, 3))
    model = keras.Model(inputs, layers.Dense(2)(inputs))
    for data in (X, generator(), None):
        assert drawn(data, 4, model).shape == (8, 3)


@pytest.mark.parametrize("verb", [lsuv_init, measure])
def test_fewer_rows_than_a_model_keeps_states_for(verb: Any) -> None:
    inputs = keras.Input(batch_shape=(8, 5, 3))
    x = layers.LSTM(4, stateful=True, name="keeps")(inputs)
    model = keras.Model(inputs, layers.Dense(2)(x))
    assert verb(model, normal(8, 5, 3)) and verb(model, normal(9, 5, 3))
    with pytest.raises(DataError, match="'keeps' keeps a state for each of 8 rows"):
        verb(model, normal(7, 5, 3))


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


@pytest.mark.parametrize("verb", [lsuv_init, measure])
def test_a_sequential_model_built_by_one_row_takes_more(verb: Any) -> None:
    model = keras.Sequential([keras.layers.Dense(5), keras.layers.Dense(4)])
    x = normal(64, 6)
    model(x[:1])
    report = verb(model, x)
    z = x @ numpy(model.layers[0].kernel)
    assert report[0].std == pytest.approx(z.std(), rel=1e-4)


def test_a_stateful_model_of_one_row_gets_one() -> None:
    model = keras.Sequential(
        [keras.Input(batch_shape=(1, 5, 3)), keras.layers.LSTM(4, stateful=True)]
    )
    assert draw_batch(model, normal(9, 5, 3)).shape == (1, 5, 3)


class Neighbours(layers.Layer):
    """Means over the neighbours in a graph, whose nodes are the rows."""

    def call(self, graph: Any, x: Any) -> Any:
        return ops.matmul(graph, x)

    def compute_output_shape(self, graph_shape: Any, x_shape: Any) -> Any:
        return x_shape


def a_graph() -> tuple[keras.Model, list[Any]]:
    nodes = 300
    graph, x = keras.Input((nodes,)), keras.Input((6,))
    hidden = Neighbours()(graph, layers.Dense(4, "relu")(x))
    model = keras.Model([graph, x], layers.Dense(2)(hidden))
    return model, [np.eye(nodes, k=1, dtype="float32"), normal(nodes, 6)]


@pytest.mark.parametrize("verb", [lsuv_init, measure])
def test_an_error_says_that_not_all_rows_were_drawn(verb: Any) -> None:
    model, data = a_graph()
    with pytest.raises(Exception, match="256") as caught:  # the backend's own
        verb(model, data)
    (note,) = caught.value.__notes__
    assert "256 of the 300 rows" in note and "samples=300" in note
    assert len(verb(model, data, samples=300)) == 2


class OfTwo(keras.Model):
    """Takes a list of two; its `call` is all that says so."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = layers.Dense(2)

    def call(self, data: Any) -> Any:
        left, right = data
        return self.inner(ops.concatenate([left, right], axis=1))


@pytest.mark.parametrize("verb", [lsuv_init, measure])
@pytest.mark.parametrize("own", [False, True])
def test_inputs_in_a_tuple_are_told_to_come_in_a_list(verb: Any, own: bool) -> None:
    inputs, data = [keras.Input((3,)), keras.Input((2,))], [X, X[:, :2]]
    functional = keras.Model(inputs, layers.Dense(2)(layers.Concatenate()(inputs)))
    model = OfTwo() if own else functional
    model(data)
    refused = "cannot be called with" if own else "takes 2 inputs"
    with pytest.raises(DataError, match=refused) as caught:
        verb(model, tuple(data))
    told = " ".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert "x alone is taken; several inputs go in a list: [x1, x2]" in told
    assert len(verb(model, data)) == 1
    with pytest.raises(DataError, match=refused) as caught:
        verb(model, [*data, X])
    told = " ".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert "x alone" not in told


def test_nothing_is_noted_where_the_refusal_is_ours() -> None:
    model = keras.Sequential([keras.Input((6,)), layers.Dense(2)])
    model.layers[-1].kernel.assign(np.zeros((6, 2)))
    with pytest.raises(DegenerateSignalError, match="its kernel is zero") as caught:
        lsuv_init(model, normal(300, 6))
    assert not hasattr(caught.value, "__notes__")


def test_a_refusal_of_the_models_own_call_is_noted_too() -> None:
    class Graph(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.mean = layers.Dense(4), Neighbours()

        def call(self, data: Any) -> Any:
            return self.mean(data[0], self.inner(data[1]))

    model, (_, data) = Graph(), a_graph()
    model(data)
    with pytest.raises(DataError, match="cannot be called with this batch") as caught:
        lsuv_init(model, data)
    assert "samples=300" in caught.value.__notes__[0]
