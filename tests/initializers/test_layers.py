"""Inside layers whose kernels have axes of their own, and under mixed precision."""

from __future__ import annotations

import inspect

import keras
import numpy as np
import pytest
from laws import RECORDS, Record, to_numpy

import keras_inits.initializers as inits

# Keras 3.15 and later tell a `VarianceScaling` the axes of `EinsumDense`.
TOLD = "input_axes" in inspect.signature(keras.initializers.VarianceScaling).parameters
needs_axes = pytest.mark.skipif(not TOLD, reason="this Keras does not tell the axes")


def names_of(record: Record) -> str:
    return record.name


@needs_axes
@pytest.mark.parametrize(
    "record", [r for r in RECORDS if hasattr(r.cls, "_fans")], ids=names_of
)
def test_attention_kernels_are_drawn_as_matrices(record: Record) -> None:
    """(64, 8 heads, 32): fans 64 and 256, not those of a convolution."""
    layer = keras.layers.EinsumDense(
        "abc,cde->abde", (None, 8, 32), kernel_initializer=record.build(seed=2)
    )
    layer.build((None, None, 64))
    kernel = to_numpy(layer.kernel).reshape(64, 256)
    plain = to_numpy(record.build(seed=3)((64, 256)))
    assert kernel.std() == pytest.approx(plain.std(), rel=0.05)


@needs_axes
@pytest.mark.parametrize("alias", ["xavier_normal", "lsuv_normal", "standard_uniform"])
def test_attention_by_string(alias: str) -> None:
    layer = keras.layers.MultiHeadAttention(4, 8, kernel_initializer=alias)
    x = np.random.default_rng(0).normal(size=(2, 5, 32)).astype("float32")
    layer(x, x)
    kernels = [to_numpy(w) for w in layer.weights if "kernel" in w.path]
    assert len(kernels) == 4
    assert not np.allclose(kernels[0], kernels[1])
    again = keras.layers.MultiHeadAttention.from_config(layer.get_config())
    again(x, x)


@needs_axes
@pytest.mark.parametrize("alias", ["dirac_delta", "hadamard_identity"])
@pytest.mark.parametrize(("heads", "size"), [(8, 16), (4, 8)])
def test_fixed_laws_see_the_matrix_in_attention(
    alias: str, heads: int, size: int
) -> None:
    """Wider and narrower than the 64 inputs: the heads side by side are the outputs."""
    layer = keras.layers.MultiHeadAttention(heads, size, kernel_initializer=alias)
    layer.build((None, 5, 64), (None, 5, 64))
    law, width = keras.initializers.get(alias), heads * size
    query, output = layer.query_dense.kernel, layer.output_dense.kernel
    np.testing.assert_array_equal(
        to_numpy(law((64, width))), to_numpy(query).reshape(64, width)
    )
    np.testing.assert_array_equal(
        to_numpy(law((width, 64))), to_numpy(output).reshape(width, 64)
    )
    again = keras.layers.MultiHeadAttention.from_config(layer.get_config())
    again.build((None, 5, 64), (None, 5, 64))
    np.testing.assert_array_equal(to_numpy(query), to_numpy(again.query_dense.kernel))


@needs_axes
def test_zeros_are_counted_for_each_input_of_attention() -> None:
    layer = keras.layers.EinsumDense(
        "abc,cde->abde", (None, 8, 16), kernel_initializer=inits.SparseNormal(0.1)
    )
    layer.build((None, None, 64))
    zeros = (to_numpy(layer.kernel) == 0).sum(axis=(1, 2))
    assert [13] * 64 == zeros.tolist()  # of 128


def test_a_seed_generator_reaches_einsum_dense() -> None:
    generator = keras.random.SeedGenerator(1)
    layer = keras.layers.EinsumDense(
        "ab,bc->ac", 4, kernel_initializer=inits.HeNormal(seed=generator)
    )
    layer.build((None, 4))
    assert 0 < to_numpy(layer.kernel).std()


@pytest.mark.parametrize("record", RECORDS, ids=names_of)
@pytest.mark.parametrize("policy", ["float16", "bfloat16", "mixed_bfloat16"])
def test_under_every_dtype_policy(record: Record, policy: str) -> None:
    layer = keras.layers.Dense(8, dtype=policy, kernel_initializer=record.build())
    layer.build((None, 6))
    wanted = keras.DTypePolicy(policy).variable_dtype
    assert wanted == keras.backend.standardize_dtype(layer.kernel.dtype)


def test_floatx_is_the_default_dtype() -> None:
    before = keras.config.floatx()
    keras.config.set_floatx("float16")
    try:
        values = inits.LSUVNormal()((3, 3))
        assert "float16" == keras.backend.standardize_dtype(values.dtype)
    finally:
        keras.config.set_floatx(before)
