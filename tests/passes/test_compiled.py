"""A pass that is compiled as one function shows and decides what an eager one does."""

from __future__ import annotations

import gc
import weakref
from functools import partial
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops
from models import normal
from textbook import numpy

import keras_inits
from keras_inits.passes import compiled, packing, xla
from keras_inits.passes import programs as known
from keras_inits.weights import in_place, trial


def conv_stack() -> keras.Model:
    """Convolutions, normalisation, dropout, a shared layer, biases, activations."""
    keras.utils.set_random_seed(3)
    inputs = x = keras.Input((8, 8, 3))
    shared = layers.Conv2D(6, 3, padding="same", activation="tanh")
    for i in range(4):
        x = layers.Conv2D(6, 3, padding="same", bias_initializer="random_normal")(x)
        x = layers.BatchNormalization()(x)
        x = (layers.LeakyReLU() if i % 2 else layers.ReLU())(x)
        x = shared(x)
        x = layers.SeparableConv2D(6, 3, padding="same", activation="sigmoid")(x)
        x = layers.Dropout(0.2)(x) if i % 2 else x
    x = layers.Reshape((64, 6))(x)
    x = layers.LSTM(5)(x)
    return keras.Model(inputs, [layers.Dense(4, activation="softmax")(x), x])


def attention_over_padding() -> tuple[keras.Model, Any]:
    """The mask of the tokens reaches attention through normalisation and sums."""
    inputs = keras.Input((12,), dtype="int32")
    x = layers.Embedding(30, 16, mask_zero=True)(inputs)
    for _ in range(3):
        y = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(2, 8)(y, y)])
    tokens = np.random.default_rng(0).integers(1, 30, (64, 12))
    tokens[:, 5:] = 0
    return keras.Model(inputs, layers.Dense(4, name="head")(x)), tokens


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_masks_reach_attention(dtype: str) -> None:
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(dtype)
    try:
        model, tokens = attention_over_padding()
    finally:
        keras.config.set_dtype_policy("float32")
    expected = numpy(model(tokens))[tokens > 0].std()
    for _ in range(3):  # eager, compiled, and compiled before
        found = keras_inits.measure(model, tokens)["head"].std
        assert found == pytest.approx(
            expected, rel=2e-2 if dtype != "float32" else 1e-4
        )


def program_of(model: keras.Model) -> known.Program | None:
    """The program that was made for a model, if any."""
    states = known.STATES.get(model, {}).values()
    return next((x.program for x in states if x.program is not None), None)


def counted_traces(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows by one whenever a pass is traced."""
    traces: list[int] = []
    original = compiled.Function.__call__

    def counting(self: compiled.Function, *args: Any) -> Any:
        if self._known is None and not self._failed:
            traces.append(1)
        return original(self, *args)

    monkeypatch.setattr(compiled.Function, "__call__", counting)
    return traces


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("what", ["center", "lsuv", "measure", "per_channel"])
def test_the_same_as_eagerly(
    monkeypatch: pytest.MonkeyPatch, what: str, training: bool
) -> None:
    model, x = conv_stack(), 2 * normal(32, 8, 8, 3) + 1
    weights = model.get_weights()

    def run() -> tuple[Any, list[Any]]:
        model.set_weights(weights)
        if what == "measure":
            report = keras_inits.measure(model, x, training=training)
        else:
            options = {} if what == "lsuv" else {what: True}
            report = keras_inits.lsuv_init(model, x, training=training, **options)
        return report, model.get_weights()

    with monkeypatch.context() as patch:
        patch.setattr(compiled, "possible", lambda *_: False)
        run()  # the first pass leaves its marks on new layers
        eager, expected = run()
    assert program_of(model) is None
    for _ in range(4):
        report, found = run()
    draws = training and keras.backend.backend() == "torch"  # nobody notes a dropout
    assert (program_of(model) is None) == draws
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-5)
    assert [row.name for row in report] == [row.name for row in eager]
    for row, other in zip(report, eager, strict=True):
        for name in ("mean", "std", "output_mean", "output_std", "gradient_gain"):
            one, two = getattr(row, name), getattr(other, name)
            assert (one is None) == (two is None), (row.name, name)
            if one is not None:
                assert one == pytest.approx(two, rel=2e-3, abs=1e-4), (row.name, name)
        assert row.status == other.status
        assert row.output_shape == other.output_shape
        assert row.dead_fraction == other.dead_fraction


def test_it_is_kept_no_longer_than_its_model() -> None:
    model = keras.Sequential([keras.Input((6,)), *[layers.Dense(6) for _ in range(12)]])
    x = normal(16, 6)
    for _ in range(4):
        keras_inits.lsuv_init(model, x)
        keras_inits.measure(model, x)
    assert program_of(model) is not None
    alive = weakref.ref(model)
    del model
    keras.backend.clear_session()
    gc.collect()
    assert alive() is None


def test_a_model_that_cannot_be_traced_is_tried_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Branching(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.stack = [layers.Dense(6, activation="relu") for _ in range(12)]

        def call(self, x: Any) -> Any:
            for layer in self.stack:
                x = layer(x)
            return x if float(ops.max(ops.stop_gradient(x))) < 1e9 else 0 * x

    model, x = Branching(), normal(16, 6)
    model(x)
    traces = counted_traces(monkeypatch)
    for _ in range(6):
        report = keras_inits.measure(model, x)
    assert len(report) == 12
    # On TensorFlow the first pass is eager, and a user's own code is new in each call.
    assert len(traces) == (1 if keras.backend.backend() == "jax" else 0)


# What Python does around the tensors may change between two calls


class Scaling(layers.Layer):
    """A layer of a user's own, with a scale kept in various places."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.array = {"scale": 1.0}, np.ones(6, "float32")
        self.holder = type("Holder", (), {"scale": 1.0})()

    def call(self, x: Any) -> Any:
        scale = self.table["scale"] * self.holder.scale
        return x * scale * ops.convert_to_tensor(self.array)


BOX = {"scale": 1.0}


def deep(first: layers.Layer, depth: int = 12) -> keras.Model:
    keras.utils.set_random_seed(5)
    stack = [layers.Dense(6, activation="tanh") for _ in range(depth)]
    return keras.Sequential([keras.Input((6,)), first, *stack])


def own_deviation(model: keras.Model, x: Any) -> float:
    """Of the first Dense layer's signal, without keras_inits."""
    z = numpy(model.layers[0](ops.convert_to_tensor(x))) @ numpy(model.layers[1].kernel)
    return float(z.std())


def change(model: keras.Model, where: str) -> None:
    first = model.layers[0]
    if where == "global":
        BOX["scale"] = 20.0
    elif where == "dict":
        first.table["scale"] = 20.0
    elif where == "array":
        first.array[:] = 20.0
    elif where == "holder":
        first.holder.scale = 20.0
    else:
        first.scale[:] = [20.0] * 6


@pytest.mark.parametrize("where", ["array", "dict", "global", "holder", "rescaling"])
def test_code_that_changes_between_two_calls(where: str) -> None:
    BOX["scale"] = 1.0
    made = {
        "global": lambda: layers.Lambda(lambda t: t * BOX["scale"]),
        "rescaling": lambda: layers.Rescaling([1.0] * 6),
    }
    model, x = deep(made.get(where, Scaling)()), normal(64, 6)
    for _ in range(3):
        keras_inits.lsuv_init(model, x)
        keras_inits.measure(model, x)
    change(model, where)
    assert own_deviation(model, x) == pytest.approx(20.0, rel=1e-3)
    assert keras_inits.measure(model, x)[0].std == pytest.approx(20.0, rel=1e-3)
    keras_inits.lsuv_init(model, x)
    assert own_deviation(model, x) == pytest.approx(1.0, rel=1e-3)


SCALE = [1.0]


@keras.saving.register_keras_serializable("test_compiled")
class Times(keras.Operation):
    def call(self, x: Any) -> Any:
        return x * SCALE[0]

    def compute_output_spec(self, x: Any) -> Any:
        return keras.KerasTensor(x.shape, x.dtype)


@pytest.mark.parametrize("where", ["cell", "operation", "own cell"])
def test_code_in_cells_and_operations(where: str) -> None:
    SCALE[0] = 1.0
    inputs = x = keras.Input((6, 5))
    if where == "operation":
        x = keras.layers.Flatten()(Times()(x))
    else:
        own = None if where == "cell" else lambda z: SCALE[0] * z
        cell = layers.SimpleRNNCell(4, activation=own or "tanh")
        x = layers.RNN(cell)(x)
    for _ in range(11):
        x = layers.Dense(3)(x)
    model, data = keras.Model(inputs, x), normal(32, 6, 5)
    for _ in range(3):
        first = keras_inits.measure(model, data)
    SCALE[0] = 10.0
    if where == "cell":
        cell.activation = keras.activations.linear
    monitored = [row.std for row in keras_inits.measure(model, data)][-1]
    z = numpy(model(ops.convert_to_tensor(data)))
    assert monitored == pytest.approx(z.std(), rel=1e-3)
    assert abs(monitored / first[-1].std - 1) > 0.05


def test_activations_that_take_the_place_of_others_in_memory() -> None:
    model, x = deep(layers.Dense(6)), normal(64, 6)
    generator = np.random.default_rng(0)
    for _ in range(6):
        slope = float(generator.uniform(0.05, 3.0))
        leaky = partial(keras.activations.leaky_relu, negative_slope=slope)
        model.layers[0].activation = leaky
        for _ in range(2):
            keras_inits.lsuv_init(model, x)
        assert own_deviation(model, x) == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("own", [False, True])
def test_how_often_a_pass_is_traced(monkeypatch: pytest.MonkeyPatch, own: bool) -> None:
    """Keras's layers once; a user's own once in each call, and in each `fit`."""
    first = Scaling() if own else layers.Rescaling(1.0)
    model, x = deep(first, depth=24), normal(64, 6)
    traces = counted_traces(monkeypatch)
    first_pass = keras.backend.backend() == "jax"
    of_own = own and keras.backend.backend() != "torch"  # there never
    for _ in range(3):
        keras_inits.lsuv_init(model, x)
    assert len(traces) == (3 * first_pass if own else 1)
    traces.clear()
    keras_inits.lsuv_init(model, x, target_std="critical")  # about ten passes
    # Where the pass also makes the new kernels, the search has one of its own.
    searched = own if first_pass else keras.backend.backend() == "tensorflow"
    assert len(traces) == int(searched)
    traces.clear()
    model.compile("sgd", "mse")
    for _ in range(2):
        monitor = keras_inits.SignalMonitor(x)
        model.fit(x, x, epochs=3, verbose=0, callbacks=[monitor])
    assert len(traces) == (2 * of_own if own else 1)


needs_xla = pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="how XLA compiles: JAX"
)


@needs_xla
def test_memory_where_images_are_smaller_than_their_filter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """XLA by default needs 45 times the padded image, with padding in the convolution.

    As the last blocks of ResNet50V2 at 32 pixels.
    """
    inputs = x = keras.Input((2, 2, 256))
    for _ in range(compiled.WORTHWHILE):
        x = layers.Conv2D(256, 3, activation="relu")(layers.ZeroPadding2D()(x))
    model, images = keras.Model(inputs, x), normal(32, 2, 2, 256)
    monkeypatch.setitem(compiled.MAKERS, "jax", (compiled._as_a_whole,))
    keras_inits.lsuv_init(model, images)
    program = program_of(model)
    assert program is not None
    used = program.begin.compiled.memory_analysis().temp_size_in_bytes
    padded = 32 * 4 * 4 * 256 * 4
    assert used < 4 * padded, used / padded


@needs_xla
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("options", [{"xla_no_such_option": True}, {}])
def test_options_that_this_version_does_not_know(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], whole: bool
) -> None:
    monkeypatch.setattr(xla, "OPTIONS", options)
    monkeypatch.setattr(xla, "OF_PIECES", options)
    monkeypatch.setattr(xla, "PROGRAMS", {})
    if whole:
        monkeypatch.setitem(compiled.MAKERS, "jax", (compiled._as_a_whole,))
    model, x = conv_stack(), normal(32, 8, 8, 3)
    report = keras_inits.lsuv_init(model, x)
    assert program_of(model) is not None
    assert report[0].std == pytest.approx(1.0, abs=1e-4)


@needs_xla
@pytest.mark.parametrize("groups", [1, 4])
def test_grouped_convolutions_are_left_to_the_library(groups: int) -> None:
    jax = pytest.importorskip("jax")
    arguments = normal(1, 8, 8, 4), normal(3, 3, 4 // groups, 4)
    lowered = jax.jit(partial(ops.conv, padding="same")).lower(*arguments)
    asked = []

    class Recording:
        as_text = lowered.as_text

        def compile(self, compiler_options: dict[str, str]) -> None:
            asked.append(compiler_options)

    xla.program(Recording())
    [options] = asked
    assert ("CONVOLUTION" in str(options)) == (groups > 1)


def programs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Grows with each program that is compiled from here on; none is known yet."""
    made: list[Any] = []
    original = xla.program

    def counting(*args: Any, **kwargs: Any) -> Any:
        made.append(original(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr(xla, "program", counting)
    monkeypatch.setattr(xla, "PROGRAMS", {})
    return made


class Bent(layers.Layer):
    """A layer of a user's own."""

    def __init__(self, units: int, slope: Any) -> None:
        super().__init__()
        self.inner, self.slope = layers.Dense(units), slope

    def call(self, x: Any) -> Any:
        return self.slope * ops.tanh(self.inner(x))


def bent(slope: Any) -> keras.Model:
    stack = [Bent(6, slope) for _ in range(24)]
    return keras.Sequential([keras.Input((6,)), *stack])


@needs_xla
@pytest.mark.parametrize("what", ["lsuv_init", "measure"])
def test_what_does_the_same_is_compiled_once(
    monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """In the next call, whose period is another; in the next model; nowhere else."""
    made, x, verb = programs(monkeypatch), normal(64, 6), getattr(keras_inits, what)
    model = bent(2.0)
    verb(model, x)
    count = len(made)
    assert count
    for again in (model, bent(2.0)):
        report = verb(again, x)
        assert len(made) == count
        assert report[-1].std == pytest.approx(deviation(again, x), rel=1e-3)
    for slope in (3.0, np.linspace(1, 3, 6, dtype="float32")):
        for layer in model.layers:
            layer.slope = slope
        report = verb(model, x)
        assert report[-1].std == pytest.approx(deviation(model, x), rel=1e-3)
    assert len(made) > count


@needs_xla
@pytest.mark.parametrize("whole", [False, True])
def test_functions_that_a_program_only_calls_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    """Its text does not say which one a callback calls."""
    jax = pytest.importorskip("jax")
    if whole:
        monkeypatch.setitem(compiled.MAKERS, "jax", (compiled._as_a_whole,))

    class Calling(layers.Layer):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = factor

        def call(self, x: Any) -> Any:
            shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
            return jax.pure_callback(lambda a: np.asarray(a) * self.factor, shape, x)

        def compute_output_shape(self, shape: Any) -> Any:
            return shape

    x = normal(64, 6)
    for factor in (1.0, 100.0):
        stack = [layers.Dense(6) for _ in range(12)]
        stack.insert(6, Calling(factor))
        model = keras.Sequential([keras.Input((6,)), *stack])
        report = keras_inits.measure(model, x)
        expected = numpy(model(x)).std()
        assert report[-1].std == pytest.approx(expected, rel=1e-3), factor


def deviation(model: keras.Model, x: Any) -> float:
    """Of the last pre-activation."""
    before = keras.Model(model.inputs[0], model.layers[-2].output)
    return float(numpy(model.layers[-1].inner(before(x))).std())


@needs_xla
def test_programs_keep_no_model_alive_and_are_not_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(xla, "MOST_PROGRAMS", 3)
    made, x = programs(monkeypatch), normal(64, 6)
    models = [bent(slope) for slope in (1.0, 2.0, 3.0)]
    alive = [weakref.ref(model) for model in models]
    for model in models:
        keras_inits.measure(model, x)
    assert len(made) > 3 == len(xla.PROGRAMS)
    del model, models
    keras.backend.clear_session()
    gc.collect()
    assert not any(ref() for ref in alive)


@needs_xla
@pytest.mark.parametrize("what", ["lsuv_init", "measure"])
def test_a_deep_stack_runs_in_pieces_and_keeps_its_programs(
    monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    made = programs(monkeypatch)
    model, x = deep(layers.Dense(6), depth=60), normal(64, 6)
    verb = getattr(keras_inits, what)
    first = verb(model, x)
    assert 1 <= len(made) <= 10
    second = verb(model, x)
    assert len(made) <= 10
    for one, two in zip(first, second, strict=True):
        assert one.std == pytest.approx(two.std, rel=1e-5)


@needs_xla
def test_where_pieces_fail_one_program_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any) -> Any:
        raise RuntimeError("a piece does not compile")

    monkeypatch.setattr(compiled, "in_pieces", failing)
    model, x = deep(layers.Dense(6), depth=24), normal(64, 6)
    report = keras_inits.lsuv_init(model, x)
    program = program_of(model)
    assert program is not None and type(program.begin).__name__ == "Packed"
    assert report[0].std == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("beside", [False, True])
def test_new_kernels_are_made_by_the_pass_where_they_may_lie_beside(
    monkeypatch: pytest.MonkeyPatch, beside: bool
) -> None:
    if not beside:
        monkeypatch.setattr(in_place, "BESIDE", 4 * 12 * 36 - 1)
    made: list[Any] = []
    original = trial.Trial.changes

    def watching(self: Any, scaled: Any) -> Any:
        changes = original(self, scaled)
        made.append([product.known for _, product in changes])
        return changes

    monkeypatch.setattr(trial.Trial, "changes", watching)
    model, x = deep(layers.Rescaling(1.0), depth=12), normal(64, 6)
    weights = model.get_weights()
    for _ in range(3):
        model.set_weights(weights)
        report = keras_inits.lsuv_init(model, x)
        new = model.get_weights()[::2]  # without biases
        for row, before, after in zip(report, weights[::2], new, strict=True):
            np.testing.assert_allclose(after, row.scale * before, rtol=1e-5)
    in_pass = beside and keras.backend.backend() == "tensorflow"
    for last in made[-1]:
        assert (last is not None) == in_pass


def test_no_kernels_are_made_while_a_target_is_searched_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Any] = []
    original = packing.Form.__init__

    def watching(self: Any, results: Any) -> None:
        original(self, results)
        made.append(self.staying)

    monkeypatch.setattr(packing.Form, "__init__", watching)
    model = deep(layers.Dense(6, activation="tanh"), depth=12)
    for _ in range(2):
        keras_inits.lsuv_init(model, normal(64, 6), target_std="critical")
    assert made and not any(made)


@pytest.mark.parametrize("verb", ["lsuv", "measure"])
def test_the_same_shapes_in_another_structure(verb: str) -> None:
    """In a dict inputs go by name, in whatever order; in a list by their places."""
    inputs = [keras.Input((6,), name="b"), keras.Input((6,), name="a")]
    h = layers.Add()([layers.Dense(6)(x) for x in inputs])
    for _ in range(12):
        h = layers.Dense(6, activation="tanh")(h)
    model, b, a = keras.Model(inputs, h), normal(20, 6), 9 * normal(20, 6, seed=1)
    start = model.get_weights()

    def found(batch: Any) -> list[float]:
        model.set_weights(start)
        if verb == "measure":
            return [row.std for row in keras_inits.measure(model, batch)]
        return [row.scale for row in keras_inits.lsuv_init(model, batch)]

    expected = found([b, a])
    for batch in ([b, a], {"b": b, "a": a}, {"a": a, "b": b}, ((b, a),)):
        for _ in range(3):
            assert found(batch) == pytest.approx(expected, rel=1e-3)
