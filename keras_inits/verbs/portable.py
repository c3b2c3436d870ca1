"""Models for servers that do not have this package."""

import json
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import keras

from keras_inits import initializers as ours
from keras_inits.errors import UnsupportedLayerError
from keras_inits.initializers.truncated_normal import truncated_stddev
from keras_inits.initializers.variance_scaling import TRUNCATED_STDDEV
from keras_inits.naming import require_built
from keras_inits.registry import PACKAGE

Builtin: TypeAlias = keras.initializers.Initializer


def portable(model: keras.Model) -> keras.Model:
    """Copies a model so that any Keras can load it, with or without this package.

    The weights, the optimizer's state and all else are equal; only the record of how
    the weights were drawn changes. Each initializer of this package becomes the Keras
    built-in of the same law or, where there is none, one that Keras can call with the
    same shape: a loaded model gets its weights from the file in any case.

    Example:

    >>> keras_inits.portable(model).save("for_the_server.keras")

    Args:
        model: a built model that can be saved. It stays as it is.

    Raises:
        KerasInitsError: if `model` is not a `keras.Model`, or is not built.
        UnsupportedLayerError: if Keras cannot load the model again.

    Returns:
        A new model.
    """
    require_built(model)
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "model.keras"), Path(folder, "portable.keras")
        model.save(before)
        with zipfile.ZipFile(before) as source, zipfile.ZipFile(after, "w") as target:
            for name in source.namelist():
                content = source.read(name)
                if name == "config.json":
                    content = json.dumps(_replace(json.loads(content))).encode()
                target.writestr(name, content)
        try:
            return keras.saving.load_model(after)
        except (TypeError, ValueError) as error:  # some hold the model's whole config
            raise UnsupportedLayerError(
                f"Model {model.name!r} ({type(model).__name__}) cannot be loaded "
                "again by Keras. Register its own classes and functions (layers, "
                "losses, activations) with "
                "@keras.saving.register_keras_serializable(), implement get_config, "
                "and give lambdas a name: Keras loads none in its safe mode."
            ) from error


def _replace(node: Any) -> Any:
    """A serialized object, each of our initializers in it swapped."""
    if isinstance(node, list):
        return [_replace(item) for item in node]
    if not isinstance(node, dict):
        return node
    name = str(node.get("registered_name"))
    if name.startswith(f"{PACKAGE}>") and node.get("class_name") in ours.__all__:
        initializer = keras.saving.deserialize_keras_object(node)
        return keras.saving.serialize_keras_object(to_builtin(initializer))
    return {key: _replace(value) for key, value in node.items()}


def to_builtin(initializer: Any) -> Builtin:
    """The Keras built-in of the same law, or one that accepts the same shapes.

    `UniformUnitScaling` is matched for kernels (a vector counts differently), the
    geometric mean of the fans by the arithmetic one, the orthonormal laws by
    `Orthogonal`, normal laws with other bounds than two deviations by the normal
    law of the same mean and deviation.
    """
    for cls, build in _BUILTINS.items():
        if isinstance(initializer, cls):
            return build(initializer)
    raise TypeError(f"No built-in is known for {initializer!r}.")


def _scaling(scale: float, mode: str, distribution: str, like: Any) -> Builtin:
    return keras.initializers.VarianceScaling(
        scale, mode, distribution, seed=like.seed, **_axes(like)
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
    if (like.lower, like.upper) == (-2, 2):
        sigma = like.stddev / TRUNCATED_STDDEV
        return keras.initializers.TruncatedNormal(like.mean, sigma, seed=like.seed)
    return keras.initializers.RandomNormal(like.mean, like.stddev, seed=like.seed)


def _bounded(like: ours.BoundedNormal) -> Builtin:
    lower = (like.lower - like.mean) / like.stddev
    upper = (like.upper - like.mean) / like.stddev
    if (lower, upper) == (-2, 2):
        return keras.initializers.TruncatedNormal(
            like.mean, like.stddev, seed=like.seed
        )
    stddev = like.stddev * truncated_stddev(lower, upper)
    return keras.initializers.RandomNormal(like.mean, stddev, seed=like.seed)


def _siren(like: ours.Siren) -> Builtin:
    if like.first:  # 1 / fan_in is no scaling law: of the same order at fan_in = 3
        return _scaling(1.0, "fan_in", "uniform", like)
    return _scaling(2 / like.omega**2, "fan_in", "uniform", like)


def _normal(stddev: float, like: Any) -> Builtin:
    return keras.initializers.RandomNormal(0.0, stddev, seed=like.seed)


def _orthogonal(like: Any) -> Builtin:
    return keras.initializers.Orthogonal(like.gain, seed=like.seed)


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
