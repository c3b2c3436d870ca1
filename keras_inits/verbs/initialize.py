"""Draw the kernels of a model again, by each layer's own shape and activation."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import keras
import numpy as np

from keras_inits.backward.probes import is_linear
from keras_inits.distribution import everywhere, placed
from keras_inits.errors import KerasInitsError, UnsupportedLayerError
from keras_inits.gains import NotElementwise, gain
from keras_inits.initializers import (
    ForgetGateBias,
    LogOddsBias,
    LooksLinear,
    VarianceScaling,
)
from keras_inits.linear_maps import LinearMap, identity
from keras_inits.registry import resolved
from keras_inits.structure.activations import activations_behind
from keras_inits.structure.cases import first, is_table, matches, require_matches
from keras_inits.structure.naming import Layers, named_layers
from keras_inits.structure.selection import FROZEN, UNDESCRIBED, Selection, select_all
from keras_inits.structure.turns import in_turn
from keras_inits.structure.walking import walk
from keras_inits.weights.blocks import redraw
from keras_inits.weights.commit import commit
from keras_inits.weights.extras import borrowed, without_lora
from keras_inits.weights.looks_linear import looks_linear_kernels
from keras_inits.weights.twins import reset_values

Tensor = Any
Layer = Any
Changes = list[tuple[keras.Variable, Tensor]]


@in_turn
@everywhere
def initialize(
    model: keras.Model,
    initializer: Any = "auto",
    *,
    layers: Layers = None,
    seed: int | None = None,
) -> None:
    """Redraw kernels with the fans of each layer's linear map; no data needed.

    `"auto"` draws every kernel with variance `gain(f)^2 / fan_in`, `f` being the
    layer's own activation, or the layer or operation behind it (linear: 1 / fan_in).
    ReLUs hand on the mean square that they get; in a stack of one other activation
    pre-activations come to mean square 1 after a few layers (tanh: 2.5, 1.4, 1.2,
    1.1). Three things it does not know: a sum of branches adds
    variances (scale the last kernel of a residual branch, or normalise); activations
    that are not homogeneous keep the size only near mean square 1: tanh and SELU
    return to it, GELU, SiLU and Mish drift away with depth; recurrent kernels stay as
    they are. Biases are never touched, except by `None`.

    Examples:

        initialize(model)                        # variance preserved
        initialize(model, "he_normal", seed=0)   # any Keras or keras_inits string
        initialize(model, {"head*": "zeros", keras.layers.Conv2D: "delta_orthogonal"})
        initialize(model, "looks_linear")        # first, middle and last set right
        initialize(model, None)                  # every weight by its own initializer

    Args:
        model: A built model, or one without a `call` that holds built ones (a GAN).
        initializer: `"auto"`, a string, an instance, or a dict from name patterns or
            layer classes to any of these (the first that matches counts; layers that
            none matches stay). None resets: every weight, biases and statistics
            included, is drawn again by the initializer that its layer was made with.
            What a layer has been adapted to (Normalization) stays; in a dict, frozen
            layers stay unless they are named.
        layers: Names, layers or a predicate. None: trainable ones with a linear map; a
            `UserWarning` names others that hold kernels.
        seed: Makes the draw repeatable; layers (and gates, groups) still differ.

    Raises:
        UnsupportedLayerError: A layer is unknown, or the initializer does not suit it.
        KerasInitsError: The model is not built; the initializer is unknown, or draws
            biases.
        DistributionError: Inside `strategy.run`, or another process is missing.
    """
    if seed is not None and (
        isinstance(seed, bool) or not isinstance(seed, (int, np.integer))
    ):
        raise KerasInitsError(f"`seed` must be an integer or None. Received: {seed!r}")
    seed = None if seed is None else int(seed)
    if initializer is None:
        commit(reset_values(model, layers, seed), None)
        return
    values = list(initializer.values()) if is_table(initializer) else []
    if values and all(x is None for x in values):
        require_matches(model, list(walk(model)), initializer)
        commit(_reset(model, initializer, layers, seed), None)
        return
    selection = select_all(model, layers)
    if _is_looks_linear(initializer):
        changes = looks_linear_kernels(model, selection, _seeder(seed))
        _warn_of_undrawn(selection, initializer)
        commit(changes, None)
        return
    chosen = _choice(initializer, activations_behind(selection.every))
    if isinstance(initializer, Mapping):
        require_matches(model, selection.every, initializer)
    _require_described(selection, layers, initializer)
    changes = []
    fresh, left = _freshener(seed), borrowed(selection)
    for layer, maps in selection.maps.items():
        stages = {id(m.stage) for m in maps if m.stage is not None}
        for m in maps:
            draw = None if id(m) in left else chosen(m)
            draw = _of_stage(draw) if id(m) in stages else draw
            if draw is not None:
                changes.append((m.kernel, _drawn(layer, m, draw, fresh)))
                changes += without_lora(m)
    changes += _reset(model, initializer, layers, seed)
    _warn_of_undrawn(selection, initializer)
    commit(changes, None)


def _is_looks_linear(initializer: Any) -> bool:
    named = isinstance(initializer, str) and initializer == "looks_linear"
    return named or type(initializer) is LooksLinear


def _drawn(layer: Layer, m: LinearMap, draw: Any, fresh: Callable[..., Any]) -> Tensor:
    try:
        if isinstance(getattr(draw, "seed", None), keras.random.SeedGenerator):
            return redraw(m, draw, fresh)  # its state must not see a trace
        return placed(m.kernel, lambda: redraw(m, draw, fresh))
    except (TypeError, ValueError) as error:
        raise UnsupportedLayerError(
            f"Layer {layer.name!r} ({type(layer).__name__}, kernel "
            f"{tuple(m.kernel.shape)}) cannot be drawn by "
            f"{getattr(draw, '__name__', type(draw).__name__)}: {error}"
        ) from error


def _choice(initializer: Any, behind: dict[int, Any]) -> Callable[[LinearMap], Any]:
    """Which initializer draws which map; `behind` as `activations_behind` has it."""
    automatic = partial(_automatic, behind)
    if not is_table(initializer):
        found = _get(initializer)
        return automatic if found == "auto" else lambda m: found
    cases = {key: _get(value) for key, value in initializer.items()}

    def by_case(m: LinearMap) -> Any:
        found = first(m.layer, cases)
        return automatic(m) if isinstance(found, str) else found

    return by_case


def _of_stage(draw: Any) -> Any:
    """For a stage with no activation behind it: the law's factor counts once.

    `he_normal` makes up for a ReLU, of which a separable convolution has one.
    """
    scaling = {"keras": keras.initializers.VarianceScaling}
    scaling["keras_inits"] = VarianceScaling  # others of ours have no scale
    known = scaling.get(type(draw).__module__.partition(".")[0])
    if known is None or not isinstance(draw, known) or draw.scale == 1.0:
        return draw
    # Keras makes up a seed where none was given, and says so in the config alone.
    seed = None if draw.get_config()["seed"] is None else draw.seed
    return VarianceScaling(1.0, draw.mode, draw.distribution, seed=seed)


def _reset(model: keras.Model, cases: Any, layers: Layers, seed: int | None) -> Changes:
    """Of a table: every weight of the layers beside whose key stands None."""
    if not is_table(cases):
        return []
    known = list(walk(model)) if layers is None else named_layers(model, layers)
    held = [y for x in known if first(x, cases, "another") is None for y in walk(x)]
    if layers is None:  # a pattern is not to reach the frozen part of a model
        held = [x for x in held if x.trainable or {x.name, x.path} & {*cases}]
    chosen = {id(x) for x in held if first(x, cases) is None}
    return reset_values(model, lambda x: id(x) in chosen, seed) if chosen else []


def _require_described(selection: Selection, layers: Layers, cases: Any) -> None:
    """A layer asked for by itself, of which nobody knows what to draw."""
    names: list[Any] = [layers] if isinstance(layers, (str, keras.layers.Layer)) else []
    names += layers if isinstance(layers, (list, tuple, set)) else []
    rows = cases.items() if is_table(cases) else ()
    keys = [key for key, value in rows if value is not None]  # a reset needs no axes
    for layer in selection.opaque:
        named = any(x in (layer, layer.name, layer.path) for x in names)
        alone = (k for k in keys if not any(matches(x, k) for x in selection.maps))
        if named or any(matches(layer, k) for k in alone):
            raise UnsupportedLayerError(
                f"Layer {layer.name!r} ({type(layer).__name__}) cannot be drawn: it "
                "holds kernels, and nothing says which of their axes are inputs. "
                "Describe it with keras_inits.register_linear_map, or leave it out."
            )


def _warn_of_undrawn(selection: Selection, cases: Any) -> None:
    """Layers meant like all others, of which a kernel stays as it is."""
    reasons = {**dict.fromkeys(selection.opaque, UNDESCRIBED), **selection.left}
    undrawn = [
        f"{layer.name} ({type(layer).__name__}: {reason})"
        for layer, reason in reasons.items()
        if layer.built and reason != FROZEN
        if not is_table(cases) or first(layer, cases) is not None
    ]
    if undrawn:
        warnings.warn(
            f"initialize left kernels as they are: {', '.join(undrawn[:5])}"
            f"{', ...' * (len(undrawn) > 5)}. Choose the others with layers= if that "
            "is meant.",
            stacklevel=5,  # who called the verb, which is wrapped twice
        )


def _get(initializer: Any) -> Any:
    """An initializer; `"auto"` and None as they are."""
    if initializer is None or (isinstance(initializer, str) and initializer == "auto"):
        return initializer
    found = resolved(initializer)
    if isinstance(found, (ForgetGateBias, LogOddsBias)):
        raise KerasInitsError(
            f"initialize draws kernels, and {type(found).__name__} is for biases. "
            f"Received: {initializer!r}. Pass it to the layer as bias_initializer."
        )
    return found


def _automatic(behind: dict[int, Any], m: LinearMap) -> VarianceScaling:
    """Variance gain(f)^2 / fan_in; gates and depthwise stages count as linear."""
    activation = getattr(m.layer, "activation", None) if m.in_hand else None
    follows = m.in_hand and is_linear(activation or identity)
    activation = _applied(behind.get(id(m.layer)) if follows else activation)
    linear = activation is None or m.lookup or is_linear(activation)
    if getattr(activation, "__name__", "") == "softmax":
        linear = True
    try:
        scale = 1.0 if linear else gain(activation) ** 2
    except NotElementwise:
        scale = 1.0  # it mixes units, as log_softmax does
    except ValueError as error:
        raise UnsupportedLayerError(
            f"Layer {m.layer.name!r} ({type(m.layer).__name__}, kernel "
            f"{tuple(m.kernel.shape)}) cannot be drawn by 'auto': {error}"
        ) from error
    return VarianceScaling(scale=scale, mode="fan_in", distribution="truncated_normal")


def _applied(layer: Any) -> Any:
    """What an activation layer applies, as a function; of PReLU what it starts as."""
    if isinstance(layer, keras.layers.PReLU):
        return keras.activations.relu
    if isinstance(layer, keras.layers.Softmax):
        return None
    return getattr(layer, "activation", layer)


def _seeder(seed: int | None) -> Callable[[], int]:
    """Fresh integer seeds: from `seed`, or from the generator that Keras seeds."""
    source = random if seed is None else random.Random(seed)
    return lambda: source.randrange(1, 2**31 - 1)


def _freshener(seed: int | None) -> Callable[[Any], Any]:
    """Copies of an initializer, each with a seed of its own.

    A built-in initializer repeats its values for every call; an integer seed of the
    instance is the root of the copies' seeds.
    """
    seeders: dict[int, Callable[[], int]] = {}

    def fresh(draw: Any) -> Any:
        config = draw.get_config() if hasattr(draw, "get_config") else {}
        own = config.get("seed")
        if "seed" not in config or (seed is None and isinstance(own, dict)):
            return draw  # no law of chance, or a SeedGenerator, which streams
        root = seed if seed is not None else own
        next_seed = seeders.setdefault(
            id(root) if root is None else root, _seeder(root)
        )
        return type(draw).from_config({**config, "seed": next_seed()})

    return fresh
