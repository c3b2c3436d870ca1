"""Keras's own laws under their own class names, with this package's guarantees.

Keras keeps the strings `"glorot_normal"` and so on: these classes answer to
`"keras_inits>GlorotNormal"`, or are passed as objects. Arguments come in Keras's
order, `(seed, input_axes, output_axes)`, and `gain` is given by name.
"""

from keras_inits.initializers.variance_scaling import KerasScheme
from keras_inits.registry import register


@register(law="truncated normal, deviation gain*sqrt(2/(fan_in+fan_out))")
class GlorotNormal(KerasScheme):
    """Glorot's normal law: variance kept half forward, half backward.

    Normal truncated at two parent deviations; the values drawn have deviation
    `gain * sqrt(2 / (fan_in + fan_out))`.

    Example:

    >>> layer = keras.layers.Dense(64, kernel_initializer="keras_inits>GlorotNormal")

    Args:
        seed, input_axes, output_axes: as in `VarianceScaling`.
        gain: factor of the deviation.

    References:
        Glorot & Bengio (2010), Understanding the difficulty of training deep
        feedforward neural networks, AISTATS.
    """

    row = (1.0, "fan_avg", "truncated_normal")


@register(law="U(-b, b), b = gain*sqrt(6/(fan_in+fan_out))")
class GlorotUniform(KerasScheme):
    """Glorot's uniform law, the default of most Keras layers.

    U(-b, b), `b = gain * sqrt(6 / (fan_in + fan_out))`.

    Example:

    >>> layer = keras.layers.Dense(64, kernel_initializer="keras_inits>GlorotUniform")

    Args:
        seed, input_axes, output_axes: as in `VarianceScaling`.
        gain: factor of the deviation.

    References:
        Glorot & Bengio (2010), as for `GlorotNormal`.
    """

    row = (1.0, "fan_avg", "uniform")


@register(law="truncated normal, deviation gain*sqrt(2/fan_in)")
class HeNormal(KerasScheme):
    """He's normal law: keeps the mean square of the signal through ReLU layers.

    Normal truncated at two parent deviations; the values drawn have deviation
    `gain * sqrt(2 / fan_in)`.

    Example:

    >>> layer = keras.layers.Dense(64, kernel_initializer="keras_inits>HeNormal")

    Args:
        seed, input_axes, output_axes: as in `VarianceScaling`.
        gain: factor of the deviation.

    References:
        He et al. (2015), Delving deep into rectifiers, arXiv:1502.01852.
    """

    row = (2.0, "fan_in", "truncated_normal")


@register(law="U(-b, b), b = gain*sqrt(6/fan_in)")
class HeUniform(KerasScheme):
    """He's uniform law: keeps the mean square of the signal through ReLU layers.

    U(-b, b), `b = gain * sqrt(6 / fan_in)`.

    Example:

    >>> layer = keras.layers.Dense(64, kernel_initializer="keras_inits>HeUniform")

    Args:
        seed, input_axes, output_axes: as in `VarianceScaling`.
        gain: factor of the deviation.

    References:
        He et al. (2015), as for `HeNormal`.
    """

    row = (2.0, "fan_in", "uniform")


@register(law="truncated normal, deviation gain*sqrt(1/fan_in)")
class LecunNormal(KerasScheme):
    """LeCun's normal law: keeps the variance of the signal through linear layers.

    Normal truncated at two parent deviations; the values drawn have deviation
    `gain * sqrt(1 / fan_in)`.

    Example:

    >>> layer = keras.layers.Dense(64, kernel_initializer="keras_inits>LecunNormal")

    Args:
        seed, input_axes, output_axes: as in `VarianceScaling`.
        gain: factor of the deviation.

    References:
        LeCun et al. (1998), Efficient BackProp. Klambauer et al. (2017),
        Self-normalizing neural networks, arXiv:1706.02515.
    """

    row = (1.0, "fan_in", "truncated_normal")


@register(law="U(-b, b), b = gain*sqrt(3/fan_in)")
class LecunUniform(KerasScheme):
    """LeCun's uniform law: keeps the variance of the signal through linear layers.

    U(-b, b), `b = gain * sqrt(3 / fan_in)`.

    Example:

    >>> layer = keras.layers.Dense(64, kernel_initializer="keras_inits>LecunUniform")

    Args:
        seed, input_axes, output_axes: as in `VarianceScaling`.
        gain: factor of the deviation.

    References:
        LeCun et al. (1998), as for `LecunNormal`.
    """

    row = (1.0, "fan_in", "uniform")
