"""Two processes under MultiWorkerMirroredStrategy."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from common import (
    DYING,
    FOUND,
    be_late,
    deviation,
    die_or_notice,
    digest,
    leave,
    network,
    rank,
    refused,
    rows,
)

import keras_inits

RANK = rank()
STRATEGY = tf.distribute.MultiWorkerMirroredStrategy()


def bits(model: keras.Model) -> str:
    return digest(v.numpy() for v in model.weights)


def train(model: keras.Model, x: np.ndarray) -> None:
    """One step on all replicas, each with its own batch."""
    with STRATEGY.scope():
        optimizer = keras.optimizers.SGD(0.1)
        optimizer.build(model.trainable_variables)

    @tf.function
    def step() -> None:
        def replica() -> None:
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(model(x, training=True)))
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(
                zip(gradients, model.trainable_variables, strict=True)
            )

        STRATEGY.run(replica)

    step()


def main() -> None:
    with STRATEGY.scope():
        model = network()
        model.compile("sgd", "mse")
    FOUND["built"] = bits(model)
    own, first = rows(RANK), rows(0)

    report = keras_inits.lsuv_init(model, own)
    FOUND["lsuv_init"] = bits(model)
    FOUND["scales"] = [layer.scale for layer in report]
    FOUND["on first data"] = deviation(model, first)
    if DYING:
        die_or_notice(model, bits)
        return
    with STRATEGY.scope():
        keras_inits.lsuv_init(model, own, orthonormal=True)
    FOUND["orthonormal"] = bits(model)
    keras_inits.initialize(model)
    FOUND["initialize"] = bits(model)
    keras_inits.initialize(model, None)
    FOUND["reset"] = bits(model)

    before = bits(model)
    with refused("NaN in process 1"):
        keras_inits.lsuv_init(model, own * (np.nan if RANK else 1))
    FOUND["as before a failure"] = bits(model) == before

    # fit() itself fails under this strategy (keras issue 20585): a loop of our own.
    keras_inits.lsuv_init(model, own)
    train(model, rows(RANK))
    FOUND["trained"] = digest(v.numpy() for v in model.trainable_weights)

    be_late(model, own, bits)


main()
leave()
