"""How many inputs and outputs a kernel connects."""

import math
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple


class Fans(NamedTuple):
    """Connections of a kernel: integers where a shape says them. Outputs of a strided
    transposed convolution see a part of its window, which may be no whole number.

    Args:
        fan_in: products that are summed into one output.
        fan_out: products that one input takes part in.
    """

    fan_in: float
    fan_out: float


def compute_fans(
    shape: Sequence[int],
    *,
    input_axes: Sequence[int] | None = None,
    output_axes: Sequence[int] | None = None,
    groups: int = 1,
) -> Fans:
    """Counts the inputs and outputs that a kernel of this shape connects.

    Keras's convention: the kernel is `(..., inputs, outputs)`, and the axes before
    these two are the window of a convolution, with `window` positions:

        fan_in = window * inputs,    fan_out = window * outputs / groups

    Where axes are given they alone count (`EinsumDense`, attention, depthwise).
    A vector counts its length in both directions, a scalar 1.

    Examples:

    >>> compute_fans((3, 3, 16, 32))
    Fans(fan_in=144, fan_out=288)
    >>> compute_fans((64, 8, 16), input_axes=[0], output_axes=[1, 2])
    Fans(fan_in=64, fan_out=128)

    Args:
        shape: shape of the kernel.
        input_axes: axes that are summed over. Negative ones count from the end.
        output_axes: axes that remain. To be given together with `input_axes`.
        groups: groups of a grouped convolution, whose kernel already holds
            `inputs / groups` on its input axis.

    Raises:
        ValueError: if `shape` is not one of a kernel, only one of the two lists of axes
            is given, an axis is no integer, does not exist or appears twice, or
            `groups` is no positive integer or does not divide the outputs.

    Returns:
        `Fans(fan_in, fan_out)`, two Python integers.
    """
    sizes = _sizes(shape)
    groups = _check_groups(groups)
    input_axes, output_axes = check_axes(input_axes, output_axes)
    if input_axes is not None and output_axes is not None:
        find_axes(len(sizes), input_axes, output_axes)
        fan_in = math.prod(sizes[axis] for axis in input_axes)
        fan_out = math.prod(sizes[axis] for axis in output_axes)
    elif len(sizes) < 2:
        fan_in = fan_out = math.prod(sizes)
    else:
        window = math.prod(sizes[:-2])
        fan_in, fan_out = window * sizes[-2], window * sizes[-1]
    if fan_out % groups:
        raise ValueError(
            "`groups` must divide the number of outputs. "
            f"Received: groups={groups} for shape={sizes}"
        )
    return Fans(fan_in, fan_out // groups)


def _sizes(shape: Sequence[int]) -> tuple[int, ...]:
    try:
        sizes = tuple(map(operator.index, shape))
    except TypeError:
        sizes = (-1,)
    if min(sizes, default=0) < 0:
        raise ValueError(
            "`shape` is a sequence of sizes: integers, none of them negative. "
            f"Received: shape={shape!r}"
        )
    return sizes


def _check_groups(groups: Any) -> int:
    try:
        number = operator.index(groups)
    except TypeError:
        number = 0
    if number < 1:
        raise ValueError(
            f"`groups` must be a positive integer. Received: groups={groups!r}"
        )
    return number


def check_axes(
    input_axes: Any, output_axes: Any
) -> tuple[list[int] | None, list[int] | None]:
    """Both as lists of integers, or neither; no axis twice, whatever the rank."""
    inputs = _check_list("input_axes", input_axes)
    outputs = _check_list("output_axes", output_axes)
    if (inputs is None) != (outputs is None):
        raise ValueError(
            "`input_axes` and `output_axes` must be given together. "
            f"Received: input_axes={inputs}, output_axes={outputs}"
        )
    listed = [*(inputs or []), *(outputs or [])]
    if len(set(listed)) < len(listed):
        raise ValueError(
            "`input_axes` and `output_axes` must hold each axis at most once. "
            f"Received: input_axes={inputs}, output_axes={outputs}"
        )
    return inputs, outputs


def _check_list(name: str, axes: Any) -> list[int] | None:
    if axes is None:
        return None
    try:
        return [operator.index(axis) for axis in axes]
    except TypeError:
        raise ValueError(
            f"`{name}` must be a list of integers. Received: {name}={axes!r}"
        ) from None


def find_axes(
    rank: int, input_axes: Sequence[int], output_axes: Sequence[int]
) -> tuple[list[int], list[int], list[int]]:
    """Splits the axes `0 .. rank - 1` into (inputs, outputs, all others)."""
    listed = [*input_axes, *output_axes]
    positive = [axis + rank if axis < 0 else axis for axis in listed]
    if len(set(positive)) < len(positive) or not set(positive) <= set(range(rank)):
        raise ValueError(
            f"Axes of a kernel of rank {rank} must lie between {-rank} and "
            f"{rank - 1}, each at most once. Received: "
            f"input_axes={list(input_axes)}, output_axes={list(output_axes)}"
        )
    inputs, outputs = positive[: len(input_axes)], positive[len(input_axes) :]
    others = [axis for axis in range(rank) if axis not in positive]
    return inputs, outputs, others
