"""What `torch.nn` would have drawn for a layer."""

import math
from collections.abc import Callable
from typing import Any

import keras

from keras_inits.errors import UnsupportedLayerError
from keras_inits.initializers.base import Seed, Seeds, check_seed
from keras_inits.initializers.sampling import normal, uniform
from keras_inits.structure.walking import walk

Draw = Callable[[Any, Seeds], None]


def torch_default(layer: keras.Layer, seed: Seed = None) -> None:
    """Sets weights and biases as the `torch.nn` module of the same kind would.

    With b = 1 / sqrt(fan_in), fans counted in PyTorch's own layout:

    | layer                   | kernel                                | bias      |
    |-------------------------|---------------------------------------|-----------|
    | Dense, Conv1D/2D/3D     | U(-b, b)                              | U(-b, b)  |
    | Conv1D/2D/3DTranspose   | U(-b, b), fan_in = window * outputs   | U(-b, b)  |
    | DepthwiseConv1D/2D      | U(-b, b), fan_in = window             | U(-b, b)  |
    | LSTM, GRU, SimpleRNN    | U(-b, b), b = 1 / sqrt(units)         | see below |
    | Embedding               | N(0, 1)                               |           |
    | MultiHeadAttention, in  | Xavier uniform of q, k, v together    | 0         |
    | MultiHeadAttention, out | U(-b, b)                              | 0         |
    | normalisations          | 1                                     | 0         |
    | PReLU                   | 0.25                                  |           |

    The statistics of a BatchNormalization start again, at mean 0 and variance 1.
    Cells are drawn as their layers are; what RNN, StackedRNNCells, Bidirectional (in
    both directions) and TimeDistributed hold, as it would be by itself: all of it, or
    nothing where a part is unknown.

    `torch.nn` adds two biases, `b_ih + b_hh`, to the gates of a recurrent layer, each
    from U(-b, b). So does a Keras GRU, whose bias has two rows; the one bias of the
    others is drawn as the sum of two.

    Example:

    >>> for layer in model.layers:
    ...     keras_inits.porting.torch_default(layer)

    Args:
        layer: a built layer, frozen or not. One without weights is left as it is.
        seed: as in `VarianceScaling`.

    Raises:
        UnsupportedLayerError: if `layer` is no layer, is not built, of no kind in the
            table, quantized, or has LoRA enabled.
        ValueError: if `seed` is none.
    """
    _require_plain(layer)
    draws = [(part, _draw_of(part, layer)) for part in _parts(layer)]
    seeds = Seeds(check_seed(seed))
    for part, draw in draws:
        if draw is not None:
            draw(part, seeds)


def _parts(layer: Any) -> list[Any]:
    """The layer, or those that it hands its input to: PyTorch has no wrappers."""
    if isinstance(layer, _layers.Bidirectional):
        held = [layer.forward_layer, layer.backward_layer]
    elif isinstance(layer, _layers.TimeDistributed):
        held = [layer.layer]
    elif isinstance(layer, _layers.RNN):
        held = [layer.cell]
    elif isinstance(layer, _layers.StackedRNNCells):
        held = layer.cells
    else:
        return [layer]
    return [part for inner in held for part in _parts(inner)]


def _draw_of(part: Any, layer: keras.Layer) -> Draw | None:
    """How to draw a part of the layer, maybe all of it; None without weights."""
    draw = next((draw for kinds, draw in _KINDS if isinstance(part, kinds)), None)
    if draw is None and getattr(part, "weights", True):
        name = getattr(part, "name", part)
        within = "" if part is layer else f" in {layer.name!r}"
        raise UnsupportedLayerError(
            "`torch.nn` has no module of this kind, or it is not known here. "
            f"Received: layer={name!r}{within} of type {type(part).__name__}. "
            "Choose an initializer for it from `keras_inits.porting.TORCH`."
        )
    return draw


def _require_plain(layer: Any) -> None:
    if not isinstance(layer, keras.Layer):
        raise UnsupportedLayerError(
            "`layer` must be a keras.Layer that is built. "
            f"Received: layer={layer!r} (of type {type(layer).__name__})"
        )
    if not layer.built:
        raise UnsupportedLayerError(
            "A layer must be built before its weights can be drawn. "
            f"Received: layer={layer.name!r}. Call it, or the model, on data first."
        )
    for part in walk(layer):  # attention holds its projections
        quantized = getattr(part, "quantization_mode", None)
        if quantized or getattr(part, "lora_enabled", False):
            raise UnsupportedLayerError(
                "A layer must hold its kernel as it is: neither quantized nor with "
                f"LoRA enabled. Received: layer={part.name!r}, which "
                f"{f'is quantized ({quantized})' if quantized else 'has LoRA enabled'}."
                " Draw its weights before that."
            )


def _fill(variable: Any, bound: float, seeds: Seeds, terms: int = 1) -> None:
    """U(-bound, bound), or the sum of several."""
    if variable is None:
        return
    shape, dtype = (
        tuple(variable.shape),
        keras.backend.standardize_dtype(variable.dtype),
    )
    draws = [uniform(shape, -bound, bound, dtype, seeds) for _ in range(terms)]
    variable.assign(sum(draws[1:], draws[0]))


def _zero(variable: Any) -> None:
    if variable is not None:
        variable.assign(keras.ops.zeros(tuple(variable.shape), variable.dtype))


def _one(variable: Any) -> None:
    if variable is not None:
        variable.assign(keras.ops.ones(tuple(variable.shape), variable.dtype))


def _linear(fan_in: Callable[[tuple[int, ...]], int]) -> Draw:
    def draw(layer: Any, seeds: Seeds) -> None:
        bound = 1 / math.sqrt(max(1, fan_in(tuple(layer.kernel.shape))))
        _fill(layer.kernel, bound, seeds)
        _fill(layer.bias, bound, seeds)

    return draw


def _recurrent(cell: Any, seeds: Seeds) -> None:
    bound = 1 / math.sqrt(cell.units)
    for variable in (cell.kernel, cell.recurrent_kernel):
        _fill(variable, bound, seeds)
    both = cell.bias is not None and len(cell.bias.shape) == 1  # `b_ih + b_hh`
    _fill(cell.bias, bound, seeds, terms=2 if both else 1)


def _embedding(layer: Any, seeds: Seeds) -> None:
    shape = tuple(layer.embeddings.shape)
    dtype = keras.backend.standardize_dtype(layer.embeddings.dtype)
    layer.embeddings.assign(normal(shape, 1.0, dtype, seeds))


def _attention(layer: Any, seeds: Seeds) -> None:
    """`in_proj_weight` holds the three projections, and its fans count them all,
    where query, key and value are of one size; else each has its own."""
    inner = [layer.query_dense, layer.key_dense, layer.value_dense]
    kernels = [projection.kernel for projection in inner]
    together = len({kernel.shape[0] for kernel in kernels}) == 1
    for projection, kernel in zip(inner, kernels, strict=True):
        outputs = math.prod(kernel.shape[1:]) * (3 if together else 1)
        _fill(kernel, math.sqrt(6 / (kernel.shape[0] + outputs)), seeds)
        _zero(projection.bias)
    output = layer.output_dense
    _fill(output.kernel, 1 / math.sqrt(math.prod(output.kernel.shape[:-1])), seeds)
    _zero(output.bias)


def _normalization(layer: Any, seeds: Seeds) -> None:
    for name in ("beta", "moving_mean", "renorm_mean"):
        _zero(getattr(layer, name, None))
    for name in ("gamma", "moving_variance", "moving_stddev", "renorm_stddev"):
        _one(getattr(layer, name, None))


def _rms_normalization(layer: Any, seeds: Seeds) -> None:
    _one(layer.scale)  # of others it is a flag, and the weight is `gamma`


def _prelu(layer: Any, seeds: Seeds) -> None:
    layer.alpha.assign(
        keras.ops.full(tuple(layer.alpha.shape), 0.25, layer.alpha.dtype)
    )


_layers = keras.layers

# The first that fits decides.
_KINDS: tuple[tuple[Any, Draw], ...] = (
    (_layers.MultiHeadAttention, _attention),
    ((_layers.LSTMCell, _layers.GRUCell, _layers.SimpleRNNCell), _recurrent),
    (_layers.Embedding, _embedding),
    # (*window, outputs, inputs); in PyTorch (inputs, outputs, *window).
    (
        (_layers.Conv1DTranspose, _layers.Conv2DTranspose, _layers.Conv3DTranspose),
        _linear(lambda shape: math.prod(shape[:-1])),
    ),
    # (*window, inputs, multiplier); in PyTorch (inputs * multiplier, 1, *window).
    (
        (_layers.DepthwiseConv1D, _layers.DepthwiseConv2D),
        _linear(lambda shape: math.prod(shape[:-2])),
    ),
    (
        (_layers.Dense, _layers.Conv1D, _layers.Conv2D, _layers.Conv3D),
        _linear(lambda shape: math.prod(shape[:-1])),
    ),
    (
        (
            _layers.BatchNormalization,
            _layers.GroupNormalization,
            _layers.LayerNormalization,
        ),
        _normalization,
    ),
    (_layers.RMSNormalization, _rms_normalization),
    (_layers.PReLU, _prelu),
)
