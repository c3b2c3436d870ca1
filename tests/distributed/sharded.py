"""One process, four devices: keras.distribution on JAX."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from common import FOUND, deviation, leave, network, rows

import keras_inits


def shardings(model: keras.Model) -> list[Any]:
    return [v.value.sharding for v in model.variables]


def layout(kind: str) -> Any:
    devices = keras.distribution.list_devices()
    if kind == "DataParallel":
        return keras.distribution.DataParallel(devices=devices)
    mesh = keras.distribution.DeviceMesh((2, 2), ["batch", "model"], devices)
    layouts = keras.distribution.LayoutMap(mesh)
    layouts[".*(first|second|big).*kernel"] = (None, "model")
    layouts[".*(first|second|big).*bias"] = ("model",)
    return keras.distribution.ModelParallel(layout_map=layouts, batch_dim_name="batch")


def kernels(model: keras.Model) -> list[np.ndarray]:
    return [
        np.asarray(layer.kernel) for layer in model.layers if hasattr(layer, "kernel")
    ]


def places(model: keras.Model) -> list[int]:
    """Where the first part of each kernel lies."""
    held = [x.kernel for x in model.layers if hasattr(x, "kernel")]
    shards = (kernel.value.addressable_shards[0] for kernel in held)
    return [shard.data.unsafe_buffer_pointer() for shard in shards]


def check(kind: str) -> None:
    keras.utils.set_random_seed(0)
    plain = network()
    keras_inits.lsuv_init(plain, rows(0))
    keras.utils.set_random_seed(0)
    with layout(kind).scope():
        model = network()
        before, memory = shardings(model), places(model)
        report = keras_inits.lsuv_init(model, rows(0))
        figures = {
            "kept": shardings(model) == before,
            "in its memory": places(model) == memory,
            "scales": [layer.scale for layer in report],
            "as on one device": max(
                float(np.abs(a - b).max())
                for a, b in zip(kernels(plain), kernels(model), strict=True)
            ),
            "spread": len(model.get_layer("second").kernel.value.sharding.device_set),
            "split": not model.get_layer(
                "second"
            ).kernel.value.sharding.is_fully_replicated,
        }
        keras_inits.lsuv_init(model, rows(0), center=True, per_channel=True)
        keras_inits.initialize(model, None)
        keras_inits.lsuv_init(model, rows(0)[:3], orthonormal=True, training=True)
        keras_inits.initialize(model)
        keras_inits.measure(model, rows(0))
        figures["kept by all"] = shardings(model) == before
        for key, data in (("fit", None), ("fit on data", rows(0))):
            keras_inits.initialize(model)
            model.compile("sgd", "mse")
            callback = keras_inits.LSUV(data)
            labels = np.zeros((64, 4))
            model.fit(
                rows(0),
                labels,
                batch_size=64,
                shuffle=False,
                verbose=0,
                callbacks=[callback],
            )
            figures[key] = [layer.std for layer in callback.report]
            figures[key + ": kept"] = shardings(model)[: len(before)] == before
        keras_inits.lsuv_init(model, rows(1))
        figures["deviation"] = deviation(model, rows(1))
    FOUND[kind] = figures


check("DataParallel")
check("ModelParallel")
leave()
