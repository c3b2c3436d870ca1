"""The commands that read a model and a batch: `report` and `lsuv`."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from keras_inits.commands import files
from keras_inits.commands.labels import labels_of, losses_of
from keras_inits.commands.refusal import Refusal, one_line
from keras_inits.errors import KerasInitsError
from keras_inits.report import SignalReport
from keras_inits.structure.training import steps_taken
from keras_inits.verbs.lsuv import lsuv_init
from keras_inits.verbs.measure import measure


def report(chosen: argparse.Namespace) -> bool:
    """Measure and show; returns whether nothing is wrong."""
    with files.Outputs(chosen.force) as outputs:
        picture = _picture(chosen, outputs)
        losses = losses_of(chosen.loss)
        labelled = losses is not None
        model, arrays, batch = _read(chosen, compiled=False, labels=labelled)
        labels = loss = None
        if losses is not None:
            labels, loss = labels_of(model, arrays, chosen.data, losses)
        _say(f"measuring up to {chosen.samples} rows")
        with _run_of(model, chosen.debug):
            found = measure(
                model,
                batch,
                labels,
                loss=loss,
                layers=chosen.layers,
                training=chosen.training,
                samples=chosen.samples,
            )
        _draw(found, picture, chosen)
        outputs.publish()
    _show(found, chosen.json)
    return not any(finding.severity == "error" for finding in found.findings)


def lsuv(chosen: argparse.Namespace) -> None:
    """Scale the kernels on the batch, and save the model."""
    with files.Outputs(chosen.force) as outputs:
        saved = outputs.add(chosen.out, (".keras",))
        picture = _picture(chosen, outputs)
        model, _, batch = _read(chosen, compiled=True, labels=False)
        _warn_if_trained(model)
        with _run_of(model, chosen.debug), contextlib.redirect_stdout(sys.stderr):
            found = lsuv_init(
                model,
                batch,
                layers=chosen.layers,
                target_std=chosen.target_std,
                center=chosen.center,
                signal=chosen.signal,
                per_channel=chosen.per_channel,
                orthonormal=chosen.orthonormal,
                training=chosen.training,
                samples=chosen.samples,
                verbose=int(_watched()),
            )
        _require_scaled(model, found)
        _draw(found, picture, chosen)
        with _writing(chosen.out):
            model.save(saved)
        outputs.publish()
    _show(found, chosen.json)
    _say(f"saved {chosen.out}")


def _picture(chosen: argparse.Namespace, outputs: files.Outputs) -> Path | None:
    """Where to draw, if a picture is wanted and can be made."""
    if chosen.plot is None:
        return None
    path = outputs.add(chosen.plot, (".png", ".svg"))
    try:
        import matplotlib  # noqa: F401  (asked for before any work is done)
    except ImportError as error:
        raise Refusal(
            '--plot needs matplotlib: pip install "keras-inits[plot]"'
        ) from error
    return path


def _read(
    chosen: argparse.Namespace, *, compiled: bool, labels: bool
) -> tuple[keras.Model, files.Arrays, Any]:
    """The model, all arrays of the file, and those that are its inputs."""
    arrays = files.read_arrays(chosen.data)
    _say(f"loading {chosen.model}")
    model = files.load_model(chosen.model, compiled=compiled)
    return model, arrays, files.inputs_of(model, arrays, chosen.data, labels=labels)


@contextlib.contextmanager
def _run_of(model: keras.Model, debug: bool) -> Iterator[None]:
    """Whatever a model does with data that it does not like, in one line."""
    try:
        yield
    except KerasInitsError:
        raise
    except Exception as error:
        if debug:
            raise
        raise Refusal(
            f"{model.name!r} cannot be run on these data ({type(error).__name__}: "
            f"{one_line(error, 300)}). --debug shows where"
        ) from error


@contextlib.contextmanager
def _writing(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Refusal(f"cannot write {path}: {error.strerror or error}") from error


def _draw(
    found: SignalReport, picture: Path | None, chosen: argparse.Namespace
) -> None:
    if picture is None:
        return
    with _writing(chosen.plot):
        try:
            found.plot(picture, theme=chosen.theme)
        except ValueError as error:  # no layer with a measured figure
            raise Refusal(f"nothing to draw: {error}") from error


def _require_scaled(model: keras.Model, found: SignalReport) -> None:
    """A model saved as it was would look like one that is initialised."""
    if any(row.scale is not None for row in found):
        return
    left = ", ".join(f"{row.name} ({row.status})" for row in found)
    raise Refusal(
        f"no layer of {model.name!r} can be scaled: {left or 'none has a kernel'}"
    )


def _show(found: SignalReport, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found.to_dict(), indent=1, allow_nan=False), flush=True)
    else:
        found.summary()
        sys.stdout.flush()


def _warn_if_trained(model: keras.Model) -> None:
    optimizer = getattr(model, "optimizer", None)
    steps = 0 if optimizer is None else steps_taken(optimizer)
    if steps:
        print(
            f"keras-inits: note: {model.name!r} has been trained for {steps} steps; "
            "its kernels are scaled all the same",
            file=sys.stderr,
        )


def _watched() -> bool:
    return sys.stderr.isatty()


def _say(text: str) -> None:
    """Progress, for whoever watches."""
    if _watched():
        print(f"keras-inits: {text}", file=sys.stderr, flush=True)
