"""What to say of a signal that no scale gives a variance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_inits.backends import host
from keras_inits.solving.decision import Decision

# One unit has one value there; so has each channel, which is centred or scaled alone.
FEW = "The batch is 1 row: pass more (in fit, keras_inits.LSUV(data))."


def silence(
    decision: Decision,
    decisions: Sequence[Decision],
    mean: Any,
    variance: Any,
    few: str,
) -> str:
    """The message of an error: by a kernel of zeros, or by what the layer is given.

    Args:
        decision: Of the layer.
        decisions: Of all layers: kernels of zeros are told at once.
        mean: Of the signal, or of each channel.
        variance: Likewise.
        few: What is to be said of a batch of one row, if it is one.
    """
    if _is_zero(decision):
        zeros = list(dict.fromkeys(d.layer.name for d in decisions if _is_zero(d)))
        others = [repr(name) for name in zeros if name != decision.layer.name]
        also = f", as are those of {', '.join(others)}" if others else ""
        them, they = ("them", "they are") if others else ("it", "it is")
        return (
            f"{decision.where}: its kernel is zero{also}, so that no scale gives its "
            f"signal a variance. Draw {them}: keras_inits.initialize(model, "
            f"layers={zeros}). Or, where {they} meant to start at 0 (the end of a "
            f"residual branch), leave {them} out: "
            f"layers=lambda layer: layer.name not in {zeros}."
        )
    its = f"{few} Or its" if few else "Its"
    return (
        f"{decision.where}: its signal does not vary on these data (zero variance: "
        f"deviation {float(np.sqrt(np.min(variance))):.3g}, mean "
        f"{float(np.ravel(mean)[0]):.3g}), so that no scale gives it a variance. {its} "
        "inputs may be dead, constant or smaller than 1e-18 (then standardise the "
        "data); what comes before it: print(keras_inits.measure(model, data)). Leave "
        "it out with layers=, for example "
        f"layers=lambda layer: layer.name != {decision.layer.name!r}."
    )


def _is_zero(decision: Decision) -> bool:
    return not any(host(v.value).any() for v in decision.variables)
