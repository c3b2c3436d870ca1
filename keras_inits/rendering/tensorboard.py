"""TensorBoard summaries, written by TensorFlow on any Keras backend."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np


def write_tensorboard(
    logdir: str | os.PathLike[str],
    step: int,
    scalars: Iterable[tuple[str, float | None]],
    texts: Mapping[str, str],
) -> None:
    """Writes scalars (those that are not None) and texts, kept as they are laid out.

    Raises:
        ImportError: if TensorFlow is not installed.
        NotADirectoryError: if `logdir` is a file.
        ValueError: if `step` is no whole number, or below 0.
    """
    whole = isinstance(step, (int, np.integer)) and not isinstance(step, bool)
    if not whole or step < 0:
        raise ValueError(
            f"`step` is a whole number, at least 0. Received: step={step!r}"
        )
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ImportError(
            "SignalReport.log_tensorboard() writes with TensorFlow: "
            'pip install "keras_inits[tensorflow]".'
        ) from error

    if "://" not in os.fspath(logdir):
        if os.path.isfile(logdir):
            raise NotADirectoryError(
                "TensorBoard reads directories, and this is a file: "
                f"{os.fspath(logdir)!r}."
            )
        os.makedirs(logdir, exist_ok=True)  # its errors name the path
    writer = tf.summary.create_file_writer(os.fspath(logdir))
    with writer.as_default(step=step):
        for tag, value in scalars:
            if value is not None:
                metadata = _metadata(tf, "scalars", "DATA_CLASS_SCALAR")
                tf.summary.write(tag, tf.constant(value, tf.float32), metadata=metadata)
        for tag, text in texts.items():
            # TensorBoard reads Markdown, which keeps an indented block as it is.
            block = "    " + text.replace("\n", "\n    ")
            metadata = _metadata(tf, "text", "DATA_CLASS_TENSOR")
            tf.summary.write(tag, tf.constant(block), metadata=metadata)
    writer.close()


def _metadata(tf: Any, plugin: str, data_class: str) -> Any:
    """What `tf.summary.scalar` and `tf.summary.text` write beside the value; they
    need the tensorboard package, which TensorFlow 2.21 no longer brings along."""
    metadata = tf.compat.v1.SummaryMetadata()
    metadata.plugin_data.plugin_name = plugin
    field = metadata.DESCRIPTOR.fields_by_name["data_class"]
    metadata.data_class = field.enum_type.values_by_name[data_class].number
    return metadata
