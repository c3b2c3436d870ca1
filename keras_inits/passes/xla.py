"""Programs by XLA, as they run best on a CPU: JAX."""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from keras_inits.backends import loaded

Program = Callable[..., Any]

# Compiled quickly, since it runs once or twice, a program also keeps padding out of the
# convolutions behind it (an image smaller than its filter becomes one large matrix) and
# ReLU's zeros out of memory. Without the library YNN convolutions run on all cores, but
# grouped ones take twice the work; reductions need it, or they make temporaries.
# LLVM's first level takes a quarter less time than its default, and its code no more.
OPTIONS = {
    "xla_cpu_opt_preset": "CPU_OPT_PRESET_FAST_COMPILE",
    "xla_backend_optimization_level": 1,
}
BY_YNN = ["INDIVIDUAL_DOT", "REDUCE"]

# Of pieces: machine code is made in half of the time, and is no slower.
OF_PIECES = {"xla_cpu_use_fusion_emitters": False}

# The last ones used: the next model often has the same layers.
PROGRAMS: dict[Hashable, Program] = {}
MOST_PROGRAMS = 256
_LOCK = threading.Lock()
# What a text does not say all about: which function of Python a callback calls, say.
_UNSAID = re.compile(r"custom_call @(?!lapack_)|stablehlo\.(send|recv|infeed|outfeed)")


def program(lowered: Any, more: Mapping[str, Any] | None = None) -> Program:
    """What `jax.jit(...).lower(...)` makes, compiled."""
    module = loaded()
    if module.default_backend() == "cpu":
        grouped = re.search("feature_group_count = (?!1 )", lowered.as_text())
        types = [*BY_YNN, "INDIVIDUAL_CONVOLUTION"] if grouped else BY_YNN
        names = ",".join(f"LIBRARY_FUSION_TYPE_{name}" for name in types)
        options = {"xla_cpu_experimental_ynn_fusion_type": names, **(more or {})}
        with contextlib.suppress(Exception):  # options come and go with the versions
            return lowered.compile(compiler_options={**OPTIONS, **options})
    return lowered.compile()


def once(lowered: Any, *, piece: bool) -> Program:
    """The same, known by what it says: every input is to be an argument there."""
    text = lowered.as_text()
    more = OF_PIECES if piece else None
    if getattr(loaded().config, "jax_use_simplified_jaxpr_constants", False):
        return program(lowered, more)  # it does not say its constants then
    if _UNSAID.search(text):
        return program(lowered, more)
    digest = hashlib.sha256(text.encode()).digest()
    key = digest, lowered.in_tree, lowered.out_tree, piece
    with _LOCK:
        found = PROGRAMS.pop(key, None)
    if found is None:
        found = program(lowered, more)
    with _LOCK:
        PROGRAMS[key] = found  # the last one now
        if len(PROGRAMS) > MOST_PROGRAMS:
            del PROGRAMS[next(iter(PROGRAMS))]
    return found
