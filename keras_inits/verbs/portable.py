"""Models for servers that do not have this package."""

import json
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeAlias

import keras

from keras_inits import initializers as ours
from keras_inits.errors import UnsupportedLayerError
from keras_inits.initializers.base import reduced
from keras_inits.initializers.truncated_normal import in_deviations, truncated_moments
from keras_inits.initializers.variance_scaling import TRUNCATED_STDDEV
from keras_inits.registry import custom_objects
from keras_inits.structure.naming import require_built
from keras_inits.structure.walking import walk

Builtin: TypeAlias = keras.initializers.Initializer

# Of all that hide names of this package for a while.
_ONE_AT_A_TIME = threading.RLock()


def portable(model: keras.Model) -> keras.Model:
    """Copies a model so that any Keras can load it, with or without this package.

    The weights, the optimizer's state and all else are equal; only the record of how
    the weights were drawn changes. Each initializer of this package becomes the Keras
    built-in of the same law or, where there is none, one that Keras can call with the
    same shape: a loaded model gets its weights from the file in any case.

    A custom layer is made again with what it saved. An argument that is one of our
    strings is swapped where its name contains `init`, for a Keras string or, where
    none means the same law, for a dict; `keras.initializers.get` takes both.

    Example:

    >>> keras_inits.portable(model).save("for_the_server.keras")

    Args:
        model: a built model that can be saved. It stays as it is.

    Raises:
        KerasInitsError: if `model` is not a `keras.Model`, or is not built.
        UnsupportedLayerError: if Keras cannot load the model again, or cannot without
            this package. It names the layer.

    Returns:
        A new model.
    """
    require_built(model)
    with _ONE_AT_A_TIME, tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "model.keras"), Path(folder, "portable.keras")
        try:
            model.save(before)
        except NotImplementedError as error:  # a layer without a config
            raise UnsupportedLayerError(_advice(model)) from error
        with zipfile.ZipFile(before) as source, zipfile.ZipFile(after, "w") as target:
            for name in source.namelist():
                content = source.read(name)
                if name == "config.json":
                    config = _with_optimizer(json.loads(content), model)
                    content = json.dumps(_replace(config)).encode()
                target.writestr(name, content)
        try:
            with _without_our_names():
                return keras.saving.load_model(after)
        except Exception as error:  # of any kind: the layers' own code runs
            raise UnsupportedLayerError(_advice(model)) from error


def _with_optimizer(config: dict[str, Any], model: keras.Model) -> dict[str, Any]:
    """Once saved as `.h5`, a model forgets what optimizer it was compiled with."""
    compiled = config.get("compile_config")
    own = type(model).get_compile_config is not keras.Model.get_compile_config
    if compiled and "optimizer" not in compiled and not own:
        optimizer = keras.saving.serialize_keras_object(model.optimizer)
        compiled["optimizer"] = optimizer
    return config


@contextmanager
def _without_our_names() -> Iterator[None]:
    """Keras as it is where this package is not installed."""
    names = keras.saving.get_custom_objects()
    hidden = {name: names[name] for name in custom_objects() if _is_ours(name)}
    try:
        for name in hidden:
            del names[name]
        yield
    finally:
        names.update(hidden)


def _is_ours(name: Any) -> bool:
    """Whether Keras finds one of our initializers under this string."""
    if not isinstance(name, str):
        return False
    found = keras.saving.get_custom_objects().get(name)
    return found is not None and found is custom_objects().get(name)


def _advice(model: keras.Model) -> str:
    """Which layer it is, and what to do. (Keras's errors may hold whole configs.)"""
    stuck = [layer for layer in walk(model) if not _loads(layer)]
    # What holds such a layer is stuck with it.
    innermost = (x for x in stuck if not {*walk(x)} & {*stuck} - {x})
    layer = next(innermost, model)
    name = f"{layer.name!r} ({type(layer).__name__})"
    if stuck and _loads(layer, with_our_names=True):
        return (
            f"Model {model.name!r} needs keras_inits: layer {name} names one of its "
            "initializers in its own code, or in an argument whose name does not "
            "contain 'init'. Pass it as an argument such as `kernel_initializer`, and "
            "return that in get_config."
        )
    return (
        f"Model {model.name!r} cannot be loaded again by Keras, because of {name}. "
        "Register its own classes and functions (layers, losses, activations) with "
        "@keras.saving.register_keras_serializable(), implement get_config, hand "
        "initializers to keras.initializers.get (it takes strings and dicts), and "
        "give lambdas a name: Keras loads none in its safe mode."
    )


def _loads(layer: keras.Layer, with_our_names: bool = False) -> bool:
    try:
        config = _replace(keras.saving.serialize_keras_object(layer))
        with nullcontext() if with_our_names else _without_our_names():
            keras.saving.deserialize_keras_object(config)
    except Exception:  # of any kind: the layer's own code runs
        return False
    return True


def _replace(node: Any, for_initializer: bool = False) -> Any:
    """A serialized object, each of our initializers in it swapped.

    A bare string is one only where an initializer is meant: a layer may be named so.
    """
    if isinstance(node, list | tuple):
        return [_replace(item, for_initializer) for item in node]
    if isinstance(node, str) and for_initializer and _is_ours(node):
        return _string_or_config(to_builtin(keras.initializers.get(node)))
    if not isinstance(node, dict):
        return node
    is_object = "class_name" in node and "config" in node
    if is_object and _is_ours(node.get("registered_name", node["class_name"])):
        initializer = keras.saving.deserialize_keras_object(node)
        return keras.saving.serialize_keras_object(to_builtin(initializer))
    inherited = for_initializer and not is_object
    return {
        key: _replace(value, inherited or "init" in key.lower())
        for key, value in node.items()
    }


def _string_or_config(builtin: Builtin) -> Any:
    """For a layer that got a string: one again, if its law is that of a string."""
    config = keras.saving.serialize_keras_object(builtin)
    by_default = type(builtin)().get_config() == builtin.get_config()
    return config["class_name"] if by_default else config


def to_builtin(initializer: Any) -> Builtin:
    """The Keras built-in of the same law, or one that accepts the same shapes.

    `UniformUnitScaling` is matched for kernels (a vector counts differently), the
    geometric mean of the fans by the arithmetic one, the orthonormal laws by
    `Orthogonal`, normal laws with other bounds than two deviations by the normal
    law with the mean and the deviation of their values. An integer seed becomes one
    that every backend takes.
    """
    for cls, build in _BUILTINS.items():
        if isinstance(initializer, cls):
            return build(initializer)
    raise TypeError(f"No built-in is known for {initializer!r}.")


def _scaling(scale: float, mode: str, distribution: str, like: Any) -> Builtin:
    return keras.initializers.VarianceScaling(
        scale, mode, distribution, seed=reduced(like.seed), **_axes(like)
    )


def _axes(like: Any) -> dict[str, Any]:
    # Keras knows axes since 3.15; where none are given, the config need not name them.
    if like.input_axes is None:
        return {}
    return {"input_axes": like.input_axes, "output_axes": like.output_axes}


def _contrib(like: ours.ContribVarianceScaling) -> Builtin:
    mode = like.mode.lower()
    if like.uniform:
        return _scaling(like.factor, mode, "uniform", like)
    # Keras divides the parent deviation by 0.8796, tf.contrib multiplies it by
    # sqrt(1.3): the same law, under another scale.
    scale = 1.3 * like.factor * TRUNCATED_STDDEV**2
    return _scaling(scale, mode, "truncated_normal", like)


def _truncated(like: ours.TruncatedNormal) -> Builtin:
    sigma = like.stddev / truncated_moments(like.lower, like.upper)[1]
    return _cut(like.mean, sigma, like.lower, like.upper, like)


def _bounded(like: ours.BoundedNormal) -> Builtin:
    lower = in_deviations(like.lower, like.mean, like.stddev)
    upper = in_deviations(like.upper, like.mean, like.stddev)
    return _cut(like.mean, like.stddev, lower, upper, like)


def _cut(mean: float, sigma: float, lower: float, upper: float, like: Any) -> Builtin:
    """N(mean, sigma^2), cut off at bounds in deviations."""
    if (lower, upper) == (-2, 2):
        return keras.initializers.TruncatedNormal(mean, sigma, seed=reduced(like.seed))
    unit_mean, unit_stddev = truncated_moments(lower, upper)
    return _normal(sigma * unit_stddev, like, mean + sigma * unit_mean)


def _siren(like: ours.Siren) -> Builtin:
    if like.first:  # 1 / fan_in is no scaling law: of the same order at fan_in = 3
        return _scaling(1.0, "fan_in", "uniform", like)
    return _scaling(2 / like.omega**2, "fan_in", "uniform", like)


def _normal(stddev: float, like: Any, mean: float = 0.0) -> Builtin:
    return keras.initializers.RandomNormal(mean, stddev, seed=reduced(like.seed))


def _orthogonal(like: Any) -> Builtin:
    return keras.initializers.Orthogonal(like.gain, seed=reduced(like.seed))


def _log_odds(like: ours.LogOddsBias) -> Builtin:
    if isinstance(like.prior, list):
        return keras.initializers.Zeros()
    odds = keras.ops.convert_to_numpy(like((1,), "float32"))
    return keras.initializers.Constant(float(odds[0]))


# In this order: the first class that fits decides.
_BUILTINS: dict[type, Callable[[Any], Builtin]] = {
    ours.VarianceScaling: lambda like: _scaling(
        like.scale,
        # Keras has the arithmetic mean alone; for a square kernel they are equal.
        "fan_avg" if like.mode == "fan_geo_avg" else like.mode,
        like.distribution,
        like,
    ),
    ours.UniformUnitScaling: lambda like: _scaling(
        like.factor**2, "fan_in", "uniform", like
    ),
    ours.ContribVarianceScaling: _contrib,
    ours.Siren: _siren,
    ours.TruncatedNormal: _truncated,
    ours.BoundedNormal: _bounded,
    ours.DepthScaledNormal: lambda like: _normal(
        like.stddev / (2 * like.layers) ** 0.5, like
    ),
    ours.SparseNormal: lambda like: _normal(
        max(1e-8, like.stddev * (1 - like.sparsity) ** 0.5), like
    ),
    ours.LSUVNormal: _orthogonal,
    ours.Orthogonal: _orthogonal,
    ours.DeltaOrthogonal: _orthogonal,
    ours.ConvolutionOrthogonal: _orthogonal,
    ours.LooksLinear: _orthogonal,
    ours.LogOddsBias: _log_odds,
    ours.ForgetGateBias: lambda like: keras.initializers.Zeros(),
    ours.Dirac: lambda like: keras.initializers.Zeros(),
    ours.ZerO: lambda like: keras.initializers.Zeros(),
    ours.Bilinear: lambda like: keras.initializers.Zeros(),
}
