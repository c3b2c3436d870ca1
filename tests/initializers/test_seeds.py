"""Seeds: independent without one, equal with an integer, a stream otherwise."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
from laws import RECORDS, Record, to_numpy

from keras_inits.initializers import HeNormal, LSUVNormal


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


@pytest.mark.parametrize("cls", [HeNormal, LSUVNormal])
def test_streams_are_uncorrelated(cls: type) -> None:
    """Across calls, seeds that follow each other, and equal seeds of two shapes.

    |correlation| of independent vectors of n values stays below 4.5 / sqrt(n).
    """
    free = cls()
    draws = [to_numpy(free((128, 128))) for _ in range(4)]
    draws += [to_numpy(cls(seed=seed)((128, 128))) for seed in range(4)]
    for one, other in itertools.combinations(draws, 2):
        correlation = np.corrcoef(one.ravel(), other.ravel())[0, 1]
        assert abs(correlation) < 4.5 / 128


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
