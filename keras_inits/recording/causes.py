"""What a report says beside the figures: whose doing they may be."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_inits.backends import fetch, fuses, loaded, read
from keras_inits.findings.units import HUSHED
from keras_inits.linear_maps import LinearMap
from keras_inits.recording.recorder import Record
from keras_inits.records import LayerSignal, is_finite
from keras_inits.statistics.moments import Moments, widen
from keras_inits.statistics.reductions import in_memory, mean_square
from keras_inits.structure.activations import activations_behind
from keras_inits.structure.selection import Selection
from keras_inits.structure.walking import is_bypassed
from keras_inits.weights.looks_linear import suits

Layer = Any
# Correlation of units and their partners: of mirrored ones -1.
ALREADY = -0.99
# Rows of a kernel that are looked at for it.
ROWS = 64
# Rows of every kernel that are looked at for units that are equal.
FEW = 8
# Deviation between units that are copies of one another, over the size of weights.
ALIKE = 1e-3
# Layers with a gamma and a beta.
NORMALISATIONS = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
)


def could_be_mirrored(model: keras.Model, selection: Selection) -> bool | None:
    """False where looks-linear kernels do not suit the model, or are those that it has.

    Of mirrored kernels some rows of the first one show it. Where something bypasses
    layers nobody asks.
    """
    if is_bypassed(selection.every):
        return None
    first = next((maps[0] for maps in selection.maps.values()), None)
    mirrored = first is not None and _is_mirrored(first)
    return None if not mirrored and suits(model, selection) else False


def _is_mirrored(m: LinearMap) -> bool:
    shape = m.kernel.shape
    half = shape[-1] // 2
    if m.output_axes != (len(shape) - 1,) or not half:
        return False
    rows = ops.reshape(m.kernel.value, (-1, shape[-1]))
    some = rows[:: max(1, rows.shape[0] // ROWS)]
    [one, other] = fetch([some[:, :half], some[:, half : 2 * half]])
    with np.errstate(all="ignore"):  # of infinite weights
        sizes = (one * one).sum() + (other * other).sum()
        return bool(2.0 * (one * other).sum() < ALREADY * sizes)


def with_copies(
    signals: Sequence[LayerSignal], records: Sequence[Record]
) -> list[LayerSignal]:
    """Whose units, all or some, have the same weights and bias."""
    asked = [r.map if _may_be_copies(r) else None for r in records]
    ends = fetch([None if m is None else _ends(m) for m in asked])
    shares = _shares(records)
    return [
        dataclasses.replace(
            x,
            copies=m is not None and _are_alike(end) and _are_copies(m),
            copied_fraction=copied,
            zero_fraction=zero,
        )
        for x, m, end, (copied, zero) in zip(signals, asked, ends, shares, strict=True)
    ]


def _shares(records: Sequence[Record]) -> list[tuple[float | None, float | None]]:
    """Shares of units of which another is an exact copy, and of those of zeros.

    One row rules that out in nearly every kernel, and a few rows in nearly all others.
    """
    maps = [
        r.map if _has_columns(r.map) and _has_rows(r.map) else None for r in records
    ]
    rows = read([None if m is None else _matrix(m, 1)[0] for m in maps])
    shares: list[tuple[float | None, float | None]] = []
    for m, row in zip(maps, rows, strict=True):
        shares.append((None, None) if m is None else (0.0, 0.0))
        if m is None or _all_differ(row):
            continue
        few = read([_matrix(m, FEW)])
        if not (_repeated(few) or _zeros(few[0])):
            continue
        weights = [m.kernel.value, *([] if m.bias is None else [m.bias.value])]
        columns = [x.reshape(-1, m.channels) for x in read(weights)]
        shares[-1] = _repeated(columns), _zeros(columns[0])
    return shares


def _zeros(rows: np.ndarray[Any, Any]) -> float:
    """The share of columns of zeros."""
    return 1.0 - float(rows.any(axis=0).mean())


def _all_differ(row: np.ndarray[Any, Any]) -> bool:
    """Whether no two of the weights are equal, and none is zero."""
    ordered = np.sort(row)
    return bool(ordered.all() and (ordered[1:] != ordered[:-1]).all())


def _repeated(parts: Sequence[np.ndarray[Any, Any]]) -> float:
    """The share of columns that are there several times, those of zeros apart."""
    generator = np.random.default_rng(0)
    codes = np.zeros(parts[0].shape[-1], "uint64")
    weighty = np.zeros(codes.shape, bool)
    for part in parts:
        for row in part:  # one at a time: a kernel may be large
            bits = np.ascontiguousarray(row, "float32").view("uint32")
            factor = generator.integers(1, 2**63, dtype="uint64")
            codes += bits.astype("uint64") * (2 * factor + 1)
            weighty |= bits != 0
    codes = codes[weighty]
    _, counts = np.unique(codes, return_counts=True)
    return float(counts[counts > 1].sum()) / max(1, weighty.size)


def _may_be_copies(record: Record) -> bool:
    """Whether a look at the kernel, which takes longer, is needed.

    Of copies `(samples, units)` all units have one mean over the samples.
    """
    seen, between = record.signal, record.batch_variance
    if not _has_columns(record.map):
        return False
    if seen is None or between is None or len(record.shape or ()) != 2:
        return True
    with np.errstate(all="ignore"):  # a square may be infinite
        square = seen.variance + seen.mean * seen.mean
        return not seen.variance - between > ALIKE * square


def _has_columns(m: LinearMap | None) -> bool:
    """Whether the columns of a kernel are units that see the same."""
    if m is None or m.lookup or m.stage or m.group_axes:
        return False
    if not m.groups == m.gates == 1 < m.channels:
        return False
    rank = len(m.kernel.shape)
    return m.output_axes == tuple(range(rank - len(m.output_axes), rank))


def _has_rows(m: LinearMap | None) -> bool:
    """Of single weights in half precision many are equal by chance."""
    return m is not None and math.prod(m.kernel.shape) > m.channels


def _ends(m: LinearMap) -> Any:
    """Some weights of the first and the last unit: `(weights, 2)`."""
    return _matrix(m, ROWS)[:, :: m.channels - 1]


def _matrix(m: LinearMap, rows: int) -> Any:
    """Some rows of the kernel, at least so many where it has them; a column a unit."""
    kernel = in_memory(m.kernel.value)
    if kernel is None and fuses() and loaded().default_backend() == "cpu":
        [kernel] = read([m.kernel.value])  # it shares the memory
    shape = (-1, m.channels)
    if kernel is not None:
        matrix = kernel.reshape(shape)
    else:
        matrix = ops.reshape(m.kernel.value, shape)
    return matrix[:: max(1, matrix.shape[0] // rows)]


def _are_alike(columns: np.ndarray[Any, Any]) -> bool:
    one, others = columns[:, :1], columns[:, 1:]
    with np.errstate(all="ignore"):  # of weights that are large, or infinite
        apart = np.square(others - one).sum()
        size = np.square(columns).sum()
        return bool(np.isfinite(apart) and apart <= 2.0 * ALIKE * ALIKE * size)


def _are_copies(m: LinearMap) -> bool:
    kernel, bias = fetch([m.kernel.value, None if m.bias is None else m.bias.value])
    weights = [kernel.reshape(-1, m.channels)]
    weights += [] if bias is None else [bias.reshape(1, -1)]
    return bool(kernel.any()) and _are_alike(np.concatenate(weights))


def with_recurrence(
    signals: Sequence[LayerSignal], records: Sequence[Record]
) -> list[LayerSignal]:
    """What the recurrent kernels do to the size of a state."""
    kernels = [
        getattr(r.map and r.map.owner, "recurrent_kernel", None) for r in records
    ]
    squares = fetch(
        [None if k is None else mean_square(widen(k.value)) for k in kernels]
    )
    several = zip(signals, kernels, squares, strict=True)
    return [
        x if k is None else dataclasses.replace(x, recurrent_gain=_gain(k, square))
        for x, k, square in several
    ]


def _gain(kernel: keras.Variable, square: Any) -> float:
    return math.sqrt(float(square) * math.prod(kernel.shape[:-1]))


def normalisations(selection: Selection, records: Sequence[Record]) -> list[Layer]:
    """Whose output an activation takes that gets zeros, or of which a unit is dead."""
    asked = [
        r.map is None and (r.dead or _is_hushed(r) or _is_zero(r.signal))
        for r in records
    ]
    if not any(asked):
        return [None] * len(records)
    known = (x for x in selection.every if isinstance(x, NORMALISATIONS))
    behind = activations_behind(selection.every)
    before = {id(behind[id(x)]): x for x in known if id(x) in behind}
    several = zip(asked, records, strict=True)
    return [before.get(id(r.layer)) if ask else None for ask, r in several]


def _is_zero(signal: Moments | None) -> bool:
    return signal is not None and signal.mean == signal.variance == 0


def _is_hushed(record: Record) -> bool:
    signal, output = record.signal, record.output
    if signal is None or output is None:
        return False
    return bool(output.variance < HUSHED * HUSHED * signal.variance)


def with_normalisations(
    model: keras.Model, signals: Sequence[LayerSignal], before: Sequence[Layer]
) -> list[LayerSignal]:
    """By name where `model.get_layer` finds them; else by path."""
    own = {id(x) for x in model.layers}
    names = [x and (x.name if id(x) in own else x.path) for x in before]
    several = zip(signals, names, strict=True)
    return [dataclasses.replace(x, normalised=n) if n else x for x, n in several]


def bias_means(
    records: Sequence[Record], before: Sequence[Layer]
) -> list[float | None]:
    """Of biases that a signal contains, where a unit of the model is dead."""
    maps = [r.map if r.map is not None and r.map.in_hand else None for r in records]
    held = [getattr(x, "beta", None) for x in before]
    held = [h if m is None else m.bias for m, h in zip(maps, held, strict=True)]
    biases = [None if x is None else x.value for x in held]
    if not any(r.dead or _is_hushed(r) for r in records):
        return [None] * len(records)
    return [None if x is None else float(x.sum() / x.size) for x in fetch(biases)]


def with_broken(model: keras.Model, signals: list[LayerSignal]) -> list[LayerSignal]:
    """The first row that is not finite says which weight holds NaN or infinity."""
    for i, row in enumerate(signals):
        if not is_finite(row.mean, row.std, row.output_mean, row.output_std):
            broken = filter(_is_broken, _weights_up_to(row, model))
            path = next((v.path for v in broken), None)
            row = dataclasses.replace(row, broken=path)
            return [*signals[:i], row, *signals[i + 1 :]]
    return signals


def _weights_up_to(row: LayerSignal, model: keras.Model) -> list[keras.Variable]:
    """Of what comes before a layer, and its own; all where it has none."""
    own = [i for i, v in enumerate(model.weights) if v.path.startswith(f"{row.path}/")]
    return model.weights[: own[-1] + 1] if own else model.weights


def _is_broken(variable: keras.Variable) -> bool:
    return not np.isfinite(fetch([variable.value])[0]).all()
