"""Seven kinds of network that people build, as small as they can be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from models import Built, normal


class Position(layers.Layer):
    """Adds a learned vector per position: a weight that is no linear map."""

    def build(self, shape: Any) -> None:
        self.table = self.add_weight(
            shape=tuple(shape[1:]), initializer="random_normal", name="table"
        )

    def call(self, x: Any) -> Any:
        return x + self.table


def tokens(rows: int = 32, length: int = 6) -> np.ndarray[Any, Any]:
    """Indices below 9; 0 is padding at the end of a row."""
    generator = np.random.default_rng(0)
    indices = generator.integers(1, 9, (rows, length))
    lengths = generator.integers(2, length + 1, (rows, 1))
    return np.where(np.arange(length) < lengths, indices, 0)


def block(x: Any, *, causal: bool) -> Any:
    """Attention and a perceptron, each behind a normalisation, both residual."""
    y = layers.LayerNormalization()(x)
    attend = layers.MultiHeadAttention(2, 4, dropout=0.1)
    x = layers.Add()([x, attend(y, y, use_causal_mask=causal)])
    y = layers.LayerNormalization()(x)
    y = layers.Dense(8)(layers.Dense(16, activation="gelu")(y))
    return layers.Add()([x, y])


def vision_transformer() -> Built:
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(8, 4, strides=4)(inputs)
    x = Position()(layers.Reshape((4, 8))(x))
    x = block(x, causal=False)
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(inputs, layers.Dense(8)(x)), normal(32, 8, 8, 4)


def decoder() -> Built:
    """Decoder-only transformer over tokens."""
    inputs = keras.Input((6,), dtype="int32")
    x = Position()(layers.Embedding(9, 8)(inputs))
    x = block(x, causal=True)
    return keras.Model(inputs, layers.Dense(9, activation="softmax")(x)), tokens()


def u_net() -> Built:
    """Down twice, up twice by transposed convolutions, with skips."""

    def conv(x: Any) -> Any:
        return layers.Conv2D(4, 3, padding="same", activation="relu")(x)

    inputs = keras.Input((8, 8, 4))
    first = conv(inputs)
    second = conv(layers.MaxPooling2D()(first))
    x = conv(layers.MaxPooling2D()(second))
    for skip in (second, first):
        x = layers.Conv2DTranspose(4, 2, strides=2)(x)
        x = conv(layers.Concatenate()([x, skip]))
    mask = layers.Conv2D(1, 1, activation="sigmoid")(x)
    return keras.Model(inputs, mask), normal(32, 8, 8, 4)


def tagger() -> Built:
    """Embeddings under a mask, a bidirectional LSTM, a label for each step.

    Without padding, of which the textbook knows nothing: see `test_masks`.
    """
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(9, 8, mask_zero=True)(inputs)
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(x)
    x = layers.TimeDistributed(layers.Dense(5, activation="softmax"))(x)
    return keras.Model(inputs, x), np.maximum(tokens(), 1)


def wavenet() -> Built:
    """Dilated causal convolutions with gates, residuals and a sum of skips."""
    inputs = keras.Input((8, 1))
    x, skips = layers.Conv1D(4, 1)(inputs), []
    for dilation in (1, 2, 4):

        def causal(x: Any, f: str, dilation: int = dilation) -> Any:
            return layers.Conv1D(
                4, 2, padding="causal", dilation_rate=dilation, activation=f
            )(x)

        gated = layers.Multiply()([causal(x, "tanh"), causal(x, "sigmoid")])
        skips.append(layers.Conv1D(4, 1)(gated))
        x = layers.Add()([x, skips[-1]])
    x = layers.Activation("relu")(layers.Add()(skips))
    return keras.Model(inputs, layers.Conv1D(8, 1)(x)), normal(32, 8, 1)


def siamese() -> Built:
    """One encoder for two pictures, and a judge of their distance."""
    encoder = keras.Sequential(
        [
            keras.Input((8, 8, 4)),
            layers.Conv2D(4, 3, padding="same", activation="relu"),
            layers.GlobalMaxPooling2D(),
            layers.Dense(6),
        ],
        name="encoder",
    )
    left, right = keras.Input((8, 8, 4)), keras.Input((8, 8, 4))
    distance = ops.abs(encoder(left) - encoder(right))
    model = keras.Model([left, right], layers.Dense(1, "sigmoid")(distance))
    return model, [normal(32, 8, 8, 4), 2 * normal(32, 8, 8, 4, seed=1)]


def generator() -> Built:
    """Noise to picture, as in a GAN."""
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(16, use_bias=False),
            layers.BatchNormalization(),
            layers.LeakyReLU(),
            layers.Reshape((2, 2, 4)),
            layers.Conv2DTranspose(4, 4, 2, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.LeakyReLU(),
            layers.Conv2DTranspose(3, 4, 2, padding="same", activation="tanh"),
        ]
    )
    return model, normal(32, 6)


ARCHITECTURES: dict[str, Callable[[], Built]] = {
    "vision_transformer": vision_transformer,
    "decoder": decoder,
    "u_net": u_net,
    "tagger": tagger,
    "wavenet": wavenet,
    "siamese": siamese,
    "generator": generator,
}
