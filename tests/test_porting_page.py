"""The page on initializers: what it says other libraries have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import pytest
from laws import RECORDS, Record, check_law, fan_avg, fan_in, flat, gaussian, to_numpy

import keras_inits.initializers as inits
from keras_inits import porting
from keras_inits.verbs.portable import to_builtin

pytestmark = pytest.mark.any_keras

PAGE = Path(__file__).parents[1] / "docs" / "initializers.md"
COLUMNS = {
    **{"Keras": "Keras", "TF1": "TF 1", "TORCH": "PyTorch", "JAX": "JAX, Flax"},
    **{"TIMM": "timm", "LASAGNE": "Lasagne", "CHAINER": "Chainer", "MXNET": "MXNet"},
}
SHAPES = [(143, 141), (3, 3, 40, 60)]  # kernels: vectors are apart


def said(initializer: Any, table: str) -> str:
    """The cell of a class; `Siren` has a row for the first layer and one for others."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith("| ")
    ]
    head = next(row for row in rows if row[0] == "here")
    first = getattr(initializer, "first", None)
    noted = {None: "", True: "(first layer)", False: "(other layers)"}[first]
    name = f"`{type(initializer).__name__}`"
    [row] = [r for r in rows if name in r[0] and noted in r[0] and len(r) == len(head)]
    return row[head.index(COLUMNS[table])]


def follows(initializer: Any, record: Record) -> bool:
    assert record.law is not None
    try:
        for shape in SHAPES:
            check_law(to_numpy(initializer(shape)), record.law(shape))
    except AssertionError:
        return False
    return True


SWAPPED = [
    record
    for record in RECORDS
    if isinstance(to_builtin(record.build()), keras.initializers.VarianceScaling)
    or record.cls is inits.DepthScaledNormal
]


@pytest.mark.parametrize("record", SWAPPED, ids=lambda record: record.name)
def test_keras_has_a_law_where_portable_swaps_it_for_the_same(record: Record) -> None:
    initializer = record.build(seed=0)
    if getattr(initializer, "mode", None) == "fan_geo_avg":
        pytest.skip("a mean that Keras does not have")
    same = follows(to_builtin(initializer), record)
    assert same == (said(initializer, "Keras") != "no")


# By the classes that no library has by name: the arguments that make them there.
OMEGA, FACTOR, GAIN = 30.0, 1.3, 0.5
UNIFORM, PLAIN = 2 / OMEGA**2, GAIN**2
SIREN = {
    "TF1": ("variance_scaling_initializer", (UNIFORM, "fan_in", "uniform")),
    "TORCH": ("kaiming_uniform_", ((OMEGA**2 - 1) ** 0.5,)),
    "JAX": ("variance_scaling", (UNIFORM, "fan_in", "uniform")),
    "TIMM": ("variance_scaling_", (UNIFORM, "fan_in", "uniform")),
    "LASAGNE": ("HeUniform", (UNIFORM**0.5,)),
    "CHAINER": ("LeCunUniform", (UNIFORM**0.5,)),
    "MXNET": ("Xavier", ("uniform", "in", 3 * UNIFORM)),
}
UNIT_SCALING = {
    "TF1": ("uniform_unit_scaling_initializer", (FACTOR,)),
    "TORCH": ("kaiming_uniform_", ((2 / FACTOR**2 - 1) ** 0.5,)),
    "JAX": ("variance_scaling", (FACTOR**2, "fan_in", "uniform")),
    "TIMM": ("variance_scaling_", (FACTOR**2, "fan_in", "uniform")),
    "LASAGNE": ("HeUniform", (FACTOR,)),
    "CHAINER": ("LeCunUniform", (FACTOR,)),
    "MXNET": ("Xavier", ("uniform", "in", 3 * FACTOR**2)),
}
DEEP_NORM = {
    "TF1": ("variance_scaling_initializer", (PLAIN, "fan_avg", "untruncated_normal")),
    "TORCH": ("xavier_normal_", (GAIN,)),
    "JAX": ("variance_scaling", (PLAIN, "fan_avg", "normal")),
    "TIMM": ("variance_scaling_", (PLAIN, "fan_avg", "normal")),
    "LASAGNE": ("GlorotNormal", (GAIN,)),
    "CHAINER": ("GlorotNormal", (GAIN,)),
    "MXNET": ("Xavier", ("gaussian", "avg", PLAIN)),
}


@pytest.mark.parametrize("table", sorted(SIREN))
@pytest.mark.parametrize(
    ("record", "made"),
    [
        (Record(inits.Siren, {}, lambda s: flat((6 / fan_in(s)) ** 0.5 / 30)), SIREN),
        (
            Record(
                inits.UniformUnitScaling,
                {"factor": FACTOR},
                lambda s: flat(FACTOR * (3 / fan_in(s)) ** 0.5),
            ),
            UNIT_SCALING,
        ),
        (
            Record(
                inits.DeepNorm,
                {"layers": 2},
                lambda s: gaussian(GAIN * fan_avg(s) ** -0.5),
            ),
            DEEP_NORM,
        ),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_page_says_how_another_library_makes_it(
    record: Record, made: dict[str, tuple[str, tuple[Any, ...]]], table: str
) -> None:
    name, arguments = made[table]
    assert follows(getattr(porting, table)[name](*arguments), record)
    assert said(record.build(), table) != "no"
