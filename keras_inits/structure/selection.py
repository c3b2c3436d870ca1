"""Which layers of a model are meant, and why others are not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
from keras.layers import Layer

from keras_inits.errors import UnsupportedLayerError
from keras_inits.initializers.marking import MarksForLSUV, is_marked
from keras_inits.linear_maps import LinearMap, adapter_of, linear_maps
from keras_inits.structure.activations import ACTIVATION_LAYERS, operation_name
from keras_inits.structure.naming import Layers, as_names, matching, require_built
from keras_inits.structure.turns import layers_of
from keras_inits.structure.walking import nodes_of, own_variables, walk


@dataclass
class Selection:
    """Chosen layers with their maps, and the layers left out with the reason.

    A chosen layer without maps is opaque: only its output can be looked at, and
    `opaque` holds the variables to scale. `watched` are activation layers, and
    operations that are activations: they have a signal but no kernel. `unseen` are
    layers with kernels that nothing describes, where none was asked for. `every` holds
    all layers of the model. `late` are layers whose first calls take zeros (a state
    that starts at 0), with the number of these calls: no stops. `rewritten` are layers
    that were chosen, and are no longer since the next call undoes it. `named` says that
    the user has named the layers one by one.
    """

    maps: dict[Layer, tuple[LinearMap, ...]] = field(default_factory=dict)
    opaque: dict[Layer, tuple[keras.Variable, ...]] = field(default_factory=dict)
    left: dict[Layer, str] = field(default_factory=dict)
    watched: list[Any] = field(default_factory=list)
    unseen: list[Layer] = field(default_factory=list)
    every: list[Layer] = field(default_factory=list)
    late: Counter[Layer] = field(default_factory=Counter)
    rewritten: list[Layer] = field(default_factory=list)
    named: bool = False

    @property
    def layers(self) -> list[Layer]:
        """The chosen layers."""
        return [*self.maps, *self.opaque]


# Why a layer was left out that holds kernels.
UNDESCRIBED = "no linear map is known, see register_linear_map"
FROZEN = "frozen"
# Calls of a shared layer that take zeros, a state that starts so, and are passed over:
# one, or two where that state goes in again before it is mixed.
LATE = 2


def _marks(holder: Any) -> bool:
    held = set(map(type, vars(holder).values()))
    return any(issubclass(x, MarksForLSUV) for x in held)


def _holders(layer: Any) -> list[Any]:
    cell = getattr(layer, "cell", None) if isinstance(layer, keras.layers.RNN) else None
    return [layer, *([] if cell is None else [cell, *getattr(cell, "cells", [])])]


def is_marked_layer(layer: Any) -> bool:
    """Whether the layer holds an `lsuv_*` initializer, or one made a weight of it."""
    return any(map(_marks, _holders(layer))) or any(
        map(is_marked, own_variables(layer))
    )


def marked_map(linear_map: LinearMap) -> bool:
    """Whether an `lsuv_*` initializer made this very kernel."""
    owner = linear_map.owner or linear_map.layer
    held = getattr(owner, linear_map.initializer, None)
    return isinstance(held, MarksForLSUV) or is_marked(linear_map.kernel)


def _opaque_variables(layer: Any) -> tuple[keras.Variable, ...]:
    """What to scale in a custom layer that no adapter describes; Keras's own: none."""
    shipped = type(layer).__module__.startswith("keras.")
    if isinstance(layer, keras.Model):
        return ()
    if shipped and not isinstance(layer, keras.layers.RNN):  # RNN: a user's own cell
        return ()
    own = [v for v in own_variables(layer) if v.trainable and len(v.shape) >= 2]
    marked = tuple(v for v in own if is_marked(v))
    return marked or tuple(own)


def _obstacle(layer: Any, normalised: set[int]) -> str | None:
    if getattr(layer, "quantization_mode", None) is not None:
        return f"quantized ({layer.quantization_mode})"
    if not layer.built:
        return "not built"
    if id(layer) in normalised:
        return "SpectralNormalization rescales its kernel"
    return None


def candidates(model: keras.Model) -> Selection:
    """Every layer that has a linear map, or that only its output can describe."""
    layers = layers_of(model)
    wrapper = keras.layers.SpectralNormalization
    normalised = {id(x.layer) for x in layers if isinstance(x, wrapper)}
    found = Selection(every=layers)
    for layer in layers:
        if isinstance(layer, keras.Model) and any(map(is_marked, own_variables(layer))):
            found.left[layer] = "weights of a model itself; hold them in a layer"
        if adapter_of(layer) is None and not _opaque_variables(layer):
            continue
        reason = _obstacle(layer, normalised)
        if reason is not None:
            found.left[layer] = reason
        elif maps := linear_maps(layer):
            found.maps[layer] = maps
        elif variables := _opaque_variables(layer):
            found.opaque[layer] = variables
    return found


def covers(selection: Selection, seen: Iterable[Layer]) -> bool:
    """Whether these are all layers of the model that have a kernel."""
    known = set(map(id, seen))
    return all(
        id(x) in known or (adapter_of(x) is None and not _opaque_variables(x))
        for x in selection.every
    )


def _trainable(layer: Layer, found: Selection) -> bool:
    if layer in found.maps:
        return any(m.kernel.trainable for m in found.maps[layer]) and layer.trainable
    return layer.trainable


def _main_maps(maps: tuple[LinearMap, ...], named: bool) -> tuple[LinearMap, ...]:
    """A depthwise stage in front of a pointwise one: only when marked or named."""
    return tuple(
        m
        for m in maps
        if named
        or m.initializer != "depthwise_initializer"
        or len(maps) == 1
        or marked_map(m)
    )


def select(model: keras.Model, layers: Layers = None) -> Selection:
    """The layers that `layers` means.

    Args:
        model: A built model.
        layers: As in `lsuv_init`. A container (an attention layer, a nested model)
            stands for all that it holds.

    Raises:
        KerasInitsError: The model is not built.
        UnsupportedLayerError: A name or layer is unknown, or cannot be scaled.
    """
    require_built(model)
    found = candidates(model)
    if layers is None:
        return _automatic(found)
    if isinstance(layers, type) and issubclass(layers, Layer):
        return _by_predicate(model, found, lambda layer: isinstance(layer, layers))
    if callable(layers) and not isinstance(layers, Layer):
        return _by_predicate(model, found, layers)
    return _by_name(model, found, as_names(layers))


def everything(model: keras.Model, layers: Layers = None) -> Selection:
    """All that can be looked at: frozen layers and activation layers too.

    Raises:
        KerasInitsError: The model is not built.
        UnsupportedLayerError: `layers` names something unknown.
    """
    if layers is not None:
        return select(model, layers)
    require_built(model)
    found = candidates(model)
    found.maps = {x: _main_maps(maps, named=False) for x, maps in found.maps.items()}
    found.unseen = [x for x in found.opaque if not is_marked_layer(x)]
    found.opaque = {x: v for x, v in found.opaque.items() if x not in found.unseen}
    found.watched = activation_layers(found.every)
    return found


def activation_layers(every: Sequence[Layer]) -> list[Any]:
    """Activations that are layers or operations, not attributes of another layer."""
    own = {id(getattr(x, "activation", None)) for x in every}
    layers = [x for x in every if type(x) in ACTIVATION_LAYERS and id(x) not in own]
    called = (node.operation for graph in every for node in nodes_of(graph))
    return [*layers, *dict.fromkeys(x for x in called if operation_name(x))]


def select_all(model: keras.Model, layers: Layers = None) -> Selection:
    """As `select`, but None means every trainable layer, marked or not.

    Every linear map of a chosen layer counts, the depthwise stage of a separable
    convolution too.
    """
    if layers is not None:
        chosen = select(model, layers)
    else:
        require_built(model)
        found = candidates(model)
        every = [*found.maps, *found.opaque, *found.left]
        chosen = _take(found, every, named=False)
    chosen.maps = {layer: linear_maps(layer) for layer in chosen.maps}
    return chosen


def _automatic(found: Selection) -> Selection:
    marked = [
        layer
        for layer, maps in found.maps.items()
        if any(map(_marks, _holders(layer))) or any(is_marked(m.kernel) for m in maps)
    ]
    marked += [x for x in (*found.opaque, *found.left) if is_marked_layer(x)]
    # An opaque layer is touched only where its mark says so.
    wanted = marked or [*found.maps, *found.left]
    chosen = _take(found, wanted, named=False)
    if not marked:
        chosen.left.update(dict.fromkeys(found.opaque, UNDESCRIBED))
    return chosen


def _take(found: Selection, wanted: list[Layer], *, named: bool) -> Selection:
    chosen = Selection(every=found.every, named=named)
    for layer in wanted:
        if layer in found.left:
            chosen.left[layer] = found.left[layer]
        elif not named and not _trainable(layer, found):
            chosen.left[layer] = FROZEN
        elif layer in found.maps:
            chosen.maps[layer] = _main_maps(found.maps[layer], named)
        else:
            chosen.opaque[layer] = found.opaque[layer]
    return chosen


def _by_predicate(
    model: keras.Model, found: Selection, predicate: Callable[[Layer], bool]
) -> Selection:
    every = [*found.maps, *found.opaque, *found.left]
    wanted = [layer for layer in every if predicate(layer)]
    if not wanted:
        raise UnsupportedLayerError(
            f"The predicate `layers` chose none of the {len(every)} layers of "
            f"{model.name!r} that have a linear map. Received: layers={predicate!r}"
        )
    # A rule that holds for described layers, too, does not mean the others: what their
    # weights do to their output (a position added to it) nobody knows.
    several = any(x in found.maps for x in wanted)
    unsaid = [x for x in wanted if x in found.opaque and not is_marked_layer(x)]
    passed = dict.fromkeys(unsaid if several else [], UNDESCRIBED)
    chosen = _take(found, [x for x in wanted if x not in passed], named=False)
    chosen.left.update(passed)
    return chosen


def _by_name(
    model: keras.Model, found: Selection, wanted: list[str | Layer]
) -> Selection:
    known = found.every
    chosen: dict[Layer, None] = {}
    for item in wanted:
        for layer in matching(model, known, item):
            held = [x for x in walk(layer) if x in found.maps or x in found.opaque]
            blocked = [x for x in walk(layer) if x in found.left]
            if not held:
                why = (
                    f"it cannot be scaled: {found.left[blocked[0]]}"
                    if blocked
                    else "it has no linear map. If it is your own layer, see "
                    "keras_inits.register_linear_map"
                )
                raise UnsupportedLayerError(
                    f"Layer {layer.name!r} ({type(layer).__name__}) was chosen, but "
                    f"{why}. Leave it out of layers=."
                )
            chosen.update(dict.fromkeys([*held, *blocked]))
    if not chosen:
        raise UnsupportedLayerError(
            "`layers` names no layer. Received: layers=[]. Leave it at None for the "
            "marked layers, or name some."
        )
    return _take(found, list(chosen), named=True)
