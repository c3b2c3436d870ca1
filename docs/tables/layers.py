"""Writes docs/layers.md: what LSUV, `measure` and `initialize` do with each layer.

Run it from the repository root: python docs/tables/layers.py
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import keras

from keras_inits.linear_maps.recurrent import CELL_GATES
from keras_inits.linear_maps.registry import registered

PAGE = Path(__file__).parent.parent / "layers.md"

HEAD = """# Layers

Every class of `keras.layers` that owns or holds weights (Keras {version}), and what
`lsuv_init`, `measure` and `initialize` do with it. Written by `docs/tables/layers.py`.

A layer of your own joins in by `keras_inits.register_linear_map`; one with a weight
made by `"lsuv_normal"` is initialised even without. Nested models are covered by the
layers that they hold.

| layer | | |
|---|---|---|
"""

COVERED = {
    "Conv": "kernel; groups, dilation, both data formats",
    "ConvTranspose": "kernel; the stride counts in the fan-in",
    "ConvLSTM": "input kernel, each gate on its own; the recurrent kernel stays",
    "Dense": "kernel",
    "Depthwise": "kernel, each channel a map of its own",
    "EinsumDense": "kernel; inputs and outputs read from the equation",
    "Embedding": "table, as the map of a one-hot input",
    "GRU": "input kernel, each gate on its own; the recurrent kernel stays",
    "LSTM": "input kernel, each gate on its own; the recurrent kernel stays",
    "RNN": "input kernels of its cells, stacked ones too; recurrent kernels stay",
    "ReversibleEmbedding": "table, for the logits if tied; an untied output projection",
    "SeparableConv": "pointwise kernel; the depthwise one when marked or named",
    "SimpleRNN": "input kernel; the recurrent kernel stays",
}

# Without weights of their own; by the name in `keras.layers`.
CONTAINERS = {
    "Bidirectional": "by the two layers that it holds",
    "GroupQueryAttention": "by its query, key, value and output projections",
    "MultiHeadAttention": "by its query, key, value and output projections",
    "StackedRNNCells": "by the recurrent layer that drives it, each cell on its own",
    "TimeDistributed": "by the layer that it holds",
}

LEFT_ALONE = {
    "AdditiveAttention": "one scale per feature, not a linear map",
    "Attention": "scales of the scores, not a linear map",
    "BatchNormalization": "a scale and an offset per channel",
    "FlaxLayer": "weights of another framework",
    "GroupNormalization": "a scale and an offset per channel",
    "IntegerLookup": "a table of words",
    "JaxLayer": "weights of another framework",
    "LayerNormalization": "a scale and an offset per channel",
    "Normalization": "statistics of the data",
    "PReLU": "slopes of an activation",
    "RMSNormalization": "a scale per channel",
    "STFTSpectrogram": "a fixed transform",
    "SpectralNormalization": "rescales the kernel that it wraps at every call",
    "StringLookup": "a table of words",
    "TFSMLayer": "weights of another framework",
    "TorchModuleWrapper": "weights of another framework",
}


def weighted_classes() -> dict[str, type]:
    """Classes of `keras.layers` whose code, or that of a parent, adds weights."""
    found = {}
    for name in dir(keras.layers):
        kind = getattr(keras.layers, name)
        if not (isinstance(kind, type) and issubclass(kind, keras.layers.Layer)):
            continue
        parents = kind.__mro__[: kind.__mro__.index(keras.layers.Layer)]
        code = "".join(map(inspect.getsource, parents))
        if re.search(r"add_weight\(|Variable\(", code):
            found[kind.__name__] = kind
    return found


def containers() -> list[str]:
    """Names of the containers that this Keras has."""
    return [name for name in CONTAINERS if hasattr(keras.layers, name)]


def what_is_covered(name: str) -> str:
    """The line on a covered class: that of the class, or of its family."""
    family = re.sub(r"\dD", "", name).replace("DepthwiseConv", "Depthwise")
    return COVERED[name if name in COVERED else family]


def row(name: str, kind: type) -> str:
    """One line of the table; fails for a class that is neither covered nor listed."""
    if kind in CELL_GATES:
        return f"| `{name}` | covered | by the recurrent layer that drives it |"
    if kind in registered():
        return f"| `{name}` | covered | {what_is_covered(name)} |"
    return f"| `{name}` | left alone | {LEFT_ALONE[name]} |"


def page() -> str:
    """The whole page."""
    rows = {name: row(name, kind) for name, kind in weighted_classes().items()}
    rows |= {x: f"| `{x}` | covered | {CONTAINERS[x]} |" for x in containers()}
    lines = [rows[name] for name in sorted(rows)]
    return HEAD.format(version=keras.__version__) + "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
