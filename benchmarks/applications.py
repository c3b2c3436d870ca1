"""Does LSUV cover every model of `keras.applications`, exactly, and at what cost?

Fresh weights, smallest valid input, ten classes; one row per model. "worst" is the
largest |deviation - 1| of a pre-activation, measured without keras_inits: what every
covered layer takes in a forward pass is sent through a linear copy of it.
Times are those of a third call and later, when TensorFlow runs a compiled pass too.
Quick: one model of each of five families; `--full`: all; `--only NAME ...`.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops
from support import models, tables
from support.timing import interleaved

import keras_inits

HEADER = (
    "model",
    "pixels",
    "layers covered",
    "left alone",
    "worst |std - 1|",
    "lsuv_init/forward",
    "in work",
)
QUICK = ("ResNet50", "VGG16", "MobileNetV2", "DenseNet121", "EfficientNetB0")
# The smallest input that each architecture takes is among these.
PIXELS = (32, 71, 75, 96, 224, 331)
# A quarter of what `lsuv_init` draws by default.
BATCH = 64


def names() -> list[str]:
    """Every architecture, by its public name."""
    found = vars(keras.applications)
    return sorted(name for name in found if name[0].isupper() and callable(found[name]))


def smallest(name: str) -> models.Subject:
    """The model at the smallest input that it takes, and a batch.

    Raises:
        ValueError: Keras does not build it (NASNetMobile on PyTorch).
    """
    make = getattr(keras.applications, name)
    for pixels in PIXELS:
        shape = (pixels, pixels, 3)
        try:
            model = make(weights=None, input_shape=shape, classes=10)
        except ValueError as error:
            reason = error
            continue
        return model, models.noise(BATCH, *shape)
    raise reason


def linear_copy(layer: keras.layers.Layer) -> keras.layers.Layer:
    """The same layer without its activation."""
    config = {**layer.get_config(), "activation": "linear"}
    copy = type(layer).from_config(config)
    copy.build(layer.get_build_config()["input_shape"])
    copy.set_weights(layer.get_weights())
    return copy


def held(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers of a model and of the models in it."""
    return [
        inner
        for layer in model.layers
        for inner in (held(layer) if isinstance(layer, keras.Model) else [layer])
    ]


def worst(model: keras.Model, batch: Any, covered: set[str]) -> float:
    """Largest |deviation - 1|, measured by nothing of keras_inits."""
    layers = [layer for layer in held(model) if layer.path in covered]
    deviations = []

    def watched(layer: keras.layers.Layer) -> Callable[..., Any]:
        original, copy = layer.call, linear_copy(layer)

        def call(x: Any, *args: Any, **kwargs: Any) -> Any:
            z = ops.convert_to_numpy(copy.call(x))
            deviations.append(np.std(z.astype("float64")))
            return original(x, *args, **kwargs)

        return call

    for layer in layers:
        vars(layer)["call"] = watched(layer)
    models.forward(model, batch)
    assert len(deviations) == len(layers) == len(covered)
    return float(max(abs(d - 1) for d in deviations))


def row(name: str, subject: models.Subject, rounds: int) -> list[Any]:
    """One model."""
    model, batch = subject
    functions: dict[str, Callable[[], Any]] = {
        "forward": lambda: models.forward(model, batch),
        "lsuv_init": lambda: models.lsuv(model, batch),
    }
    restore = models.restorer(model)
    times = interleaved(functions, rounds, before=restore, warm_up=2)
    report = keras_inits.lsuv_init(model, batch)
    covered = {row.path for row in report if row.std is not None}
    weighted = sum(bool(layer.weights) for layer in held(model))
    return [
        name,
        batch.shape[1],
        len(covered),
        weighted - len(covered),
        worst(model, batch, covered),
        times["lsuv_init"].over(times["forward"]),
        times["lsuv_init"].work_over(times["forward"]),
    ]


def main() -> None:
    """Print the table, a row as soon as it is known."""
    parser = tables.parser(__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="a subset of models")
    parser.add_argument("--rounds", type=int, default=3, help="rounds that count")
    arguments = parser.parse_args()
    tables.print_machine(__doc__)
    known = names()
    chosen = arguments.only or (known if arguments.full else QUICK)
    unknown = sorted(set(chosen) - set(known))
    if unknown:
        raise SystemExit(f"Unknown: {unknown}. There are {', '.join(known)}.")
    rows = []
    for name in chosen:
        keras.utils.set_random_seed(0)
        try:
            subject = smallest(name)
        except ValueError as error:
            print(f"{name}: {error}")
            continue
        rows.append(row(name, subject, arguments.rounds))
        print(*rows[-1], file=sys.stderr, flush=True)
        keras.utils.clear_session()
        gc.collect()
    tables.print_table(HEADER, rows)


if __name__ == "__main__":
    main()
