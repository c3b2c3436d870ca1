"""The report: layer by layer, what the signal does.

`SignalReport` is what `lsuv_init` and `measure` return: a sequence of
`LayerSignal` that prints as a table in the manner of `model.summary()`, says in
words what is wrong, and turns into HTML, a dictionary, a data frame, a picture or
TensorBoard summaries.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, overload

from keras_inits import rendering
from keras_inits.findings import find, is_plain
from keras_inits.plain_record import Histogram
from keras_inits.records import (
    BatchNorm,
    Finding,
    LayerSignal,
    LossSignal,
    column,
    gain_product,
    unique_names,
    without_inputs,
)

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

__all__ = ["Finding", "Histogram", "LayerSignal", "LossSignal", "SignalReport"]

# `repr` in a prompt should not scroll the session away; `str` prints every layer.
_REPR_LAYERS = 60

# What `log_tensorboard` writes, one chart per figure and layer.
_SCALARS = (
    "mean",
    "std",
    "output_mean",
    "output_std",
    "dead_fraction",
    "saturated_fraction",
    "gradient_gain",
    "weight_gradient_std",
    "gradient_ratio",
)

_JUDGED = ("plain", "bypassed", "mirrors", "whole", "batch_norm")


class SignalReport(Sequence[LayerSignal]):
    """A sequence of `LayerSignal`, in the order in which the layers were called.

    Example:

    ```python
    report = keras_inits.lsuv_init(model, x)
    print(report)                # a table, and what is wrong, in words
    report["dense_1"].std        # a layer by name, or by index
    report[:10].plot("signal.png")
    ```

    Args:
        layers: the records.
        target_std: the deviation that the chosen layers were brought to, if any.
        title: first line of the table.
        notes: lines printed under the table.
        plain: False where skip connections, normalisation or code that is not known
            may let signal and gradient bypass layers, so that products along depth
            mean nothing. None: judged by the types of the layers in the report.
        bypassed: whether something is known to do so: then a signal that fades says
            less. None: where it is not `plain`.
        inputs: what the data is like, if looked at: shown above the layers.
        losses: what the loss is given, for each output: used by the findings.
        mirrors: whether looks-linear initialisation suits the model, and is no news
            to it. None: not known.
        whole: whether the report has every layer of the model that has a kernel.
        batch_norm: what BatchNormalization did: "rests", "runs" or "none" there.
    """

    whole, batch_norm = True, None  # of a report pickled before it was said

    def __init__(
        self,
        layers: Iterable[LayerSignal],
        *,
        target_std: float | None = None,
        title: str | None = None,
        notes: Iterable[str] = (),
        plain: bool | None = None,
        bypassed: bool | None = None,
        inputs: LayerSignal | None = None,
        losses: Iterable[LossSignal] = (),
        mirrors: bool | None = None,
        whole: bool = True,
        batch_norm: BatchNorm | None = None,
    ) -> None:
        self._layers = tuple(layers)
        self.inputs = inputs
        for layer in (*self._layers, *([] if inputs is None else [inputs])):
            if not isinstance(layer, LayerSignal):
                raise TypeError(
                    "A SignalReport is made of LayerSignal records. "
                    f"Received: {layer!r} (of type {type(layer).__name__})."
                )
        self.target_std = None if target_std is None else float(target_std)
        self.title = title
        self.notes = tuple(notes)
        self.losses = tuple(losses)
        signals = without_inputs(self._layers)
        self.plain = is_plain(signals) if plain is None else plain
        self.bypassed = not self.plain if bypassed is None else bypassed
        self.mirrors, self.whole, self.batch_norm = mirrors, whole, batch_norm

    def __len__(self) -> int:
        return len(self._layers)

    @overload
    def __getitem__(self, index: int | str) -> LayerSignal: ...
    @overload
    def __getitem__(self, index: slice) -> SignalReport: ...

    def __getitem__(self, index: int | str | slice) -> LayerSignal | SignalReport:
        if isinstance(index, str):
            return self._by_name(index)
        if isinstance(index, slice):
            rows = self._layers[index]
            # The data say something of the first layer only, the loss of the last.
            inputs = self.inputs if rows[:1] == self._layers[:1] else None
            losses = self.losses if rows[-1:] == self._layers[-1:] else ()
            whole = self.whole and rows == self._layers
            return self._with(layers=rows, inputs=inputs, losses=losses, whole=whole)
        return self._layers[index]

    def _by_name(self, name: str) -> LayerSignal:
        """The first record whose name, path, or name in the table is `name`."""
        shown = unique_names(self._layers)
        for names in ([x.name for x in self], [x.path for x in self], shown):
            if name in names:
                return self._layers[names.index(name)]
        names = sorted({layer.name for layer in self._layers})
        listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
        raise KeyError(
            f"No layer of that name is in the report. Received: {name!r}. "
            f"Layers in the report: {listed or 'none'}."
        )

    def __contains__(self, item: object) -> bool:
        if isinstance(item, str):
            known = any(item in (x.name, x.path) for x in self)
            return known or item in unique_names(self._layers)
        return item in self._layers

    def _key(self) -> tuple[Any, ...]:
        texts = (self.title, self.notes, *(getattr(self, x) for x in _JUDGED))
        return (self._layers, self.inputs, self.losses, self.target_std, *texts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SignalReport):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def with_note(self, note: str) -> SignalReport:
        """The same report with one more line under the table."""
        return self._with(notes=(*self.notes, note))

    def _with(self, **changes: Any) -> SignalReport:
        names = ("target_std", "title", "notes", "inputs", "losses", *_JUDGED)
        kept = {name: getattr(self, name) for name in names}
        return SignalReport(**{"layers": self._layers, **kept, **changes})

    # What it says

    @functools.cached_property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong, the cause first; empty for a healthy model."""
        return find(
            rendering.shown(self),
            plain=not self.bypassed,
            chain=self.plain,
            losses=self.losses,
            mirrors=self.mirrors,
            batch_norm=self.batch_norm,
        )

    @property
    def gradient_gain(self) -> float | None:
        """Product of the gradient gains of the layers in it (squared norms).

        Softmax is left out: what its gradient becomes is the loss's affair. Where
        branches run in parallel (`plain` is False) the product means nothing.
        """
        return gain_product(self._layers)

    # How it looks

    def __str__(self) -> str:
        return rendering.to_text(self)

    def __repr__(self) -> str:
        return rendering.to_text(self, max_layers=_REPR_LAYERS)

    def _repr_html_(self) -> str:
        return rendering.to_html(self)

    def summary(
        self,
        line_length: int | None = None,
        print_fn: Callable[[str], object] | None = None,
    ) -> None:
        """Prints the table, as `keras.Model.summary()` prints its own.

        Args:
            line_length: width of the table in characters; None takes what the
                content needs, up to the width of the terminal.
            print_fn: called once with the whole text, in place of `print`.

        Raises:
            ValueError: if `line_length` leaves no room for a table.
        """
        if print_fn is None:
            rendering.print_table(self, line_length)
        else:
            print_fn(rendering.to_text(self, line_length))

    def plot(
        self, path: str | os.PathLike[str] | None = None, **options: Any
    ) -> Figure:
        """Draws the report; needs matplotlib (`pip install "keras_inits[plot]"`).

        Args:
            path: where to save it, as PNG or SVG by its suffix; None saves nothing.
            **options: those of `keras_inits.plotting.plot_report`, such as
                `theme="dark"` or `size=(12, 8)`.

        Returns:
            The `matplotlib.figure.Figure`, which a notebook shows by itself.
        """
        from keras_inits import plotting

        return plotting.plot_report(self, path, **options)

    # What it turns into

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON takes it: NaN and infinity become None."""
        gain = self.gradient_gain
        return {
            "title": self.title,
            "target_std": self.target_std,
            "gradient_gain": gain if gain is not None and math.isfinite(gain) else None,
            "inputs": None if self.inputs is None else self.inputs.to_dict(),
            "layers": [layer.to_dict() for layer in self._layers],
            "losses": [loss.to_dict() for loss in self.losses],
            "findings": [finding.to_dict() for finding in self.findings],
            "notes": list(self.notes),
        }

    def to_dataframe(self) -> pandas.DataFrame:
        """One row per layer, one column per figure; needs pandas.

        Raises:
            ImportError: if pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError(
                "SignalReport.to_dataframe() needs pandas (pip install pandas), "
                "SignalReport.to_dict() nothing."
            ) from error
        names = [n for n in LayerSignal.__dataclass_fields__ if n != "histogram"]
        columns = {n: column(self, n) for n in names}
        return pandas.DataFrame(columns, columns=names)

    def log_tensorboard(self, logdir: str | os.PathLike[str], step: int = 0) -> None:
        """Writes the figures and the table as TensorBoard summaries.

        Args:
            logdir: directory of the event files; made if it is not there.
            step: the step (or epoch) that the figures belong to, at least 0.

        Raises:
            ImportError: if TensorFlow, which writes them, is not installed.
            NotADirectoryError, ValueError: if `logdir` is a file; for another `step`.
        """
        scalars = [
            (f"{figure}/{name}", getattr(layer, figure))
            for name, layer in zip(unique_names(self), self, strict=True)
            for figure in _SCALARS
        ]
        rendering.write_tensorboard(logdir, step, scalars, {"signal_report": str(self)})
