"""What is packed into few arrays comes out as it was."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from keras_inits.passes.packing import SMALL, Form, Packed, Packing, Stays

LARGE = (SMALL + 1,)


@pytest.mark.parametrize(
    ("shapes", "arrays"),
    [
        ([], 0),
        ([()], 1),
        ([(2, 3), (), (0, 4), (3,)], 1),
        ([LARGE], 1),
        ([(2,), LARGE, (2, SMALL), (), LARGE], 3),
    ],
)
def test_as_it_was(shapes: list[tuple[int, ...]], arrays: int) -> None:
    rng = np.random.default_rng(0)
    tensors = [rng.standard_normal(shape).astype("float32") for shape in shapes]
    packing = Packing(tensors)
    few = packing.pack([ops.convert_to_tensor(x) for x in tensors])
    assert len(few) == arrays
    found = packing.unpack([ops.convert_to_numpy(x) for x in few])
    assert len(found) == len(tensors)
    for a, b in zip(found, tensors, strict=True):
        np.testing.assert_array_equal(a, b)


def test_in_the_widest_dtype() -> None:
    tensors = [
        ops.convert_to_tensor(x)
        for x in (np.array(True), np.array([1, 2], "int32"), np.array(0.5, "float16"))
    ]
    packing = Packing(tensors)
    found = packing.unpack(map(ops.convert_to_numpy, packing.pack(tensors)))
    single, pair, half = found
    assert (single, pair.tolist(), half) == (1.0, [1.0, 2.0], 0.5)
    assert isinstance(single, float) and pair.dtype.name == "float32"


def test_results_that_stay_come_last_and_return_to_their_places() -> None:
    one, two, three = (ops.full((2,), float(n)) for n in (1, 2, 3))
    results = [(Stays(one), None), two, [0.5, Stays(three)]]
    form = Form(results)
    assert form.staying == 2
    found = [float(x[0]) for x in form.tensors(results)]
    assert found == [2.0, 1.0, 3.0]
    assert form.of(["two", "one", "three"]) == [("one", None), "two", [0.5, "three"]]
    assert form.of(["two"]) == [(None, None), "two", [0.5, None]]  # not made


def test_a_program_unpacks_all_but_those() -> None:
    packing = Packing([np.zeros(()), np.zeros(2)])
    stay = object()
    run = Packed(lambda x: [np.array([x, 1.0, 2.0]), stay], packing, staying=1)
    single, pair, last = run((7.0,))()
    assert (float(single), pair.tolist()) == (7.0, [1.0, 2.0])
    assert last is stay
