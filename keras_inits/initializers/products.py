"""Matrix products in the precision of their dtype, whatever else is allowed.

An orthonormal factor is as exact as its products. By default JAX and TensorFlow round
the operands of a float32 product to 11 bits on a GPU that has TensorFloat-32, and to 8
on a TPU; PyTorch does on request, and `torch.autocast` everywhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras

from keras_inits.backends import Shared, loaded


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
            for device in ("cpu", "cuda"):
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
    # A flag that is not set has its value from those before it.
    flags = (backends, backends.cudnn, backends.cuda.matmul, backends.mkldnn.matmul)
    with contextlib.ExitStack() as stack:
        if not hasattr(backends.cuda.matmul, "fp32_precision"):  # until torch 2.8
            before = torch.get_float32_matmul_precision()
            stack.callback(torch.set_float32_matmul_precision, before)
            torch.set_float32_matmul_precision("highest")
        elif any(x.fp32_precision not in _FULL for x in flags[2:]):
            for flag in flags:
                if (asked := flag.fp32_precision) not in _FULL:
                    stack.callback(setattr, flag, "fp32_precision", asked)
                    flag.fp32_precision = "ieee"
        yield


# What PyTorch calls float32 where nothing less has been asked for.
_FULL = ("none", "ieee")
# Flags of the process: see `Shared`.
_ON_TENSORFLOW = Shared(_no_tensor_float)
_ON_TORCH = Shared(_no_less_than_float32)
