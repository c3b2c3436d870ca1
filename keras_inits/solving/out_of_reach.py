"""What an error says of a layer that only its output tells about."""

from __future__ import annotations

import math

from keras_inits.solving.decision import Decision, Options

# Of its first step, what an output goes at least if it follows its variables: float32,
# or a normalisation's epsilon, moves it by less.
STILL = 0.01


def out_of_reach(decision: Decision, deviation: float, options: Options) -> str:
    """Why its deviation is not the target, and what to do."""
    if abs(decision.followed) < STILL:
        before = math.sqrt(decision.before.variance)
        return (
            f"{decision.where}: its output has deviation {before:.3g}, not "
            f"{options.target_std:g}, whatever the scale of its variables. It "
            "normalises them itself, as weight normalisation does, or it saturates. "
            "Leave it out with layers=."
        )
    text = (
        f"{decision.where}: after {decision.iterations} steps its output has "
        f"deviation {deviation:.3g}, not {options.target_std:g}. Something in it, such "
        "as a tanh, keeps the output from scaling with its variables. Choose a smaller "
        "target_std, or leave it out with layers=; where it slowly nears the target, "
        "raise max_iterations."
    )
    if type(decision.layer).__module__.startswith("keras."):  # RNN: its cell is inside
        return text
    return (
        f"{text} Or keep that function in an attribute `activation` and call "
        f"keras_inits.register_linear_map({type(decision.layer).__name__}): then the "
        "pre-activation meets the target."
    )
