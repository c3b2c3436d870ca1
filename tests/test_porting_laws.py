"""Each row of five port tables against the formula of the other library.

Those libraries are not installed here (TensorFlow apart), so their formulas are
written down below, in their own kernel layouts: nothing of the package takes part.
Values are brought into that layout first, and the fans are counted there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
from laws import Law, Shape, check_law, flat, gaussian, to_numpy
from scipy import stats

from keras_inits import porting

pytestmark = pytest.mark.any_keras

Check = Callable[[np.ndarray], None]

# Keras's order: window, inputs, outputs. No two sizes are equal.
DENSE, CONVOLUTION = (150, 140), (3, 5, 30, 50)
UNIT = stats.truncnorm(-2, 2).std()


def channels_last(values: np.ndarray) -> np.ndarray:
    """TensorFlow: as in Keras."""
    return values


def outputs_first(values: np.ndarray) -> np.ndarray:
    """timm, MXNet, Chainer: (outputs, inputs, *window)."""
    if values.ndim < 2:
        return values
    return np.moveaxis(values, (-1, -2), (0, 1))


def lasagne_layout(values: np.ndarray) -> np.ndarray:
    """(inputs, units) in dense layers, (filters, channels, *window) in others."""
    return values if values.ndim == 2 else outputs_first(values)


LAYOUTS = {
    "CHAINER": outputs_first,
    "LASAGNE": lasagne_layout,
    "MXNET": outputs_first,
    "TF1": channels_last,
    "TIMM": outputs_first,
}


class Case(NamedTuple):
    table: str
    row: str
    arguments: dict[str, Any]
    check: Check
    shapes: tuple[Shape, ...] = (DENSE, CONVOLUTION)


def follows(formula: Callable[[Shape], Law]) -> Check:
    """The values follow the law that the formula gives for their shape."""

    def check(values: np.ndarray) -> None:
        law = formula(values.shape)
        low, high = law.support()
        # Keras's own samplers round their bounds to float32, ours do not.
        slack = 1e-6 * law.std()
        assert low - slack <= values.min()
        assert values.max() <= high + slack
        check_law(np.clip(values, low, high), law)

    return check


def equals(formula: Callable[[Shape], Any]) -> Check:
    def check(values: np.ndarray) -> None:
        expected = np.broadcast_to(formula(values.shape), values.shape)
        np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-7)

    return check


def cut_at_two(stddev: float, mean: float = 0.0) -> Law:
    """`tf.truncated_normal`: redrawn beyond two deviations of the parent."""
    return stats.truncnorm(-2, 2, mean, stddev)


# --- TensorFlow 1 --------------------------------------------------------------------


def tf_fans(shape: Shape) -> tuple[int, int]:
    window = math.prod(shape[:-2])
    return shape[-2] * window, shape[-1] * window


def tf_scaling(scale: float, mode: str, distribution: str) -> Callable[[Shape], Law]:
    def law(shape: Shape) -> Law:
        fan_in, fan_out = tf_fans(shape)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}
        variance = scale / max(1.0, fan[mode])
        if distribution == "uniform":
            return flat(math.sqrt(3 * variance))
        if distribution == "untruncated_normal":
            return gaussian(math.sqrt(variance))
        return cut_at_two(math.sqrt(variance) / UNIT)

    return law


def contrib(factor: float, mode: str, uniform: bool) -> Callable[[Shape], Law]:
    def law(shape: Shape) -> Law:
        fan_in, fan_out = tf_fans(shape)
        n = {"FAN_IN": fan_in, "FAN_OUT": fan_out, "FAN_AVG": (fan_in + fan_out) / 2}
        if uniform:
            return flat(math.sqrt(3.0 * factor / n[mode]))
        return cut_at_two(math.sqrt(1.3 * factor / n[mode]))

    return law


def orthonormal_rows_or_columns(
    gain: float, matrix: Callable[[np.ndarray], np.ndarray]
) -> Check:
    """`matrix` flattens as that library does; the shorter side is orthonormal."""

    def check(values: np.ndarray) -> None:
        tall = matrix(values)
        tall = tall if tall.shape[0] >= tall.shape[1] else tall.T
        unit = gain**2 * np.eye(tall.shape[1])
        np.testing.assert_allclose(tall.T @ tall, unit, atol=1e-5 * gain**2)

    return check


def by_last_axis(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1, values.shape[-1])


def by_first_axis(values: np.ndarray) -> np.ndarray:
    return values.reshape(values.shape[0], -1)


def delta(gain: float) -> Check:
    """Orthonormal rows at tap (size - 1) // 2 of each axis, zeros elsewhere."""

    def check(values: np.ndarray) -> None:
        centre = tuple((size - 1) // 2 for size in values.shape[:-2])
        tap = values[centre].copy()
        np.testing.assert_allclose(tap @ tap.T, gain**2 * np.eye(len(tap)), atol=1e-5)
        values = values.copy()
        values[centre] = 0
        assert not values.any()

    return check


def isometry(gain: float) -> Check:
    """Every frequency passes with its length times `gain`."""

    def check(values: np.ndarray) -> None:
        axes = tuple(range(values.ndim - 2))
        transfer = np.fft.fftn(values, s=[8] * len(axes), axes=axes)
        transfer = transfer.reshape(-1, *values.shape[-2:])
        gram = transfer @ transfer.conj().transpose(0, 2, 1)
        expected = gain**2 * np.eye(values.shape[-2])
        np.testing.assert_allclose(
            gram, np.broadcast_to(expected, gram.shape), atol=1e-4
        )

    return check


SQUARE = ((7, 7),)


def both_names(name: str, arguments: dict[str, Any], check: Check) -> list[Case]:
    """`tf.NAME_initializer` and `tf.initializers.NAME` are one object."""
    return [
        Case("TF1", f"{name}_initializer", arguments, check),
        Case("TF1", f"initializers.{name}", arguments, check),
    ]


TF1 = [
    *both_names("zeros", {}, equals(lambda s: 0.0)),
    *both_names("ones", {}, equals(lambda s: 1.0)),
    *both_names("constant", {}, equals(lambda s: 0.0)),
    *both_names("constant", {"value": 0.3}, equals(lambda s: 0.3)),
    *both_names("random_uniform", {}, follows(lambda s: stats.uniform(0, 1))),
    *both_names(
        "random_uniform",
        {"minval": -1.0, "maxval": None},
        follows(lambda s: stats.uniform(-1, 2)),
    ),
    *both_names("random_normal", {}, follows(lambda s: gaussian(1.0))),
    *both_names(
        "random_normal",
        {"mean": 2.0, "stddev": 0.5},
        follows(lambda s: stats.norm(2.0, 0.5)),
    ),
    *both_names("truncated_normal", {}, follows(lambda s: cut_at_two(1.0))),
    *both_names(
        "truncated_normal",
        {"mean": 1.0, "stddev": 0.1},
        follows(lambda s: cut_at_two(0.1, 1.0)),
    ),
    *both_names(
        "uniform_unit_scaling",
        {},
        follows(lambda s: flat(math.sqrt(3 / math.prod(s[:-1])))),
    ),
    *both_names(
        "uniform_unit_scaling",
        {"factor": 1.43},
        follows(lambda s: flat(1.43 * math.sqrt(3 / math.prod(s[:-1])))),
    ),
    *both_names(
        "variance_scaling", {}, follows(tf_scaling(1.0, "fan_in", "truncated_normal"))
    ),
    *[
        case
        for mode in ("fan_in", "fan_out", "fan_avg")
        for law in ("normal", "truncated_normal", "untruncated_normal", "uniform")
        for case in both_names(
            "variance_scaling",
            {"scale": 0.7, "mode": mode, "distribution": law},
            follows(tf_scaling(0.7, mode, law)),
        )
    ],
    *both_names("glorot_uniform", {}, follows(tf_scaling(1.0, "fan_avg", "uniform"))),
    *both_names(
        "glorot_normal", {}, follows(tf_scaling(1.0, "fan_avg", "truncated_normal"))
    ),
    *both_names("orthogonal", {}, orthonormal_rows_or_columns(1.0, by_last_axis)),
    *both_names(
        "orthogonal", {"gain": 2.0}, orthonormal_rows_or_columns(2.0, by_last_axis)
    ),
    Case(
        "TF1",
        "initializers.he_normal",
        {},
        follows(tf_scaling(2.0, "fan_in", "truncated_normal")),
    ),
    Case(
        "TF1",
        "initializers.he_uniform",
        {},
        follows(tf_scaling(2.0, "fan_in", "uniform")),
    ),
    Case(
        "TF1",
        "initializers.lecun_normal",
        {},
        follows(tf_scaling(1.0, "fan_in", "truncated_normal")),
    ),
    Case(
        "TF1",
        "initializers.lecun_uniform",
        {},
        follows(tf_scaling(1.0, "fan_in", "uniform")),
    ),
    Case(
        "TF1",
        "initializers.identity",
        {"gain": 3.0},
        equals(lambda s: 3 * np.eye(*s)),
        ((7, 7), (5, 8)),
    ),
    Case(
        "TF1",
        "contrib.framework.convolutional_delta_orthogonal",
        {"gain": 2.0},
        delta(2.0),
        ((3, 4, 6), (4, 3, 4, 6), (3, 2, 3, 4, 6)),
    ),
    *[
        Case(
            "TF1",
            f"contrib.framework.convolutional_orthogonal_{rank}d",
            {"gain": 2.0},
            isometry(2.0),
            ((3,) * rank + (4, 6),),
        )
        for rank in (1, 2, 3)
    ],
    *[
        Case("TF1", f"contrib.layers.{name}", arguments, follows(contrib(1.0, *law)))
        for name in ("xavier_initializer", "xavier_initializer_conv2d")
        for arguments, law in (
            ({}, ("FAN_AVG", True)),
            ({"uniform": False}, ("FAN_AVG", False)),
        )
    ],
    Case(
        "TF1",
        "contrib.layers.variance_scaling_initializer",
        {},
        follows(contrib(2.0, "FAN_IN", False)),
    ),
    *[
        Case(
            "TF1",
            "contrib.layers.variance_scaling_initializer",
            {"factor": 0.5, "mode": mode, "uniform": uniform},
            follows(contrib(0.5, mode, uniform)),
        )
        for mode in ("FAN_IN", "FAN_OUT", "FAN_AVG")
        for uniform in (False, True)
    ],
]


# --- timm, MXNet, Chainer: (outputs, inputs, *window) --------------------------------


def first_fans(shape: Shape) -> tuple[int, int]:
    window = math.prod(shape[2:])
    return shape[1] * window, shape[0] * window


def timm_scaling(scale: float, mode: str, distribution: str) -> Callable[[Shape], Law]:
    def law(shape: Shape) -> Law:
        fan_in, fan_out = first_fans(shape)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}
        variance = scale / fan[mode]
        if distribution == "truncated_normal":
            return stats.truncnorm(-2, 2, 0, math.sqrt(variance) / 0.87962566103423978)
        if distribution == "normal":
            return gaussian(math.sqrt(variance))
        return flat(math.sqrt(3 * variance))

    return law


TIMM = [
    Case("TIMM", "trunc_normal_", {}, follows(lambda s: stats.truncnorm(-2, 2))),
    Case(
        "TIMM",
        "trunc_normal_",
        {"mean": 0.5, "std": 0.5, "a": 0.0, "b": 2.0},
        follows(lambda s: stats.truncnorm(-1, 3, 0.5, 0.5)),
    ),
    Case("TIMM", "trunc_normal_tf_", {}, follows(lambda s: stats.truncnorm(-2, 2))),
    Case(
        "TIMM",
        "trunc_normal_tf_",
        {"mean": 0.5, "std": 0.5, "a": 0.0, "b": 2.0},
        follows(lambda s: stats.truncnorm(0, 2, 0.5, 0.5)),
    ),
    Case(
        "TIMM", "variance_scaling_", {}, follows(timm_scaling(1.0, "fan_in", "normal"))
    ),
    *[
        Case(
            "TIMM",
            "variance_scaling_",
            {"scale": 1.7, "mode": mode, "distribution": law},
            follows(timm_scaling(1.7, mode, law)),
        )
        for mode in ("fan_in", "fan_out", "fan_avg")
        for law in ("truncated_normal", "normal", "uniform")
    ],
    Case(
        "TIMM",
        "lecun_normal_",
        {},
        follows(timm_scaling(1.0, "fan_in", "truncated_normal")),
    ),
]


def mxnet_xavier(kind: str, factor: str, magnitude: float) -> Callable[[Shape], Law]:
    def law(shape: Shape) -> Law:
        fan_in, fan_out = first_fans(shape)
        fan = {"avg": (fan_in + fan_out) / 2.0, "in": fan_in, "out": fan_out}[factor]
        scale = math.sqrt(magnitude / fan)
        return flat(scale) if kind == "uniform" else gaussian(scale)

    return law


def mxnet_bilinear(shape: Shape) -> np.ndarray:
    """(channels, 1, height, width), one group for each channel. Centred for windows
    of size 2 s - s % 2 alone: 1, 4, 5, 8, 9, ..."""
    f = math.ceil(shape[3] / 2)
    c = (2 * f - 1 - f % 2) / (2 * f)
    weights = np.zeros(shape)
    for y in range(shape[2]):
        for x in range(shape[3]):
            weights[..., y, x] = (1 - abs(x / f - c)) * (1 - abs(y / f - c))
    return weights


def grouped_bilinear(values: np.ndarray) -> None:
    """Group c of theirs, with one channel, is here the map from channel c to c."""
    channels = values.shape[0]
    window = values.shape[2:]
    for c in range(channels):
        own = mxnet_bilinear((1, 1, *window))[0, 0]
        for other in range(channels):
            expected = own if other == c else np.zeros(window)
            np.testing.assert_allclose(values[other, c], expected, atol=1e-6)


def lstm_bias(value: float) -> Callable[[Shape], np.ndarray]:
    """The second of four gates, in both libraries."""

    def bias(shape: Shape) -> np.ndarray:
        units = shape[0] // 4
        expected = np.zeros(shape)
        expected[units : 2 * units] = value
        return expected

    return bias


MXNET = [
    Case("MXNET", "Zero", {}, equals(lambda s: 0.0)),
    Case("MXNET", "One", {}, equals(lambda s: 1.0)),
    Case("MXNET", "Constant", {"value": 0.3}, equals(lambda s: 0.3)),
    Case("MXNET", "Uniform", {}, follows(lambda s: flat(0.07))),
    Case("MXNET", "Uniform", {"scale": 2.0}, follows(lambda s: flat(2.0))),
    Case("MXNET", "Normal", {}, follows(lambda s: gaussian(0.01))),
    Case("MXNET", "Normal", {"sigma": 2.0}, follows(lambda s: gaussian(2.0))),
    Case("MXNET", "Xavier", {}, follows(mxnet_xavier("uniform", "avg", 3.0))),
    *[
        Case(
            "MXNET",
            "Xavier",
            {"rnd_type": kind, "factor_type": factor, "magnitude": 2.34},
            follows(mxnet_xavier(kind, factor, 2.34)),
        )
        for kind in ("uniform", "gaussian")
        for factor in ("avg", "in", "out")
    ],
    Case(
        "MXNET",
        "MSRAPrelu",
        {},
        follows(mxnet_xavier("gaussian", "avg", 2 / (1 + 0.25**2))),
    ),
    Case(
        "MXNET",
        "MSRAPrelu",
        {"factor_type": "out", "slope": 0.0},
        follows(mxnet_xavier("gaussian", "out", 2.0)),
    ),
    Case("MXNET", "Orthogonal", {}, orthonormal_rows_or_columns(1.414, by_first_axis)),
    Case(
        "MXNET",
        "Orthogonal",
        {"scale": 3.0, "rand_type": "normal"},
        orthonormal_rows_or_columns(3.0, by_first_axis),
    ),
    Case("MXNET", "Bilinear", {}, grouped_bilinear, ((4, 4, 3, 3), (5, 5, 2, 2))),
    Case("MXNET", "LSTMBias", {}, equals(lstm_bias(1.0)), ((12,),)),
    Case("MXNET", "LSTMBias", {"forget_bias": 2.5}, equals(lstm_bias(2.5)), ((12,),)),
]


def chainer_filter(shape: Shape) -> np.ndarray:
    """(inputs, outputs, *window) of a transposed convolution: linear in each axis."""
    factor = (shape[2] + 1) // 2
    centre = factor - 1.0 if shape[2] % 2 else factor - 0.5
    weights = np.ones(())
    for size in shape[2:]:
        along = 1 - np.abs(np.arange(size) - centre) / factor
        weights = np.multiply.outer(weights, along)
    values = np.zeros(shape)
    values[range(shape[0]), range(shape[0])] = weights
    return values


CHAINER = [
    Case("CHAINER", "Zero", {}, equals(lambda s: 0.0)),
    Case("CHAINER", "One", {}, equals(lambda s: 1.0)),
    Case("CHAINER", "Constant", {"fill_value": 0.3}, equals(lambda s: 0.3)),
    Case("CHAINER", "Identity", {}, equals(lambda s: np.eye(*s)), SQUARE),
    Case(
        "CHAINER", "Identity", {"scale": 2.0}, equals(lambda s: 2 * np.eye(*s)), SQUARE
    ),
    Case("CHAINER", "Uniform", {}, follows(lambda s: flat(0.05))),
    Case("CHAINER", "Normal", {}, follows(lambda s: gaussian(0.05))),
    *[
        Case("CHAINER", row, arguments, follows(law))
        for row, formula in {
            "LeCunUniform": lambda k: lambda s: flat(k * (3 / first_fans(s)[0]) ** 0.5),
            "GlorotUniform": lambda k: (
                lambda s: flat(k * (6 / sum(first_fans(s))) ** 0.5)
            ),
            "HeUniform": lambda k: lambda s: flat(k * (6 / first_fans(s)[0]) ** 0.5),
            "LeCunNormal": lambda k: lambda s: gaussian(k * first_fans(s)[0] ** -0.5),
            "GlorotNormal": lambda k: (
                lambda s: gaussian(k * (2 / sum(first_fans(s))) ** 0.5)
            ),
            "HeNormal": lambda k: lambda s: gaussian(k * (2 / first_fans(s)[0]) ** 0.5),
        }.items()
        for arguments, law in (({}, formula(1.0)), ({"scale": 2.5}, formula(2.5)))
    ],
    Case(
        "CHAINER",
        "HeNormal",
        {"fan_option": "fan_out"},
        follows(lambda s: gaussian((2 / first_fans(s)[1]) ** 0.5)),
    ),
    Case("CHAINER", "Orthogonal", {}, orthonormal_rows_or_columns(1.1, by_first_axis)),
    Case(
        "CHAINER",
        "UpsamplingDeconvFilter",
        {},
        # Symmetric in inputs and outputs, so their order does not matter.
        equals(chainer_filter),
        ((4, 3, 3), (3, 3, 2, 2), (5, 5, 5, 2, 2)),
    ),
]


# --- Lasagne -------------------------------------------------------------------------


def lasagne_he(gain: float) -> Callable[[Shape], float]:
    def deviation(shape: Shape) -> float:
        fan_in = shape[0] if len(shape) == 2 else math.prod(shape[1:])
        return gain * math.sqrt(1.0 / fan_in)

    return deviation


def lasagne_glorot(gain: float) -> Callable[[Shape], float]:
    def deviation(shape: Shape) -> float:
        return gain * math.sqrt(2.0 / (sum(shape[:2]) * math.prod(shape[2:])))

    return deviation


def lasagne_sparse(share: float, stddev: float) -> Check:
    def check(values: np.ndarray) -> None:
        inputs = values.shape[0]
        assert ((values != 0).sum(axis=0) == int(share * inputs)).all()
        rest = values[values != 0]
        check_law(rest, gaussian(stddev))

    return check


def uniform_of(deviation: float) -> Law:
    return flat(math.sqrt(3) * deviation)


LASAGNE = [
    Case("LASAGNE", "Constant", {}, equals(lambda s: 0.0)),
    Case("LASAGNE", "Constant", {"val": 0.3}, equals(lambda s: 0.3)),
    Case("LASAGNE", "Normal", {}, follows(lambda s: gaussian(0.01))),
    Case(
        "LASAGNE",
        "Normal",
        {"std": 0.2, "mean": 1.0},
        follows(lambda s: stats.norm(1.0, 0.2)),
    ),
    Case("LASAGNE", "Uniform", {}, follows(lambda s: flat(0.01))),
    Case(
        "LASAGNE",
        "Uniform",
        {"range": (-1.0, 3.0)},
        follows(lambda s: stats.uniform(-1, 4)),
    ),
    Case(
        "LASAGNE",
        "Uniform",
        {"std": 0.5, "mean": 2.0},
        follows(lambda s: stats.uniform(2 - 3**0.5 / 2, 3**0.5)),
    ),
    *[
        Case("LASAGNE", row, arguments, follows(law))
        for gain, arguments in (
            (1.0, {}),
            (2**0.5, {"gain": "relu"}),
            (3.0, {"gain": 3.0}),
        )
        for row, law in (
            ("GlorotNormal", lambda s, k=gain: gaussian(lasagne_glorot(k)(s))),
            ("GlorotUniform", lambda s, k=gain: uniform_of(lasagne_glorot(k)(s))),
            ("HeNormal", lambda s, k=gain: gaussian(lasagne_he(k)(s))),
            ("HeUniform", lambda s, k=gain: uniform_of(lasagne_he(k)(s))),
        )
    ],
    Case("LASAGNE", "Orthogonal", {}, orthonormal_rows_or_columns(1.0, by_first_axis)),
    Case(
        "LASAGNE",
        "Orthogonal",
        {"gain": "relu"},
        orthonormal_rows_or_columns(2**0.5, by_first_axis),
    ),
    Case("LASAGNE", "Sparse", {}, lasagne_sparse(0.1, 0.01), ((300, 500),)),
    Case(
        "LASAGNE",
        "Sparse",
        {"sparsity": 0.7, "std": 2.0},
        lasagne_sparse(0.7, 2.0),
        ((150, 140),),
    ),
]

CASES = [*TF1, *TIMM, *MXNET, *CHAINER, *LASAGNE]


def name_of(case: Case) -> str:
    arguments = ",".join(f"{k}={v}" for k, v in case.arguments.items())
    return f"{case.table}-{case.row}({arguments})"


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_the_row_draws_what_the_library_draws(case: Case) -> None:
    for shape in case.shapes:
        initializer = getattr(porting, case.table)[case.row](**case.arguments)
        case.check(LAYOUTS[case.table](to_numpy(initializer(shape))))


@pytest.mark.parametrize("table", sorted(LAYOUTS))
def test_every_row_has_a_formula(table: str) -> None:
    assert set(getattr(porting, table)) == {
        case.row for case in CASES if case.table == table
    }


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's own")
@pytest.mark.parametrize(
    "case", [c for c in TF1 if not c.row.startswith("contrib")], ids=name_of
)
def test_tensorflow_draws_what_its_formula_says(case: Case) -> None:
    """The same check for `tf.compat.v1` itself: it holds the formulas above down."""
    import tensorflow as tf

    initializer: Any = tf.compat.v1
    for part in case.row.split("."):
        initializer = getattr(initializer, part)
    tf.random.set_seed(3)
    for shape in case.shapes:
        case.check(to_numpy(initializer(**case.arguments)(shape, dtype=tf.float32)))
