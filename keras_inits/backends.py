"""What differs between the three backends, in one place.

Nothing here imports a backend that Keras has not loaded itself.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import inspect
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops


@functools.cache
def loaded() -> Any:
    """The module of the backend that Keras runs on (None if it is none of ours)."""
    names = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch"}
    return sys.modules.get(names.get(keras.backend.backend(), ""))


class Shared:
    """A context that several threads may be in: the first enters, the last leaves.

    Flags of a process, put back by each as it found them, would stay for ever.
    """

    def __init__(self, make: Callable[[], contextlib.AbstractContextManager[Any]]):
        self.make, self.count, self.lock = make, 0, threading.Lock()

    def __enter__(self) -> None:
        with self.lock:
            if not self.count:
                self.context = self.make()
                self.context.__enter__()
            self.count += 1

    def __exit__(self, *error: Any) -> None:
        with self.lock:
            self.count -= 1
            if not self.count:
                self.context.__exit__(None, None, None)


@contextlib.contextmanager
def _functions_run_eagerly() -> Iterator[None]:
    config = loaded().config
    before = config.functions_run_eagerly()
    config.run_functions_eagerly(True)
    try:
        yield
    finally:
        config.run_functions_eagerly(before)


# Nobody's `tf.function`, nobody's `torch.compile`.
_NO_FUNCTIONS = Shared(_functions_run_eagerly)
_NO_COMPILER = Shared(lambda: loaded().compiler.set_stance("force_eager"))


@contextlib.contextmanager
def eager(*, disable_jit: bool = False) -> Iterator[None]:
    """Run what follows op by op, without gradients, torch's generator put back.

    A user's own `tf.function` or `torch.compile` inside `call` would keep whatever is
    patched while it is traced, so tracing is off. On JAX that costs a factor of ten:
    only with `disable_jit`.
    """
    backend, module = keras.backend.backend(), loaded()
    with contextlib.ExitStack() as stack:
        if backend == "tensorflow":
            stack.enter_context(_NO_FUNCTIONS)
        elif backend == "torch":
            stack.enter_context(module.no_grad())
            stack.enter_context(generators_kept())
            if hasattr(module.compiler, "set_stance"):  # torch 2.6 and later
                stack.enter_context(_NO_COMPILER)
        elif disable_jit:
            stack.enter_context(module.disable_jit())
        yield


def generators_kept() -> contextlib.AbstractContextManager[Any]:
    """torch's generators are put back where they were; of GPUs, of all in use.

    Told of none, torch warns on a machine of several, and wakes every one.
    """
    random, cuda, devices = loaded().random, loaded().cuda, None
    if cuda.is_available():
        devices = range(cuda.device_count() if cuda.is_initialized() else 0)
    kept: contextlib.AbstractContextManager[Any] = random.fork_rng(devices)
    return kept


def outside_traces() -> contextlib.AbstractContextManager[Any]:
    """Compute with concrete values here, although somebody is tracing around (JAX)."""
    if keras.backend.backend() == "jax":
        context: contextlib.AbstractContextManager[Any] = (
            loaded().ensure_compile_time_eval()
        )
        return context
    return contextlib.nullcontext()


# The notes of what this thread calls, to be called again (torch): see `notes.Notes`.
noted: contextvars.ContextVar[Any] = contextvars.ContextVar("noted", default=None)


def is_traced(tensor: Any) -> bool:
    """Whether a tensor is symbolic: somebody is tracing."""
    backend, module = keras.backend.backend(), loaded()
    if backend == "jax":
        # A branch of a conditional may close over concrete tensors: what is made there
        # is symbolic all the same.
        here = (tensor, module.numpy.zeros(()))
        return any(isinstance(x, module.core.Tracer) for x in here)
    if backend == "tensorflow":
        return not module.executing_eagerly()
    if noted.get() is not None or not isinstance(tensor, module.Tensor):
        return noted.get() is not None
    # Inside `torch.vmap` or `torch.func.grad` a tensor has no values to look at. There
    # is no public name for it; without this one, looking is torch's own error.
    level = getattr(module._C._functorch, "maybe_get_level", None)
    return level is not None and level(tensor) >= 0


@functools.cache
def tensor_type() -> type:
    """What a tensor is an instance of."""
    backend, module = keras.backend.backend(), loaded()
    kind: type = module.Array if backend == "jax" else module.Tensor
    return kind


def is_hooked() -> bool:
    """Whether somebody listens to the calls of all modules (torch)."""
    if keras.backend.backend() != "torch":
        return False
    module = vars(loaded().nn.modules.module)
    kinds = "_global_forward", "_global_backward"
    hooks = [x for name, x in module.items() if name.startswith(kinds)]
    return not hooks or any(hooks)


def snapshot(variable: keras.Variable) -> Any:
    """A value that later assignments to `variable` leave alone, sharding kept."""
    backend = keras.backend.backend()
    if backend == "torch":
        return variable.value.detach().clone()
    if backend == "tensorflow":
        # A read stays as it is: an assignment gives the variable a new buffer.
        return loaded().identity(variable.value)
    return variable.value  # JAX: immutable


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
    """Tensors as NumPy arrays; on a CPU they share memory, where the backend can.

    bfloat16, which NumPy does not know, becomes float32.
    """
    backend, module = keras.backend.backend(), loaded()
    if backend == "torch":
        return _from_torch(tensors, module)
    found: Sequence[Any]
    if backend == "jax":
        found = list(map(whole, tensors))
        if module.default_backend() == "cpu":  # nothing to transfer
            kind = module.Array
            found = [np.asarray(x) if isinstance(x, kind) else x for x in found]
        else:
            found = module.device_get(found)
    else:
        found = [x.numpy() if hasattr(x, "numpy") else x for x in tensors]
    return [x.astype("float32") if _is_foreign(x) else x for x in found]


def _is_foreign(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind == "V"


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


# Of functions that are noted as a whole, those for a torch tensor of few values, one
# after the other in a CPU's memory: Python between two operations costs more than they.
QUICK: dict[Callable[..., Any], Callable[..., Any]] = {}
# For such functions others that overwrite the tensor, where nobody else reads it.
OWN: dict[Callable[..., Any], Callable[..., Any]] = {}


def as_step(function: Callable[..., Any]) -> Callable[..., Any]:
    """Where calls are noted, a function that is noted as a whole: it may look."""
    notes = noted.get()
    return function if notes is None else functools.partial(notes.step, function)


def fuses() -> bool:
    """Whether `fused` compiles: each shape anew, the result without temporaries."""
    return keras.backend.backend() == "jax"


def fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of tensors, compiled as one where each operation would be: JAX.

    There the first call with a new shape costs one compilation per operation
    otherwise, which for a model of many shapes adds up to seconds.
    """
    if not fuses():
        return as_step(function)
    lasting = inspect.isfunction(function) and function.__closure__ is None
    return _lasting(function) if lasting else _jit(function)


def _jit(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    jitted = loaded().jit(function, **options)
    compiled: Callable[..., Any] = functools.wraps(function)(jitted)
    return compiled


# Each `jit` looks for what is compiled anew, which takes a millisecond.
_lasting = functools.cache(_jit)


# Of XLA on a CPU: arithmetic on elements by its library YNN. Machine code, as it makes
# for each shape by default, takes ten times as long to compile.
_BY_LIBRARY = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_ELTWISE",
    "xla_cpu_opt_preset": "CPU_OPT_PRESET_FAST_COMPILE",
}


@functools.lru_cache(maxsize=64)
def fused_arithmetic(
    function: Callable[..., Any], **options: Any
) -> Callable[..., Any]:
    """As `fused`, by options of `jax.jit`: plain arithmetic on many shapes, quickly."""
    if not fuses():
        return fused(function)
    plain = functools.cache(functools.partial(_jit, function, **options))
    if loaded().default_backend() != "cpu":
        return plain()
    options = {"compiler_options": _BY_LIBRARY, **options}
    quick = functools.cache(lambda: _jit(function, **options))

    def compiled(*arguments: Any) -> Any:
        try:
            return quick()(*arguments)
        except Exception:  # options come and go with the versions
            return plain()(*arguments)

    return compiled
