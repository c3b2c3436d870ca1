"""Samplers: wide enough, cast at the end, never outside the bounds."""

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_inits.initializers import threefry
from keras_inits.initializers.base import Seeds, Tensor

# Significant bits, the exponent below which the grid no longer gets finer, and that of
# the largest numbers (`math.frexp` convention: the smallest normal number is
# 0.5 * 2**exponent, the largest one just below 2**exponent).
_GRIDS = {
    "bfloat16": (8, -125, 128),
    "float16": (11, -13, 16),
    "float32": (24, -125, 128),
    "float64": (53, -1021, 1024),
}
# Share of a law that may lie beyond the numbers of a dtype: without it the deviation
# is the same to a fifth of a per cent.
_BEYOND = 1e-4


def wide(dtype: str) -> str:
    """The dtype to compute in, for values of `dtype`."""
    return "float64" if dtype == "float64" else "float32"


def normal(
    shape: tuple[int, ...], stddev: float, dtype: str, seeds: Seeds, mean: float = 0.0
) -> Tensor:
    """N(mean, stddev^2), nowhere infinite."""
    held, width = _held(dtype), wide(dtype)
    limit = largest(held)
    beyond = math.erfc((limit - abs(mean)) / (stddev * math.sqrt(2)))
    _require_room(beyond, 1.0, stddev, held, stddev=stddev)
    draw = threefry.normal if threefry.serves(shape, width) else keras.random.normal
    values = draw(shape, mean, stddev, width, seeds.next())
    return ops.cast(_clip(values, -limit, limit) if beyond else values, dtype)


def uniform(
    shape: tuple[int, ...], low: float, high: float, dtype: str, seeds: Seeds
) -> Tensor:
    """U(low, high)."""
    held = _held(dtype)
    limit, whole = largest(held), high - low
    beyond = whole - (min(high, limit) - max(low, -limit))
    _require_room(beyond, whole, whole, held, bounds=(low, high))
    values = chances(shape, dtype, seeds, low, high)
    return _clip_and_cast(values, low, high, held)


def chances(
    shape: tuple[int, ...],
    dtype: str,
    seeds: Seeds,
    low: float = 0.0,
    high: float = 1.0,
) -> Tensor:
    """U(low, high) as the generator has it: not cast, and by rounding at a bound."""
    width = wide(dtype)
    draw = threefry.uniform if threefry.serves(shape, width) else keras.random.uniform
    return draw(shape, low, high, width, seeds.next())


def truncated_normal(
    shape: tuple[int, ...],
    mean: float,
    sigma: float,
    lowest: float,
    highest: float,
    dtype: str,
    seeds: Seeds,
) -> Tensor:
    """N(mean, sigma^2) within `[lowest, highest]`.

    The quantile function at a uniform variable: no rejection, so no loop, no limit
    on the number of trials, and nothing outside.
    """
    held = _held(dtype)
    width, limit, bounds = wide(held), largest(held), (lowest, highest)
    whole = _mass((lowest - mean) / sigma, (highest - mean) / sigma)
    lowest, highest = max(lowest, -limit), min(highest, limit)
    a, b = (lowest - mean) / sigma, (highest - mean) / sigma
    span = max(sigma * math.sqrt(2), abs(mean))
    _require_room(whole - _mass(a, b), whole, span, held, bounds=bounds)
    chance = chances(shape, dtype, seeds)
    # Half a step of the generator (2**-23 or 2**-24 in float32): keeps off 0 and 1,
    # where the quantile function is infinite.
    half = 2.0**-24 if width == "float32" else 2.0**-53
    side = -1.0 if a > 0 else 1.0  # an upper tail is drawn as the lower one
    inner, outer = _below(min(b, -a)), _below(min(a, -b))
    if inner <= _TAIL and width == "float32":
        values = fused(_tail_quantiles)(
            chance, half, outer, inner - outer, side * sigma, mean
        )
    else:
        low, high = math.erf(a / math.sqrt(2)), math.erf(b / math.sqrt(2))
        scale = sigma * math.sqrt(2)
        values = fused(_quantiles)(chance, half, low, high - low, scale, mean)
    return _clip_and_cast(values, lowest, highest, held)


def _below(z: float) -> float:
    """Probability that a unit normal variable is less than z, also where it is tiny."""
    return math.erfc(-z / math.sqrt(2)) / 2


def _mass(a: float, b: float) -> float:
    """Probability that a unit normal variable lies between a and b."""
    return _below(min(b, -a)) - _below(min(a, -b))


def _quantiles(
    chance: Tensor, half: float, low: float, span: float, scale: float, mean: float
) -> Tensor:
    """Quantiles through erfinv, which takes values between -1 and 1.

    Those two are infinite, and some backends take `1 - half` for 1: the argument
    stays two halves away.
    """
    end = 1 - 2 * half
    return ops.erfinv(_clip((chance + half) * span + low, -end, end)) * scale + mean


# The probability that `_tail_quantiles` reaches up to (1.28 deviations).
_TAIL = 0.1


def _tail_quantiles(
    chance: Tensor, half: float, low: float, span: float, scale: float, mean: float
) -> Tensor:
    """Quantiles of small probabilities, which have all their digits: erfinv would
    take them as their distance from -1, rounded to float32.

    Wichura (1988), The percentage points of the normal distribution, algorithm
    AS 241, PPND7, the branch for tails. In deviations it is off by 2e-6 from `_TAIL`
    to 1e-11 (the paper's range ends at 0.075), and by 3e-5 down to 1e-17.
    """
    r = ops.sqrt(-ops.log((chance + half) * span + low)) - 1.6
    above = ((0.17023821103 * r + 1.3067284816) * r + 2.7568153900) * r + 1.4234372777
    below = (0.12021132975 * r + 0.73700164250) * r + 1.0
    return above / below * -scale + mean


def _held(dtype: str) -> str:
    """The dtype that values have in the end: JAX may have no float64."""
    if keras.backend.backend() != "jax":
        return dtype
    from jax import dtypes

    return str(dtypes.canonicalize_dtype(dtype))


def _require_room(
    beyond: float, whole: float, span: float, dtype: str, **received: Any
) -> None:
    """Refuses a law that the dtype has no numbers for, or no arithmetic."""
    if not (beyond <= _BEYOND * whole and span <= largest(wide(dtype))):
        raise _no_room(dtype, **received)


def _no_room(dtype: str, **received: Any) -> ValueError:
    """In words only where it is raised: `torch.compile` traces no formats."""
    shown = {
        name: f"({value[0]:.3g}, {value[1]:.3g})"
        if isinstance(value, tuple)
        else f"{float(value):.3g}"
        for name, value in received.items()
    }
    return ValueError(
        f"The law must lie within the numbers of {dtype}, which end at "
        f"{largest(dtype):.3g}. Received: "
        f"{', '.join(f'{name}={value}' for name, value in shown.items())}. "
        "Use a wider dtype or a narrower law."
    )


def require_held(dtype: str, **greatest: float) -> None:
    """Refuses a law whose greatest value, named so, is no number of the dtype."""
    held = _held(dtype)
    for name, value in greatest.items():
        if abs(value) > largest(held):
            raise _no_room(held, **{name: value})


def _clip_and_cast(values: Tensor, low: float, high: float, dtype: str) -> Tensor:
    """Casts without leaving `[low, high]`, which may fall between two numbers."""
    inside = -round_down(-low, dtype), round_down(high, dtype)
    if inside[0] > inside[1]:
        raise ValueError(
            f"No {dtype} number lies between the bounds of the law. "
            f"Received: bounds=({low}, {high}). Use a wider dtype."
        )
    return ops.cast(_clip(values, *inside), dtype)


def _clip(values: Tensor, low: float, high: float) -> Tensor:
    """Values just computed, which nobody else has: PyTorch clips them where they are,
    for new memory takes as long as the draw (and Keras rounds its bounds to float32).
    """
    if keras.backend.backend() == "torch":
        return values.clamp_(low, high)
    return ops.clip(values, low, high)


def fused(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function of tensors, compiled as one where each operation would be: JAX.

    There the first call with a new shape costs one compilation per operation
    otherwise, which for a model of many shapes adds up to seconds.
    """
    if keras.backend.backend() != "jax":
        return function
    import jax

    compiled: Any = jax.jit(function)  # cached by JAX, under the function itself
    return compiled


def largest(dtype: str) -> float:
    """The largest number of `dtype`."""
    bits, _, end = _GRIDS[dtype]
    return math.ldexp(1 - 2.0**-bits, end)


def round_down(bound: float, dtype: str) -> float:
    """The largest number of `dtype` that is not above `bound`, nor infinite."""
    bits, smallest, _ = _GRIDS[dtype]
    bound = min(bound, largest(dtype))
    step = math.ldexp(1.0, max(math.frexp(bound)[1], smallest) - bits)
    return math.floor(bound / step) * step
