"""Keras's own layers in a graph of layers, called without what changes nothing.

`Layer.__call__` converts and checks arguments, looks for masks, opens scopes: 0.15 ms
for each layer, as much as a small layer computes. In a Functional or Sequential model
most calls need none of it: one tensor, or several, of the right dtype, without mask and
of the shapes that the graph was built with, into a layer of Keras's own. These go to
`layer.call` at once; every other call takes the long way.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable
from typing import Any

import keras
from keras.layers import Layer

from keras_inits.backends import is_hooked, loaded, tensor_type
from keras_inits.calling.masks import makes_masks
from keras_inits.errors import KerasInitsError
from keras_inits.structure.walking import PLAIN


def shortcuts(every: Iterable[Layer]) -> list[tuple[Layer, str, Any]]:
    """Attributes for the graphs among these layers, so that calls go the short way.

    Args:
        every: All layers of a model.

    Returns:
        Triples of a graph, a name and a value, to be set for the time of a pass.
    """
    layers = list(every)
    observed = keras.distribution.distribution() is not None or is_hooked()
    if observed or any(map(_casts, layers)) or _hides_masks(layers):
        return []
    plain = {id(x) for x in layers if is_plain(x)}
    short: dict[int, Short] = {}

    def operation(node: Any) -> Any:
        if id(node.operation) not in plain:
            return node.operation
        if id(node) not in short:
            short[id(node)] = Short(node.operation, node.input_tensors)
        return short[id(node)]

    graphs = [x for x in layers if hasattr(x, "_get_operation_for_node")]
    return [(x, "_get_operation_for_node", operation) for x in graphs]


class Short:
    """A layer as a node of a graph calls it.

    Args:
        layer: A layer of one of the classes `PLAIN`.
        symbols: The tensors that the graph was built with, of known shapes.
    """

    def __init__(self, layer: Any, symbols: Iterable[Any]) -> None:
        self.layer = layer
        self.dtype = layer.input_dtype
        self.tensor: Any = tensor_type()
        kind: Any = type(layer)
        self.takes_training = _takes_training(kind)
        self.shapes = [tuple(x.shape) for x in symbols]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.layer, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What `layer(*args, **kwargs)` returns."""
        if len(args) != 1 or not self._is_short(args[0], kwargs):
            return self.layer(*args, **kwargs)
        try:
            if self.takes_training:
                return self.layer.call(args[0], training=kwargs["training"])
            return self.layer.call(args[0])
        except Exception as error:
            raise _naming(self.layer, error) from error

    def _is_short(self, inputs: Any, kwargs: dict[str, Any]) -> bool:
        mode = kwargs.get("training")
        if kwargs.keys() - _EXPECTED or kwargs.get("mask") is not None:
            return False
        if mode is None and self.takes_training:  # the model knows
            return False
        tensors: Any = inputs if type(inputs) is list else (inputs,)
        few = len(tensors) <= len(self.shapes)
        return few and all(map(self._fits, tensors, self.shapes))

    def _fits(self, x: Any, shape: tuple[int | None, ...]) -> bool:
        return (
            isinstance(x, self.tensor)
            and _agree(tuple(x.shape), shape)
            and name_of(x.dtype) == self.dtype
            and getattr(x, "_keras_mask", None) is None
        )


# What a module of torch does beside `call`.
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "forward")
_EXPECTED = {"mask", "training"}
_CALL = Layer.__call__  # somebody who replaces it, to count calls say, sees every one


def _agree(shape: tuple[Any, ...], symbol: tuple[int | None, ...]) -> bool:
    """Whether a tensor is what the graph was built for, which its layers have checked.

    Not so behind a layer that puts out another shape than it says.
    """
    pairs = zip(shape, symbol, strict=False)
    return len(shape) == len(symbol) and all(n in (None, size) for size, n in pairs)


@functools.cache  # of classes in `PLAIN`
def _takes_training(kind: Any) -> bool:
    return "training" in inspect.signature(kind.call).parameters


@functools.cache  # many tensors, few dtypes
def name_of(dtype: Any) -> str:
    """As Keras calls it."""
    return str(keras.backend.standardize_dtype(dtype))


def _naming(layer: Layer, error: Exception) -> Exception:
    """The same error with the layer in its message, as far as its class allows."""
    if isinstance(error, KerasInitsError):
        return error
    where = f"in layer {layer.name!r} ({type(layer).__name__})"
    try:
        return type(error)(f"{error}\n\n({where})")
    except Exception:
        return error


def _hides_masks(layers: Iterable[Layer]) -> bool:
    """Whether there may be masks that a tensor does not show: JAX, while it traces.

    Keras keeps them elsewhere there.
    """
    return keras.backend.backend() == "jax" and any(map(makes_masks, layers))


def _casts(layer: Any) -> bool:
    """Whether what it computes in is not what its variables are kept in."""
    return bool(layer.compute_dtype != layer.variable_dtype)


def is_plain(layer: Any) -> bool:
    """Whether its class is one of `PLAIN`, and nobody has made more of it."""
    extra = ("activity_regularizer", "quantization_mode", "_remat_mode")
    return (
        type(layer) in PLAIN
        and type(layer).__call__ is _CALL
        and layer.built
        and not any(getattr(layer, name, None) for name in extra)
        and not has_hooks(layer)
    )


def has_hooks(layer: Any) -> bool:
    """Whether somebody listens to its calls (torch), or has replaced them."""
    own = vars(layer)
    return any(own.get(name) for name in _HOOKS)


def has_modules(layer: Any) -> bool:
    """Whether it holds modules of torch that are no layers: they are a user's."""
    if keras.backend.backend() != "torch":
        return False
    nn = loaded().nn
    own = (Layer, nn.ParameterDict, nn.ParameterList)
    return any(not isinstance(x, own) for x in layer._modules.values() if x is not None)
