"""The verbs at the right moment of `fit`."""

from __future__ import annotations

import itertools
from typing import Any

import keras

from keras_inits.data import draw_batch, inputs_of
from keras_inits.lsuv import lsuv_init
from keras_inits.report import SignalReport


class LSUV(keras.callbacks.Callback):
    """Data-driven initialisation at the start of training.

    Never touches weights that have been trained: it does nothing where the optimizer
    has stepped or training starts at a later epoch (a resumed `fit`, a reloaded
    compiled model, `BackupAndRestore`).

    Example:

        model.fit(x, y, callbacks=[keras_inits.LSUV()])

    Args:
        data: The batch to initialise on; what `lsuv_init` takes. None: the first batch
            that `fit` itself draws, which is then trained on as if nothing had
            happened.
        verbose: 0: silent. 1: a progress bar, then one line that sums up.
        **options: The other options of `lsuv_init`.

    Attributes:
        report: The `SignalReport`, once training has started; None if nothing was
            done.

    Raises:
        KerasInitsError: As `lsuv_init` does, from `fit`; the weights are then as
            before.
    """

    def __init__(self, data: Any = None, *, verbose: int = 0, **options: Any) -> None:
        super().__init__()
        self.data = data
        self.verbose = verbose
        self.options = options
        self.report: SignalReport | None = None
        self._due = False

    def on_train_begin(self, logs: Any = None) -> None:
        """Nothing yet: `BackupAndRestore` may restore at this moment."""
        self._due = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Initialise on the data given, before anything is drawn from `fit`'s own."""
        if epoch != 0 or self._has_stepped():
            return
        if self.data is None:
            self._due = True
        else:
            self._initialise(self.data)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Without data: look at the batch that the first step is about to take."""
        if self._due:
            self._due = False
            self._wrap_next_step()

    def _has_stepped(self) -> bool:
        optimizer = getattr(self.model, "optimizer", None)
        return optimizer is not None and int(optimizer.iterations.value) > 0

    def _initialise(self, data: Any) -> None:
        if not self.model.built:  # a subclassed model, on TensorFlow
            self.model(draw_batch(self.model, data, samples=1))
        self.report = lsuv_init(self.model, data, verbose=self.verbose, **self.options)
        if self.verbose:
            print(self.report.title, *self.report.findings[:1], sep="\n")

    def _wrap_next_step(self) -> None:
        """Put a function in front of the next training step, for one step.

        `fit` hands its batches to `model.train_function` (not documented, but without
        underscore): an iterator on TensorFlow and JAX, a list with one batch on
        PyTorch; on JAX the values of the variables come first.
        """
        model, step = self.model, self.model.train_function

        def first_step(*arguments: Any) -> Any:
            model.train_function = step
            *state, source = arguments
            batch, source = _peek(source)
            if not state:
                self._initialise(batch)
                return step(source)
            values = state[0]
            _attach(model, values)
            self._initialise(batch)
            trainable = [v.value for v in model.trainable_variables]
            return step((trainable, *values[1:]), source)

        model.train_function = first_step


def _peek(source: Any) -> tuple[Any, Any]:
    """Inputs of the first batch that `fit` passes, and a source that still has it."""
    if hasattr(source, "__next__"):
        batch = next(source)
        return inputs_of(batch), itertools.chain([batch], source)
    return inputs_of(source[0]), source


def _attach(model: keras.Model, values: Any) -> None:
    """On JAX `fit` takes the values out of the variables: put them back."""
    owners = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    for variables, group in zip(owners, values, strict=True):
        for variable, value in zip(variables, group, strict=True):
            variable.assign(value)
