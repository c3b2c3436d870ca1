"""Writes docs/initialize.md: the output variance that a string gives, layer by layer.

Run it from the repository root: python docs/tables/initialize.py
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops

import keras_inits

PAGE = Path(__file__).parent.parent / "initialize.md"
DRAWS = 8

HEAD = """# What a string means for each layer

`"lecun_normal"` promises a kernel of variance 1 / fan-in: inputs of variance 1 give
outputs of variance 1. Whether they do depends on what the layer's fan-in is taken to
be. Keras goes by the kernel's shape alone; `initialize(model, "lecun_normal")` goes by
the layer's linear map. Measured: variance of the output (of `W x`, away from the rim of
an image), {draws} draws of the kernel, standard normal inputs, Keras {version} on
{backend}. Written by `docs/tables/initialize.py`.

| layer | Keras's own string | `initialize` | what is counted |
|---|---|---|---|
"""

FOOT = """
The same holds for every scaling law (`"he_normal"`, `"glorot_uniform"`,
`"kaiming_normal"`, ...), each with its own factor, and for orthonormal ones, which are
drawn for each gate, group and channel on its own.

`initialize(model)` draws `"auto"`: the variance `gain(f)^2 / fan_in` of each layer's
own activation, see [Gains](gains.md). What it cannot know:

- **Sums of branches add variances.** Behind `n` residual additions of branches that
  start from a normalisation the variance is `n + 1` times that of the start, and
  without one up to `2^n` times. Scale the last kernel of each branch
  (`initialize(model, {{"*_branch_out": "zeros"}})` starts at the identity), or
  normalise.
- **Activations that are not homogeneous** hold the size only near variance 1.
- **Recurrent kernels** stay as they are. Keras's orthogonal law is right for
  `SimpleRNN`. The gates of a GRU or an LSTM it draws as one matrix
  `(units, gates * units)` with orthogonal rows: each gate hands on 1/3 or 1/4 of the
  variance of the state (0.33 and 0.25 measured), and is not orthogonal itself.
- **Biases** stay, except under `initialize(model, None)`, which draws every weight
  by the initializer that its layer was made with.
"""


class Case(NamedTuple):
    """A layer, the shape of its input, and how wide a rim to leave out."""

    name: str
    build: Callable[[str], Any]
    shape: tuple[int, ...]
    counted: str
    rim: int = 0


def cases() -> list[Case]:
    """In the order of the page."""
    images = (14, 14, 64)
    return [
        Case(
            "`Dense(128)`",
            lambda s: layers.Dense(128, kernel_initializer=s),
            (128,),
            "inputs",
        ),
        Case(
            "`Conv2D(64, 3)`",
            lambda s: layers.Conv2D(64, 3, kernel_initializer=s),
            images,
            "receptive field x inputs",
        ),
        Case(
            "`Conv2D(64, 3, groups=8)`",
            lambda s: layers.Conv2D(64, 3, groups=8, kernel_initializer=s),
            images,
            "inputs of one group",
        ),
        Case(
            "`DepthwiseConv2D(3)`, 64 channels",
            lambda s: layers.DepthwiseConv2D(3, depthwise_initializer=s),
            images,
            "receptive field of one channel",
        ),
        Case(
            "`SeparableConv2D(64, 3)`",
            lambda s: layers.SeparableConv2D(
                64, 3, depthwise_initializer=s, pointwise_initializer=s
            ),
            images,
            "both stages",
        ),
        Case(
            "`Conv2DTranspose(16, 3)`",
            lambda s: layers.Conv2DTranspose(16, 3, kernel_initializer=s),
            images,
            "inputs, not filters",
            2,
        ),
        Case(
            "`Conv2DTranspose(64, 4, strides=2)`",
            lambda s: layers.Conv2DTranspose(64, 4, strides=2, kernel_initializer=s),
            images,
            "the quarter of the field that an output sees",
            4,
        ),
        Case(
            '`EinsumDense("abc,cde->abde")`, 4 heads',
            lambda s: layers.EinsumDense(
                "abc,cde->abde", (None, 4, 16), kernel_initializer=s
            ),
            (6, 64),
            "inputs",
        ),
        Case(
            "`Embedding(500, 64)`",
            lambda s: layers.Embedding(500, 64, embeddings_initializer=s),
            (8,),
            "one row at a time",
        ),
        Case(
            "`LSTM(64)`, each gate, `glorot_uniform`",
            lambda s: layers.LSTM(64, kernel_initializer="glorot_uniform"),
            (8, 64),
            "outputs of one gate",
        ),
    ]


def variance(case: Case, ours: bool, seed: int) -> float:
    """Of the layer's `W x`, under Keras's string or `initialize`."""
    keras.utils.set_random_seed(seed)
    layer = case.build("lecun_normal")
    lookup = isinstance(layer, layers.Embedding)
    inputs = keras.Input(case.shape, dtype="int32" if lookup else "float32")
    model = keras.Model(inputs, layer(inputs))
    generator = np.random.default_rng(seed)
    x: Any = generator.standard_normal((16, *case.shape)).astype("float32")
    if lookup:
        x = generator.integers(0, 500, (16, *case.shape))
    recurrent = isinstance(layer, layers.RNN)
    if ours:
        keras_inits.initialize(model, "glorot_uniform" if recurrent else "lecun_normal")
    if recurrent:  # what reaches the gates: the mean over them
        return float(np.var(x @ ops.convert_to_numpy(layer.cell.kernel)))
    y = ops.convert_to_numpy(model(x))
    if case.rim:
        y = y[:, case.rim : -case.rim, case.rim : -case.rim]
    return float(np.var(y))


def row(case: Case) -> str:
    """One line of the table."""
    found = [
        np.mean([variance(case, ours, seed) for seed in range(DRAWS)])
        for ours in (False, True)
    ]
    shown = (f"{x:.2f}" if x >= 0.1 else f"{x:.2g}" for x in found)
    cells = [case.name, *shown, case.counted]
    return f"| {' | '.join(cells)} |"


def page() -> str:
    """The page as it is to be."""
    names = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
    head = HEAD.format(
        draws=DRAWS,
        version=keras.__version__,
        backend=names[keras.backend.backend()],
    )
    return head + "\n".join(map(row, cases())) + "\n" + FOOT.format()


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
