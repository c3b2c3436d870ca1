"""Two processes, two devices each: jax.distributed under keras.distribution."""

from __future__ import annotations

import os
import time
from typing import Any

import jax
import keras
import numpy as np
from common import (
    DYING,
    FOUND,
    die_or_notice,
    digest,
    leave,
    network,
    port,
    rank,
    refused,
    rows,
    say,
)

import keras_inits

RANK = rank()
jax.distributed.initialize(f"localhost:{port()}", 2, RANK)


def layout(kind: str) -> Any:
    devices = keras.distribution.list_devices()
    if kind == "DataParallel":
        return keras.distribution.DataParallel(
            devices=devices, auto_shard_dataset=False
        )
    shape = (1, 4) if kind == "ModelParallel" else (2, 2)
    mesh = keras.distribution.DeviceMesh(shape, ["batch", "model"], devices)
    layouts = keras.distribution.LayoutMap(mesh)
    layouts[".*(first|second).*kernel"] = (None, "model")
    layouts[".*(first|second).*bias"] = ("model",)
    return keras.distribution.ModelParallel(
        layout_map=layouts, batch_dim_name="batch", auto_shard_dataset=False
    )


def bits(model: keras.Model) -> str:
    """Of all weights, each in full."""
    return digest(whole(v.value) for v in model.weights)


def whole(x: Any) -> np.ndarray:
    if x.is_fully_replicated:
        return np.asarray(x.addressable_data(0))
    spread = jax.sharding.NamedSharding(x.sharding.mesh, jax.sharding.PartitionSpec())
    return np.asarray(jax.jit(lambda x: x, out_shardings=spread)(x).addressable_data(0))


def check(kind: str) -> keras.Model:
    found: dict[str, Any] = {}
    FOUND[kind] = found
    keras.utils.set_random_seed(0)
    with layout(kind).scope():
        model = network()
        before = [v.value.sharding for v in model.variables]
        found["built"] = bits(model)
        report = keras_inits.lsuv_init(model, rows(RANK))
        found["lsuv_init"] = bits(model)
        found["scales"] = [layer.scale for layer in report]
        keras.utils.set_random_seed(RANK)  # seeds that differ are made one
        keras_inits.lsuv_init(model, rows(RANK), orthonormal=True, center=True)
        keras_inits.initialize(model)
        found["initialize"] = bits(model)
        keras_inits.initialize(model, None)
        found["reset"] = bits(model)
        found["measured"] = len(keras_inits.measure(model, rows(0)))
        model.compile("sgd", "mse")
        callback = keras_inits.LSUV()
        model.fit(
            rows(RANK),
            np.zeros((64, 4)),
            batch_size=64,
            shuffle=False,
            verbose=0,
            callbacks=[callback],
        )
        found["fit"] = [layer.std for layer in callback.report]
        found["trained"] = bits(model)
        now = [v.value.sharding for v in model.variables]
        found["kept"] = now[: len(before)] == before
    return model


def check_troubles(model: keras.Model) -> None:
    before = bits(model)
    with refused("NaN in process 0"):
        keras_inits.lsuv_init(model, rows(0) * (1 if RANK else np.nan))
    FOUND["as before a failure"] = bits(model) == before
    held = addresses(model)
    os.environ["KERAS_INITS_TIMEOUT"] = "3"
    if RANK == 1:
        say()  # JAX ends this process when the first one leaves
        time.sleep(6)
    with refused("late"):
        keras_inits.lsuv_init(model, rows(0))
    # The other process is busy elsewhere: nothing may be computed with it.
    FOUND["as before a late one"] = addresses(model) == held


def addresses(model: keras.Model) -> str:
    """Equal where no value was replaced; needs no other process."""
    return str([id(v.value) for v in model.weights])


def main() -> None:
    if DYING:
        keras.utils.set_random_seed(0)
        with layout("both").scope():
            model = network()
            keras_inits.lsuv_init(model, rows(RANK))
            die_or_notice(model, addresses)
        return
    check("DataParallel")
    check("ModelParallel")
    model = check("both")
    with layout("both").scope():
        check_troubles(model)


main()
leave()
