"""Layers as a user names them, in a model that is built."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import keras
from keras.layers import Layer

from keras_inits.errors import KerasInitsError, UnsupportedLayerError
from keras_inits.structure.walking import walk

Layers: TypeAlias = str | Layer | Iterable[str | Layer] | Callable[[Layer], bool] | None


def require_built(model: keras.Model) -> None:
    """Refuses what is no model, or has no weights yet.

    What only holds networks is never built itself: they are asked.
    """
    if not isinstance(model, keras.Model):  # data are not printed whole
        shape = f" of shape {tuple(model.shape)}" if hasattr(model, "shape") else ""
        raise KerasInitsError(
            "`model` must be a keras.Model. "
            f"Received: {reprlib.repr(model)} (of type {type(model).__name__}{shape})"
        )
    if not model.built:
        if _without_call(model) and model.layers and all(x.built for x in model.layers):
            return
        require_call(model)
        raise KerasInitsError(
            f"Model {model.name!r} is not built: it has no weights yet. Call it once "
            "on a batch, `model(x[:1])`, or `model.build(input_shape)`, then try again."
        )


def require_call(model: keras.Model) -> None:
    """Refuses what only holds networks, as a GAN with a `train_step` of its own does.

    Raises:
        KerasInitsError: No forward pass goes through the model.
    """
    if _without_call(model):
        held = ", ".join(repr(layer.name) for layer in model.layers) or "none"
        raise KerasInitsError(
            f"Model {model.name!r} has no `call`, so that no forward pass goes through "
            "it. Pass each network that it holds by itself, with the data that this "
            "one takes; before `fit`, not as a callback of it. "
            f"Received: {type(model).__name__}, which holds {held}."
        )


def _without_call(model: keras.Model) -> bool:
    return getattr(getattr(model, "call", None), "__func__", None) is keras.Model.call


def as_names(layers: Any) -> list[Any]:
    """One name or layer, or several of them, as a list."""
    if isinstance(layers, (str, Layer)):
        return [layers]
    if not isinstance(layers, Iterable):
        raise UnsupportedLayerError(
            "`layers` takes names, layers, a class or a predicate. "
            f"Received: {layers!r} (of type {type(layers).__name__})"
        )
    return list(layers)


def named_layers(model: keras.Model, layers: Layers) -> list[Layer]:
    """All that `layers` means with all that it holds, whatever kind of layer it is.

    Raises:
        KerasInitsError: The model is not built.
        UnsupportedLayerError: It names something unknown, or chooses nothing.
    """
    require_built(model)
    every = list(walk(model))
    if isinstance(layers, type) and issubclass(layers, Layer):
        chosen = [x for x in every if isinstance(x, layers)]
    elif callable(layers) and not isinstance(layers, Layer):
        chosen = [x for x in every if layers(x)]
    else:
        names = as_names(layers)
        named = (x for item in names for x in matching(model, every, item))
        chosen = [x for layer in named for x in walk(layer)]
    if not chosen:
        raise UnsupportedLayerError(
            f"`layers` chose none of the layers of {model.name!r}. "
            f"Received: layers={layers!r}"
        )
    return list(dict.fromkeys(chosen))


def matching(model: keras.Model, known: Sequence[Layer], item: Any) -> list[Layer]:
    """The layers that a name, a path, or a layer itself stands for.

    Raises:
        UnsupportedLayerError: There is none; names that are close are listed.
    """
    if isinstance(item, Layer):
        matches = [layer for layer in known if layer is item]
    elif isinstance(item, str):
        matches = [layer for layer in known if item in (layer.name, layer.path)]
    else:
        raise UnsupportedLayerError(
            "`layers` takes names, layers, or a predicate. "
            f"Received: {item!r} (of type {type(item).__name__})"
        )
    if matches:
        return matches
    name = item.name if isinstance(item, Layer) else item
    names = sorted({layer.name for layer in _to_choose(model, known)})
    if isinstance(item, Layer):
        same = f", though one of the name {name!r}: pass the name" * (name in names)
        raise UnsupportedLayerError(
            f"Model {model.name!r} does not hold this layer{same}. Received: a layer "
            f"{name!r} ({type(item).__name__}) of another model, or of none. "
            f"{_listed(names)}"
        )
    close = difflib.get_close_matches(name, names, n=3)
    hint = f"Did you mean {', '.join(map(repr, close))}? " if close else ""
    if set(name) & set("*?["):
        hint = (
            "Names here are no patterns; a function of the layer may be: "
            f"lambda layer: fnmatch.fnmatch(layer.name, {name!r}). "
        )
    raise UnsupportedLayerError(
        f"Model {model.name!r} has no layer {name!r}. {hint}{_listed(names)}"
    )


def _listed(names: Sequence[str]) -> str:
    return f"Its layers: {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}."


def _to_choose(model: keras.Model, known: Sequence[Layer]) -> list[Layer]:
    """All but inputs, the model itself, and the graph that a Sequential model makes."""
    stacks = [_within(x) for x in known if isinstance(x, keras.Sequential)]
    return [
        layer
        for layer in known
        if layer is not model
        and not isinstance(layer, keras.layers.InputLayer)
        and (isinstance(layer, keras.Sequential) or _within(layer) not in stacks)
    ]


def _within(part: Layer) -> list[int] | None:
    """What a model is made of; None for any other layer."""
    if not isinstance(part, keras.Model):
        return None
    return [id(x) for x in part.layers if not isinstance(x, keras.layers.InputLayer)]
