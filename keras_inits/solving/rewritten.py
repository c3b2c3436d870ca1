"""Kernels that a user's own code makes anew in every call: it undoes a scale.

A wrapper that normalises weights writes `g * v / |v|` into the kernel of the layer that
it holds, or puts it in the kernel's place, and calls that layer. What a pass has made
of such a kernel is gone in the next call; unless what is written is made of the kernel
itself (a mask that is applied to it). So one more pass, over the new kernels, tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from keras_inits.errors import UnsupportedLayerError
from keras_inits.solving.decision import Decision, Options
from keras_inits.solving.half_precision import tolerance
from keras_inits.structure.activations import is_shipped
from keras_inits.structure.selection import Selection
from keras_inits.structure.walking import walk
from keras_inits.weights.trial import Trial


def suspects(decisions: Iterable[Decision], trial: Trial) -> list[Decision]:
    """Those on kernels that the model's own code has written, or replaced.

    Args:
        decisions: What a pass has decided.
        trial: The scope of that pass.
    """
    if not trial.written:
        return []
    return [
        d
        for d in decisions
        if d.map and not trial.written.isdisjoint(map(id, d.variables))
    ]


def new_values(
    decisions: Iterable[Decision], trial: Trial
) -> list[tuple[keras.Variable, Any]]:
    """The kernels, and biases, as a pass has decided."""
    found: dict[int, tuple[keras.Variable, Any]] = {}
    for d in decisions:
        for v in d.variables:
            known = id(v) in trial.factors
            found[id(v)] = v, trial.scaled(v) if known else trial.base(v)
        if d.map and d.map.bias is not None:
            found[id(d.map.bias)] = d.map.bias, trial.base(d.map.bias)
    return list(found.values())


def undone(
    suspected: Sequence[Decision], again: Iterable[Decision] | None, options: Options
) -> list[keras.layers.Layer]:
    """The layers that are to be scaled once more.

    Args:
        suspected: See `suspects`.
        again: What a pass over the new kernels has decided; None: it has failed.
        options: What both were to meet.
    """
    layers = list(dict.fromkeys(d.layer for d in suspected))
    if again is None:
        return layers
    off = {id(d.layer) for d in again if _has_left(d, options)}
    return [layer for layer in layers if id(layer) in off]


def _has_left(d: Decision, options: Options) -> bool:
    """Whether its signal is not what the pass before has made it."""
    within = 2 * tolerance(d.layer, options)
    return bool(np.abs(np.asarray(d.scale) - 1).max() > within)


def leave(selection: Selection, layers: Iterable[keras.layers.Layer]) -> None:
    """Choose these layers no longer.

    Raises:
        UnsupportedLayerError: They were chosen by name.
    """
    for layer in layers:
        what = f"{_writer(layer, selection.every)} makes its kernel anew in every call"
        if selection.named:
            raise UnsupportedLayerError(
                f"Layer {layer.name!r} ({type(layer).__name__}) was chosen, but it "
                f"cannot be scaled: {what}, and so undoes a scale. {_INSTEAD} Or leave "
                "it out of layers=."
            )
        del selection.maps[layer]
        selection.left[layer] = what
        selection.rewritten.append(layer)


_INSTEAD = (
    "What is scaled is the weight that this kernel is made of: describe the layer that "
    "makes it with keras_inits.register_linear_map."
)


def notes(selection: Selection) -> list[str]:
    """What to do about layers that were left, if any were."""
    found = [x.name for x in selection.rewritten]
    if not found:
        return []
    names = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
    return [
        f"Left as they are, a scale would be undone by the next call: {names}. "
        + _INSTEAD
    ]


def _writer(layer: keras.layers.Layer, every: Sequence[keras.layers.Layer]) -> str:
    """The innermost of a user's own layers that hold this one."""
    held = {id(x): list(walk(x)) for x in every if not is_shipped(x) and x is not layer}
    own = [x for x in every if any(y is layer for y in held.get(id(x), ()))]
    if not own:
        return "the model"
    inner = min(own, key=lambda x: len(held[id(x)]))
    return f"{inner.name} ({type(inner).__name__})"
