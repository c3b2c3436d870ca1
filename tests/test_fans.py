"""Fans against counting, and against what Keras itself computes."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_inits.fans import Fans, compute_fans


@pytest.mark.parametrize(
    ("shape", "fans"),
    [
        ((), (1, 1)),
        ((5,), (5, 5)),
        ((3, 4), (3, 4)),
        ((7, 3, 4), (21, 28)),
        ((3, 5, 8, 16), (120, 240)),
        ((2, 3, 4, 5, 6), (120, 144)),
        ((0, 4), (0, 4)),
    ],
)
def test_convention_of_keras(shape: tuple[int, ...], fans: tuple[int, int]) -> None:
    assert fans == compute_fans(shape)


def test_convolution_counts_the_products_of_one_output() -> None:
    """Ones everywhere: an inner output of a convolution is its fan_in."""
    layer = keras.layers.Conv2D(6, 3, groups=2, kernel_initializer="ones")
    outputs = keras.ops.convert_to_numpy(layer(np.ones((1, 5, 5, 4), "float32")))
    fans = compute_fans(layer.kernel.shape, groups=2)
    assert fans.fan_in == outputs.max()
    assert fans.fan_out == 9 * 6 // 2


def test_axes_alone_count() -> None:
    assert Fans(64, 128) == compute_fans(
        (64, 8, 16), input_axes=[0], output_axes=[1, 2]
    )
    assert Fans(9, 2) == compute_fans(
        (3, 3, 64, 2), input_axes=[0, 1], output_axes=[-1]
    )


def test_sizes_are_python_integers() -> None:
    sizes: Any = np.array([3, 4])
    for arguments in (
        {},
        {"groups": np.int64(2)},
        {"input_axes": np.array([0]), "output_axes": (np.int32(-1),)},
    ):
        fans = compute_fans(sizes, **arguments)
        assert [int, int] == [type(fan) for fan in fans]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": 0}, "`groups` must be a positive integer.*groups=0"),
        ({"groups": "2"}, "`groups` must be a positive integer.*groups='2'"),
        ({"groups": None}, "`groups` must be a positive integer.*groups=None"),
        ({"groups": 2.0}, r"`groups` must be a positive integer.*groups=2\.0"),
        ({"groups": 3}, r"`groups` must divide.*groups=3 for shape=\(3, 4\)"),
        ({"input_axes": [0]}, "given together.*output_axes=None"),
        ({"input_axes": [0], "output_axes": [2]}, "rank 2 must lie between -2 and 1"),
        ({"input_axes": [0], "output_axes": [-2]}, "each at most once"),
        ({"input_axes": [0], "output_axes": [0]}, "each axis at most once"),
        *[
            ({"input_axes": axes, "output_axes": [1]}, "`input_axes` must be a list")
            for axes in (0, [0.0], ["0"], [None], "0")
        ],
        ({"input_axes": [1], "output_axes": 0}, "`output_axes` must be a list.*=0"),
    ],
)
def test_refusals(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compute_fans((3, 4), **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [3, None, "ab", (None, 3), (2.5, 3), (-1, 3)])
def test_what_is_no_shape_is_refused(shape: object) -> None:
    with pytest.raises(ValueError, match=r"`shape` is a sequence of sizes.*Received"):
        compute_fans(shape)  # type: ignore[arg-type]
