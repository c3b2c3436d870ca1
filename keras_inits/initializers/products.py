"""Matrix products in the precision of their dtype, whatever else is allowed.

An orthonormal factor is as exact as its products. By default JAX and TensorFlow round
the operands of a float32 product to 11 bits on a GPU that has TensorFloat-32, and to 8
on a TPU; PyTorch does on request, and `torch.autocast` everywhere.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras

from keras_inits.backends import Shared, loaded

Tensor = Any

# Of XLA on a GPU: products by its library as they are. To try all ways to a float32
# product takes 19 s where a kernel of 2048 x 2048 takes 3 ms.
_UNTRIED = {"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": False}


def exactly(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`function(x)` by `exact_products`; on JAX compiled as one."""
    with exact_products():
        if keras.backend.backend() != "jax":
            return function(x)
        if loaded().default_backend() == "gpu":
            # Not within another program; options come and go with the versions.
            with contextlib.suppress(Exception):
                return _compiled(function, untried=True)(x)
        return _compiled(function, untried=False)(x)


@functools.cache
def _compiled(function: Callable[[Tensor], Tensor], untried: bool) -> Any:
    given = {"compiler_options": _UNTRIED} if untried else {}
    return loaded().jit(function, **given)


@contextlib.contextmanager
def exact_products() -> Iterator[None]:
    """Within, products of float32 are products of float32.

    Not in a graph that TensorFlow traces for a GPU: there it asks when the graph runs.
    """
    backend, module = keras.backend.backend(), loaded()
    with contextlib.ExitStack() as stack:
        if backend == "jax":
            stack.enter_context(module.default_matmul_precision("highest"))
        elif backend == "tensorflow":
            stack.enter_context(_ON_TENSORFLOW)
        elif backend == "torch":
            for device in _DEVICES:
                with contextlib.suppress(RuntimeError):  # torch 2.4 has none for mps
                    if module.is_autocast_enabled(device):
                        stack.enter_context(module.autocast(device, enabled=False))
            stack.enter_context(_ON_TORCH)
        yield


@contextlib.contextmanager
def _no_tensor_float() -> Iterator[None]:
    config = loaded().config.experimental
    before = config.tensor_float_32_execution_enabled()
    config.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        config.enable_tensor_float_32_execution(before)


@contextlib.contextmanager
def _no_less_than_float32() -> Iterator[None]:
    torch = loaded()
    backends = torch.backends
    with contextlib.ExitStack() as stack:
        if not hasattr(backends.cuda.matmul, "fp32_precision"):  # until torch 2.8
            before = torch.get_float32_matmul_precision()
            stack.callback(torch.set_float32_matmul_precision, before)
            torch.set_float32_matmul_precision("highest")
        else:
            for flag in (backends.cuda.matmul, backends.mkldnn.matmul):
                if (asked := flag.fp32_precision) not in _FULL:
                    # Not set, it has its value from those before it: left so.
                    flag.fp32_precision = "none"
                    own = "none" if flag.fp32_precision == asked else asked
                    stack.callback(setattr, flag, "fp32_precision", own)
                    flag.fp32_precision = "ieee"
        yield


# Those that Keras computes on with PyTorch.
_DEVICES = ("cpu", "cuda", "mps", "xpu")
# What PyTorch calls float32 where nothing less has been asked for.
_FULL = ("none", "ieee")
# Flags of the process: see `Shared`.
_ON_TENSORFLOW = Shared(_no_tensor_float)
_ON_TORCH = Shared(_no_less_than_float32)
