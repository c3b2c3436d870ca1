"""Two processes of torch.distributed, DistributedDataParallel around a model."""

from __future__ import annotations

import keras
import numpy as np
import torch
from common import (
    DYING,
    FOUND,
    be_late,
    deviation,
    die_or_notice,
    digest,
    leave,
    network,
    port,
    rank,
    refused,
    rows,
)

import keras_inits

RANK = rank()


def bits(model: keras.Model) -> str:
    return digest(keras.ops.convert_to_numpy(v) for v in model.weights)


def main() -> None:
    keras.utils.set_random_seed(RANK)  # ranks that differ are made one
    model = network()
    FOUND["built"] = bits(model)
    own = rows(RANK)
    report = keras_inits.lsuv_init(model, own)
    FOUND["lsuv_init"] = bits(model)
    FOUND["scales"] = [layer.scale for layer in report]
    FOUND["on first data"] = deviation(model, rows(0))
    keras_inits.lsuv_init(model, own, orthonormal=True, center=True, training=True)
    FOUND["orthonormal"] = bits(model)
    keras_inits.initialize(model)
    FOUND["initialize"] = bits(model)

    parallel = torch.nn.parallel.DistributedDataParallel(model)
    keras_inits.lsuv_init(model, own)
    FOUND["wrapped"] = bits(model)
    if DYING:
        die_or_notice(model, bits)
        return
    optimizer = torch.optim.SGD(parallel.parameters(), lr=0.1)
    parallel(torch.from_numpy(own)).square().mean().backward()
    optimizer.step()
    FOUND["trained"] = bits(model)

    model.compile("sgd", "mse")
    callback = keras_inits.LSUV()
    model.fit(own, np.zeros((64, 4)), batch_size=64, verbose=0, callbacks=[callback])
    FOUND["fit: scale"] = callback.report[0].scale
    troubles(model, own)


def troubles(model: keras.Model, own: np.ndarray) -> None:
    before = bits(model)
    with refused("NaN in process 1"):
        keras_inits.lsuv_init(model, own * (np.nan if RANK else 1))
    with refused("another call"):
        if RANK:
            keras_inits.initialize(model)
        else:
            keras_inits.lsuv_init(model, own)
    original = keras.Variable.assign
    if RANK:  # one process cannot write
        keras.Variable.assign = broken
    with refused("no room in process 1"):
        keras_inits.lsuv_init(model, own * 3)
    keras.Variable.assign = original
    FOUND["as before a failure"] = bits(model) == before
    be_late(model, own, bits)


def broken(self: keras.Variable, value: object) -> None:
    keras.Variable.assign = ORIGINAL  # the first one only
    raise keras_inits.KerasInitsError("no room")


ORIGINAL = keras.Variable.assign
torch.distributed.init_process_group(
    "gloo", init_method=f"tcp://localhost:{port()}", rank=RANK, world_size=2
)
main()
leave()
