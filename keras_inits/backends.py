"""What differs between the three backends, in one place.

Nothing here imports a backend that Keras has not loaded itself.
"""

from __future__ import annotations

import contextlib
import functools
import math
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops


def _loaded() -> Any:
    """The module of the backend that Keras runs on (None if it is none of ours)."""
    names = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch"}
    return sys.modules.get(names.get(keras.backend.backend(), ""))


@contextlib.contextmanager
def eager(*, disable_jit: bool = False) -> Iterator[None]:
    """Run what follows op by op, without gradients, torch's generator put back.

    A user's own `tf.function` or `torch.compile` inside `call` would keep whatever is
    patched while it is traced, so tracing is off. On JAX that costs a factor of ten:
    only with `disable_jit`.
    """
    backend, module = keras.backend.backend(), _loaded()
    with contextlib.ExitStack() as stack:
        if backend == "tensorflow":
            before = module.config.functions_run_eagerly()
            stack.callback(module.config.run_functions_eagerly, before)
            module.config.run_functions_eagerly(True)
        elif backend == "torch":
            stack.enter_context(module.no_grad())
            stack.enter_context(module.random.fork_rng())
            compiler = getattr(module, "compiler", None)
            if compiler is not None and hasattr(
                compiler, "set_stance"
            ):  # torch 2.6 and later
                stack.enter_context(compiler.set_stance("force_eager"))
        elif disable_jit:
            stack.enter_context(module.disable_jit())
        yield


def outside_traces() -> contextlib.AbstractContextManager[Any]:
    """Compute with concrete values here, although somebody is tracing around (JAX)."""
    if keras.backend.backend() == "jax":
        context: contextlib.AbstractContextManager[Any] = (
            _loaded().ensure_compile_time_eval()
        )
        return context
    return contextlib.nullcontext()


def is_traced(tensor: Any) -> bool:
    """Whether a tensor is symbolic: somebody is tracing."""
    backend, module = keras.backend.backend(), _loaded()
    if backend == "jax":
        return isinstance(tensor, module.core.Tracer)
    if backend == "tensorflow":
        return not module.executing_eagerly()
    return False


def snapshot(variable: keras.Variable) -> Any:
    """A value that later assignments to `variable` leave alone, sharding kept."""
    backend = keras.backend.backend()
    if backend == "torch":
        return variable.value.detach().clone()
    if backend == "tensorflow":
        # A read stays as it is: an assignment gives the variable a new buffer.
        return _loaded().identity(variable.value)
    return variable.value  # JAX: immutable


def can_multiply_in_place(tensor: Any) -> bool:
    """Whether `multiply_in_place` takes it, and cannot fail then: torch."""
    if keras.backend.backend() != "torch":
        return False
    module = _loaded()
    plain = type(tensor) in (module.Tensor, module.nn.Parameter)
    wide = tensor.dtype in (module.float32, module.float64)
    return plain and wide and tensor.is_contiguous() and not tensor.is_inference()


def multiply_in_place(tensors: Sequence[Any], factors: Sequence[Any]) -> None:
    """`tensor *= factor` for every pair: once begun, all of them.

    An interrupt waits until the last is done.
    """
    if not tensors:
        return
    module = _loaded()
    versions = [x._version for x in tensors]
    with module.no_grad():
        try:
            # No line of Python between them, where no mode of torch adds one.
            deque(map(module.Tensor.mul_, tensors, factors), maxlen=0)
        except BaseException:
            for x, factor, version in zip(tensors, factors, versions, strict=True):
                if x._version == version:
                    x.mul_(factor)
            raise


def host(tensor: Any) -> np.ndarray[Any, Any]:
    """A tensor as a NumPy array in float64 (half precisions included)."""
    if isinstance(tensor, (int, float)):
        return np.asarray(float(tensor))
    tensor = whole(tensor)
    if keras.backend.standardize_dtype(tensor.dtype) in ("bfloat16", "float16"):
        tensor = ops.cast(tensor, "float32")
    return np.asarray(ops.convert_to_numpy(tensor), "float64")


def whole(x: Any) -> Any:
    """An array of which other processes hold parts (JAX), in full."""
    if getattr(x, "is_fully_addressable", True) or x.is_fully_replicated:
        return x
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(x, tiled=True)


def fetch(tensors: Sequence[Any]) -> list[Any]:
    """Tensors as NumPy arrays in float64, by one transfer where the backend can.

    Python numbers become arrays, None stays None.
    """
    return [None if x is None else np.asarray(x, "float64") for x in read(tensors)]


def read(tensors: Sequence[Any]) -> Sequence[Any]:
    """Tensors as NumPy arrays; on a CPU they share memory, where the backend can."""
    backend, module = keras.backend.backend(), _loaded()
    if backend == "jax":
        found: Sequence[Any] = module.device_get(list(map(whole, tensors)))
        return found
    if backend == "torch":
        return _from_torch(tensors, module)
    return [x.numpy() if hasattr(x, "numpy") else x for x in tensors]


def _from_torch(tensors: Sequence[Any], module: Any) -> list[Any]:
    found = [x.detach() for x in tensors if isinstance(x, module.Tensor)]
    if not found:
        return list(tensors)
    half = {module.float16, module.bfloat16}
    found = [x.float() if x.dtype in half else x for x in found]
    if all(x.device.type == "cpu" for x in found):
        arrays = iter([x.numpy() for x in found])
    else:
        wide = module.float64 in {x.dtype for x in found}
        dtype = module.float64 if wide else module.float32
        flat = module.cat([x.reshape(-1).to(dtype) for x in found]).cpu().numpy()
        parts = np.split(flat, np.cumsum([x.numel() for x in found])[:-1])
        shapes = [tuple(x.shape) for x in found]
        arrays = iter([p.reshape(s) for p, s in zip(parts, shapes, strict=True)])
    return [next(arrays) if isinstance(x, module.Tensor) else x for x in tensors]


def fuses() -> bool:
    """Whether `fused` compiles: each shape anew, the result without temporaries."""
    return keras.backend.backend() == "jax"


def fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of tensors, compiled as one where each operation would be: JAX.

    There the first call with a new shape costs one compilation per operation
    otherwise, which for a model of many shapes adds up to seconds.
    """
    if not fuses():
        return function
    compiled: Callable[..., Any] = functools.wraps(function)(_loaded().jit(function))
    return compiled


# Values that torch.dot adds up on a CPU without losing more than 3e-7: over 16 million
# it loses 2e-4.
BLOCK = 2**17


def mean_square(x: Any) -> Any:
    """`E[x^2]` of a float tensor, without a temporary where the backend can."""
    backend, module = keras.backend.backend(), _loaded()
    if backend == "torch":
        flat = _in_memory_order(x)
        if flat.device.type != "cpu" or flat.shape[0] <= BLOCK:
            return module.dot(flat, flat) / flat.shape[0]
        parts = module.stack([module.dot(x, x) for x in flat.split(BLOCK)])
        return module.sum(parts) / flat.shape[0]
    if backend == "tensorflow":
        return module.nn.l2_loss(x) * (2.0 / math.prod(x.shape))
    return ops.mean(ops.square(x))


def unit_means(x: Any) -> Any:
    """Means over the first axis, one per unit, in any order of the units."""
    if keras.backend.backend() == "torch":
        size = x.numel() // max(1, x.shape[0])
        if size and x.stride()[0] == size:  # rows are dense: no strided reduction
            x = x.as_strided((x.shape[0], size), (size, 1))
        return x.detach().mean(0)
    return ops.mean(x, axis=0)


def zero_share(x: Any, axes: list[int], *, nonnegative: bool = False) -> Any:
    """Of what is left when `axes` are reduced, the share that is zero throughout."""
    if keras.backend.backend() == "torch" and x.numel() and axes:
        x = x.detach()  # one or two reductions take less than one and a temporary
        zero = x.amax(axes) == 0
        return (zero if nonnegative else zero & (x.amin(axes) == 0)).float().mean()
    size = x if nonnegative else ops.abs(x)
    return ops.mean(ops.cast(ops.max(size, axis=axes) == 0, "float32"))


def first_rows(x: Any, count: int) -> Any:
    """The first rows of a tensor, without keeping the tensor itself alive."""
    backend, module = keras.backend.backend(), _loaded()
    if backend == "tensorflow":  # a slice would share the buffer of the whole
        return module.raw_ops.GatherV2(params=x, indices=np.arange(count), axis=0)
    return x[:count].clone() if backend == "torch" else x[:count]


def every_nth(x: Any, count: int, axis: int, step: int) -> Any:
    """Of the first rows, every nth slice along an axis, in memory of its own."""
    cut = x[(slice(count), *[slice(None)] * (axis - 1), slice(None, None, step))]
    return cut.clone() if keras.backend.backend() == "torch" else cut


def inverse_root(x: Any) -> Any:
    """`1 / sqrt(x)` of a float tensor."""
    module = _loaded()
    if keras.backend.backend() == "tensorflow":
        return module.math.rsqrt(x)
    return module.rsqrt(x) if keras.backend.backend() == "torch" else ops.rsqrt(x)


def _in_memory_order(x: Any) -> Any:
    """A torch tensor as a vector, without a copy where it is dense.

    Keras runs convolutions channels first and shows them as a permuted view.
    """
    reach = sum((n - 1) * step for n, step in zip(x.shape, x.stride(), strict=True))
    dense = reach + 1 == x.numel()
    return x.as_strided((x.numel(),), (1,)) if dense else x.reshape(-1)


def _mean(x: Any) -> Any:
    backend, module = keras.backend.backend(), _loaded()
    if backend == "jax":
        return ops.mean(x)
    return module.mean(x) if backend == "torch" else module.reduce_mean(x)


def mean_and_variance(x: Any, mean: Any = None) -> tuple[Any, Any]:
    """Of a float32 (or wider) tensor, as each backend does them best.

    E[x^2] - E[x]^2 needs no temporary, and is as good as two passes where little
    cancels. Whether it does is a look at a number, which costs nothing on a CPU.

    Args:
        x: A tensor.
        mean: Its mean, where that is known.
    """
    backend, module = keras.backend.backend(), _loaded()
    x = x.detach() if backend == "torch" else x
    if mean is None:
        mean = _mean(x)
    look = backend == "torch" and x.device.type == "cpu"
    if backend == "tensorflow":
        look = module.executing_eagerly() and "CPU" in x.device
    if look:
        square = mean_square(x)
        variance = square - mean * mean
        if float(variance) > 0.1 * float(square):
            return mean, variance
    if backend == "tensorflow":
        return mean, module.reduce_mean(module.math.squared_difference(x, mean))
    return mean, mean_square(x - mean)
