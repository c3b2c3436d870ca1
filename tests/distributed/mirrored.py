"""One process, several replicas: MirroredStrategy on four CPUs."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from common import FOUND, deviation, leave, network, refused, rows

import keras_inits

REPLICAS = 4
CPU = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    CPU, [tf.config.LogicalDeviceConfiguration()] * REPLICAS
)
# Collectives of a second strategy would mix with those of the first.
STRATEGY = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(REPLICAS)])


def apart(strategy: tf.distribute.Strategy, model: keras.Model) -> list[str]:
    """Variables of which two replicas hold different bits."""
    found = []
    for v in model.variables:
        first, *others = strategy.experimental_local_results(v.value)
        if not all(np.array_equal(first.numpy(), x.numpy()) for x in others):
            found.append(v.path.split("/", 1)[-1])
    return sorted(found)


def check() -> None:
    found, strategy = FOUND, STRATEGY
    x = rows(1)
    with strategy.scope():
        model = network()
    found["outside"] = [layer.scale for layer in keras_inits.lsuv_init(model, x)]
    found["apart outside"] = apart(strategy, model)
    found["deviation"] = deviation(model, x)
    with strategy.scope():
        keras_inits.lsuv_init(model, 2 * x, orthonormal=True, center=True)
        keras_inits.initialize(model)
        keras_inits.initialize(model, None)
    found["apart inside"] = apart(strategy, model)
    found["measured"] = len(keras_inits.measure(model, x))
    check_replica(found, strategy, model)
    check_fit(found, strategy, model)


def check_replica(
    found: dict[str, Any], strategy: tf.distribute.Strategy, model: keras.Model
) -> None:
    before = model.get_weights()

    def scale() -> None:
        keras_inits.lsuv_init(model, rows(1))

    def redraw() -> None:
        keras_inits.initialize(model)

    @tf.function(autograph=False)
    def compiled() -> None:
        strategy.run(scale)

    for key, call in (
        ("lsuv_init refused", lambda: strategy.run(scale)),
        ("initialize refused", lambda: strategy.run(redraw)),
        ("compiled refused", compiled),
    ):
        with refused(key):
            call()
    after = model.get_weights()
    found["as before"] = all(map(np.array_equal, before, after))


def check_fit(
    found: dict[str, Any], strategy: tf.distribute.Strategy, model: keras.Model
) -> None:
    x, y = rows(1), np.zeros((64, 4), "float32")
    for key, callbacks in (
        ("plain fit", []),
        ("fit", [keras_inits.LSUV()]),
        ("fit on data", [keras_inits.LSUV(x)]),
    ):
        keras_inits.initialize(model)
        with strategy.scope():
            model.compile("sgd", "mse")
        model.fit(x, y, batch_size=64, shuffle=False, verbose=0, callbacks=callbacks)
        found[f"apart after {key}"] = apart(strategy, model)
        for callback in callbacks:
            found[key] = [layer.std for layer in callback.report]


def first_step(synchronized: bool) -> list[float]:
    """Deviation behind a normalisation, over all replicas, in a first step."""
    strategy, count = STRATEGY, STRATEGY.num_replicas_in_sync
    x = rows(1, 12)  # few rows: what a replica sees is far from what all see
    with strategy.scope():
        model = network(synchronized=synchronized)
    keras_inits.lsuv_init(model, interleaved(x, count), training=True)
    part = keras.Model(model.inputs, model.get_layer("second").input)
    kernel = model.get_layer("second").kernel

    @tf.function
    def step() -> Any:
        def replica() -> Any:
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            own = tf.gather(tf.reshape(x, (count, -1, 12)), number)
            return tf.matmul(part(own, training=True), kernel)

        return strategy.experimental_local_results(strategy.run(replica))

    signal = np.concatenate([z.numpy() for z in step()])
    return [float(signal.std()), *(float(np.std(s)) for s in np.split(signal, count))]


def interleaved(x: np.ndarray, count: int) -> np.ndarray:
    """Row 0 of each replica, then row 1 of each: as what fit draws is read."""
    return x.reshape(count, -1, *x.shape[1:]).swapaxes(0, 1).reshape(x.shape)


check()
FOUND["first step"] = first_step(synchronized=False)
FOUND["first step, synchronised"] = first_step(synchronized=True)
leave()
