"""What every program of this folder does: build, compare, say what it found."""

from __future__ import annotations

import contextlib
import faulthandler
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

import keras_inits

FOUND: dict[str, Any] = {}
# Where a process hangs, in its output, just before the test ends it.
faulthandler.dump_traceback_later(float(os.environ.get("DUMP_AFTER", "100")))
DYING = "dying" in sys.argv


def rank() -> int:
    """Which of the processes this is."""
    return int(sys.argv[1])


def port() -> str:
    """A free port on this machine, the same for all processes."""
    return sys.argv[2]


def network(**options: Any) -> keras.Model:
    """Plain layers, with a normalisation among them; the same in every process."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((12,)),
            layers.Dense(16, "relu", kernel_initializer="lsuv_normal", name="first"),
            layers.BatchNormalization(name="norm", **options),
            layers.Dense(16, "tanh", kernel_initializer="lsuv_normal", name="second"),
            layers.Dropout(0.1, name="drop"),
            layers.Dense(4, kernel_initializer="lsuv_normal", name="last"),
        ]
    )


def rows(seed: int, count: int = 64, width: int = 12) -> np.ndarray[Any, Any]:
    """Data of the scale and offset `seed`, so that no two seeds agree."""
    values = np.random.default_rng(seed).normal(size=(count, width))
    return ((1 + seed) * values + 0.1 * seed).astype("float32")


def digest(arrays: Any) -> str:
    """Equal for equal bits."""
    found = hashlib.sha256()
    for x in arrays:
        found.update(np.ascontiguousarray(x).tobytes())
    return found.hexdigest()


def deviation(model: keras.Model, x: Any, name: str = "last") -> float:
    """Of a layer's pre-activation on `x`, by a forward pass of our own."""
    part = keras.Model(model.inputs, model.get_layer(name).output)
    return float(np.std(keras.ops.convert_to_numpy(part(x)), dtype="float64"))


@contextlib.contextmanager
def refused(key: str) -> Iterator[None]:
    """Notes class, message and time of the error that comes."""
    start = time.monotonic()
    try:
        yield
        FOUND[key] = None
    except keras_inits.KerasInitsError as error:
        seconds = time.monotonic() - start
        FOUND[key] = [type(error).__name__, str(error), seconds]


def die_or_notice(model: keras.Model, bits: Callable[[keras.Model], str]) -> None:
    """Process 1 dies without a word; process 0 is to say so, and to change nothing."""
    if rank() == 1:
        os._exit(3)
    before = bits(model)
    os.environ["KERAS_INITS_TIMEOUT"] = "5"
    with refused("dead"):
        keras_inits.lsuv_init(model, rows(0))
    FOUND["as before a death"] = bits(model) == before


def be_late(
    model: keras.Model, own: np.ndarray[Any, Any], bits: Callable[[keras.Model], str]
) -> None:
    """Process 1 comes after the limit; without a limit each goes on alone."""
    before = bits(model)
    os.environ["KERAS_INITS_TIMEOUT"] = "3"
    if rank() == 1:
        time.sleep(6)
    with refused("late"):
        keras_inits.lsuv_init(model, own)
    FOUND["as before a late one"] = bits(model) == before
    os.environ["KERAS_INITS_TIMEOUT"] = "0"
    keras_inits.lsuv_init(model, own)
    FOUND["alone"] = deviation(model, own)


def say() -> None:
    """What was found so far, as the last line that counts."""
    print("FOUND " + json.dumps(FOUND), flush=True)


def leave() -> None:
    """Say what was found and end at once: nobody waits for anybody at exit."""
    say()
    sys.stderr.flush()
    os._exit(0)
