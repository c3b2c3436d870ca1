"""Steps that a mask leaves out count nowhere: all figures are those of the others."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import pytest
from checks import changed, everything, overrides
from keras import layers
from models import normal
from textbook import Array, forward, measured, numpy

import keras_inits
from keras_inits import lsuv_init, measure
from keras_inits.calling import masks
from keras_inits.passes import programs

TIME = 12
PASSES = 3  # eager, compiled or noted, and played


def padded(rows: int = 64, seed: int = 0) -> tuple[Array, Array]:
    """Tokens `(rows, TIME)` with zeros behind them, some in between; which are real."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, TIME, rows)
    real = np.arange(TIME) < lengths[:, None]
    real[1, [2, 5]] = False
    tokens = np.where(real, generator.integers(1, 30, real.shape), 0)
    return tokens.astype("int32"), tokens > 0


def left(signal: Array, real: Array) -> Array:
    """The steps that count, one after the other; all where there is no mask."""
    if signal.shape[:2] == real.shape:
        return signal[real]
    return signal[real.ravel()] if len(signal) == real.size else signal


def mixed() -> keras.Model:
    """All that takes a mask, and a branch without; from `last` on there is none."""
    keras.utils.set_random_seed(1)
    tokens, more = keras.Input((TIME,), dtype="int32"), keras.Input((9, 5))
    x = layers.Embedding(30, 16, mask_zero=True)(tokens)
    x = layers.Dense(16, "relu", bias_initializer="random_normal")(x)
    loop = layers.LSTM(8, return_sequences=True)
    x = layers.Bidirectional(loop)(x)
    x = layers.LayerNormalization()(x)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 8)(x, x)])
    if keras.__version__.startswith("3.9."):
        pytest.skip("this Keras loses the mask in attention")
    x = layers.TimeDistributed(layers.Dense(16, "tanh"))(x)
    x = layers.Activation("gelu")(layers.Dense(16)(x))
    x = layers.GRU(9, return_sequences=True, go_backwards=True)(x)
    x = layers.GlobalAveragePooling1D()(x)
    y = layers.GlobalAveragePooling1D()(layers.Dense(7, "relu")(more))
    return keras.Model([tokens, more], layers.Dense(4)(layers.Concatenate()([x, y])))


def channels_of(part: Any, real: Array) -> Array:
    """`(steps that count, channels)`."""
    rows = len(left(part.signal, real))
    together = part.channels
    if together.shape[0] == rows:
        return together
    if together.shape[0] == real.size:
        return together[real.ravel()]
    return together


def assert_measured(
    model: keras.Model, x: Any, real: Array, passes: int = PASSES
) -> None:
    """Every pass shows what the textbook finds in the steps that count."""
    found = measured(model, x)
    signals = {
        layer.path: np.concatenate([left(p.signal, real) for p in parts], axis=-1)
        for layer, parts in found.items()
    }
    for _ in range(passes):
        rows = {row.path: row for row in measure(model, x)}
        for path, signal in signals.items():
            assert rows[path].mean == pytest.approx(signal.mean(), abs=1e-5), path
            assert rows[path].std == pytest.approx(signal.std(), rel=1e-5), path


def test_measure_sees_the_real_steps_alone() -> None:
    """A model of which a part is masked."""
    tokens, real = padded()
    model = mixed()
    x = [tokens, normal(64, 9, 5)]
    assert_measured(model, x, real)
    other, real = padded(seed=1)  # the mask is none of the program
    assert_measured(model, [other, x[1]], real, passes=1)


def steady() -> keras.Model:
    """Of layers that every backend can run as one program."""
    tokens = keras.Input((TIME,), dtype="int32")
    x = layers.Embedding(30, 16, mask_zero=True)(tokens)
    for i in range(6):
        y = layers.Dense(24, ("relu", "gelu", "tanh")[i % 3])(x)
        y = layers.Activation("relu")(layers.Dense(16)(layers.LayerNormalization()(y)))
        x = layers.Add()([x, y])
    return keras.Model(tokens, layers.Dense(4)(layers.GlobalAveragePooling1D()(x)))


def has_program(model: keras.Model) -> bool:
    states = programs.STATES[model].values()
    return all(state.program is not None for state in states)


def test_a_pass_that_is_compiled_sees_what_an_eager_one_sees() -> None:
    model = steady()
    weights = model.get_weights()
    for seed in (0, 0, 0, 1, 1):
        tokens, real = padded(seed=seed)
        model.set_weights(weights)
        lsuv_init(model, tokens)
        for parts in measured(model, tokens).values():
            [signal] = [left(part.signal, real) for part in parts]
            assert signal.std() == pytest.approx(1, abs=1e-5)
        assert_measured(model, tokens, real, passes=1)
    assert has_program(model)


def chosen(layer: Any) -> bool:
    return bool(getattr(layer, "bias", None) is not None)


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "center": {"center": True, "layers": chosen},
    "per_channel": {"per_channel": True},
    "per_channel, center": {"per_channel": True, "center": True, "layers": chosen},
    "output": {"signal": "output", "layers": keras.layers.Dense, "target_std": 0.5},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_lsuv_meets_its_target_on_the_real_steps(name: str) -> None:
    tokens, real = padded()
    x = [tokens, 3 * normal(64, 9, 5) + 1]
    model = mixed()
    weights = model.get_weights()
    for _ in range({"plain": PASSES, "per_channel, center": 2}.get(name, 1)):
        model.set_weights(weights)
        report = lsuv_init(model, x, **OPTIONS[name])
        scaled = {row.path for row in report if row.scale is not None}
        assert len(scaled) >= 4
        if name == "output":
            # `TimeDistributed` puts out what the layer in it does.
            called = [
                (getattr(c.layer, "layer", c.layer), c) for c in forward(model, x)
            ]
            calls = {layer.path: call.output for layer, call in called}
            for path in scaled:
                output = left(numpy(calls[path]), real)
                assert output.std() == pytest.approx(0.5, abs=1e-3)
            continue
        for layer, parts in measured(model, x).items():
            for part in parts if layer.path in scaled else ():
                channels = channels_of(part, real)
                if "center" in name:
                    np.testing.assert_allclose(channels.mean(axis=0), 0, atol=1e-4)
                if "per_channel" in name:
                    np.testing.assert_allclose(channels.std(axis=0), 1, rtol=1e-4)
                else:
                    assert channels.std() == pytest.approx(1, abs=1e-5)


def test_three_quarters_of_padding() -> None:
    """As docs/explanation/lsuv.md has it."""
    x = normal(256, 8, 6)
    x[:, 2:] = 0
    for masking, expected in (([layers.Masking()], 1.0), ([], 2.0)):
        loop = layers.LSTM(16)
        lsuv_init(keras.Sequential([keras.Input((None, 6)), *masking, loop]), x)
        real = x[:, :2] @ numpy(loop.cell.kernel)
        np.testing.assert_allclose(real.std(), expected, rtol=0.01)


def steps_of(z: Array, real: Array) -> float:
    """Variance between the samples of each step, on average over real ones."""
    steps = [z[real[:, t], t] for t in range(TIME) if real[:, t].any()]
    found = [step.var(axis=0).mean() * len(step) for step in steps]
    return math.sqrt(sum(found) / real.sum())


@pytest.mark.parametrize("activation", ["relu", "relu6", "tanh"])
def test_every_figure_of_a_row_is_that_of_the_real_steps(activation: str) -> None:
    tokens, real = padded(rows=200)
    dense = layers.Dense(16, activation, bias_initializer="random_normal", name="dense")
    after = layers.Activation(activation, name="after")
    table = layers.Embedding(30, 8, mask_zero=True, embeddings_initializer="normal")
    model = keras.Sequential([keras.Input((TIME,), dtype="int32"), table, dense, after])
    table.embeddings.assign(normal(30, 8) * (1 + 99 * (np.arange(30) == 0))[:, None])
    dense.kernel.assign(3 * normal(8, 16))
    dense.bias.assign(np.where(np.arange(16) < 3, -60, normal(16)))
    z = numpy(table.embeddings)[tokens] @ numpy(dense.kernel) + numpy(dense.bias)
    apply = {
        "relu": lambda z: np.maximum(z, 0),
        "relu6": lambda z: np.clip(z, 0, 6),
        "tanh": np.tanh,
    }[activation]
    beyond = {"relu": None, "relu6": lambda z: z > 6, "tanh": lambda z: abs(z) > 2.993}
    report = measure(model, tokens)
    for name, taken in (("dense", z), ("after", apply(z))):
        row, taken, given = report[name], taken[real], apply(taken)[real]
        expected = {
            "mean": taken.mean(),
            "std": taken.std(),
            "output_mean": given.mean(),
            "output_std": given.std(),
            "dead_fraction": (given == 0).all(axis=0).mean(),
            "batch_std": steps_of(z if name == "dense" else apply(z), real),
        }
        if limit := beyond[activation]:
            expected["saturated_fraction"] = limit(taken).mean()
        for figure, value in expected.items():
            found = getattr(row, figure)
            assert found == pytest.approx(value, rel=1e-5, abs=1e-6), (name, figure)
        assert row.histogram.edges[-1] <= 1.001 * abs(taken).max()
    assert abs(z[~real]).max() > 2 * abs(z[real]).max()


@pytest.mark.parametrize("verb", [lsuv_init, measure])
def test_what_lies_on_a_step_that_is_left_out_is_not_looked_at(verb: Any) -> None:
    tokens, real = padded()
    table = layers.Embedding(30, 8, mask_zero=True)
    stack = [layers.Dense(8, f) for f in ("relu", "tanh", "selu", None)]
    model = keras.Sequential([keras.Input((TIME,), dtype="int32"), table, *stack])
    values = normal(30, 8)
    figures = []
    for first in (0.0, np.nan):
        values[0] = first
        table.embeddings.assign(values)
        for layer in stack:
            layer.kernel.assign(normal(8, 8))
        rows = verb(model, tokens)
        assert all(row.gradient_gain is not None for row in rows[1:])
        names = ("mean", "std", "output_mean", "output_std", "gradient_gain", "scale")
        figures.append([[getattr(row, x) for x in names] for row in rows])
    assert figures[0] == figures[1]
    assert real.mean() < 0.6


def test_gradient_gains_are_those_of_the_real_steps() -> None:
    tokens, real = padded(rows=400)
    results = []
    for mask_zero, x in ((True, tokens), (False, tokens[real][:, None])):
        keras.utils.set_random_seed(0)
        table = layers.Embedding(30, 8, mask_zero=mask_zero)
        stack = [layers.Dense(32, f) for f in ("relu", "tanh", "silu")]
        size = x.shape[1:]
        model = keras.Sequential([keras.Input(size, dtype="int32"), table, *stack])
        table.embeddings.assign(normal(30, 8) + 3 * (np.arange(30) == 0)[:, None])
        results.append([lsuv_init(model, x), measure(model, x)])
    for padded_one, plain in zip(*results, strict=True):
        for row, other in zip(list(padded_one)[1:], list(plain)[1:], strict=True):
            assert row.gradient_gain == pytest.approx(other.gradient_gain, rel=0.03)


def test_masks_of_query_key_and_value() -> None:
    """Two sequences of one length whose masks differ."""
    one, real = padded(seed=1)
    other, known = padded(seed=2)
    inputs = [keras.Input((TIME,), dtype="int32") for _ in range(2)]
    a, b = (layers.Embedding(30, 8, mask_zero=True)(x) for x in inputs)
    attend = layers.MultiHeadAttention(2, 4, name="attend")
    model = keras.Model(inputs, attend(a, b))
    x = [one, other]
    lsuv_init(model, x)
    of_query = {"query", "attention_output"}
    seen = 0
    for layer, parts in measured(model, x).items():
        if layer.name in {"query", "attention_output", "key", "value"}:
            mask = real if layer.name in of_query else known
            [signal] = [left(p.signal, mask) for p in parts]
            assert signal.std() == pytest.approx(1, abs=1e-5), layer.path
            seen += 1
    assert seen == 4


def test_a_layer_is_told_the_mask_that_it_is_called_with() -> None:
    """As an argument; on a later Keras what comes after it carries it."""
    x, real = normal(64, TIME, 6), padded()[1]
    inputs = [keras.Input((TIME, 6)), keras.Input((TIME,), dtype="bool")]
    h = layers.LSTM(8, return_sequences=True)(inputs[0], mask=inputs[1])
    model = keras.Model(inputs, layers.Dense(4)(h))
    lsuv_init(model, [x, real])
    loop, *behind = measured(model, [x, real]).values()
    carried = getattr(h, "_keras_mask", None) is not None
    for parts in (loop, *(behind if carried else ())):
        for part in parts:
            assert left(part.signal, real).std() == pytest.approx(1, abs=1e-5)


def test_layers_that_are_called_by_keyword() -> None:
    tokens, real = padded()
    inputs = keras.Input((TIME,), dtype="int32")
    x = layers.Embedding(30, 8, mask_zero=True)(inputs=inputs)
    x = layers.Dense(6, bias_initializer="ones")(inputs=x)
    x = layers.TimeDistributed(layers.Dense(5, bias_initializer="ones"))(inputs=x)
    loop = layers.LSTM(4, return_sequences=True)
    model = keras.Model(inputs, loop(sequences=x, training=False))
    lsuv_init(model, tokens)
    assert_measured(model, tokens, real)
    found = measured(model, tokens)
    assert len(found) == 4
    for layer, parts in found.items():
        for part in parts:
            signal = left(part.signal, real)
            assert signal.std() == pytest.approx(1, abs=1e-5), layer.path


@pytest.mark.parametrize("backwards", [False, True])
def test_stacked_cells(backwards: bool) -> None:
    x, real = normal(64, TIME, 6) + 1, padded()[1]
    x[~real] = 0
    cells = [layers.GRUCell(5), layers.LSTMCell(7)]
    loop = layers.RNN(cells, go_backwards=backwards)
    model = keras.Sequential([keras.Input((TIME, 6)), layers.Masking(), loop])
    lsuv_init(model, x)
    front = layers.RNN(cells[0], return_sequences=True, go_backwards=backwards)
    second = numpy(front(x, mask=keras.ops.convert_to_tensor(real)))
    second = second[:, ::-1] if backwards else second
    for cell, taken in zip(cells, (x, second), strict=True):
        signal = taken[real] @ numpy(cell.kernel)
        gates = signal.reshape(len(signal), -1, cell.units)
        np.testing.assert_allclose(gates.std(axis=(0, 2)), 1, rtol=1e-5)


def test_an_output_in_reverse_is_told_by_a_mask_in_reverse() -> None:
    x, real = normal(64, TIME, 6), padded()[1]
    x[~real] = 0
    loop = layers.GRU(5, return_sequences=True, go_backwards=True)
    model = keras.Sequential([keras.Input((TIME, 6)), layers.Masking(), loop])
    output = numpy(model(x))[:, ::-1][real]
    [row] = measure(model, x)
    assert row.output_std == pytest.approx(output.std(), rel=1e-5)


def test_layers_that_nothing_describes() -> None:
    class Own(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.supports_masking = True

        def build(self, shape: Any) -> None:
            self.w = self.add_weight(shape=(shape[-1], 5), initializer="lsuv_normal")

        def call(self, x: Any) -> Any:
            return keras.ops.matmul(x, self.w) + 0.0

    x, real = normal(64, TIME, 6), padded()[1]
    x[~real] = 0
    own = Own()
    model = keras.Sequential([keras.Input((TIME, 6)), layers.Masking(), own])
    lsuv_init(model, x)
    assert (x[real] @ numpy(own.w)).std() == pytest.approx(1, abs=1e-3)
    assert measure(model, x)[0].std == pytest.approx(1, abs=1e-3)


class Encoder(keras.layers.Layer):
    """As Keras's examples write it: the sum in it carries no mask."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.supports_masking = True
        self.attend = layers.MultiHeadAttention(2, 4)
        self.wide, self.narrow = layers.Dense(32, "gelu"), layers.Dense(8)
        self.norms = [layers.LayerNormalization() for _ in range(2)]

    def call(self, x: Any, mask: Any = None) -> Any:
        x = self.norms[0](x + self.attend(x, x))
        return self.norms[1](x + self.narrow(self.wide(x)))


def test_a_layer_of_layers_hands_its_mask_to_them() -> None:
    tokens, real = padded()
    inputs = keras.Input((TIME,), dtype="int32")
    x = layers.Embedding(30, 8, mask_zero=True)(inputs)
    for _ in range(2):
        x = Encoder()(x)
    x = layers.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, layers.Dense(3)(x))
    lsuv_init(model, tokens)
    for layer, parts in measured(model, tokens).items():
        [signal] = [left(part.signal, real) for part in parts]
        assert signal.std() == pytest.approx(1, abs=1e-5), layer.path
    assert_measured(model, tokens, real)


@pytest.mark.parametrize("verb", [lsuv_init, measure])
@pytest.mark.parametrize("depth", [1, 12])
def test_a_batch_of_padding_is_refused(verb: Any, depth: int) -> None:
    """Also where only one input of two is."""
    inputs = [keras.Input((TIME, 6)), keras.Input((4,))]
    x = layers.Masking()(inputs[0])
    for i in range(depth):
        x = layers.Dense(6, "relu", name=f"masked_{i}")(x)
    x = layers.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, layers.Dense(3)(layers.Concatenate()([x, inputs[1]])))
    before = everything(model), overrides(model)
    data = [np.zeros((32, TIME, 6), "float32"), normal(32, 4)]
    text = r"Layer 'masked_0' \(Dense\): a mask leaves out every step of these data"
    for _ in range(3):
        with pytest.raises(keras_inits.DataError, match=text):
            verb(model, data)
    assert changed(before[0], model) == [] and before[1] == overrides(model)


@pytest.mark.parametrize("small", [1e-20, 1e-25])
def test_a_signal_too_small_for_squares_in_float32(small: float) -> None:
    x, real = normal(64, TIME, 6), padded()[1]
    x[~real] = 0
    dense = layers.Dense(8)
    model = keras.Sequential([keras.Input((TIME, 6)), layers.Masking(), dense])
    dense.kernel.assign(small * normal(6, 8))
    [row] = measure(model, x)
    z = x @ numpy(dense.kernel)
    assert row.std == pytest.approx(z[real].std(), rel=1e-4)
    assert row.batch_std == pytest.approx(steps_of(z, real), rel=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed_bfloat16"])
def test_half_precisions(dtype: str) -> None:
    tokens, real = padded()
    keras.config.set_dtype_policy(dtype)
    try:
        table = layers.Embedding(30, 8, mask_zero=True)
        dense = layers.Dense(16, "relu")
        inputs = keras.Input((TIME,), dtype="int32")
        model = keras.Sequential([inputs, table, dense])
    finally:
        keras.config.set_dtype_policy("float32")
    lsuv_init(model, tokens)
    z = numpy(table.embeddings)[tokens[real]]
    assert z.std() == pytest.approx(1, abs=2e-2)
    assert (z @ numpy(dense.kernel)).std() == pytest.approx(1, abs=2e-2)


def test_a_mask_of_another_shape_is_none() -> None:
    """A convolution that is shorter than what it takes; channels that come first."""
    x, real = normal(64, TIME, 6), padded()[1]
    x[~real] = 0
    short, long = layers.Conv1D(5, 3), layers.Conv1D(5, 3, padding="same")
    for layer, counted in ((short, None), (long, real)):
        with pytest.warns(UserWarning, match="does not support masking"):
            model = keras.Sequential([keras.Input((TIME, 6)), layers.Masking(), layer])
            lsuv_init(model, x)
        signal = numpy(keras.Sequential([layer])(x))
        signal = signal if counted is None else signal[counted]
        assert signal.std() == pytest.approx(1, abs=1e-5)


def test_models_without_masks_are_not_asked_for_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Refused:
        def __init__(self) -> None:
            raise AssertionError("There is nothing to read.")

    monkeypatch.setattr(masks, "_Reader", Refused)
    inputs = keras.Input((TIME, 8))
    x = layers.Activation("relu")(layers.MultiHeadAttention(2, 4)(inputs, inputs))
    model = keras.Model(inputs, layers.LSTM(4)(x))
    lsuv_init(model, normal(32, TIME, 8))
    measure(model, normal(32, TIME, 8))


@pytest.mark.any_keras
def test_attention_has_the_parts_that_are_told_their_masks() -> None:
    x = keras.ops.ones((2, 3, 4))
    for layer in (layers.MultiHeadAttention(2, 4), layers.GroupQueryAttention(4, 4, 2)):
        layer(x, x)
        named = {name for name in masks._PARTS if hasattr(layer, name)}
        assert named >= set(masks._PARTS) - {"_gate_dense"}
