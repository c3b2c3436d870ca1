"""Small models of every shape that Keras can build: `(model, data)` each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

import keras_inits

Built = tuple[keras.Model, Any]


def normal(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Standard-normal data in float32."""
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def dense_stack() -> Built:
    """Activations that are homogeneous, saturating, smooth, layers, and none."""
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(6, activation="relu"),
            layers.Dense(6, activation="tanh", use_bias=False),
            layers.Dense(6, activation=layers.LeakyReLU(0.1)),
            layers.Dropout(0.5),
            layers.Dense(6, activation="gelu"),
            layers.LayerNormalization(),
            layers.Dense(6, activation="softmax"),
        ]
    )
    return model, normal(32, 6)


def convnet() -> Built:
    """Residual, with BatchNormalization, pooling, dropout and two branches."""
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    x = layers.BatchNormalization()(x)
    y = layers.Conv2D(4, 3, padding="same")(x)
    x = layers.Activation("relu")(layers.Add()([x, y]))
    x = layers.MaxPooling2D()(x)
    a = layers.Conv2D(4, 3, padding="same", activation="tanh")(x)
    b = layers.SpatialDropout2D(0.5)(layers.Conv2D(4, 3, padding="same")(x))
    x = layers.Flatten()(layers.Concatenate()([a, b]))
    return keras.Model(inputs, layers.Dense(6)(x)), normal(32, 8, 8, 4)


def nested() -> Built:
    """A Sequential in a Functional model in a Sequential."""
    inner = keras.Sequential([layers.Dense(6, activation="relu"), layers.Dense(6)])
    inputs = keras.Input((6,))
    middle = keras.Model(inputs, layers.Dense(6)(inner(layers.Dense(6)(inputs))))
    model = keras.Sequential([keras.Input((6,)), middle, layers.Dense(6)])
    return model, normal(32, 6)


class Branching(keras.Model):
    """Python control flow, layers in lists and dicts, one that is never called."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.blocks = [layers.Dense(6, name=f"block_{i}") for i in range(3)]
        self.heads = {"a": layers.Dense(6, name="a"), "b": layers.Dense(6, name="b")}
        self.unused = layers.Dense(6, name="unused")

    def build(self, input_shape: Any) -> None:
        self.unused.build((None, 6))
        self.built = True

    def call(self, x: Any, training: bool = False) -> Any:
        for depth, block in enumerate(reversed(self.blocks)):
            x = ops.relu(block(x)) if depth % 2 else ops.tanh(block(x)) + 0.1 * depth
        head = self.heads["a"] if len(x.shape) == 2 else self.heads["b"]
        return head(x)


def subclassed() -> Built:
    model, x = Branching(), normal(32, 6)
    model(x[:1])
    return model, x


def several() -> Built:
    """Two inputs, two outputs."""
    left, right = keras.Input((6,), name="left"), keras.Input((3, 2), name="right")
    a = layers.Dense(6, activation="relu")(left)
    b = layers.Flatten()(layers.Conv1D(3, 2, activation="relu")(right))
    model = keras.Model([left, right], [layers.Dense(6)(a + b), layers.Dense(6)(a)])
    return model, [normal(32, 6), normal(32, 3, 2, seed=1)]


def from_dict() -> Built:
    """Inputs in a dict, whose order is not that of the data."""
    left, right = keras.Input((4,), name="left"), keras.Input((3,), name="right")
    a = layers.Dense(5, activation="relu", name="on_left")(left)
    b = layers.Dense(5, activation="relu", name="on_right")(right)
    model = keras.Model({"left": left, "right": right}, {"sum": layers.Dense(2)(a + b)})
    return model, {"right": 3 * normal(32, 3), "left": normal(32, 4, seed=1)}


def shared() -> Built:
    """One layer called three times, the first time on the second input."""
    first, second = keras.Input((6,)), keras.Input((6,))
    layer = layers.Dense(6, activation="tanh", name="thrice")
    y = layers.Dense(6, activation="relu", name="front")(second)
    z = layer(y)
    out = layers.Dense(6, name="last")(layer(z) + layer(first))
    return keras.Model([first, second], out), [normal(32, 6), normal(32, 6, seed=1)]


class Tied(layers.Layer):
    """`x W^T` with the kernel of another layer."""

    def __init__(self, source: layers.Dense, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source = source

    def call(self, x: Any) -> Any:
        return ops.matmul(x, ops.transpose(ops.convert_to_tensor(self.source.kernel)))


def tied() -> Built:
    """A kernel that is used again, transposed, further down."""
    inputs = keras.Input((6,))
    encoder = layers.Dense(6, activation="tanh", name="encoder")
    x = encoder(inputs)
    x = layers.Dense(6, name="middle")(x)
    return keras.Model(inputs, Tied(encoder)(x)), normal(32, 6)


def marked() -> Built:
    """Only two of four layers ask for LSUV."""
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(6, name="plain", activation="relu"),
            layers.Dense(6, name="asks", kernel_initializer="lsuv_normal"),
            layers.Dense(6, name="plain_too"),
            layers.Dense(
                6, name="asks_too", kernel_initializer=keras_inits.LSUVNormal(seed=1)
            ),
        ]
    )
    return model, normal(32, 6)


MODELS: dict[str, Callable[[], Built]] = {
    "dense_stack": dense_stack,
    "convnet": convnet,
    "nested": nested,
    "subclassed": subclassed,
    "several": several,
    "from_dict": from_dict,
    "shared": shared,
    "tied": tied,
}


def twice(builder: Callable[[], Built]) -> tuple[Built, Built]:
    """Two models with equal weights, and the same data."""
    first, second = builder(), builder()
    second[0].set_weights(first[0].get_weights())
    return first, second
