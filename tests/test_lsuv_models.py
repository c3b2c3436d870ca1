"""`lsuv_init` on what people build, in the states in which they have it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
from architectures import ARCHITECTURES
from checks import (
    assert_equal_weights,
    assert_target,
    changed,
    every_layer,
    everything,
    only_kernels_change,
    overrides,
)
from keras import layers, ops
from models import (
    Built,
    convnet,
    dense_stack,
    nested,
    normal,
    shared,
    subclassed,
    tied,
    twice,
)
from textbook import call_order, measured, numpy, textbook_lsuv

from keras_inits import (
    ConvergenceError,
    DegenerateSignalError,
    KerasInitsError,
    UnsupportedLayerError,
    lsuv_init,
    measure,
)
from keras_inits.passes import compiled
from keras_inits.sweep import TRACED


@pytest.mark.parametrize("builder", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_architectures(builder: Callable[[], Built]) -> None:
    """Every map of every layer, as the textbook has it; then a step of training."""
    (expected, x), (actual, _) = twice(builder)
    report = only_kernels_change(actual, x)
    found = assert_target(actual, x)
    textbook_lsuv(expected, x)
    assert_equal_weights(expected, actual)
    scaled = {row.name for row in report if row.status == "scaled"}
    assert scaled == {layer.name for layer in found}
    assert np.isfinite(numpy(actual(x))).all()
    # A learned table of positions is no map that the report knows.
    described = not any("no linear map" in row.status for row in report)
    assert report.whole == described
    assert measure(actual, x).whole == described


# What the report says of layers that are not simply scaled


class Undescribed(layers.Layer):
    """A user's own, not registered."""

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(shape[-1], 6))

    def call(self, x: Any) -> Any:
        return ops.matmul(x, self.kernel)


def test_a_layer_that_nothing_describes_is_named() -> None:
    stack = Undescribed(name="mine"), layers.Dense(4), layers.Dense(2)
    model = keras.Sequential([keras.Input((6,)), *stack])
    x = normal(32, 6)
    seen, scaled = measure(model, x), lsuv_init(model, x)
    assert [row.name for row in seen] == [layer.name for layer in stack[1:]]
    [note] = seen.notes
    assert note.startswith("Not looked at: mine (Undescribed); no linear map is known")
    assert scaled["mine"].status.startswith("skipped: no linear map is known")
    for report in (seen, scaled):
        assert not report.whole
        assert "over the 2 layers measured" in str(report)
    critical = lsuv_init(model, x, target_std="critical")
    assert any("the model has others" in note for note in critical.notes)


def statuses(model: keras.Model, x: Any, **options: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in lsuv_init(model, x, **options):
        found.setdefault(row.name, []).append(row.status)
    return found


def test_later_calls_of_a_shared_layer_are_reported_as_shared() -> None:
    model, x = shared()
    found = statuses(model, x)
    assert found.pop("thrice") == ["scaled", "shared"]
    assert found == {"front": ["scaled"], "last": ["scaled"]}


class FromZero(keras.layers.Layer):
    """A state that starts at 0 and goes through the same kernel again and again."""

    def __init__(self, late: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.late = late
        self.again = layers.Dense(16, name="again")
        self.enter = layers.Dense(16, name="enter")
        self.seen: list[Any] = []

    def build(self, shape: Any) -> None:
        self.again.build((None, 16))
        self.enter.build(shape)

    def call(self, x: Any) -> Any:
        state, entered, self.seen = ops.zeros_like(x), self.enter(x), []
        for step in range(4):
            self.seen.append(self.again(state))
            if step >= self.late - 1:
                state = ops.tanh(self.seen[-1] + entered)
        return state


def from_zero(late: int) -> tuple[keras.Model, FromZero]:
    loop, inputs = FromZero(late, name="loop"), keras.Input((16,))
    model = keras.Model(inputs, layers.Dense(3, name="head")(loop(inputs)))
    return model, loop


@pytest.mark.parametrize("late", [1, 2])
@pytest.mark.parametrize("options", [{}, {"center": True}, {"signal": "output"}])
def test_a_call_that_takes_zeros_is_passed_over(
    late: int, options: dict[str, Any]
) -> None:
    (model, loop), x = from_zero(late), normal(64, 16)
    for _ in range(3):  # the last ones by what was compiled
        report = lsuv_init(model, x, **options)
    model(x)
    stds = [float(numpy(z).std()) for z in loop.seen]
    assert stds[:late] == [0.0] * late or options.get("center")
    np.testing.assert_allclose(stds[late], 1.0, atol=2e-3)
    assert f"What counts of again is its call {late + 1}" in report.notes[0]
    assert report[-1].status == "shared"
    signal = measure(model, x)
    assert signal.findings == ()
    if "center" not in options:  # the new bias goes into the calls before
        assert [row.status for row in report[:3]] == ["unchanged"] * 3
        np.testing.assert_allclose(signal["again"].std, 1.0, atol=2e-3)
        told = f"again is called 4 times: its row is of call {late + 1}; before"
        assert signal.notes[0].startswith(told)


def test_a_shared_kernel_of_zeros_is_none_that_starts_later() -> None:
    model, loop = from_zero(1)
    loop.again.kernel.assign(np.zeros((16, 16)))
    with pytest.raises(DegenerateSignalError, match="'again'"):
        lsuv_init(model, normal(64, 16))
    report = measure(model, normal(64, 16))
    assert "its row is of the first call" in report.notes[0]
    model, _ = from_zero(3)  # three calls of zeros are no start
    with pytest.raises(DegenerateSignalError, match="'again'"):
        lsuv_init(model, normal(64, 16))


def test_a_layer_that_is_never_called_is_reported() -> None:
    model, x = subclassed()
    before = numpy(model.unused.kernel)
    found = statuses(model, x)
    assert found["unused"] == ["skipped: not called"]
    assert found["b"] != ["scaled"]
    np.testing.assert_array_equal(numpy(model.unused.kernel), before)
    assert statuses(model, x, layers=["unused", "a"])["unused"] == [
        "skipped: not called"
    ]


def test_a_frozen_layer_is_skipped_unless_named() -> None:
    model, x = nested()
    frozen = model.layers[-1]
    frozen.trainable = False
    before = numpy(frozen.kernel)
    assert statuses(model, x)[frozen.name] == ["skipped: frozen"]
    np.testing.assert_array_equal(numpy(frozen.kernel), before)
    assert statuses(model, x, layers=frozen.name) == {frozen.name: ["scaled"]}
    assert_target(model, x, [frozen])
    assert not frozen.trainable


def test_a_model_frozen_as_a_whole_is_reported_as_frozen() -> None:
    model, x = nested()
    model.trainable = False
    before = everything(model)
    found = statuses(model, x)
    assert set(map(tuple, found.values())) == {("skipped: frozen",)}
    assert changed(before, model) == []


def test_a_tied_kernel_is_scaled_once() -> None:
    model, x = tied()
    report = only_kernels_change(model, x)
    encoder = model.get_layer("encoder")
    assert sum(row.name == "encoder" for row in report) == 1
    assert (x @ numpy(encoder.kernel)).std() == pytest.approx(1, abs=1e-3)


# Choosing layers


def chosen_by(model: keras.Model, x: Any, layers_: Any) -> set[str]:
    return {row.name for row in lsuv_init(model, x, layers=layers_)}


def test_layers_are_chosen_by_name_path_layer_or_predicate() -> None:
    model, x = nested()
    inner = call_order(model, x)[1]
    for choice in (
        inner.name,
        inner.path,
        inner,
        [inner.name],
        (inner,),
        {inner.name},
        lambda layer: layer is inner,
    ):
        before = everything(model)
        inner.kernel.assign(2 * inner.kernel)
        assert chosen_by(model, x, choice) == {inner.name}
        assert_target(model, x, [inner])
        assert len(changed(before, model)) <= 1


def test_a_container_stands_for_what_it_holds() -> None:
    model, x = nested()
    inside = {layer.name for layer in call_order(model, x)} - {model.layers[-1].name}
    assert chosen_by(model, x, model.layers[0]) == inside
    assert chosen_by(model, x, model.layers[0].name) == inside
    assert chosen_by(model, x, model) == inside | {model.layers[-1].name}


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("dens_1", r"no layer 'dens_1'\. Did you mean 'dense_1'"),
        (["dense", "nothing"], r"no layer 'nothing'"),
        ("dense*", r"no patterns.*fnmatch\.fnmatch\(layer\.name, 'dense\*'\)"),
        ([], r"names no layer"),
        ([3], r"Received: 3 \(of type int\)"),
        (lambda layer: False, r"chose none of the 5 layers"),
        ("dropout", r"'dropout' \(Dropout\).*no linear map"),
    ],
)
def test_a_choice_that_means_nothing_is_an_error(choice: Any, message: str) -> None:
    model, x = dense_stack()
    before = everything(model)
    with pytest.raises(UnsupportedLayerError, match=message):
        lsuv_init(model, x, layers=choice)
    assert changed(before, model) == []


def test_data_in_place_of_the_model_are_not_printed_whole() -> None:
    model, x = dense_stack()
    expected = r"must be a keras\.Model.*of shape \(\d+, \d+\)\)$"
    with pytest.raises(KerasInitsError, match=expected) as error:
        lsuv_init(x, model)
    assert len(str(error.value)) < 300


def test_a_layer_of_another_model_is_unknown() -> None:
    model, x = dense_stack()
    other, _ = dense_stack()
    with pytest.raises(UnsupportedLayerError, match=other.layers[0].name):
        lsuv_init(model, x, layers=other.layers[0])


# Compiled, traced, trained


@pytest.mark.parametrize("options", [{}, {"run_eagerly": True}, {"jit_compile": True}])
def test_a_model_traced_by_fit_and_predict_sees_the_new_kernels(
    options: dict[str, bool],
) -> None:
    if keras.backend.backend() == "torch" and options.get("jit_compile"):
        pytest.skip("torch.compile takes longer than the rest of the suite")
    model, x = dense_stack()
    y = normal(32, 6)
    model.compile("adam", "mse", **options)
    model.fit(x, y, verbose=0)
    model.predict(x, verbose=0)
    before, patched = everything(model), overrides(model)
    lsuv_init(model, 3 * x)
    moved = changed(before, model)
    assert len(moved) == 5 and all("kernel" in name for name in moved)
    assert overrides(model) == patched
    assert_target(model, 3 * x, tolerance=1.1e-3)
    fresh, _ = dense_stack()
    fresh.set_weights(model.get_weights())
    expected = numpy(fresh(x))
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=1e-5)
    kernel = numpy(model.layers[0].kernel)
    model.fit(x, y, verbose=0)
    assert (numpy(model.layers[0].kernel) != kernel).any()


def test_a_second_call_sees_what_has_changed_since_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Deep enough that the pass is compiled, from the first on, and could be stale."""
    monkeypatch.setattr(compiled, "PASSES", dict.fromkeys(compiled.PASSES, 0))
    stack = [layers.Dense(6, activation="tanh") for _ in range(12)]
    model = keras.Sequential([keras.Input((6,)), *stack])
    x = normal(32, 6)
    lsuv_init(model, x)
    assert_target(model, x)

    stack[3].activation = keras.activations.relu
    for layer in stack:
        layer.kernel.assign(3 * numpy(layer.kernel))
    lsuv_init(model, 2 * x + 1)
    assert_target(model, 2 * x + 1)

    stack[5].bias.assign(0.5 * normal(6))
    stack[7].trainable = False
    stack[7].kernel.assign(2 * numpy(stack[7].kernel))
    lsuv_init(model, x)
    assert_target(model, x, [layer for layer in stack if layer is not stack[7]])
    frozen = measured(model, x, only=[stack[7]])[stack[7]][0].std
    assert frozen != pytest.approx(1, abs=0.01)

    stack[7].trainable = True
    lsuv_init(model, x, target_std=0.5, per_channel=True)
    for parts in measured(model, x).values():
        deviations = parts[0].channels.std(axis=0)
        np.testing.assert_allclose(deviations, 0.5, atol=1e-3)
    lsuv_init(model, 5 * x[:20], center=True)
    assert_target(model, 5 * x[:20])


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.function")
def test_a_users_own_tf_function() -> None:
    """Around the model, and inside its call; traced before and after."""
    import tensorflow as tf

    class Inside(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.one = layers.Dense(6, activation="relu")
            self.two = layers.Dense(6)

        @tf.function
        def traced(self, x: Any) -> Any:
            return self.one(x)

        def call(self, x: Any) -> Any:
            return self.two(self.traced(x))

    for traced_before in (True, False):
        model, x = Inside(), normal(32, 6)
        # Built within the trace, a kernel would be a constant of it: so it is in Keras.
        model.one.build((None, 6))
        model.two.build((None, 6))
        model.built = True
        if traced_before:
            model(x)
        around = tf.function(model)
        if traced_before:
            around(x)
        lsuv_init(model, x)
        hidden = np.maximum(x @ numpy(model.one.kernel), 0)
        assert (x @ numpy(model.one.kernel)).std() == pytest.approx(1, abs=1e-3)
        expected = hidden @ numpy(model.two.kernel)
        assert expected.std() == pytest.approx(1, abs=1e-3)
        np.testing.assert_allclose(around(x), expected, atol=1e-5)
        np.testing.assert_allclose(model(x), expected, atol=1e-5)
        assert not tf.config.functions_run_eagerly()


class Inside(keras.Model):
    """Two layers, the first of which is called in whatever way `how` calls it."""

    def __init__(self, how: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.one = layers.Dense(6, activation="relu")
        self.two = layers.Dense(6)
        self.how = how

    def call(self, x: Any) -> Any:
        return self.two(self.how(self.one, x))


def test_a_layer_inside_vectorized_map_is_left_out() -> None:
    """It sees one row at a time, of which nobody can take the deviation."""

    def by_rows(layer: Any, x: Any) -> Any:
        return ops.vectorized_map(lambda row: layer(row[None])[0], x)

    model, x = Inside(by_rows), normal(32, 6)
    model.one.build((None, 6))
    model.two.build((None, 6))
    model.built = True
    one = numpy(model.one.kernel)
    for report in (lsuv_init(model, x), measure(model, x), lsuv_init(model, x)):
        left = f"skipped: {TRACED}"
        assert report[model.one.name].status == left
        assert report[model.two.name].status != left
    np.testing.assert_array_equal(numpy(model.one.kernel), one)
    hidden = np.maximum(x @ one, 0)
    expected = pytest.approx(1, abs=1e-3)
    assert (hidden @ numpy(model.two.kernel)).std() == expected


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="jax.jit")
def test_a_users_own_jax_jit() -> None:
    import jax

    model, x = Inside(lambda layer, x: jax.jit(lambda x: layer(x))(x)), normal(32, 6)
    model.one.build((None, 6))
    model(x)
    report = only_kernels_change(model, x)
    hidden = np.maximum(x @ numpy(model.one.kernel), 0)
    assert (x @ numpy(model.one.kernel)).std() == pytest.approx(1, abs=1e-3)
    assert (hidden @ numpy(model.two.kernel)).std() == pytest.approx(1, abs=1e-3)
    assert {row.status for row in report} == {"scaled"}
    assert not jax.config.jax_disable_jit


# Precision


@pytest.fixture
def policy(request: pytest.FixtureRequest) -> Iterator[str]:
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(
    ("policy", "builder"),
    [
        ("mixed_float16", convnet),
        ("mixed_bfloat16", dense_stack),
        ("float16", dense_stack),
        ("bfloat16", convnet),
        ("float64", dense_stack),
    ],
    indirect=["policy"],
)
def test_half_precision(policy: str, builder: Callable[[], Built]) -> None:
    """Kernels are half a step off where they are stored in half precision."""
    if policy == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX has float64 only where the user has switched it on")
    model, x = builder()
    only_kernels_change(model, x)
    # Reachable: 2^-11 (float16) and 2^-8 (bfloat16) of each value, signals included.
    tolerance = {"float64": 1e-3, "mixed_float16": 2e-3, "float16": 2e-3}
    assert_target(model, x, tolerance=tolerance.get(policy, 1e-2))
    for v in model.trainable_variables:
        assert np.isfinite(numpy(v)).all()
    dtype = policy if "mixed" not in policy else "float32"
    assert {v.dtype for v in model.trainable_variables} == {dtype}


@pytest.mark.parametrize("policy", ["mixed_float16", "float16"], indirect=True)
@pytest.mark.parametrize(("rows", "columns"), [(8e3, 20.0), (1e-3, 1e-3)])
def test_signals_beyond_float16_on_the_way(
    policy: str, rows: float, columns: float
) -> None:
    """Before scaling, `x W` is beyond 65,504 or close to 6e-8; after it, neither."""
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(6, activation="relu"), layers.Dense(6)]
    )
    model.layers[0].kernel.assign(columns * normal(6, 6, seed=1))
    x = (rows * normal(32, 6)).astype("float16")
    lsuv_init(model, x)
    z = x.astype("float64") @ numpy(model.layers[0].kernel)
    assert z.std() == pytest.approx(1, abs=2e-3)
    assert_target(model, x, [model.layers[1]], tolerance=3e-3)
    assert np.isfinite(numpy(model(x))).all()


@pytest.mark.parametrize("policy", ["mixed_float16", "float16"], indirect=True)
def test_a_kernel_that_float16_cannot_hold_is_refused(policy: str) -> None:
    """Data of 1e-6 ask for 1e6, which the variable of a mixed policy could hold."""
    model = keras.Sequential([keras.Input((6,)), layers.Dense(8), layers.Dense(3)])
    before, x = everything(model), 1e-6 * normal(64, 6)
    expected = rf"'{model.layers[0].name}' .*float16 ends at 65,504.*Standardise"
    with pytest.raises(ConvergenceError, match=expected):
        lsuv_init(model, x)
    assert changed(before, model) == []
    lsuv_init(model, 1e-3 * normal(64, 6))
    assert np.isfinite(numpy(model(1e-3 * normal(64, 6)))).all()


def test_time_steps_that_are_normalised_by_their_own_samples() -> None:
    """In training mode Keras calls what is inside once per step, and so does LSUV."""
    steps = [keras.Input((4,)), layers.Dense(6), layers.BatchNormalization()]
    steps.append(layers.Dense(6))
    head = layers.Dense(3)
    model = keras.Sequential(
        [
            keras.Input((5, 4)),
            layers.TimeDistributed(keras.Sequential(steps)),
            *(layers.Flatten(), head),
        ]
    )
    x = normal(64, 5, 4) * np.array([0.1, 1, 5, 20, 100], "float32")[:, None]
    x[:, 0] = 0  # a step of padding
    inner = model.layers[0].layer
    for training in (True, False):
        report = lsuv_init(model, x, training=training)
        assert report[head.name].std == pytest.approx(1, abs=1e-3)
        own = numpy(model(x, training=training)).std()
        assert own == pytest.approx(1, abs=1e-3)
        # What the last layer inside takes, step by step as Keras calls it.
        part = keras.Sequential([keras.Input((4,)), *inner.layers])
        found = [numpy(part(x[:, i], training=training)) for i in range(5)]
        assert np.std(found) == pytest.approx(1, abs=1e-3)


def test_rematerialized_layers() -> None:
    """Keras recomputes them in the gradient; JAX would trace them in the sweep."""
    with keras.RematScope(mode="full"):
        model = keras.Sequential(
            [keras.Input((6,)), layers.Dense(6, activation="relu"), layers.Dense(6)]
        )
    x = normal(32, 6)
    only_kernels_change(model, x)
    weights = [numpy(layer.kernel) for layer in model.layers]
    assert (x @ weights[0]).std() == pytest.approx(1, abs=1e-3)
    hidden = np.maximum(x @ weights[0], 0)
    assert (hidden @ weights[1]).std() == pytest.approx(1, abs=1e-3)


def test_layers_in_every_kind_of_attribute_are_found() -> None:
    class Hidden(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.pairs = [(layers.Dense(6), {"x": layers.Dense(6)})]
            self.inner = keras.Sequential([layers.Dense(6)])

        def call(self, x: Any) -> Any:
            first, others = self.pairs[0]
            return self.inner(others["x"](first(x)))

    model, x = keras.Sequential([keras.Input((6,)), Hidden()]), normal(32, 6)
    report = only_kernels_change(model, x)
    assert len(assert_target(model, x)) == len(report) == 3
    held = {x.name for x in every_layer(model) if isinstance(x, layers.Dense)}
    assert {row.name for row in report} == held


def test_a_call_without_a_training_argument_and_with_extra_ones() -> None:
    class Plain(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = layers.Dense(6), layers.Dropout(0.5)

        def call(self, x: Any, factor: float = 2.0) -> Any:
            return ops.multiply(self.two(self.one(inputs=x)), factor)

    model, x = Plain(), normal(32, 6)
    model(x)
    only_kernels_change(model, x)
    assert (x @ numpy(model.one.kernel)).std() == pytest.approx(1, abs=1e-3)
    only_kernels_change(model, 2 * x, training=True)


def test_an_override_of_call_by_somebody_else_is_kept() -> None:
    model, x = dense_stack()
    layer = model.layers[0]
    original = layer.call
    seen = []

    def theirs(inputs: Any, training: Any = None) -> Any:
        seen.append(inputs.shape)
        return original(inputs)

    vars(layer)["call"] = theirs
    lsuv_init(model, x)
    assert vars(layer)["call"] is theirs and seen
    assert measured(model, x)[layer][0].std == pytest.approx(1, abs=1e-3)


def test_in_bfloat16_roundings_add_up_with_depth() -> None:
    """Each layer is solved for a signal in hand that is not rounded again."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        stack = [layers.Dense(32, "relu") for _ in range(74)]
        model = keras.Sequential([keras.Input((32,)), *stack])
    finally:
        keras.config.set_dtype_policy("float32")
    x = normal(256, 32)
    lsuv_init(model, x)
    stds = [row.std for row in measure(model, x)]
    np.testing.assert_allclose(stds[:10], 1, atol=0.02)
    np.testing.assert_allclose(stds, 1, atol=0.2)
