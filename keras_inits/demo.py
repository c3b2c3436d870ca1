"""The main job, on real data: plain networks that only train when initialised well.

40 Dense layers of width 64, no normalisation, no skip connection, on scikit-learn's
1,797 handwritten digits. Under Keras's default initializer the signal dies on the way;
under LSUV it does not. Two more ways, for those that LSUV does not serve best: GELU by
the strings of looks-linear, tanh by the critical target.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_inits.callbacks import LSUV
from keras_inits.initializers import LooksLinear

DEPTH, WIDTH, EPOCHS, BATCH = 40, 64, 12, 64


class Start(NamedTuple):
    """One way to begin.

    Args:
        text: What it is, for the table.
        activation: Of the hidden layers.
        kernels: Initializers of the first, the other hidden, and the last layer.
        callback: Makes the callback that initialises on the data, if any.
    """

    text: str
    activation: str
    kernels: tuple[Any, Any, Any]
    callback: Callable[[], LSUV] | None = None


DEFAULT = Start("Keras's default initializer", "relu", ("glorot_uniform",) * 3)
STARTS = (
    Start('"lsuv_normal" and LSUV()', "relu", ("lsuv_normal",) * 3, LSUV),
    Start(
        '"looks_linear_first", "looks_linear"',
        "gelu",
        ("looks_linear_first", "looks_linear", LooksLinear(mirrored_output=False)),
    ),
    Start(
        '"lsuv_normal" and LSUV(target_std="critical")',
        "tanh",
        ("lsuv_normal",) * 3,
        lambda: LSUV(target_std="critical"),
    ),
)


def digits() -> tuple[Any, Any, Any, Any]:
    """Standardised 8 x 8 digits: x_train, y_train, x_test, y_test."""
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise SystemExit(
            "The demo trains on scikit-learn's digits. Install them with "
            "pip install 'keras-inits[demo]'."
        ) from error
    x, y = load_digits(return_X_y=True)
    x = ((x - x.mean()) / x.std()).astype("float32")
    parts = train_test_split(x, y, test_size=0.25, random_state=0, stratify=y)
    x_train, x_test, y_train, y_test = parts
    return x_train, y_train, x_test, y_test


def plain_network(start: Start) -> keras.Model:
    """Hidden layers and nothing that would help the signal along."""
    first, hidden, last = start.kernels
    kernels = [first] + [hidden] * (DEPTH - 1)
    layers = [
        keras.layers.Dense(
            WIDTH,
            activation=start.activation,
            kernel_initializer=kernel,
            name=f"dense_{i + 1}",
        )
        for i, kernel in enumerate(kernels)
    ]
    output = keras.layers.Dense(
        10, activation="softmax", kernel_initializer=last, name="digit"
    )
    model = keras.Sequential([keras.Input((64,)), *layers, output], name="plain")
    model.compile(
        optimizer=keras.optimizers.Adam(3e-4),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def train(start: Start) -> tuple[keras.Model, float, LSUV | None]:
    """Train the network; returns it, its accuracy on the test set, the callback."""
    keras.utils.set_random_seed(0)
    x_train, y_train, x_test, y_test = digits()
    model = plain_network(start)
    callback = None if start.callback is None else start.callback()
    model.fit(
        x_train,
        y_train,
        epochs=EPOCHS,
        batch_size=BATCH,
        verbose=0,
        callbacks=[] if callback is None else [callback],
    )
    return model, float(model.evaluate(x_test, y_test, verbose=0)[1]), callback


def run() -> int:
    """Train every network, print the report, save, reload and check."""
    x_train, _, x_test, _ = digits()
    print(f"{DEPTH} plain Dense layers of {WIDTH} units on {len(x_train)} real digits.")
    model, accuracy, lsuv = train(STARTS[0])
    if lsuv is not None:
        print(lsuv.report)
    print("Test accuracy after", EPOCHS, "epochs:")
    default = train(DEFAULT)[1]
    _say(DEFAULT, default)
    _say(STARTS[0], accuracy)
    better = accuracy > default
    for start in STARTS[1:]:
        _, accuracy, callback = train(start)
        report = None if callback is None else callback.report
        note = "" if report is None else f", target found: {report.target_std:.2g}"
        _say(start, accuracy, note)
        better = better and accuracy > default
    return 0 if _saves(model, x_test) and better else 1


def _say(start: Start, accuracy: float, note: str = "") -> None:
    print(f"  {start.activation:4}  {start.text:45}  {accuracy:6.1%}{note}", flush=True)


def _saves(model: keras.Model, x: Any) -> bool:
    """Save, load, and compare the predictions."""
    path = Path(tempfile.mkdtemp(prefix="keras_inits_")) / "digits.keras"
    model.save(path)
    again = keras.saving.load_model(path)
    same = np.array_equal(model.predict(x, verbose=0), again.predict(x, verbose=0))
    print(f"Saved as {path}; reloaded, its predictions are", end=" ")
    print("the same." if same else "NOT the same.")
    return same
