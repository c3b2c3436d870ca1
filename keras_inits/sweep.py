"""One forward pass that stops at every linear map.

The only place that patches a layer. During the pass the chosen layers' `call` is
replaced on the instance by one that runs the layer up to `W x + b`, hands that to a
visitor, and goes on with what the visitor returns. All of it happens inside a
`keras.StatelessScope`: a kernel that is rescaled there is seen by every later call
and written nowhere, and moving statistics, seeds and metrics stay untouched.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Hashable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Protocol

import keras

from keras_inits.backends import eager, is_traced
from keras_inits.calling.masks import Masks
from keras_inits.calling.products import products
from keras_inits.calling.shadows import on_this_thread, shadowed
from keras_inits.calling.shortcuts import shortcuts
from keras_inits.calling.time_steps import TimeSteps
from keras_inits.data.refusals import explained
from keras_inits.distribution import local_statistics
from keras_inits.linear_maps import LinearMap, linear_maps
from keras_inits.statistics.masked import ALL, Steps
from keras_inits.structure.activations import is_shipped
from keras_inits.structure.selection import Selection
from keras_inits.structure.walking import walk
from keras_inits.weights.trial import Trial

Tensor = Any
Call = Callable[..., Any]

# Why a layer was left out.
TRACED = "called inside a traced function"


@dataclass
class Stop:
    """Where the pass has stopped: one linear map in one call of its layer.

    Args:
        layer: The layer that is being called.
        map: Its linear map. None for an opaque layer.
        trial: Values to see for the rest of the pass.
        again: Runs the layer (to `W x + b`; an opaque one to its output) once more
            under the values of the moment.
        variables: What to scale in an opaque layer.
        bias_only: Whether another layer has decided on the kernel, not on the bias.
        steps: Those that no mask leaves out.
    """

    layer: keras.layers.Layer
    map: LinearMap | None
    trial: Trial
    again: Callable[[], Tensor]
    variables: tuple[keras.Variable, ...] = ()
    bias_only: bool = False
    steps: Steps = ALL


class Visitor(Protocol):
    """Decides at each stop.

    Attributes:
        every_layer: Whether a kernel that a second layer applies is a stop there, too;
            otherwise it is decided, and seen by both.
        every_bias: Whether it is one where that layer adds another bias.
    """

    every_layer: ClassVar[bool]

    @property
    def every_bias(self) -> bool: ...

    def signal(self, stop: Stop, signal: Tensor) -> Tensor:
        """Receives `W x + b` (a probe: `W x`); returns what the layer goes on with."""

    def output(self, stop: Stop, output: Tensor) -> None:
        """Receives what the layer puts out."""

    def opaque(self, stop: Stop) -> Tensor:
        """Runs an opaque layer, by `stop.again`, and returns its output."""

    def watched(self, layer: Any, inputs: Tensor, output: Tensor, steps: Steps) -> None:
        """Receives what an activation layer, or operation, takes and puts out."""

    def repeated(self, layer: keras.layers.Layer) -> None:
        """A later call of a layer whose maps are all decided."""


def sweep(
    model: keras.Model,
    inputs: Any,
    selection: Selection,
    visitor: Visitor,
    trial: Trial,
    *,
    training: bool = False,
    disable_jit: bool = False,
    compiled: bool = False,
) -> list[keras.layers.Layer]:
    """Run `model(inputs)` once and let `visitor` decide at every linear map.

    Args:
        model: A built model.
        inputs: What the model is called with.
        selection: The layers to stop at.
        visitor: See `Visitor`.
        trial: The scope to run in; holds the new values afterwards.
        training: The mode the layers run in.
        disable_jit: Run a user's own `jax.jit` op by op, ten times slower.
        compiled: Whether the sweep itself is being traced.

    Returns:
        Chosen layers that were called inside somebody's trace, where nothing can be
        decided. Empty where all went well.
    """
    calls = _Interceptor(selection, visitor, trial, compiled)
    replaced = {layer: calls.of(layer) for layer in selection.layers}
    replaced.update((layer, calls.watching(layer)) for layer in selection.watched)
    replaced = {**dict(calls.masks.calls()), **replaced}
    steps = TimeSteps(calls.masks)
    for layer in selection.every:
        if isinstance(layer, keras.layers.TimeDistributed) and any(
            inner in replaced for inner in walk(layer.layer)
        ):
            replaced.update(steps.merged(layer))
    attributes = [(layer, "call", call) for layer, call in replaced.items()]
    # Rematerialised layers would be traced on JAX.
    attributes += [(x, "rematerialized_call", _as_it_is) for x in selection.every]
    # On a GPU both directions would run as one, past the layers within (Keras 3.15).
    both = [x for x in selection.every if isinstance(x, keras.layers.Bidirectional)]
    for name in ("_can_attempt_fused_lstm", "_can_attempt_fused_gru"):
        attributes += [(x, name, _never) for x in both]
    kept_losses = model, "_clear_losses", _never  # of the call before
    attributes.append(kept_losses)
    attributes += local_statistics(model, selection.every, training)
    attributes += shortcuts(selection.every)
    arguments = inspect.signature(model.call).parameters
    mode = {"training": training} if "training" in arguments else {}

    def alone() -> None:
        with eager(), shadowed([kept_losses]), keras.StatelessScope():
            model(inputs, **mode)

    refused = nullcontext() if compiled else explained(model, inputs, alone)
    with refused, eager(disable_jit=disable_jit), shadowed(attributes), trial:
        model(inputs, **mode)
    return calls.traced


class _Interceptor:
    """Makes the calls that stand in for the layers' own during a sweep."""

    def __init__(
        self, selection: Selection, visitor: Visitor, trial: Trial, compiled: bool
    ) -> None:
        self.selection, self.visitor, self.trial = selection, visitor, trial
        self.compiled, self.masks = compiled, Masks(selection.every)
        self.products, self.held = products(selection.maps), _held(selection)
        self.thread = threading.get_ident()
        self.decided: set[Hashable] = set()
        self.late = selection.late.copy()
        self.traced: list[keras.layers.Layer] = []

    def of(self, layer: keras.layers.Layer) -> Call:
        """The call that replaces `layer.call`."""
        original: Call = layer.call
        maps = self.selection.maps.get(layer, ())

        def call(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != self.thread:
                return original(*args, **kwargs)
            first = args[0] if args else next(iter(kwargs.values()), None)
            if not self.compiled and is_traced(first):
                self.traced.append(layer)
                return original(*args, **kwargs)
            if self.late[layer]:
                self.late[layer] -= 1
                return original(*args, **kwargs)
            if not maps:
                steps = Steps(self.masks.of(layer, args, kwargs))
                return self._opaque(layer, partial(original, *args, **kwargs), steps)
            now = [m for m in maps if m.when is None or m.when(*args, **kwargs)]
            return self._visit(layer, now, original, args, kwargs)

        return call

    def watching(self, layer: Any) -> Call:
        """The call that replaces that of an activation; its first one counts."""
        original: Call = layer.call

        def call(inputs: Tensor, *args: Any, **kwargs: Any) -> Any:
            output = original(inputs, *args, **kwargs)
            outside = self.compiled or not is_traced(inputs)
            fresh = id(layer) not in self.decided and outside
            if threading.get_ident() == self.thread and fresh:
                self.decided.add(id(layer))
                steps = Steps(self.masks.beside(output, inputs))
                self.visitor.watched(layer, inputs, output, steps)
            return output

        return call

    def _visit(
        self,
        layer: keras.layers.Layer,
        maps: list[LinearMap],
        original: Call,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        about = id(layer) if self.visitor.every_layer else None
        known = {m for m in maps if (about, id(m.kernel)) in self.decided}
        fresh = [m for m in maps if m not in known]
        if self.visitor.every_bias:
            added = [m for m in maps if m.bias is not None]
            fresh += [m for m in added if m in known and id(m.bias) not in self.decided]
            self.decided.update(id(m.bias) for m in added)
        if not fresh:
            self.visitor.repeated(layer)
        self.decided.update((about, id(m.kernel)) for m in fresh)
        output, last = None, None
        mask = self.masks.of(layer, args, kwargs, fresh)
        for linear_map in fresh:
            product = self.products.get(layer)
            if id(layer) in self.held and _is_replaced(linear_map):
                self.trial.written.add(id(linear_map.kernel))
            if linear_map.probe is not None:
                again = partial(linear_map.probe, *args, **kwargs)
            elif product is not None and product.takes(args, kwargs):
                again = partial(product, args[0])
            else:
                again = partial(_shadowed_call, linear_map, original, args, kwargs)
            steps, only = Steps(mask, linear_map.channel_axes), linear_map in known
            last = Stop(layer, linear_map, self.trial, again, (), only, steps)
            signal = self.visitor.signal(last, again())
            if linear_map.in_hand:
                output = linear_map.activate(signal)
            del signal
        if output is None:
            output = original(*args, **kwargs)
        if last is not None:
            self.visitor.output(last, output)
        return output

    def _opaque(
        self, layer: keras.layers.Layer, again: Callable[[], Tensor], steps: Steps
    ) -> Any:
        variables = self.selection.opaque[layer]
        if all(id(v) in self.decided for v in variables):
            self.visitor.repeated(layer)
            return again()
        self.decided.update(map(id, variables))
        stop = Stop(layer, None, self.trial, again, variables, steps=steps)
        return self.visitor.opaque(stop)


def _shadowed_call(
    linear_map: LinearMap, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor:
    layer = linear_map.layer
    off = linear_map.off.items()
    with shadowed((layer, name, on_this_thread(layer, name, x)) for name, x in off):
        return call(*args, **kwargs)


def _held(selection: Selection) -> set[int]:
    """Layers that a user's own layer calls: it may call them with other kernels."""
    own = (x for x in selection.every if not is_shipped(x))
    own = (x for x in own if not isinstance(x, keras.Model))
    return {id(y) for x in own for y in walk(x) if y is not x and y in selection.maps}


def _is_replaced(m: LinearMap) -> bool:
    """Whether the layer computes with something else than the kernel now."""
    try:
        return all(x.kernel is not m.kernel for x in linear_maps(m.layer))
    except Exception:  # of an adapter: what it looks for is not there
        return True


def _never(*args: Any, **kwargs: Any) -> bool:
    return False


def _as_it_is(function: Call, *args: Any, **kwargs: Any) -> Call:
    return function
