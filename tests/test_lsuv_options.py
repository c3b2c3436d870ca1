"""Each option of `lsuv_init`, against figures that NumPy and scipy find."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from checks import (
    assert_equal_weights,
    assert_target,
    changed,
    everything,
    only_kernels_change,
)
from keras import layers, ops
from models import convnet, dense_stack, nested, normal, subclassed, twice
from scipy import optimize, special
from textbook import measured, numpy, recorded, textbook_lsuv

import keras_inits
from keras_inits import (
    ConvergenceError,
    DegenerateSignalError,
    KerasInitsError,
    UnsupportedLayerError,
    lsuv_init,
)

X = 2 * normal(32, 6) + 0.3


def single(activation: Any = None, bias: float = 0.0, **kwargs: Any) -> keras.Model:
    """One Dense layer, its bias drawn with deviation `bias`."""
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(6, activation=activation, **kwargs)]
    )
    if model.layers[0].bias is not None:
        model.layers[0].bias.assign(bias * normal(6, seed=5))
    return model


def u_of(model: keras.Model) -> np.ndarray[Any, Any]:
    """`x W` of the only layer."""
    return X.astype("float64") @ numpy(model.layers[0].kernel)


def output_of(model: keras.Model) -> np.ndarray[Any, Any]:
    return numpy(model(X))


# target_std


@pytest.mark.parametrize("target", [0.01, 0.5, 3.0])
def test_target_std(target: float) -> None:
    (expected, x), (actual, _) = twice(dense_stack)
    only_kernels_change(actual, x, target_std=target)
    assert_target(actual, x, target=target, tolerance=1e-3 * target)
    textbook_lsuv(expected, x, target_std=target)
    assert_equal_weights(expected, actual)


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, None, "one", True])
@pytest.mark.parametrize("name", ["target_std", "tolerance"])
def test_targets_and_tolerances_are_positive_numbers(name: str, value: Any) -> None:
    model = single()
    with pytest.raises(KerasInitsError, match=rf"Received: {name}="):
        lsuv_init(model, X, **{name: value})


@pytest.mark.parametrize("value", [0, -3, 2.5, None])
def test_max_iterations_is_a_whole_number(value: Any) -> None:
    with pytest.raises(KerasInitsError, match=r"Received: max_iterations="):
        lsuv_init(single(), X, max_iterations=value)


@pytest.mark.parametrize("name", ["center", "orthonormal", "per_channel", "training"])
@pytest.mark.parametrize("value", ["False", None, 1])
def test_flags_are_true_or_false(name: str, value: Any) -> None:
    with pytest.raises(KerasInitsError, match=f"`{name}` is True .* {name}={value!r}"):
        lsuv_init(single(), X, **{name: value})
    with pytest.raises(KerasInitsError, match="`training` is True or False"):
        keras_inits.measure(single(), X, training=value)


def test_an_unknown_signal_is_refused() -> None:
    with pytest.raises(KerasInitsError, match=r"'pre_activation'.*Received: signal="):
        lsuv_init(single(), X, signal="input")  # type: ignore[arg-type]


# biases: closed form


@pytest.mark.parametrize("bias", [0.3, 0.9])
@pytest.mark.parametrize(("sign", "target"), [(1.0, 1.0), (-1.0, 1.0), (-1.0, 2.0)])
def test_beside_a_bias_the_scale_is_the_root_that_scipy_finds(
    bias: float, sign: float, target: float
) -> None:
    """Whole-tensor covariance of `x W` and `b` of either sign."""
    model = single("relu", bias)
    # The data's mean 0.3, through kernel columns of unlike sums, covaries with b.
    b = sign * bias * u_of(model).mean(axis=0) / u_of(model).mean(axis=0).std()
    model.layers[0].bias.assign(b)
    u = u_of(model)
    root = optimize.brentq(lambda s: (s * u + b).std() - target, 0, 1e3)
    with recorded() as calls:
        report = lsuv_init(model, X, target_std=target)
    assert report[0].scale == pytest.approx(root, rel=1e-4)
    assert report[0].std_before == pytest.approx((u + b).std(), rel=1e-4)
    assert report[0].mean == pytest.approx((root * u + b).mean(), abs=1e-4)
    np.testing.assert_array_equal(numpy(model.layers[0].bias), b.astype("float32"))
    assert sum(call.layer is model.layers[0] for call in calls) == 1
    assert_target(model, X, target=target)


def test_a_bias_that_alone_exceeds_the_target_is_an_error_with_both_figures() -> None:
    model = single(bias=2.0, name="loud")
    b = numpy(model.layers[0].bias)
    before = everything(model)
    figure = f"{b.std():.3g}"
    with pytest.raises(ConvergenceError, match=rf"'loud'.*{figure}.*target is 0.5"):
        lsuv_init(model, X, target_std=0.5)
    assert changed(before, model) == []
    lsuv_init(model, X, target_std=0.5, center=True)
    assert_target(model, X, target=0.5)


def test_each_channel_ignores_its_own_bias() -> None:
    model = single(bias=5.0)
    lsuv_init(model, X, per_channel=True)
    deviations = u_of(model).std(axis=0)
    np.testing.assert_allclose(deviations, 1, atol=1e-4)


# center


@pytest.mark.parametrize("bias", [0.0, 5.0])
def test_center_is_exact_in_one_step(bias: float) -> None:
    model = single("relu", bias)
    report = lsuv_init(model, X, center=True)
    z = u_of(model) + numpy(model.layers[0].bias)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-5)
    assert z.std() == pytest.approx(1, abs=1e-5)
    assert (report[0].iterations, report[0].mean) == (1, pytest.approx(0, abs=1e-5))
    assert len(report[0].shift) == 6


@pytest.mark.parametrize("builder", [dense_stack, convnet, subclassed])
def test_center_on_whole_models_changes_kernels_and_biases_only(
    builder: Callable[[], Any],
) -> None:
    model, x = builder()
    chosen = [
        layer
        for layer in measured(model, x)
        if layer.bias is not None and layer.activation is not None
    ]
    owned = {id(v) for layer in chosen for v in (layer.kernel, layer.bias)}
    before = everything(model)
    lsuv_init(model, x, center=True, layers=chosen)
    moved = changed(before, model)
    assert len(moved) == len(owned)
    paths = {f"{i}: {v.path}" for i, v in enumerate(model.variables) if id(v) in owned}
    assert set(moved) == paths
    for parts in assert_target(model, x, chosen).values():
        np.testing.assert_allclose(parts[0].channels.mean(axis=0), 0, atol=1e-4)
    before = everything(model)
    report = lsuv_init(model, x, center=True, layers=chosen)
    for row in report:
        np.testing.assert_allclose(row.scale, 1, atol=1e-5)
        np.testing.assert_allclose(row.shift, 0, atol=1e-5)


def test_center_without_a_bias_is_refused() -> None:
    model = single(use_bias=False, name="bare")
    with pytest.raises(UnsupportedLayerError, match=r"bare.*use_bias=True"):
        lsuv_init(model, X, center=True)


# per_channel


def test_per_channel_beside_channels_that_do_not_vary() -> None:
    model = single("relu")
    kernel = numpy(model.layers[0].kernel)
    kernel[:, 2] = 0
    model.layers[0].kernel.assign(kernel)
    report = lsuv_init(model, X, per_channel=True)
    deviations = u_of(model).std(axis=0)
    np.testing.assert_allclose(np.delete(deviations, 2), 1, atol=1e-4)
    assert not numpy(model.layers[0].kernel)[:, 2].any()
    assert report[0].scale[2] == 1.0
    assert "1 of 6 channels" in report[0].status
    model.layers[0].kernel.assign(0 * kernel)
    with pytest.raises(DegenerateSignalError, match="its kernel is zero"):
        lsuv_init(model, X, per_channel=True)


def test_per_channel_on_a_whole_model_is_idempotent() -> None:
    model, x = convnet()
    lsuv_init(model, x, per_channel=True)
    for parts in measured(model, x).values():
        deviations = parts[0].channels.std(axis=0)
        np.testing.assert_allclose(deviations, 1, atol=1e-3)
    before = everything(model)
    lsuv_init(model, x, per_channel=True)
    assert changed(before, model) == []


@pytest.mark.parametrize("bias", [0.0, 0.1])
@pytest.mark.parametrize("signal", ["pre_activation", "output"])
def test_a_target_beyond_float32_is_told_as_such(signal: Any, bias: float) -> None:
    with pytest.raises(ConvergenceError, match=r"1e\+20.*float32.*at most 1e\+18"):
        lsuv_init(single("relu", bias), X, target_std=1e20, signal=signal)


def test_a_target_that_float32_holds_is_met() -> None:
    report = lsuv_init(single(bias=0.1), X, target_std=1e17)
    assert report[0].std == pytest.approx(1e17, rel=1e-5)


# signal="output"


def output_root(model: keras.Model, f: Callable[[Any], Any], target: float) -> float:
    u, b = u_of(model), numpy(model.layers[0].bias)
    return optimize.brentq(lambda s: f(s * u + b).std() - target, 1e-4, 1e4)


def relu(z: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.maximum(z, 0)


@pytest.mark.parametrize("bias", [0.0, 0.3])
@pytest.mark.parametrize(
    ("activation", "function", "target"),
    [
        ("relu", relu, 1.0),
        ("tanh", np.tanh, 0.6),
        ("sigmoid", special.expit, 0.3),
        ("softplus", lambda z: np.logaddexp(0, z), 1.0),
    ],
)
def test_the_output_meets_the_target_at_the_root_that_scipy_finds(
    activation: str, function: Callable[[Any], Any], target: float, bias: float
) -> None:
    model = single(activation, bias)
    root = output_root(model, function, target)
    with recorded() as calls:
        report = only_kernels_change(model, X, signal="output", target_std=target)
    # A plateau (sigmoid) makes the root less sharp than the deviation.
    assert report[0].scale == pytest.approx(root, rel=2e-2)
    assert output_of(model).std() == pytest.approx(target, abs=1e-3)
    assert report[0].std == pytest.approx(target, abs=1e-3)
    assert sum(call.layer is model.layers[0] for call in calls) == 1


def test_for_relu_without_bias_one_step_is_exact() -> None:
    model = single("relu")
    report = lsuv_init(model, X, signal="output", tolerance=1e-6)
    assert output_of(model).std() == pytest.approx(1, abs=2e-6)
    assert report[0].iterations == 1


@pytest.mark.parametrize("allowed", [1, 3, 10])
def test_no_more_steps_are_told_than_were_allowed(allowed: int) -> None:
    """One look more than steps: at what the last one led to."""
    told = rf"after {allowed} steps its output has"
    options = {"signal": "output", "max_iterations": allowed}
    with pytest.raises(ConvergenceError, match=told):
        lsuv_init(single("tanh"), X, target_std=1.5, **options)


@pytest.mark.parametrize(
    ("activation", "sizes"),
    [
        ("elu", (1e-14, 1e14)),
        ("gelu", (1e-14, 1e14)),
        ("relu", (1e-14, 1e14)),
        ("softplus", (1e14,)),  # close to 0 it is ln 2 in float32
        ("tanh", (1e-14,)),
    ],
)
def test_an_output_far_off_its_target_is_met_in_the_usual_steps(
    activation: str, sizes: tuple[float, ...]
) -> None:
    for size in sizes:
        model = single(activation)
        lsuv_init(model, size * X, signal="output", target_std=0.5)
        found = numpy(model(size * X)).astype("float64").std()
        assert found == pytest.approx(0.5, abs=1e-3)


def test_output_of_whole_models() -> None:
    """Layer by layer, each on outputs that are already right."""
    model, x = nested()
    before = everything(model)
    lsuv_init(model, x, signal="output")
    with recorded() as calls:
        model(x)
    outputs = [c.output for c in calls if isinstance(c.layer, layers.Dense)]
    assert len(outputs) == 5
    for output in outputs:
        assert numpy(output).std() == pytest.approx(1, abs=1e-3)
    assert len(changed(before, model)) == 5


@pytest.mark.parametrize("activation", ["tanh", "elu", "selu", "leaky_relu"])
def test_output_centred_and_per_channel(activation: str) -> None:
    for per_channel in (False, True):
        model = single(activation)
        lsuv_init(
            model,
            X,
            signal="output",
            center=True,
            per_channel=per_channel,
            target_std=0.5,
        )
        y = output_of(model)
        np.testing.assert_allclose(y.mean(axis=0), 0, atol=1.1e-3)
        deviations = y.std(axis=0) if per_channel else y.std()
        np.testing.assert_allclose(deviations, 0.5, atol=1.1e-3)


# So many rows that none stands alone where all others of its channel are silent.
MANY = 2 * normal(1024, 6) + 0.3


@pytest.mark.parametrize("activation", ["relu", "softplus", "sigmoid"])
def test_a_mean_of_zero_after_relu_does_not_exist(activation: str) -> None:
    model = single(activation, name="rectified")
    before = everything(model)
    with pytest.raises(ConvergenceError, match=r"'rectified'.*never negative") as error:
        lsuv_init(model, MANY, signal="output", center=True)
    assert "deviation" in str(error.value) and "mean" in str(error.value)
    assert changed(before, model) == []


def test_a_mean_of_zero_below_zero_does_not_exist() -> None:
    with pytest.raises(ConvergenceError, match=r"never positive.*pre_activation"):
        lsuv_init(single("log_sigmoid"), MANY, signal="output", center=True)


@pytest.mark.parametrize(
    ("activation", "lowest"), [("gelu", 0.17), ("silu", 0.28), ("mish", 0.31)]
)
def test_a_mean_of_zero_needs_values_well_below_it(
    activation: str, lowest: float
) -> None:
    """100 iterations do not meet it; a smaller deviation is met."""
    options: dict[str, Any] = {"signal": "output", "center": True}
    for per_channel in (False, True):
        with pytest.raises(ConvergenceError, match=f"never below -{lowest}") as error:
            lsuv_init(
                single(activation),
                MANY,
                max_iterations=100,
                per_channel=per_channel,
                **options,
            )
        text = str(error.value)
        assert "a smaller target_std" in text and 'signal="pre_activation"' in text
        assert "aturating" not in text and "ax_iterations" not in text
    lsuv_init(single(activation), MANY, target_std=0.1, **options)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("activation", ["softplus", "relu", "gelu", "log_sigmoid"])
def test_what_a_step_has_silenced_has_not_met_its_target(
    activation: str, seed: int
) -> None:
    """Few rows, all of which a shift may take to where the output is 0."""
    keras.utils.set_random_seed(seed)
    dense = layers.Dense(8, activation)
    model = keras.Sequential([keras.Input((6,)), dense])
    x = np.random.default_rng(seed).normal(size=(32, 6)).astype("float32")
    with pytest.raises(ConvergenceError, match="its output has"):
        lsuv_init(model, x, signal="output", center=True, max_iterations=100)


def test_elu_centred_needs_more_iterations() -> None:
    """Its output goes down to -1 and stays there: no obstacle, and no saturation."""
    options: dict[str, Any] = {"signal": "output", "center": True, "target_std": 2.0}
    with pytest.raises(ConvergenceError, match="Raise max_iterations") as error:
        lsuv_init(single("elu"), MANY, max_iterations=1, **options)
    assert "aturating" not in str(error.value) and "never" not in str(error.value)
    lsuv_init(single("elu"), MANY, max_iterations=100, **options)


@pytest.mark.parametrize(("activation", "target"), [("elu", 0.5), ("selu", 0.05)])
def test_a_last_small_shift_may_take_a_deviation_off_its_target(
    activation: str, target: float
) -> None:
    """Of so many channels that it does with some of them, which then step once more."""
    dense = layers.Dense(256, activation)
    model = keras.Sequential([keras.Input((6,)), dense])
    dense.kernel.assign(normal(6, 256, seed=1))
    options = {"center": True, "per_channel": True}
    lsuv_init(model, X, signal="output", target_std=target, **options)
    y = output_of(model)
    np.testing.assert_allclose(y.std(axis=0), target, atol=1.1e-3)
    assert np.abs(y.mean(axis=0)).max() < 1.1e-3


def test_a_deviation_beyond_saturation_does_not_exist() -> None:
    model = single("tanh", name="bounded")
    before = everything(model)
    with pytest.raises(ConvergenceError, match=r"'bounded'.*target 1\.5.*saturating"):
        lsuv_init(model, X, signal="output", target_std=1.5)
    assert changed(before, model) == []


# So far from 0 that tanh has flattened most of it.
FAR = np.abs(normal(256, 1)) + 3


def far(activation: Any, *kernel: float, name: str = "far") -> keras.Model:
    """Units that take `k x`, for each `k` of the kernel."""
    dense = layers.Dense(len(kernel), activation, name=name)
    model = keras.Sequential([keras.Input((1,)), dense])
    dense.kernel.assign([kernel])
    return model


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("kernel", [(1.0,), (300.0,), (1.0, 300.0, -2.0)])
@pytest.mark.parametrize("target", [0.03, 0.05])
@pytest.mark.parametrize("activation", ["tanh", "hard_tanh"])
def test_a_saturated_output_steps_back_to_its_target(
    activation: str, target: float, kernel: tuple[float, ...], center: bool
) -> None:
    """Deviations up to 0.066 exist; at the start it is 0.001, or 0 in float32."""
    model = far(activation, *kernel)
    options = {"center": center, "per_channel": len(kernel) > 1, "max_iterations": 30}
    lsuv_init(model, FAR, signal="output", target_std=target, **options)
    y = numpy(model(FAR))
    np.testing.assert_allclose(y.std(axis=0), target, atol=1.1e-3)
    assert not center or np.abs(y.mean(axis=0)).max() < 1.1e-3


def test_few_steps_are_enough_to_step_back() -> None:
    report = lsuv_init(far("tanh", 1.0), FAR, signal="output", target_std=0.05)
    assert report[0].iterations <= 8


@pytest.mark.parametrize(
    ("activation", "kernel", "options", "cause", "advice"),
    [
        ("sigmoid", 1.0, {}, "saturating activation", r'"pre_activation"\.$'),
        ("tanh", 1.0, {}, "saturating activation", r'"pre_activation"\.$'),
        ("tanh", 1e9, {}, "activation saturates", "and center=True"),
        ("sigmoid", 1.0, {"center": True}, "never negative", "center=False"),
        ("relu", -1.0, {}, "gets negative values", "and center=True"),
    ],
)
def test_a_flat_output_is_told_by_its_true_cause(
    activation: str, kernel: float, options: Any, cause: str, advice: str
) -> None:
    model = far(activation, kernel)
    with pytest.raises(ConvergenceError, match=f"'far'.*{cause}.*{advice}") as error:
        lsuv_init(model, FAR, signal="output", **options)
    text = str(error.value)
    assert "its bias" not in text and "zero biases" not in text
    assert "center=True" not in text or not options


def test_the_largest_deviation_reached_is_told() -> None:
    best = max(np.tanh(s * FAR).std() for s in np.geomspace(0.01, 2, 4000))
    told = f"deviation {best:.4f}.*or raise max_iterations"
    with pytest.raises(ConvergenceError, match=told):
        lsuv_init(far("tanh", 1.0), FAR, signal="output", target_std=0.08)


def test_softmax_is_refused_without_a_warning() -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with pytest.raises(ConvergenceError, match="saturating"):
            lsuv_init(single("softmax"), X, signal="output")
    assert [str(x.message) for x in seen if "softmax" in str(x.message)] == []


def test_more_iterations_than_allowed_are_an_error() -> None:
    model = single("sigmoid", 0.3)
    with pytest.raises(ConvergenceError, match=r"after .* steps.*max_iterations"):
        lsuv_init(
            model, X, signal="output", target_std=0.3, tolerance=1e-6, max_iterations=1
        )
    lsuv_init(model, X, signal="output", target_std=0.3, max_iterations=30)


# orthonormal


def test_orthonormal_redraws_the_chosen_kernels_first() -> None:
    model, x = dense_stack()
    left = numpy(model.layers[1].kernel)
    chosen = [model.layers[0], model.layers[2]]
    report = lsuv_init(model, x, orthonormal=True, layers=chosen)
    assert_target(model, x, chosen)
    for row, layer in zip(report, chosen, strict=True):
        kernel = numpy(layer.kernel) / row.scale
        np.testing.assert_allclose(kernel.T @ kernel, np.eye(6), atol=1e-5)
    np.testing.assert_array_equal(numpy(model.layers[1].kernel), left)


def test_orthonormal_draws_anew_under_the_users_seed() -> None:
    drawn = []
    for seed in (1, 2, 1):
        model, x = nested()
        keras.utils.set_random_seed(seed)
        lsuv_init(model, x, orthonormal=True)
        drawn.append([numpy(v) for v in model.trainable_variables if v.ndim == 2])
    for first, other, again in zip(*drawn, strict=True):
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()
    assert (drawn[0][0] != drawn[0][1]).any()


def test_orthonormal_convolution_is_flattened_to_inputs_by_outputs() -> None:
    model = keras.Sequential([keras.Input((8, 8, 4)), layers.Conv2D(4, 3)])
    x = normal(32, 8, 8, 4)
    report = lsuv_init(model, x, orthonormal=True)
    kernel = numpy(model.layers[0].kernel).reshape(-1, 4) / report[0].scale
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(4), atol=1e-5)
    assert_target(model, x)


# training


def test_training_decides_what_batch_normalization_does() -> None:
    """In inference mode it passes on what it gets, in training unit variance."""
    for training in (False, True):
        model, x = convnet()
        other = convnet()[0]
        other.set_weights(model.get_weights())
        only_kernels_change(model, 5 * x, training=training)
        textbook_lsuv(other, 5 * x, training=training)
        chosen = [
            layer
            for layer in measured(model, x)
            # behind SpatialDropout nothing but this very draw has unit variance
            if isinstance(layer, layers.Conv2D)
        ]
        assert_target(model, 5 * x, chosen, training=training)
        kernels = [numpy(layer.kernel) for layer in chosen]
        expected = [
            numpy(layer.kernel)
            for layer in measured(other, x)
            if isinstance(layer, layers.Conv2D)
        ]
        for a, b in zip(expected, kernels, strict=True):
            np.testing.assert_allclose(b, a, rtol=5e-4, atol=1e-6)


# samples


def test_samples_are_spaced_evenly() -> None:
    x = np.repeat([[1.0], [2.0], [3.0], [4.0]], 50, axis=0).astype("float32")
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1, use_bias=False)])
    model.layers[0].kernel.assign([[1.0]])
    for samples in (4, 8, 200, 1000):
        model.layers[0].kernel.assign([[1.0]])
        lsuv_init(model, x, samples=samples)
        scale = numpy(model.layers[0].kernel)[0, 0]
        assert scale == pytest.approx(1 / np.std([1, 2, 3, 4]), rel=1e-5)


@pytest.mark.parametrize("samples", [0, -1, 2.5, "all", None, True])
def test_samples_is_a_positive_whole_number(samples: Any) -> None:
    with pytest.raises(keras_inits.DataError, match="Received: samples="):
        lsuv_init(single(), X, samples=samples)


# verbose


def test_silent_by_default_and_a_progress_bar_on_demand(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, x = nested()
    lsuv_init(model, x)
    assert capsys.readouterr().out == ""
    lsuv_init(model, x, verbose=1)
    assert "5/5" in capsys.readouterr().out


def test_options_are_keyword_only() -> None:
    with pytest.raises(TypeError, match="positional"):
        lsuv_init(single(), X, None)  # type: ignore[misc]


def test_the_report_of_channels_shows_the_whole_tensor() -> None:
    """Channels with a deviation of 1 around means of their own."""
    model = keras.Sequential([keras.Input((8,)), layers.Dense(6, activation="relu")])
    x = normal(200, 8) + 6
    [row] = lsuv_init(model, x, per_channel=True)
    z = x @ numpy(model.layers[0].kernel)
    assert z.std(axis=0) == pytest.approx(np.ones(6), rel=1e-3)
    assert row.std == pytest.approx(z.std(), rel=1e-3)
    assert row.std > 1.5


@pytest.mark.parametrize("option", ["orthonormal", "per_channel"])
def test_options_that_need_the_axes_of_a_kernel(option: str) -> None:
    class Mixed(layers.Layer):
        def build(self, shape: Any) -> None:
            self.mix = self.add_weight(
                shape=(shape[-1], 12), initializer="lsuv_normal", name="mix"
            )

        def call(self, x: Any) -> Any:
            return ops.silu(ops.matmul(x, self.mix))

    model = keras.Sequential([keras.Input((8,)), Mixed(name="mixed")])
    before = numpy(model.layers[0].mix)
    with pytest.raises(UnsupportedLayerError, match=f"{option}=True.*mixed"):
        lsuv_init(model, normal(64, 8), **{option: True})
    np.testing.assert_array_equal(numpy(model.layers[0].mix), before)


def test_critical_where_biases_forbid_the_smallest_targets() -> None:
    keras.utils.set_random_seed(0)
    biases = keras.initializers.RandomNormal
    dense = [
        layers.Dense(64, activation="tanh", bias_initializer=biases(0.0, 0.01, seed=k))
        for k in range(40)
    ]
    model = keras.Sequential([keras.Input((64,)), *dense])
    report = lsuv_init(model, normal(128, 64), target_std="critical")
    assert 0.01 < report.target_std < 1.0
    assert 5 < np.prod([row.gradient_gain for row in report]) <= 10.0


def test_critical_counts_operations_as_activation_layers() -> None:
    def found(act: Any) -> float:
        keras.utils.set_random_seed(0)
        inputs = h = keras.Input((64,))
        for _ in range(40):
            h = act(layers.Dense(64)(h))
        model = keras.Model(inputs, layers.Dense(3)(h))
        return lsuv_init(model, normal(128, 64), target_std="critical").target_std

    expected = found(lambda h: layers.Activation("tanh")(h))
    assert 0.3 < expected < 0.9
    assert found(ops.tanh) == pytest.approx(expected, rel=1e-3)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="needs JAX_ENABLE_X64")
@pytest.mark.parametrize("options", [{}, {"center": True}, {"per_channel": True}])
def test_outputs_in_float64(options: dict[str, Any]) -> None:
    layer = layers.Dense(4, activation="tanh", dtype="float64")
    model = keras.Sequential([keras.Input((8,)), layer])
    x = normal(60, 8).astype("float64")
    lsuv_init(model, x, signal="output", target_std=0.5, **options)
    y = numpy(model(x))
    deviations = y.std(axis=0) if "per_channel" in options else y.std()
    np.testing.assert_allclose(deviations, 0.5, atol=1e-3)


def with_a_dead_unit(bias: Any = "zeros") -> keras.Model:
    """The second ReLU never lets its first unit through."""
    model = keras.Sequential(
        [
            keras.Input((40,)),
            layers.Dense(8, "relu"),
            layers.Dense(8, "relu", bias_initializer=bias),
        ]
    )
    kernel, bias_values = model.layers[1].get_weights()
    kernel[:, 0] = -np.abs(kernel[:, 0])
    model.layers[1].set_weights([kernel, bias_values])
    return model


def test_channels_that_the_activation_silences_are_counted() -> None:
    model, x = with_a_dead_unit(), normal(256, 40)
    report = lsuv_init(model, x, signal="output", per_channel=True)
    assert report[1].status == "scaled, 1 of 8 channels do not vary"
    deviations = ops.convert_to_numpy(model(x)).std(axis=0)
    np.testing.assert_allclose(deviations, [0.0] + [1.0] * 7, atol=2e-3)


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_layer_that_is_silent_from_the_start_is_refused(per_channel: bool) -> None:
    model = with_a_dead_unit(bias=keras.initializers.Constant(-100.0))
    before = model.get_weights()
    with pytest.raises(ConvergenceError, match=r"deviation 0 .* zero biases"):
        lsuv_init(model, normal(256, 40), signal="output", per_channel=per_channel)
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("heads", [1, 3])
def test_critical_says_where_it_counts_branches_as_depth(heads: int) -> None:
    inputs = keras.Input((16,))
    h = layers.Dense(16, "tanh")(inputs)
    outputs = [layers.Dense(1)(h) for _ in range(heads)]
    model = keras.Model(inputs, outputs)
    report = lsuv_init(model, normal(64, 16), target_std="critical")
    assert len(report.notes) == (heads > 1)
    assert all("one chain" in note for note in report.notes)


def test_critical_says_what_it_does_not_count() -> None:
    """A frozen layer: gradients pass through it all the same."""
    stack = [layers.Dense(16, "tanh") for _ in range(4)]
    model = keras.Sequential([keras.Input((16,)), *stack])
    x = normal(64, 16)
    assert not lsuv_init(model, x, target_std="critical").notes
    stack[1].trainable = False
    report = lsuv_init(model, x, target_std="critical")
    assert "the model has others" in " ".join(report.notes)
    assert "over the 3 layers measured" in str(report)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="no float64 in the tests")
@pytest.mark.parametrize("options", [{}, {"per_channel": True}])
def test_recurrent_layers_are_centred_in_float64(options: dict[str, Any]) -> None:
    inputs = keras.Input((5, 6), dtype="float64")
    inner = layers.LSTM(4, dtype="float64")
    outputs = layers.Bidirectional(inner, dtype="float64")(inputs)
    model = keras.Model(inputs, layers.Dense(2, dtype="float64")(outputs))
    report = keras_inits.lsuv_init(model, normal(32, 5, 6), center=True, **options)
    assert [row.std for row in report] == pytest.approx([1.0] * 3, abs=1e-6)
