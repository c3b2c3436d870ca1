"""JAX's random numbers, the same ones, in a fraction of the time on a CPU.

JAX draws bits by Threefry: twenty rounds of adding, rotating and combining two words,
the counter of each value and zeros. On a CPU it runs the rounds as a loop, which is
compiled quickly, and reads and writes all words in each. Written out, they are a single
pass.

References:
    Salmon, J. K. et al. (2011), Parallel random numbers: as easy as 1, 2, 3, SC11.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

Tensor = Any

# How far the second word is rotated, four rounds of each in turn.
_ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)
_PARITY = 0x1BD11BDA


def serves(shape: tuple[int, ...], dtype: str) -> bool:
    """Whether JAX draws these values on a CPU, by the generator that is its own.

    Not in float64 where it has none, which Keras says.
    """
    if keras.backend.backend() != "jax" or math.prod(shape) >= 2**32:
        return False
    import jax

    return bool(
        jax.default_backend() == "cpu"
        and jax.dtypes.canonicalize_dtype(dtype) == dtype
        and jax.config.jax_default_prng_impl == "threefry2x32"
        and jax.config.jax_threefry_partitionable
    )


def normal(
    shape: tuple[int, ...], mean: float, stddev: float, dtype: str, seed: Any
) -> Tensor:
    """What `keras.random.normal` draws with this seed."""
    values = _compiled(_normal)(_drawn(shape, dtype, seed))
    # Not in the same program, which would round once where Keras rounds twice.
    values = values if stddev == 1 else values * stddev
    return values if mean == 0 else values + mean


def uniform(
    shape: tuple[int, ...], low: float, high: float, dtype: str, seed: Any
) -> Tensor:
    """What `keras.random.uniform` draws with this seed."""
    bits, convert = _drawn(shape, dtype, seed), _compiled(_uniform)
    return convert(bits, low, high)


def _drawn(
    shape: tuple[int, ...], dtype: str, seed: int | keras.random.SeedGenerator
) -> Tensor:
    """As many bits as the dtype has, for each value.

    A program of its own: XLA would make them again wherever one is read.
    """
    words = np.array([seed, 0], "uint32") if isinstance(seed, int) else seed.next()
    width = np.dtype(dtype).itemsize * 8
    return _compiled(_bits, "shape", "width")(words, shape=shape, width=width)


@functools.cache
def _compiled(function: Callable[..., Tensor], *fixed: str) -> Callable[..., Tensor]:
    import jax

    compiled: Callable[..., Tensor] = jax.jit(function, static_argnames=fixed)
    return compiled


def _bits(key: Tensor, shape: tuple[int, ...], width: int) -> Tensor:
    """Unsigned integers of 32 or 64 bits, from two words for each place."""
    from jax import lax
    from jax import numpy as jnp

    counter = lax.iota(jnp.uint32, math.prod(shape))
    first, second = _threefry(key, jnp.zeros_like(counter), counter)
    if width == 64:
        high, low = (lax.convert_element_type(x, jnp.uint64) for x in (first, second))
        return jnp.reshape((high << np.uint64(32)) | low, shape)
    return jnp.reshape(first ^ second, shape)


def _threefry(key: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Threefry-2x32 with twenty rounds."""
    keys = [key[0], key[1], key[0] ^ key[1] ^ np.uint32(_PARITY)]
    first, second = first + keys[0], second + keys[1]
    for i in range(5):
        for distance in _ROTATIONS[i % 2]:
            first = first + second
            left, right = np.uint32(distance), np.uint32(32 - distance)
            second = first ^ ((second << left) | (second >> right))
        first = first + keys[(i + 1) % 3]
        second = second + keys[(i + 2) % 3] + np.uint32(i + 1)
    return first, second


def _uniform(bits: Tensor, low: Any, high: Any) -> Tensor:
    """`[low, high)` in as many steps as a mantissa has."""
    from jax import lax
    from jax import numpy as jnp

    dtype = jnp.dtype(f"float{bits.dtype.itemsize * 8}")
    about, unsigned = jnp.finfo(dtype), bits.dtype.type
    one = np.array(1.0, dtype).view(bits.dtype)
    mantissa = bits >> unsigned(about.bits - about.nmant)
    unit = lax.bitcast_convert_type(mantissa | one, dtype) - np.array(1.0, dtype)
    low, high = (jnp.asarray(x, dtype) for x in (low, high))
    return jnp.maximum(low, unit * (high - low) + low)


def _normal(bits: Tensor) -> Tensor:
    from jax import lax

    dtype = np.dtype(f"float{bits.dtype.itemsize * 8}")
    almost = np.nextafter(np.array(-1.0, dtype), np.array(0.0, dtype))
    return np.array(math.sqrt(2), dtype) * lax.erf_inv(_uniform(bits, almost, 1.0))
