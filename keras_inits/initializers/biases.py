"""Initial values of biases."""

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np

from keras_inits.initializers.base import finite
from keras_inits.initializers.identities import Array, FixedInitializer
from keras_inits.registry import register


@register("forget_gate_bias", law="`value` for the forget gate of an LSTM, zeros else")
class ForgetGateBias(FixedInitializer):
    """An LSTM that remembers at the start: a bias for its forget gate.

    Of the bias `(4 * units,)`, in Keras's order input, forget, cell, output, the
    second quarter is `value`, the others 0.

    Example:

    >>> layer = keras.layers.LSTM(
    ...     64, unit_forget_bias=False, bias_initializer="forget_gate_bias"
    ... )

    `unit_forget_bias=False` is needed: with `True`, Keras sets ones there itself and
    asks for the other gates in pieces.

    Args:
        value: bias of the forget gate. A sequence of length T needs about log(T).

    Raises:
        ValueError: if `value` is not finite; on a call, if the last axis is no
            multiple of 4.

    References:
        Gers et al. (2000), Learning to forget. Jozefowicz et al. (2015), An empirical
        exploration of recurrent network architectures.
    """

    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        finite(value=value)
        self.value = value

    def _values(self, shape: tuple[int, ...]) -> Array:
        if not shape or shape[-1] % 4:
            advice = (
                "On an LSTM, set `unit_forget_bias=False`; other layers have no "
                "forget gate."
                if len(shape) == 1
                else "This is no bias: give it to an LSTM as `bias_initializer`, with "
                "`unit_forget_bias=False`."
            )
            raise ValueError(
                "The bias of an LSTM has four gates, so a multiple of 4 values. "
                f"Received: shape={shape}. {advice}"
            )
        values = np.zeros(shape)
        units = shape[-1] // 4
        values[..., units : 2 * units] = self.value
        return values

    def get_config(self) -> dict[str, Any]:
        return {"value": self.value}


@register("log_odds_bias", law="log(prior / (1 - prior))")
class LogOddsBias(FixedInitializer):
    """A classifier that starts from the known frequency of its classes.

    The bias `log(p / (1 - p))` before a sigmoid gives probability p while the kernel
    contributes nothing. With rare positives this saves the epochs spent on learning
    that they are rare.

    Example:

    >>> layer = keras.layers.Dense(
    ...     1, activation="sigmoid", bias_initializer=keras_inits.LogOddsBias(0.02)
    ... )

    Args:
        prior: probability of a positive, in (0, 1), or one for each output.

    Raises:
        ValueError: if a probability is not inside (0, 1); on a call, if there are
            not as many as outputs.

    References:
        Lin et al. (2017), Focal loss for dense object detection, arXiv:1708.02002,
        section 4.1, where p = 0.01.
    """

    def __init__(self, prior: float | Sequence[float] = 0.01) -> None:
        super().__init__()
        each = list(prior) if isinstance(prior, Sequence) else [prior]
        if not each or not all(isinstance(p, Real) and 0 < p < 1 for p in each):
            raise ValueError(
                "`prior` must be a probability between 0 and 1, both excluded, or a "
                f"list of them. Received: prior={prior!r}"
            )
        self.prior = each if isinstance(prior, Sequence) else prior

    def _values(self, shape: tuple[int, ...]) -> Array:
        odds = np.log(self.prior) - np.log1p(-np.asarray(self.prior))
        if odds.ndim and (not shape or shape[-1] != odds.size):
            raise ValueError(
                "`prior` must hold one probability for each output. Received: "
                f"{odds.size} probabilities for shape={shape}"
            )
        return np.broadcast_to(odds, shape)

    def get_config(self) -> dict[str, Any]:
        return {"prior": self.prior}
