"""The verbs at the right moment of `fit`."""

from __future__ import annotations

import dataclasses
import inspect
import math
import os
from typing import TYPE_CHECKING, Any

import keras

from keras_inits.data.batch import check_request, draw_batch, labels_of, peek
from keras_inits.data.frames import Drawn
from keras_inits.data.refusals import explained
from keras_inits.errors import KerasInitsError, check_flags
from keras_inits.passes.programs import one_period
from keras_inits.report import SignalReport
from keras_inits.solving.decision import Options
from keras_inits.structure.training import has_been_trained
from keras_inits.verbs.lsuv import lsuv_init
from keras_inits.verbs.measure import measure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Key in `logs`, figure of a layer, and which of the layers' figures stands for all.
_SUMMARY = (
    ("signal_std_min", "std", min),
    ("signal_std_max", "std", max),
    ("signal_dead_max", "dead_fraction", max),
    ("signal_saturated_max", "saturated_fraction", max),
    ("gradient_ratio_min", "gradient_ratio", min),
    ("gradient_ratio_max", "gradient_ratio", max),
)


class LSUV(keras.callbacks.Callback):
    """Data-driven initialisation at the start of training.

    It does nothing where an optimizer of the model has stepped or training starts at a
    later epoch (a resumed `fit`, a reloaded compiled model, `BackupAndRestore`), so
    that no trained weights are touched. `compile` with a new optimizer begins anew.

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
        TypeError: An option that `lsuv_init` does not have.
        KerasInitsError: A value that it refuses; from `fit`, what it raises there, the
            weights as before.
    """

    def __init__(self, data: Any = None, *, verbose: int = 0, **options: Any) -> None:
        super().__init__()
        # A slip is told here, not an hour later when `fit` has drawn its first batch.
        inspect.signature(lsuv_init).bind(None, data, verbose=verbose, **options)
        fields = {field.name for field in dataclasses.fields(Options)}
        values = {k: v for k, v in options.items() if k in fields}
        if values.get("target_std") == "critical":
            del values["target_std"]
        Options(**values)
        check_request(data, options.get("samples", 256))
        flags = {k: v for k, v in options.items() if k in ("orthonormal", "training")}
        check_flags(**flags)
        self.data, self.verbose, self.options = data, verbose, options
        self.report: SignalReport | None = None
        self._due = False

    def on_train_begin(self, logs: Any = None) -> None:
        self._due = False  # nothing yet: `BackupAndRestore` may restore at this moment

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Initialise on the data given, before anything is drawn from `fit`'s own."""
        if epoch != 0 or has_been_trained(self.model):
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

    def _initialise(self, data: Any) -> None:
        if not self.model.built:  # on TensorFlow; a Sequential keeps the number of rows
            samples = self.options.get("samples", 256)
            batch = draw_batch(self.model, data, samples, first_rows=False)
            with explained(self.model, batch):
                self.model(batch)
            data = Drawn.of(batch, data)
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
            batch, source = peek(source)
            if not state:
                self._initialise(batch)
                return step(source)
            values = state[0]
            _attach(model, values)
            self._initialise(batch)
            changed = model.trainable_variables, model.non_trainable_variables
            found = ([v.value for v in variables] for variables in changed)
            return step((*found, *values[2:]), source)

        model.train_function = first_step


class SignalMonitor(keras.callbacks.Callback):
    """Measures the signal before the first epoch and during training.

    Always on the same rows, in one forward pass outside of training: weights, moving
    statistics, seeds and the order of the data are what they would be without it. The
    layers' extremes (`signal_std_min`, `signal_std_max`, `signal_dead_max`, ...) are
    added to `logs`, so that `History`, `CSVLogger` and other loggers record them; in
    epochs that are not measured they are NaN. Put it before callbacks that read them,
    and behind `LSUV`.

    Example:

        monitor = keras_inits.SignalMonitor(x_train, every=2)
        model.fit(x_train, y_train, epochs=20, callbacks=[monitor])
        monitor.plot("signal.png")

    Args:
        data: What `measure` takes; of a generator, the rows drawn first are kept.
        y: Labels for the rows of `data`: with them, also each kernel's gradient.
        every: Number of epochs from one measurement to the next.
        loss: A loss, its name, or None for the loss that the model was compiled with.
        layers: Names, layers or a predicate. None: every layer with a linear map.
        training: Run the layers in training mode.
        samples: Number of rows to draw from `data`.
        logdir: Where to write TensorBoard summaries; None: nowhere.

    Attributes:
        reports: The `SignalReport`s of the last `fit`, or of several where a later one
            goes on (`initial_epoch`).
        epochs: For each report, how many epochs had been trained.

    Raises:
        KerasInitsError: If `every` is no positive integer, or what `measure` refuses.
    """

    def __init__(
        self,
        data: Any,
        y: Any = None,
        *,
        every: int = 1,
        loss: Any = None,
        layers: Any = None,
        training: bool = False,
        samples: int = 256,
        logdir: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise KerasInitsError(
                f"`every` is a number of epochs, at least 1. Received: every={every!r}"
            )
        check_request(data, samples)
        check_flags(training=training)
        self.every, self.logdir = every, logdir
        self.options = dict(
            loss=loss, layers=layers, training=training, samples=samples
        )
        self.samples = samples
        self.reports: list[SignalReport] = []
        self.epochs: list[int] = []
        self._source, self._labels = data, y
        self._batch: Drawn | None = None
        self._fit: object | None = None

    @property
    def report(self) -> SignalReport | None:
        """The latest report, None before the first."""
        return self.reports[-1] if self.reports else None

    def plot(
        self, path: str | os.PathLike[str] | None = None, **options: Any
    ) -> Figure:
        """Draws the layers' curves over the epochs; needs matplotlib.

        Args:
            path: Where to save the picture, as PNG or SVG by its suffix.
            **options: Those of `keras_inits.plotting.plot_history`, such as
                `theme="dark"`.

        Returns:
            The `matplotlib.figure.Figure`.

        Raises:
            ImportError: If matplotlib is not installed.
            ValueError: If nothing has been measured yet.
        """
        from keras_inits import plotting

        return plotting.plot_history(self.reports, self.epochs, path, **options)

    def on_train_begin(self, logs: Any = None) -> None:
        self._fit = object()  # the model's code may have changed since the last one

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Before the first epoch: the signal at the start."""
        if self.epochs and epoch < self.epochs[-1]:  # a new fit, from the start
            self.reports, self.epochs = [], []
        if not self.epochs:
            self._measure(epoch)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Every `every` epochs: measure, and add the summary to `logs`."""
        done = epoch + 1
        due = done % self.every == 0
        if due:
            self._measure(done)
        if logs is not None:
            summary = _summary(self.reports[-1])
            logs.update(summary if due else dict.fromkeys(summary, math.nan))

    def _measure(self, epoch: int) -> None:
        if self._batch is None:
            self._batch = self._draw()
        if not self.model.built:  # a subclassed model, on TensorFlow
            [batch] = self._batch
            with explained(self.model, batch):
                self.model(batch)
        # What `fit` has compiled stays too.
        with one_period(None if self.model.run_eagerly else self._fit):
            report = measure(self.model, self._batch, self._labels, **self.options)
        self.reports.append(report)
        self.epochs.append(epoch)
        if self.logdir is not None:
            report.log_tensorboard(self.logdir, step=epoch)

    def _draw(self) -> Drawn:
        batch = draw_batch(
            self.model,
            self._source,
            self.samples,
            check_values=False,
            first_rows=self._labels is not None,
        )
        if self._labels is not None:
            self._labels = labels_of(self._labels, self._source, batch)
        drawn = Drawn.of(batch, self._source)
        self._source = None
        return drawn


def _summary(report: SignalReport) -> dict[str, float]:
    """The extremes over all layers, of what was measured; NaN wins."""
    found = {}
    for key, figure, extreme in _SUMMARY:
        values = [getattr(x, figure) for x in report]
        values = [x for x in values if x is not None]
        if values:
            broken = any(math.isnan(x) for x in values)
            found[key] = math.nan if broken else float(extreme(values))
    return found


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
