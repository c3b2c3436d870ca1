"""Orthonormal factors are as exact as float32 where less has been asked for."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

import keras_inits
from keras_inits import backends
from keras_inits.initializers import products
from keras_inits.initializers.products import exact_products

pytestmark = pytest.mark.any_keras

# By panels, by Cholesky, by LAPACK.
SHAPES = [(600, 600), (512, 128), (64, 64)]


def error(kernel: Any) -> float:
    """Largest entry of |Q'Q - I|."""
    q = np.asarray(ops.convert_to_numpy(kernel), "float64")
    return float(np.abs(q.T @ q - np.eye(q.shape[1])).max())


def needs(backend: str) -> Any:
    """The module of a backend, where it is the one that runs."""
    if keras.backend.backend() != backend:
        pytest.skip(f"only on {backend}")
    return sys.modules[backend]


@pytest.mark.parametrize("shape", SHAPES)
def test_autocast(shape: tuple[int, int]) -> None:
    torch, draw = needs("torch"), keras_inits.LSUVNormal(seed=0)
    x = ops.ones((2, 2))
    with torch.autocast(x.device.type, dtype=torch.bfloat16):
        kernel = draw(shape)
        narrow = x @ x
    assert error(kernel) < 2e-6 * shape[1] ** 0.5
    assert narrow.dtype == torch.bfloat16
    assert error(draw(shape)) == error(kernel)


def test_the_products_of_a_convolution() -> None:
    draw, shape = keras_inits.ConvolutionOrthogonal(seed=0), (3, 3, 8, 64)
    if keras.backend.backend() == "jax":
        jax = needs("jax")
        with jax.default_matmul_precision("bfloat16"):
            program = str(jax.make_jaxpr(lambda: draw(shape))())
        found = program.split("dot_general[")[1:]
        assert found and all("Precision.HIGHEST" in x[:400] for x in found)
        return
    torch, expected = needs("torch"), ops.convert_to_numpy(draw(shape))
    with torch.autocast(ops.ones(()).device.type, dtype=torch.bfloat16):
        np.testing.assert_array_equal(ops.convert_to_numpy(draw(shape)), expected)


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps", "xpu"])
def test_autocast_is_off_and_on_again(device: str) -> None:
    torch = needs("torch")
    try:
        torch.set_autocast_enabled(device, True)
    except RuntimeError:
        pytest.skip("an older torch")
    try:
        with pytest.raises(KeyError, match="here"), exact_products():
            assert not torch.is_autocast_enabled(device)
            raise KeyError("here")
        assert torch.is_autocast_enabled(device)
    finally:
        torch.set_autocast_enabled(device, False)


@pytest.mark.parametrize("shape", SHAPES)
def test_all_products_on_jax(shape: tuple[int, int]) -> None:
    jax = needs("jax")
    draw = keras_inits.LSUVNormal(seed=0)
    with jax.default_matmul_precision("bfloat16"):
        program = str(jax.make_jaxpr(lambda: draw(shape))())
    for product in program.split("dot_general[")[1:]:
        assert "precision=(Precision.HIGHEST, Precision.HIGHEST)" in product[:400]


@pytest.mark.parametrize("shape", SHAPES)
def test_within_a_program_and_with_options_of_gpus(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    jax, draw = needs("jax"), keras_inits.LSUVNormal(seed=0)
    if "compiler_options" not in inspect.signature(jax.jit).parameters:
        pytest.skip("an older JAX")
    expected = np.asarray(draw(shape))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    asked = []
    jit = jax.jit

    def spy(function: Any, **given: Any) -> Any:
        asked.append(given.get("compiler_options"))
        return jit(function, **given)

    monkeypatch.setattr(jax, "jit", spy)
    products._compiled.cache_clear()
    assert error(draw(shape)) == error(expected)
    assert asked[-1] == products._UNTRIED  # and these exist
    within = jit(lambda: draw(shape))()
    np.testing.assert_allclose(within, expected, atol=1e-6)
    products._compiled.cache_clear()


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_jax_without_options(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As JAX 0.4.34, the lowest that `setup.cfg` admits."""
    jax, draw = needs("jax"), keras_inits.LSUVNormal(seed=0)
    jit = jax.jit

    def older(function: Any, **given: Any) -> Any:
        if "compiler_options" in given:
            raise TypeError("jit() got an unexpected keyword argument")
        return jit(function, **given)

    kept = products._compiled, backends._lasting, backends.fused_arithmetic
    with monkeypatch.context() as patched:
        patched.setattr(jax, "jit", older)
        patched.setattr(jax, "default_backend", lambda: device)
        for cache in kept:
            cache.cache_clear()
        assert error(draw((64, 64))) < 2e-5
        for fused in (backends.fused, backends.fused_arithmetic):
            assert float(fused(ops.square)(ops.ones(()) * 3)) == 9.0
    for cache in kept:
        cache.cache_clear()


@contextlib.contextmanager
def put_back(read: Callable[[], Any], write: Callable[[Any], Any]) -> Iterator[None]:
    before = read()
    yield
    write(before)


def test_tensor_float_on_tensorflow() -> None:
    config = needs("tensorflow").config.experimental
    read = config.tensor_float_32_execution_enabled
    with put_back(read, config.enable_tensor_float_32_execution):
        for allowed in (True, False):
            config.enable_tensor_float_32_execution(allowed)
            with exact_products(), exact_products():
                assert not read()
            assert read() == allowed


@pytest.mark.parametrize("name", ["", "cudnn", "cuda.matmul", "mkldnn.matmul"])
def test_tensor_float_on_torch(name: str) -> None:
    flags = needs("torch").backends
    if not hasattr(flags.cuda.matmul, "fp32_precision"):
        pytest.skip("an older torch")
    read = [flags, flags.cudnn, flags.cuda.matmul, flags.mkldnn.matmul]
    flag = flags
    for part in filter(None, name.split(".")):
        flag = getattr(flag, part)

    def all_of_them() -> list[str]:
        return [x.fp32_precision for x in read]

    def write(values: list[str]) -> None:
        for x, value in zip(read, values, strict=True):
            x.fp32_precision = value

    with put_back(all_of_them, write):
        flag.fp32_precision = "tf32"
        asked = all_of_them()
        with exact_products():
            assert "tf32" not in all_of_them()[2:]
        assert all_of_them() == asked
        # What has its value from another flag still has.
        flag.fp32_precision = "none"
        assert all_of_them() == ["none"] * 4


def _all_of(torch: Any) -> list[str]:
    flags = torch.backends
    if not hasattr(flags.cuda.matmul, "fp32_precision"):
        pytest.skip("an older torch")
    return [x.fp32_precision for x in (flags, flags.cuda.matmul, flags.mkldnn.matmul)]


@pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN:UserWarning")
def test_what_a_block_has_asked_for_ends_with_it() -> None:
    torch = needs("torch")
    before = _all_of(torch)
    with torch.backends.mkldnn.flags(enabled=True, fp32_precision="bf16"):
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
        with exact_products():
            assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
    assert _all_of(torch) == before


def test_flags_that_are_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.backends.disable_global_flags()`: that of all products stays."""
    torch = needs("torch")
    assert "tf32" not in _all_of(torch)
    monkeypatch.setattr(torch.backends, "fp32_precision", "tf32")
    with monkeypatch.context() as patched:
        patched.setattr(torch.backends, "flags_frozen", lambda: True)
        with exact_products():
            assert _all_of(torch) == ["tf32", "ieee", "ieee"]
        assert _all_of(torch) == ["tf32"] * 3


@pytest.mark.parametrize("asked", ["highest", "high", "medium"])
def test_the_older_flag_of_torch(asked: str) -> None:
    torch = needs("torch")
    read = torch.get_float32_matmul_precision
    with put_back(read, torch.set_float32_matmul_precision):
        torch.set_float32_matmul_precision(asked)
        with exact_products():
            products = torch.backends.cuda.matmul
            flag = getattr(products, "fp32_precision", None) or read()
        assert flag in ("none", "ieee", "highest")
        assert read() == asked
