"""Seeds: independent without one, equal with an integer, a stream otherwise."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from laws import CLASSES, RECORDS, Record, to_numpy

from keras_inits import initializers as inits
from keras_inits.initializers import HeNormal, LSUVNormal
from keras_inits.initializers.base import Seeds


def names_of(record: Record) -> str:
    return record.name


@pytest.mark.parametrize("record", RECORDS, ids=names_of)
def test_without_a_seed_every_call_is_new(record: Record) -> None:
    initializer = record.build()
    first, second = (to_numpy(initializer((6, 8))) for _ in range(2))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("record", RECORDS, ids=names_of)
def test_set_random_seed_rules_calls_without_a_seed(record: Record) -> None:
    draws = []
    for _ in range(2):
        initializer = record.build()
        keras.utils.set_random_seed(7)
        draws.append([to_numpy(initializer((6, 8))) for _ in range(2)])
    np.testing.assert_array_equal(draws[0], draws[1])


@pytest.mark.parametrize("record", RECORDS, ids=names_of)
def test_an_integer_repeats_per_shape(record: Record) -> None:
    first = to_numpy(record.build(seed=11)((6, 8)))
    initializer = record.build(seed=np.int64(11))
    for _ in range(2):
        np.testing.assert_array_equal(first, to_numpy(initializer((6, 8))))
    assert not np.array_equal(first, to_numpy(record.build(seed=12)((6, 8))))


@pytest.mark.parametrize("record", RECORDS, ids=names_of)
def test_a_seed_generator_streams(record: Record) -> None:
    draws = []
    for _ in range(2):
        initializer = record.build(seed=keras.random.SeedGenerator(4))
        draws.append([to_numpy(initializer((6, 8))) for _ in range(2)])
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0][0], draws[0][1])


def test_a_seed_generator_comes_back_from_the_config() -> None:
    initializer = HeNormal(seed=keras.random.SeedGenerator(4))
    again = HeNormal.from_config(initializer.get_config())
    assert isinstance(again.seed, keras.random.SeedGenerator)
    np.testing.assert_array_equal(
        to_numpy(initializer((3, 3))), to_numpy(again((3, 3)))
    )


def test_the_seed_attribute_is_what_was_passed() -> None:
    generator = keras.random.SeedGenerator(4)
    for seed in (None, 5, -3, 2**40, generator):
        assert HeNormal(seed=seed).seed is seed or HeNormal(seed=seed).seed == seed
        HeNormal(seed=seed)((2, 2))


def test_one_instance_in_two_layers_gives_different_kernels() -> None:
    shared = HeNormal()
    layers = [keras.layers.Dense(8, kernel_initializer=shared) for _ in range(2)]
    for layer in layers:
        layer.build((None, 8))
    assert not np.array_equal(to_numpy(layers[0].kernel), to_numpy(layers[1].kernel))


def spectrum(values: np.ndarray, moment: int) -> np.ndarray:
    """Of the values (or their squares), standardised, with as many zeros behind."""
    x = values.ravel() ** moment
    x = (x - x.mean()) / x.std()
    padded: np.ndarray = np.fft.rfft(x, 2 * x.size)
    return padded


def assert_unrelated(draws: list[np.ndarray]) -> None:
    """No two of them correlate, nor do their squares, at any shift.

    A stream that runs into another after some values would show at that shift. The
    correlation of independent vectors of n values has deviation 1 / sqrt(n) or less;
    with n = 16,384 the greatest of 2 n shifts lies near 4.4 of them, and beyond 6.5
    once in 10^6 pairs.
    """
    n = draws[0].size
    for moment in (1, 2):
        spectra = [spectrum(draw, moment) for draw in draws]
        for (i, one), (j, other) in itertools.combinations(enumerate(spectra), 2):
            at_all_shifts = np.fft.irfft(one * other.conj()) / n
            worst = np.abs(at_all_shifts).max() * n**0.5
            assert worst < 6.5, f"draws {i} and {j}, moment {moment}: {worst}"


# Mirrored blocks are related to themselves; a law says which values are independent.
UNRELATED = [
    r for r in CLASSES if r.cls.__name__ not in ("LooksLinear", "SparseNormal")
]


@pytest.mark.parametrize("record", UNRELATED, ids=names_of)
def test_calls_and_seeds_are_unrelated(record: Record) -> None:
    """Calls of one instance, seeds that follow each other, seeds far apart."""
    free = record.build()
    draws = [free((128, 128)) for _ in range(4)]
    # Not 2**31 - 1: Keras takes seeds modulo 2**31 - 2 on TensorFlow.
    draws += [record.build(seed=s)((128, 128)) for s in (0, 1, 2, 3, 2**16, 2**31 - 3)]
    assert_unrelated([to_numpy(draw) for draw in draws])


@pytest.mark.parametrize(
    "record", [r for r in UNRELATED if r.law is not None], ids=names_of
)
def test_layers_of_one_model_are_unrelated(record: Record) -> None:
    """One instance for dense layers and convolutions, of one size in all."""
    shared = record.build()
    layers: list[tuple[Any, tuple[int, ...]]] = [
        *[(keras.layers.Dense(128, kernel_initializer=shared), (128,))] * 3,
        (keras.layers.Conv1D(64, 4, kernel_initializer=shared), (9, 64)),
        (keras.layers.Conv2D(64, (2, 2), kernel_initializer=shared), (9, 9, 64)),
    ]
    kernels = []
    for layer, shape in layers:
        layer = type(layer).from_config(layer.get_config())
        layer.kernel_initializer = shared
        layer.build((None, *shape))
        kernels.append(to_numpy(layer.kernel))
    assert_unrelated(kernels)


def test_parts_of_one_call_are_unrelated() -> None:
    """An initializer that draws several times for one kernel, as convolutions do."""
    for seed in (None, 1, 2):
        seeds = Seeds(seed)
        parts = [
            to_numpy(keras.random.normal((128, 128), seed=seeds.next()))
            for _ in range(5)
        ]
        assert_unrelated(parts)


def test_streams_of_a_seed_generator_are_unrelated() -> None:
    generator = keras.random.SeedGenerator(1)
    initializers = [HeNormal(seed=generator), LSUVNormal(seed=generator)]
    draws = [init((128, 128)) for _ in range(3) for init in initializers]
    assert_unrelated([to_numpy(draw) for draw in draws])


def test_related_streams_are_noticed() -> None:
    """One that runs into the other after 10,000 values, one that copies sizes only."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=16_384 + 10_000)
    with pytest.raises(AssertionError, match="draws 0 and 1, moment 1"):
        assert_unrelated([values[:16_384], values[10_000:]])
    signs = rng.choice([-1, 1], 16_384)
    with pytest.raises(AssertionError, match="draws 0 and 1, moment 2"):
        assert_unrelated([values[:16_384], values[:16_384] * signs])


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="jit of JAX")
@pytest.mark.parametrize("record", RECORDS, ids=names_of)
def test_traces_under_jit_as_sharded_variables_do(record: Record) -> None:
    """As Keras does it for a large sharded variable, twice with one instance."""
    import jax

    initializer = record.build()

    def draw() -> np.ndarray:
        names = ["shape", "dtype"]
        return to_numpy(
            jax.jit(initializer.__call__, static_argnames=names)(
                shape=(6, 8), dtype="bfloat16"
            )
        )

    assert not np.array_equal(draw(), draw())


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="graphs")
def test_traces_in_a_graph() -> None:
    """One graph for all: TensorFlow complains of many."""
    import tensorflow as tf

    initializers = [record.build(seed=2) for record in RECORDS]

    def draw() -> list[tf.Tensor]:
        return [initializer((6, 8)) for initializer in initializers]

    for traced, eager in zip(tf.function(draw)(), draw(), strict=True):
        np.testing.assert_allclose(to_numpy(traced), to_numpy(eager), atol=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="meta device")
@pytest.mark.parametrize("record", RECORDS, ids=names_of)
def test_works_on_the_meta_device(record: Record) -> None:
    with keras.device("meta"):
        values = record.build()((6, 8))
    assert (6, 8) == tuple(values.shape)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="torch.compile")
@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        (inits.Dirac, [{}, {"gain": 2.0}]),
        (inits.ForgetGateBias, [{"value": 1.0}, {"value": 2.0}]),
        (inits.LogOddsBias, [{"prior": 0.1}, {"prior": 0.2}]),
        (inits.ZerO, [{}, {"gain": 2.0}]),
        (inits.StandardNormal, [{"gain": x, "seed": 1} for x in (1.0, 2.0, 3.0)]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_traces_under_torch_compile(
    cls: Callable[..., Any], arguments: list[dict[str, Any]]
) -> None:
    """Several in a row: from the second on numbers are symbols to it."""
    import torch

    torch.compiler.reset()
    compiled = torch.compile(lambda draw: draw((8, 8)), backend="eager")
    for each in arguments:
        initializer = cls(**each)
        expected = to_numpy(initializer((8, 8)))
        np.testing.assert_allclose(to_numpy(compiled(initializer)), expected, atol=1e-6)
