"""Keras's own layers in a graph of layers, called without what changes nothing.

`Layer.__call__` converts and checks arguments, looks for masks, opens scopes: 0.15 ms
for each layer, as much as a small layer computes. In a Functional or Sequential model
most calls need none of it: one tensor, or several, of the right dtype, without mask and
of the shapes that the graph was built with, into a layer of Keras's own. These go to
`layer.call` at once; every other call takes the long way. Likewise the product of a
Dense layer, which finds out about dtypes and devices before it multiplies.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import keras
from keras.layers import Layer

from keras_inits.backends import is_hooked, loaded, tensor_type
from keras_inits.errors import KerasInitsError
from keras_inits.linear_maps import ACTIVATION_OFF, LinearMap
from keras_inits.walking import PLAIN


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
    plain = {id(x) for x in layers if _is_plain(x)}
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
            and _name_of(x.dtype) == self.dtype
            and getattr(x, "_keras_mask", None) is None
        )


def products(maps: Mapping[Layer, tuple[LinearMap, ...]]) -> dict[Layer, Product]:
    """The `Product` of each layer that has one.

    Args:
        maps: Layers of a model, not replaced in any way by us, and their maps.
    """
    eager = keras.backend.backend() in ("tensorflow", "torch")
    observed = keras.distribution.distribution() is not None or is_hooked()
    if not eager or observed or keras.layers.Dense.call is not _DENSE_CALL:
        return {}
    return {
        layer: Product(layer)
        for layer, own in maps.items()
        if len(own) == 1 and _is_described(own[0]) and _is_a_product(layer)
    }


def _is_described(m: LinearMap) -> bool:
    """Whether the map is the library's own: not so where a user has registered one."""
    return m.off is ACTIVATION_OFF and m.activation is None and m.in_hand


class Product:
    """`W x + b` of a Dense layer by the backend's own operations.

    They are those that Keras's lead to, after 0.06 ms.

    Args:
        layer: A layer whose `call` does no more than that.
    """

    def __init__(self, layer: Any) -> None:
        self.layer, self.dtype = layer, layer.compute_dtype
        self.multiply: Any = loaded().matmul
        self.tensor: Any = tensor_type()

    def takes(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether a call of the layer with these arguments is that product."""
        if len(args) != 1 or kwargs.keys() - {"training"}:
            return False
        x = args[0]
        fits = isinstance(x, self.tensor) and len(x.shape) > 1
        return fits and _name_of(x.dtype) == self.dtype and self._is_here(x)

    def _is_here(self, x: Any) -> bool:
        """Keras would move it to the device of the kernel (torch)."""
        if keras.backend.backend() != "torch":
            return True
        return bool(x.device == self.layer.kernel.value.device)

    def __call__(self, x: Any) -> Any:
        """From `(..., inputs)` to `(..., units)`."""
        z = self.multiply(x, self.layer.kernel.value)
        bias = self.layer.bias
        return z if bias is None else z + bias.value


_DENSE_CALL = keras.layers.Dense.call


def _is_a_product(layer: Any) -> bool:
    if type(layer) is not keras.layers.Dense or not _is_plain(layer):
        return False
    dtypes = {x.dtype for x in (layer.kernel, layer.bias) if x is not None}
    wide = dtypes == {layer.compute_dtype} and dtypes <= {"float32", "float64"}
    changed = getattr(layer, "lora_enabled", False) or "call" in vars(layer)
    return wide and not changed


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
def _name_of(dtype: Any) -> str:
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
    return keras.backend.backend() == "jax" and any(map(_makes_masks, layers))


def _makes_masks(layer: Any) -> bool:
    if type(layer) in PLAIN or type(layer).__module__.startswith("keras."):
        is_masking = isinstance(layer, keras.layers.Masking)
        return is_masking or bool(getattr(layer, "mask_zero", False))
    return type(layer).compute_mask is not Layer.compute_mask


def _casts(layer: Any) -> bool:
    """Whether what it computes in is not what its variables are kept in."""
    return bool(layer.compute_dtype != layer.variable_dtype)


def _is_plain(layer: Any) -> bool:
    extra = ("activity_regularizer", "quantization_mode", "_remat_mode")
    own = vars(layer)
    return (
        type(layer) in PLAIN
        and type(layer).__call__ is _CALL
        and layer.built
        and not any(getattr(layer, name, None) for name in extra)
        and not any(own.get(name) for name in _HOOKS)
    )
