"""The verbs at the right moment of `fit`."""

from __future__ import annotations

from typing import Any

import keras

from keras_inits.data import draw_batch
from keras_inits.lsuv import lsuv_init
from keras_inits.report import SignalReport


class LSUV(keras.callbacks.Callback):
    """Data-driven initialisation at the start of training.

    Never touches weights that have been trained: it does nothing where the optimizer
    has stepped or training starts at a later epoch (a resumed `fit`, a reloaded
    compiled model, `BackupAndRestore`).

    Example:

        model.fit(x, y, callbacks=[keras_inits.LSUV(x)])

    Args:
        data: The batch to initialise on; what `lsuv_init` takes.
        verbose: 0: silent. 1: a line when done, with the worst deviation before.
        **options: The other options of `lsuv_init`.

    Attributes:
        report: The `SignalReport`, once training has started; None if nothing was
            done.
    """

    def __init__(self, data: Any = None, *, verbose: int = 0, **options: Any) -> None:
        super().__init__()
        self.data = data
        self.verbose = verbose
        self.options = options
        self.report: SignalReport | None = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Initialise before the first step, once `BackupAndRestore` has restored."""
        if epoch == 0 and not self._has_stepped():
            self._initialise()

    def _has_stepped(self) -> bool:
        optimizer = getattr(self.model, "optimizer", None)
        return optimizer is not None and int(optimizer.iterations.value) > 0

    def _initialise(self) -> None:
        if not self.model.built:  # a subclassed model, on TensorFlow
            self.model(draw_batch(self.model, self.data, samples=1))
        self.report = lsuv_init(
            self.model, self.data, verbose=self.verbose, **self.options
        )
