"""What all initializers share: seeds, dtypes, axes and config.

**Seeds.** `seed=None` draws independent values on every call, even when one
instance serves many layers, and is reproducible under
`keras.utils.set_random_seed`. An integer gives the same values on every call with
the same shape. A `keras.random.SeedGenerator` gives the next values of its stream.

**Dtypes.** Values are sampled in float32, or float64 where that is asked for, and
then cast, so that float16 and bfloat16 follow the same law.
"""

import copy
import math
import numbers
import random
from collections.abc import Iterable, Sequence
from typing import Any, Self, TypeAlias

import keras
import numpy as np

from keras_inits.fans import Fans, check_axes, compute_fans, find_axes

Seed: TypeAlias = int | keras.random.SeedGenerator | None
Tensor: TypeAlias = Any  # of whichever backend Keras runs on

_DTYPES = ("bfloat16", "float16", "float32", "float64")


class Seeds:
    """The seeds of one call: as many independent streams as the law needs."""

    def __init__(self, seed: Seed) -> None:
        self._seed = seed
        # Python's own generator, as Keras does at construction:
        # `keras.utils.set_random_seed` rules it, and no tracer can see it.
        self._numbers = _numbers(seed) if isinstance(seed, int) else random
        # Those that every backend takes are Keras's own streams; of longer ones, and
        # of negative ones, every digit counts in Python's.
        self._first = isinstance(seed, int) and 0 <= seed < 2**31

    def next(self) -> int | keras.random.SeedGenerator:
        if isinstance(self._seed, keras.random.SeedGenerator):
            return self._seed
        if self._first and isinstance(self._seed, int):
            self._first = False
            return self._seed
        return self._numbers.getrandbits(31)


def reduced(seed: Seed) -> Seed:
    """A seed that every backend takes: the first that a call with `seed` draws from."""
    return Seeds(seed).next() if isinstance(seed, int) else seed


def _numbers(seed: int) -> random.Random:
    """Python's generator drops the sign of an integer, but not of a string."""
    return random.Random(seed if seed >= 0 else str(seed))


class Initializer(keras.initializers.Initializer):
    """Root of the package: `_draw` is the law, everything else is done here.

    Args:
        seed: see the top of this module.
    """

    def __init__(self, seed: Seed | dict[str, Any] = None) -> None:
        self.seed = check_seed(seed)

    def __call__(self, shape: Sequence[int], dtype: str | None = None) -> Tensor:
        sizes = _check_shape(shape)
        return self._draw(sizes, _check_dtype(dtype), Seeds(self.seed))

    def _draw(self, shape: tuple[int, ...], dtype: str, seeds: Seeds) -> Tensor:
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        return {"seed": keras.saving.serialize_keras_object(self.seed)}

    def __repr__(self) -> str:
        config = self.get_config().items()
        shown = ", ".join(f"{k}={v!r}" for k, v in config if v is not None)
        return f"{type(self).__name__}({shown})"


class FanInitializer(Initializer, keras.initializers.VarianceScaling):
    """Root of the laws that depend on the fans of the kernel, or on its axes.

    A `VarianceScaling` in Keras's eyes: `EinsumDense` and attention tell their axes
    only to those. The parent's constructor is not called: it fixes a seed, and
    knows axes only since Keras 3.15.

    Args:
        seed: see the top of this module.
        input_axes, output_axes: axes of the kernel that are inputs and outputs;
            `None` means Keras's convention `(..., inputs, outputs)`.
    """

    def __init__(
        self,
        seed: Seed | dict[str, Any] = None,
        input_axes: Sequence[int] | None = None,
        output_axes: Sequence[int] | None = None,
    ) -> None:
        Initializer.__init__(self, seed)
        self.input_axes, self.output_axes = check_axes(input_axes, output_axes)

    _given: Fans | None = None

    def with_fans(self, fans: Fans) -> Self:
        """A copy for a kernel whose shape does not tell its fans."""
        new = copy.copy(self)
        new._given = fans
        return new

    def _fans(self, shape: tuple[int, ...]) -> Fans:
        if self._given is not None:
            return self._given
        return compute_fans(
            shape, input_axes=self.input_axes, output_axes=self.output_axes
        )

    def _split_axes(
        self, shape: tuple[int, ...]
    ) -> tuple[list[int], list[int], list[int]]:
        """Axes of (inputs, outputs, the rest); by convention all but the last are
        inputs. A scalar or a vector is refused: neither is a linear map."""
        rank = len(shape)
        if self.input_axes is not None and self.output_axes is not None:
            return find_axes(rank, self.input_axes, self.output_axes)
        if rank < 2:
            raise ValueError(
                f"`{type(self).__name__}` draws kernels, which have an input and an "
                f"output axis at least. Received: shape={shape}. Use another "
                "initializer for vectors."
            )
        return list(range(rank - 1)), [rank - 1], []

    def _split_window(
        self, shape: tuple[int, ...]
    ) -> tuple[list[int], list[int], list[int]]:
        """Axes of (inputs, outputs, window); by convention the window comes first."""
        inputs, outputs, others = self._split_axes(shape)
        if self.input_axes is None:
            return inputs[-1:], outputs, inputs[:-1]
        return inputs, outputs, others

    def get_config(self) -> dict[str, Any]:
        return {
            **Initializer.get_config(self),
            "input_axes": self.input_axes,
            "output_axes": self.output_axes,
        }


def as_kernel(
    values: Tensor,
    shape: tuple[int, ...],
    inputs: list[int],
    outputs: list[int],
    others: list[int],
) -> Tensor:
    """`(others, inputs, outputs)`, each flattened or not, in the kernel's own order."""
    order = [*others, *inputs, *outputs]
    kernel = keras.ops.reshape(values, [shape[axis] for axis in order])
    if order == sorted(order):
        return kernel
    return keras.ops.transpose(kernel, [order.index(i) for i in sorted(order)])


def positive(**arguments: float) -> None:
    """Refuses arguments that are not positive finite numbers."""
    for name, value in arguments.items():
        if not (_is_number(value) and value > 0):
            raise ValueError(
                f"`{name}` must be a positive number. Received: {name}={value!r}"
            )


def finite(**arguments: float) -> None:
    """Refuses arguments that are not finite numbers."""
    for name, value in arguments.items():
        if not _is_number(value):
            raise ValueError(
                f"`{name}` must be a finite number. Received: {name}={value!r}"
            )


def counts(**arguments: int) -> None:
    """Refuses arguments that are not positive integers."""
    for name, value in arguments.items():
        if not (isinstance(value, int | np.integer) and value > 0):
            raise ValueError(
                f"`{name}` must be a positive integer. Received: {name}={value!r}"
            )


def flags(**arguments: bool) -> None:
    """Refuses arguments that are neither true nor false: strings are always true."""
    for name, value in arguments.items():
        if not (isinstance(value, bool | int | np.bool_) and value in (0, 1)):
            raise ValueError(
                f"`{name}` must be True or False. Received: {name}={value!r}"
            )


def one_of(allowed: Sequence[str], **arguments: str) -> None:
    """Refuses arguments that are not among the allowed strings."""
    for name, value in arguments.items():
        if not (isinstance(value, str) and value in allowed):
            raise ValueError(
                f"`{name}` must be one of {sorted(allowed)}. Received: {name}={value!r}"
            )


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, numbers.Real) and math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def check_seed(seed: Any) -> Seed:
    """A seed, also from its config; refuses what is none."""
    if isinstance(seed, dict):
        seed = keras.saving.deserialize_keras_object(seed)
    if isinstance(seed, int | np.integer):
        return int(seed)
    if seed is None or isinstance(seed, keras.random.SeedGenerator):
        return seed
    raise ValueError(
        "`seed` must be None, an integer or a `keras.random.SeedGenerator`. "
        f"Received: seed={seed!r}"
    )


def _check_shape(shape: Any) -> tuple[int, ...]:
    sizes = tuple(shape) if isinstance(shape, Iterable) else (shape,)
    if not all(isinstance(s, int | np.integer) and s >= 0 for s in sizes):
        raise ValueError(
            "`shape` must hold non-negative integers, all of them known. "
            f"Received: shape={shape}"
        )
    return tuple(int(size) for size in sizes)


def _check_dtype(dtype: Any) -> str:
    name = keras.backend.standardize_dtype(dtype or keras.config.floatx())
    if name not in _DTYPES:
        raise ValueError(
            "`dtype` must be a floating-point type, one of "
            f"{list(_DTYPES)}. Received: dtype={name!r}"
        )
    return str(name)
