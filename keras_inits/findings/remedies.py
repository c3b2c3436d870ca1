"""What to do about a finding: a few words, and the line of code to type."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from keras_inits.records import LayerSignal

RESET = (
    "reset the weights, keras_inits.initialize(model, None), and compile again: the "
    "optimizer may hold NaN, too; then clean the data, or take a smaller learning rate"
)
SURE = (
    "in a trained classifier no harm: it is sure of its answers; before training, "
    "keras_inits.lsuv_init(model, x)"
)
LABELS = (
    "if its labels are numbers of that size, standardise them: y = (y - y.mean()) / "
    "y.std(); if they are classes, or smaller, keras_inits.lsuv_init(model, x)"
)
NOT_FINITE = (
    "look at this layer's data and operations (log, division, overflow in float16); "
    "keras_inits.lsuv_init(model, x) keeps the scale of every layer near 1"
)
GRADIENT_NOT_FINITE = (
    "look at the loss (log of 0, division by 0); in float16 use "
    "keras.mixed_precision.LossScaleOptimizer"
)

FLAT_LOSS = (
    "the outputs are so large that the loss is flat there (a softmax, a sigmoid is "
    "exactly 0 or 1): "
)
NO_GRADIENT = (
    "look at the loss and the last layer: rounding, argmax, comparisons and clipping "
    "have no gradient"
)
STARVED = "look at what comes before it: print(keras_inits.measure(model, x))"

PRUNED = "unless that is meant (units that were pruned), "
COPIED = "unless that is meant (ICNR, a layer that was widened), "
MIRRORED = 'keras_inits.initialize(model, "looks_linear")'
NOT_THROUGH = " (not through max pooling)"
DEEPER = f"; dozens of plain layers train better from {MIRRORED}"
NONE_DIES = f"; or let no unit die: {MIRRORED}"
OR_BYPASSES = "; or add skip connections or normalisation"
# Of layers that LSUV has scaled, whose pairs are nearly linear: Mish.
PAIRED = (
    'kernel_initializer="looks_linear" ("looks_linear_first" in the first layer), then '
    "keras_inits.lsuv_init(model, x)"
)

# Said where BatchNormalization may be there, and at rest.
_MENDED = (
    "BatchNormalization mends it in training mode, if there is any: see "
    "keras_inits.measure(model, x, training=True); if it is still there, "
    "keras_inits.lsuv_init(model, x)"
)
_REVIVED = (
    "BatchNormalization revives them in training mode, if there is any: see "
    "keras_inits.measure(model, x, training=True)"
)

# f(x) - f(-x) is linear in x for these: looks-linear initialisation is exact.
RELU_LIKE = frozenset(
    {
        *("gelu", "hard_silu", "hard_swish", "leaky_relu", "log_sigmoid", "relu"),
        *("silu", "softplus", "sparse_plus", "squareplus", "swish"),
    }
)
SIGMOID_LIKE = frozenset({"sigmoid", "hard_sigmoid", "log_sigmoid"})


# What a last activation takes is so much larger than what any layer gives.
SUMMED = 3.0
_RECURRENT = frozenset({"Bidirectional", "GRU", "LSTM", "RNN", "SimpleRNN"})


def unmirrored(remedy: str, scaled: bool = False) -> str:
    """The same for a model that looks-linear does not suit, or that has it already.

    `scaled`: nor is there anything left to scale, but to another target.
    """
    elsewhere = "target_std=" in remedy
    if scaled and not elsewhere and remedy.endswith(OR_BYPASSES):
        return OR_BYPASSES.removeprefix("; or ")
    for more in (DEEPER, NONE_DIES, NOT_THROUGH):
        remedy = remedy.replace(more, "")
    return remedy.replace(MIRRORED, "keras_inits.lsuv_init(model, x)")


def awake(remedy: str, training: bool) -> str:
    """The same where no BatchNormalization is at rest: it runs, or there is none."""
    mode = ", training=True" if training else ""
    # A scale alone revives no unit.
    biased = 'layers=lambda layer: getattr(layer, "bias", None) is not None'
    centre = f"keras_inits.lsuv_init(model, x{mode}, center=True, {biased})"
    remedy = remedy.replace(_REVIVED, f"centre the layers that have a bias: {centre}")
    return remedy.replace(_MENDED, f"keras_inits.lsuv_init(model, x{mode})")


def redraw(rows: Sequence[LayerSignal]) -> str:
    """For kernels of zeros, of one value, or NaN."""
    if len(rows) > 3:
        return "draw their kernels: keras_inits.initialize(model)"
    which = "its kernel" if len(rows) == 1 else "their kernels"
    return f"draw {which}: keras_inits.initialize(model, layers=[{_names(rows)}])"


def small_on_purpose(rows: Sequence[LayerSignal]) -> str:
    """For kernels that LSUV has made out of next to nothing."""
    names = list(dict.fromkeys((x.path or x.name).split("/")[-1] for x in rows))
    return (
        "no harm, unless it was to start near 0 (the end of a residual branch, a "
        "head): then start anew, keras_inits.initialize(model, None), and leave it "
        "out: keras_inits.lsuv_init(model, x, layers=lambda layer: layer.name not in "
        f"{names})"
    )


def reset(rows: Sequence[LayerSignal]) -> str:
    """For recurrent kernels, each by the layer's own initializer."""
    return f"reset it: keras_inits.initialize(model, None, layers=[{_names(rows)}])"


def _names(rows: Sequence[LayerSignal]) -> str:
    return ", ".join(f'"{_name(row)}"' for row in rows)


def _name(row: LayerSignal) -> str:
    # A name that several layers share is told apart by the path, in full.
    return row.path if row.path and "/" in row.name else row.name.split(" (call")[0]


def cut_between(last: LayerSignal, behind: LayerSignal) -> str:
    """For a gradient that ends between two layers."""
    return (
        f"unless it is meant, look at what lies between {last.name} and {behind.name}: "
        "rounding, argmax, comparisons, clipping and stop_gradient pass none on"
    )


def look_before(row: LayerSignal) -> str:
    """For a layer that gets zeros."""
    if row.normalised:
        gamma = _normalise_by(row.normalised, "gamma", "ones", "{0} + 1")
        if row.batch_std is None and len(row.output_shape or ()) == 2:
            return (
                "pass more rows: a single one is its own mean, which "
                f"{row.normalised} takes off in training mode; if more rows give 0, "
                f"its gamma is 0: {gamma}"
            )
        return f"the gamma of {row.normalised} is 0: {gamma}"
    return (
        f"look at what comes before {row.name}: a normalisation whose gamma is 0, a "
        "product with 0, a mask"
    )


def _normalise_by(layer: str, weight: str, start: str, value: str) -> str:
    """Another gamma or beta: from the start, and now.

    `layer` is a path where the layer is inside another one.
    """
    nested = "/" in layer
    found = "bn being that layer, " if nested else f'bn = model.get_layer("{layer}"); '
    change = f"bn.{weight}.assign({value.format(f'bn.{weight}')})"
    return f'start from {weight}_initializer="{start}", or now: {found}{change}'


def not_finite(row: LayerSignal) -> str:
    """For NaN and infinity that come neither from the data nor from the weights."""
    if row.layer_type in _RECURRENT:
        return (
            "its recurrent kernel multiplies the state at every step: "
            'recurrent_initializer="orthogonal" keeps its size'
        )
    return NOT_FINITE


def rescale(row: LayerSignal, *, plain: bool = True) -> str:
    """For signals that vanish, explode or saturate."""
    if not plain:
        return _MENDED
    if row.activation in SIGMOID_LIKE:
        # Outputs around 0.5 are what all samples share: centring removes that.
        return "scale and centre: keras_inits.lsuv_init(model, x, center=True)"
    text = (
        "scale every layer on your data: keras_inits.lsuv_init(model, x); without "
        "data: keras_inits.initialize(model)"
    )
    if row.activation in RELU_LIKE:
        text += DEEPER
    return text


def part(row: LayerSignal, *, plain: bool = True) -> str:
    """For samples that look alike: a scale of 1 does not part them."""
    if not plain:
        return rescale(row, plain=False)
    if row.activation in RELU_LIKE:
        return revive(row, pushed=False, by_bias=False)
    return "scale and centre: keras_inits.lsuv_init(model, x, center=True)"


def sure(row: LayerSignal, signals: Sequence[LayerSignal]) -> str:
    """For a last activation that is flat; what lies before it may make it so.

    Sums and products of layers grow with these: by as much, or by more.
    """
    stds = [x.std for x in signals if x.kernel_shape and x.std]
    size = row.std or 0.0
    if row.kernel_shape or not stds or size < SUMMED * max(stds):
        away = is_by_mean(row)
        return SURE.replace("(model, x)", "(model, x, center=True)") if away else SURE
    target = f"target_std={statistics.median(stds) / size:.1g}"
    lsuv = "keras_inits.lsuv_init(model, x"
    return SURE.replace(f"{lsuv})", f"{lsuv}, {target})")


def is_by_mean(row: LayerSignal) -> bool:
    """Whether a signal is far from 0 by its mean: a scale leaves what a bias adds."""
    return 0.0 < (row.std or 0.0) < abs(row.mean or 0.0)


def unsaturate(row: LayerSignal) -> str:
    """For flat activations: at the start, or after steps that were too large."""
    std = row.std or 0.0
    how = rescale(row)
    if is_by_mean(row):
        how = "keras_inits.lsuv_init(model, x, center=True)"
    elif 0.0 < std < 1.1:  # at 1 already, or below
        how = "keras_inits.lsuv_init(model, x, target_std=0.5)"
    return f"{how}; in a trained model, a smaller learning rate"


def revive(row: LayerSignal, pushed: bool, by_bias: bool, *, plain: bool = True) -> str:
    """For units that are zero, or flat, for the whole batch."""
    centre = "centre every layer on your data: keras_inits.lsuv_init(model, x, "
    centre += "center=True)"
    if pushed and by_bias and row.normalised:
        reset = _normalise_by(row.normalised, "beta", "zeros", "0 * {0}")
        return f"it is the beta of {row.normalised}: {reset}"
    if not plain and not (pushed and row.kernel_shape):  # is it by weights of its own?
        return _REVIVED
    if pushed and by_bias:
        return f'start from bias_initializer="zeros", or {centre}'
    if pushed and row.kernel_shape:
        sign = "negative" if (row.mean or 0.0) < 0 else "positive"
        why = f"it turns what it is given {sign}, not the bias"
        return f"{redraw([row])} ({why}); or {centre}"
    return centre + NONE_DIES
