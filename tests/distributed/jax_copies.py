"""Two processes of jax.distributed, each with a model of its own."""

from __future__ import annotations

import time

import jax
import keras
import numpy as np
from common import FOUND, deviation, digest, leave, network, port, rank, rows, say

import keras_inits

RANK = rank()


def bits(model: keras.Model) -> str:
    return digest(np.asarray(v.value) for v in model.weights)


def main() -> None:
    keras.utils.set_random_seed(RANK)
    model = network()
    FOUND["built"] = bits(model)
    report = keras_inits.lsuv_init(model, rows(RANK))
    FOUND["lsuv_init"] = bits(model)
    FOUND["scales"] = [layer.scale for layer in report]
    FOUND["on first data"] = deviation(model, rows(0))
    keras_inits.initialize(model)
    FOUND["initialize"] = bits(model)
    say()
    time.sleep(3 * (RANK == 0))  # JAX ends the others when the first one leaves


jax.distributed.initialize(f"localhost:{port()}", 2, RANK)
main()
leave()
