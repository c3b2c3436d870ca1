"""The main job, on real data: a plain network that only trains when initialised well.

40 Dense layers of width 64 with ReLU, no normalisation, no skip connection, on
scikit-learn's 1,797 handwritten digits. Under Keras's default initializer its signal
dies on the way; under LSUV it does not.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_inits.callbacks import LSUV

DEPTH, WIDTH, EPOCHS, BATCH = 40, 64, 12, 64


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


def plain_network(kernel_initializer: str) -> keras.Model:
    """40 hidden layers and nothing that would help the signal along."""
    hidden = [
        keras.layers.Dense(
            WIDTH,
            activation="relu",
            kernel_initializer=kernel_initializer,
            name=f"dense_{i + 1}",
        )
        for i in range(DEPTH)
    ]
    output = keras.layers.Dense(
        10,
        activation="softmax",
        kernel_initializer=kernel_initializer,
        name="digit",
    )
    model = keras.Sequential([keras.Input((64,)), *hidden, output], name="plain")
    model.compile(
        optimizer=keras.optimizers.Adam(3e-4),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def train(kernel_initializer: str, callbacks: list[Any]) -> tuple[keras.Model, float]:
    """Train the network; returns it with its accuracy on the test set."""
    keras.utils.set_random_seed(0)
    x_train, y_train, x_test, y_test = digits()
    model = plain_network(kernel_initializer)
    model.fit(
        x_train,
        y_train,
        epochs=EPOCHS,
        batch_size=BATCH,
        verbose=0,
        callbacks=callbacks,
    )
    return model, float(model.evaluate(x_test, y_test, verbose=0)[1])


def run() -> int:
    """Train both networks, print the report, save, reload and check."""
    x_train, _, x_test, _ = digits()
    print(f"{DEPTH} plain Dense layers of {WIDTH} units on {len(x_train)} real digits.")
    lsuv = LSUV(x_train)
    model, accuracy = train("lsuv_normal", [lsuv])
    print(lsuv.report)
    _, default = train("glorot_uniform", [])
    print("Test accuracy after", EPOCHS, "epochs:")
    print(f"  Keras's default initializer     {default:6.1%}")
    print(f"  lsuv_normal and the callback    {accuracy:6.1%}")

    path = Path(tempfile.mkdtemp(prefix="keras_inits_")) / "digits.keras"
    model.save(path)
    again = keras.saving.load_model(path)
    same = np.array_equal(
        model.predict(x_test, verbose=0), again.predict(x_test, verbose=0)
    )
    print(f"Saved as {path}; reloaded, its predictions are", end=" ")
    print("the same." if same else "NOT the same.")
    return 0 if same and accuracy > default else 1
