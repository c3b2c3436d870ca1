"""Bad arguments are refused, at construction where they can be known there."""

from __future__ import annotations

import inspect
import re
from typing import Any

import numpy as np
import pytest
from laws import RECORDS, Record

import keras_inits.initializers as inits

NUMBERS: tuple[Any, ...] = (float("nan"), float("inf"), "a", None, [1.0], 1j)
BEYOND_FLOATS = 10**400
NOT_POSITIVE = (-1.0, 0, BEYOND_FLOATS, *NUMBERS)
NO_COUNT = (-1, 0, 2.5, *NUMBERS)
NO_FLAG = ("False", None, 2, -1.0, [True])
UNKNOWN = ("fan", "", None, 3, np.array([1, 2]))
AXES = ("a", 1, [0.5], ["0"], [None])

# What no class takes, by the name of the argument.
REFUSED: dict[str, tuple[Any, ...]] = {
    "distribution": UNKNOWN,
    "factor": NOT_POSITIVE,
    "first": NO_FLAG,
    "gain": NOT_POSITIVE,
    "groups": NO_COUNT,
    "input_axes": AXES,
    "layers": NO_COUNT,
    "lower": (BEYOND_FLOATS, -BEYOND_FLOATS, *NUMBERS, 2.0, 3.5),
    "mean": (BEYOND_FLOATS, *NUMBERS),
    "mirrored_input": NO_FLAG,
    "mirrored_output": NO_FLAG,
    "mode": (*UNKNOWN, "FAN_SUM"),
    "negative_slope": NUMBERS,
    "nonlinearity": (*UNKNOWN, "gelu"),
    "omega": NOT_POSITIVE,
    "output_axes": AXES,
    "per": (*UNKNOWN, "inputs"),
    "prior": (-0.1, 0.0, 1.0, 2, [], [0.5, 1.5], ["a"], *NUMBERS),
    "scale": NOT_POSITIVE,
    "seed": ("a", 0.5, [1], 1j),
    "sparsity": (-0.1, 1.1, *NUMBERS),
    "stddev": NOT_POSITIVE,
    "uniform": NO_FLAG,
    "upper": (*NUMBERS, -2.0, -3.5),
    "value": NUMBERS,
}


@pytest.mark.parametrize("name", inits.__all__)
def test_every_argument_refuses_what_it_cannot_be(name: str) -> None:
    """At construction, and the message says what was received."""
    cls = getattr(inits, name)
    for argument in inspect.signature(cls).parameters:
        for value in REFUSED[argument]:
            config = {argument: value}
            if argument.endswith("_axes"):
                config = {"input_axes": [0], "output_axes": [1], argument: value}
            received = rf"Received: .*{argument}={re.escape(repr(value))}"
            with pytest.raises(ValueError, match=received):
                cls(**config)


@pytest.mark.parametrize(
    ("name", "least"),
    [
        *[(name, 2) for name in ("Dirac", "ZerO", "SparseNormal")],
        ("Bilinear", 3),
        *[(name, 2) for name in ("ConvolutionOrthogonal", "DeltaOrthogonal")],
        *[(name, 2) for name in ("LSUVNormal", "LooksLinear", "Orthogonal")],
        ("ForgetGateBias", 1),
    ],
)
def test_structured_laws_refuse_shapes_of_wrong_rank(name: str, least: int) -> None:
    for rank in range(least):
        shape = (4,) * rank
        with pytest.raises(
            ValueError, match=rf"Received: shape={re.escape(str(shape))}"
        ):
            getattr(inits, name)()(shape)
    getattr(inits, name)()((4,) * least)


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("TruncatedNormal", {"stddev": -1.0}, r"`stddev` must be a positive .*-1\.0"),
        ("TruncatedNormal", {"stddev": 0.0}, r"`stddev` must be a positive"),
        ("TruncatedNormal", {"mean": float("nan")}, r"`mean` must be a finite"),
        ("TruncatedNormal", {"lower": 2.0}, r"`lower` must be below .*lower=2\.0"),
        ("TruncatedNormal", {"lower": 7.0, "upper": 8.0}, r"hold 1\.3e-12 of it"),
        ("TruncatedNormal", {"seed": "a"}, r"`seed` must be None.*seed='a'"),
        ("TruncatedNormal", {"seed": 1.5}, r"`seed` must be None.*seed=1\.5"),
        ("GlorotNormal", {"gain": -1.0}, r"`gain` must be a positive .*gain=-1\.0"),
        ("HeNormal", {"seed": 0.5}, r"`seed` must be None"),
        ("VarianceScaling", {"scale": 0.0}, r"`scale` must be a positive"),
        ("VarianceScaling", {"mode": "fan"}, r"one of \['fan_avg', .*mode='fan'"),
        ("VarianceScaling", {"distribution": "gauss"}, r"`distribution` must be one"),
        ("KaimingNormal", {"mode": "fan_avg"}, r"one of \['fan_in', 'fan_out'\]"),
        ("KaimingUniform", {"nonlinearity": "gelu"}, r"one of \['leaky_relu'"),
        ("ContribVarianceScaling", {"mode": "fan_in"}, r"one of \['FAN_AVG'"),
        ("ContribVarianceScaling", {"factor": -2.0}, r"`factor` must be a positive"),
        ("UniformUnitScaling", {"factor": 0.0}, r"`factor` must be a positive"),
        ("LSUVNormal", {"gain": 0.0}, r"`gain` must be a positive"),
        ("LooksLinear", {"negative_slope": -1.0}, r"no pair of units"),
        ("BoundedNormal", {"lower": 3.0}, r"`lower` must be below"),
        ("BoundedNormal", {"stddev": 0.1, "lower": 1.0}, r"lower=1\.0.*deviation 0\.1"),
        ("Dirac", {"groups": 0}, r"`groups` must be a positive .*groups=0"),
        ("ZerO", {"gain": 0.0}, r"`gain` must be a positive"),
        ("SparseNormal", {"sparsity": 1.5}, r"`sparsity` must lie in .*1\.5"),
        ("SparseNormal", {"stddev": 0.0}, r"`stddev` must be a positive"),
        ("DepthScaledNormal", {"layers": 0}, r"`layers` must be a positive"),
        ("DeepNorm", {"layers": -1}, r"`layers` must be a positive"),
        ("Siren", {"omega": 0.0}, r"`omega` must be a positive"),
        ("ForgetGateBias", {"value": float("inf")}, r"`value` must be a finite"),
        ("LogOddsBias", {"prior": 1.0}, r"both excluded.*prior=1\.0"),
        ("LogOddsBias", {"prior": [0.5, 0.0]}, r"both excluded"),
        ("HeNormal", {"input_axes": [0]}, r"must be given together.*output_axes=None"),
        (
            "HeNormal",
            {"input_axes": [0], "output_axes": [1, 0]},
            r"each axis at most once.*input_axes=\[0\], output_axes=\[1, 0\]",
        ),
        ("HeNormal", {"gain": 1e200}, r"`gain` .* its square.*gain=1e\+200"),
        ("HeNormal", {"gain": 1e-200}, r"`gain` .* its square.*gain=1e-200"),
        ("XavierUniform", {"gain": 1e200}, r"`gain` .* its square.*gain=1e\+200"),
        (
            "KaimingNormal",
            {"nonlinearity": "leaky_relu", "negative_slope": 1e200},
            r"`negative_slope` .* its square.*negative_slope=1e\+200",
        ),
        (
            "KaimingUniform",
            {"nonlinearity": "leaky_relu", "negative_slope": -(10**200)},
            r"`negative_slope` .* its square.*negative_slope=-10000",
        ),
    ],
)
def test_refused_at_construction(name: str, config: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(inits, name)(**config)


@pytest.mark.parametrize(
    "name",
    [
        *("DeltaOrthogonal", "LSUVNormal", "LooksLinear"),
        *("Dirac", "ZerO", "SparseNormal"),
    ],
)
def test_vectors_are_no_linear_map(name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"`{name}`.*input and an output axis.*shape=\(4,\)"
    ):
        getattr(inits, name)()((4,))


@pytest.mark.parametrize(
    ("initializer", "shape", "message"),
    [
        (inits.Dirac(groups=3), (3, 2, 4), r"must divide.*groups=3 for 4 outputs"),
        (inits.Bilinear(), (4, 4), r"`Bilinear` needs a kernel of at least 3 axes"),
        (inits.ForgetGateBias(), (6,), r"multiple of 4.*unit_forget_bias=False"),
        (inits.ForgetGateBias(), (6,), r"other layers have no forget gate"),
        (inits.ForgetGateBias(), (3, 3, 6, 1), r"This is no bias: give it to an LSTM"),
        (inits.LogOddsBias([0.1, 0.2]), (3,), r"2 probabilities for shape=\(3,\)"),
        (inits.ConvolutionOrthogonal(), (3, 5, 4), r"inputs=5, outputs=4"),
    ],
)
def test_refused_at_first_use(initializer: Any, shape: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        initializer(shape)


@pytest.mark.parametrize("side", ["input", "output"])
def test_a_single_unit_cannot_be_mirrored(side: str) -> None:
    shape = (1, 4) if side == "input" else (4, 1)
    with pytest.raises(ValueError, match=f"mirrored_{side}=False"):
        inits.LooksLinear()(shape)
    inits.LooksLinear(**{f"mirrored_{side}": False})(shape)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_dtype_must_be_floating(record: Record) -> None:
    with pytest.raises(ValueError, match=r"`dtype` must be a floating.*'int32'"):
        record.build()((4, 4), dtype="int32")


def test_shape_must_be_known() -> None:
    with pytest.raises(ValueError, match=r"all of them known.*\(None, 3\)"):
        inits.HeNormal()((None, 3))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"non-negative.*shape=\(-1, 3\)"):
        inits.HeNormal()((-1, 3))
    with pytest.raises(ValueError, match=r"non-negative.*shape=None"):
        inits.HeNormal()(None)  # type: ignore[arg-type]


def test_axes_must_exist() -> None:
    with pytest.raises(ValueError, match=r"rank 2 must lie between -2 and 1"):
        inits.HeNormal(input_axes=[2], output_axes=[0])((3, 3))


def test_bounds_that_no_number_meets() -> None:
    narrow = inits.TruncatedNormal(mean=1.0, stddev=1e-5, lower=0.5, upper=1.0)
    with pytest.raises(ValueError, match=r"No bfloat16 number .* wider dtype"):
        narrow((3, 3), dtype="bfloat16")
