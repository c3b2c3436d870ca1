"""What to do about a finding: a few words, and the line of code to type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from keras_inits.records import LayerSignal

CLEAN_DATA = "drop or fill such rows: x = x[np.isfinite(x).all(axis=1)]"
NOT_FINITE = (
    "look at this layer's data and operations (log, division, overflow in float16); "
    "keras_inits.lsuv_init(model, x) keeps the scale of every layer near 1"
)
GRADIENT_NOT_FINITE = (
    "look at the loss (log of 0, division by 0); in float16 use "
    "keras.mixed_precision.LossScaleOptimizer"
)

# f(x) - f(-x) is linear in x for these: looks-linear initialisation is exact.
_RELU_LIKE = frozenset({"gelu", "leaky_relu", "relu", "silu", "softplus", "swish"})
_SIGMOID_LIKE = frozenset({"sigmoid", "hard_sigmoid", "log_sigmoid"})


def redraw(row: LayerSignal) -> str:
    """For kernels of zeros or NaN."""
    # A name that several layers share is told apart by the path, in full.
    name = row.path if row.path and "/" in row.name else row.name.split(" (call")[0]
    return f'draw its kernel: keras_inits.initialize(model, layers=["{name}"])'


def standardise(row: LayerSignal) -> str:
    """For data far from mean 0 and deviation 1."""
    rank = len(row.output_shape or ())
    if rank == 4:
        return (
            "standardise the images: keras.layers.Rescaling(1 / 127.5, offset=-1) "
            "as the first layer, for pixels in 0..255"
        )
    return "standardise the data: x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-6)"


def rescale(row: LayerSignal, *, plain: bool = True) -> str:
    """For signals that vanish, explode or saturate."""
    if not plain:
        return (
            "BatchNormalization mends it in training mode: see "
            "keras_inits.measure(model, x, training=True); if it is still there, "
            "keras_inits.lsuv_init(model, x)"
        )
    if row.activation in _SIGMOID_LIKE:
        # Outputs around 0.5 are what all samples share: centring removes that.
        return "scale and centre: keras_inits.lsuv_init(model, x, center=True)"
    return (
        "scale every layer on your data: keras_inits.lsuv_init(model, x); without "
        "data: keras_inits.initialize(model)"
    )


def unsaturate(row: LayerSignal) -> str:
    """For flat activations: at the start, or after steps that were too large."""
    return f"{rescale(row)}; in a trained model, a smaller learning rate"


def revive(row: LayerSignal, pushed: bool, *, plain: bool = True) -> str:
    """For units that are zero for the whole batch."""
    if not plain and not pushed:
        return rescale(row, plain=False)
    if pushed:
        return (
            'start from bias_initializer="zeros", or centre every layer on your data: '
            "keras_inits.lsuv_init(model, x, center=True)"
        )
    return (
        "centre every layer on your data: "
        "keras_inits.lsuv_init(model, x, center=True); or let no unit die: "
        'keras_inits.initialize(model, "looks_linear")'
    )


def gradient(rows: Sequence[LayerSignal], grows: bool) -> str:
    """For gradients that grow or shrink with depth: what fits the activation."""
    last = "; or add skip connections or normalisation"
    names = Counter(row.activation or "linear" for row in rows)
    # The last layer's softmax or linear activation says nothing about the stack.
    common = names.most_common(1)[0][0]
    if common in _RELU_LIKE:
        convolved = any(row.layer_type.startswith("Conv") for row in rows)
        where = " (not through max pooling)" if convolved else ""
        return f'keras_inits.initialize(model, "looks_linear"){where}{last}'
    if common in _SIGMOID_LIKE:
        return f"keras_inits.lsuv_init(model, x, center=True){last}"
    if common == "linear":
        if any(row.layer_type.startswith("Conv") for row in rows):
            return f'keras_inits.initialize(model, "delta_orthogonal"){last}'
        return f'keras_inits.initialize(model, "lsuv_normal"){last}'
    if grows:
        return f'keras_inits.lsuv_init(model, x, target_std="critical"){last}'
    return f"keras_inits.lsuv_init(model, x){last}"
