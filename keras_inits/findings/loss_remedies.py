"""What to do where outputs, labels and loss do not go together."""

from __future__ import annotations

import math

from keras_inits.records import LossSignal

# Whole numbers from 0 up to one of these are rather pixels than classes.
PIXELS = (128, 255)

NUMBER_CLASSES = (
    "number the classes: classes, y = np.unique(y, return_inverse=True); for a figure "
    'to be predicted, one unit and loss="mse"'
)
SINGLE_UNIT = (
    'two classes: activation="sigmoid" and loss="binary_crossentropy"; or one unit for '
    "each class"
)
SQUASHED_TWICE = (
    "pass from_logits=False to the loss, or leave the activation of the output out"
)
NOT_SQUASHED = (
    "pass from_logits=True to the loss, or give the output its activation (sigmoid for "
    "binary, softmax for categorical crossentropy)"
)
LAST_AXIS = "add up over the classes: axis=-1, as Keras does by default"
POSITIVE = (
    'give the output an activation that stays above 0: activation="softplus" or '
    '"exponential"'
)
OUT_OF_RANGE = (
    "leave the activation of the output out (activation=None), or scale the labels "
    "into its range"
)
LABELS_ALIKE = (
    "look at the labels; if the data are sorted by them, shuffle: nothing can be "
    "learnt from these, unless they are meant so (a step of a GAN)"
)
STANDARDISE_LABELS = (
    "standardise them: y = (y - y.mean(axis=0)) / y.std(axis=0), and undo it on what "
    "is predicted"
)


def classes(row: LossSignal) -> str:
    """For class numbers without a unit."""
    low, high, units = row.labels_min or 0.0, row.labels_max or 0.0, row.units or 0
    if high - low < units:
        sign = "-" if low > 0 else "+"
        return f"number the classes from 0: y = y {sign} {abs(low):.6g}"
    if low < 0:
        return "number the classes from 0, or name the one to leave out: ignore_class="
    return f"give {row.output} {high + 1:.0f} units, or number the classes from 0"


def twice(inner: str, outer: str) -> str:
    """For an activation of what another one has bounded."""
    if inner == outer:
        return f"leave one {inner} of the two out"
    return f"leave the {inner} out: the {outer} takes any number"


def one_unit(row: LossSignal) -> str:
    """For several classes and a single unit: its own loss, or units for them all."""
    name, shape = row.output, row.labels_shape or (None,)
    low, high = row.labels_min or 0.0, row.labels_max or 0.0
    if len(shape) == len(row.output_shape or ()) and (shape[-1] or 1) > 1:
        return f"give {name} a unit for each column of the labels: {shape[-1]}"
    if row.labels_fractional:
        return f'{SINGLE_UNIT}; for a figure to be predicted, loss="mse"'
    if not _two_values(row) and high > low:
        return _units_for_classes(row, high - low + 1)
    two = (
        "loss=keras.losses.BinaryCrossentropy(from_logits=True)"
        if row.takes_logits
        else 'activation="sigmoid" and loss="binary_crossentropy"'
    )
    if (low, high) not in ((0.0, 1.0), (high, high)):
        two += f", with labels of 0 and 1: {_to_unit(low, high)}"
    return f"two classes: {two}; or one unit for each class"


def _units_for_classes(row: LossSignal, count: float) -> str:
    """For class numbers, more than two, on an output of other units."""
    low = row.labels_min or 0.0
    take = 'activation="softmax" and loss="sparse_categorical_crossentropy"'
    if row.takes_logits:
        take = "loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)"
    text = f"give {row.output} {count:.0f} units, {take}"
    if not low:
        return text
    sign = "-" if low > 0 else "+"
    return f"{text}; number the classes from 0: y = y {sign} {abs(low):.6g}"


def _two_values(row: LossSignal) -> bool:
    """Whether all labels are the smallest or the largest: no law is wider.

    The variance is at most (mean - min)(max - mean), and is that for two values alone
    (Bhatia and Davis, 2000).
    """
    low, high, mean = row.labels_min, row.labels_max, row.labels_mean
    if low is None or high is None or mean is None or row.labels_std is None:
        return False
    most = (mean - low) * (high - mean)
    return high > low and math.isclose(row.labels_std**2, most, rel_tol=1e-6)


def _to_unit(low: float, high: float) -> str:
    """Labels from `low` to `high` mapped to 0..1."""
    if (low, high) == (-1.0, 1.0):
        return "y = (y + 1) / 2"
    sign = "-" if low > 0 else "+"
    moved = f"y {sign} {abs(low):.4g}" if low else "y"
    if high - low in (0.0, 1.0):
        return f"y = {moved}"
    return f"y = {f'({moved})' if low else moved} / {high - low:.4g}"


def other_crossentropy(row: LossSignal) -> str:
    """For class numbers where the loss takes columns, or the reverse."""
    if row.loss.lower().startswith("binary"):
        return _columns(row)
    sparse = row.loss.lower().startswith("sparse")
    name = "CategoricalCrossentropy" if sparse else "SparseCategoricalCrossentropy"
    logits = "from_logits=True" if row.takes_logits else ""
    labels = (
        "number the classes: y = y.argmax(axis=-1)"
        if sparse
        else f"make the columns: y = keras.utils.to_categorical(y, {row.units})"
    )
    return f"take loss=keras.losses.{name}({logits}), or {labels}"


def not_probabilities(row: LossSignal) -> str:
    """For labels outside 0..1."""
    low, high = row.labels_min or 0.0, row.labels_max or 0.0
    if (low, high) == (-1.0, 1.0):
        return f"map -1 and 1 to 0 and 1: {_to_unit(low, high)}; or take a hinge loss"
    if "ategorical" in row.loss:
        return (
            "one column for each class: keras.utils.to_categorical(y); or class "
            'numbers with loss="sparse_categorical_crossentropy"'
        )
    if row.labels_fractional or _two_values(row):
        return f"map them to 0..1: {_to_unit(low, high)}"
    if low == 0 and PIXELS[0] <= high <= PIXELS[1]:
        return "map them to 0..1: y = y / 255, for pixels in 0..255"
    if high - low < 2:  # a single value
        return f"map them to 0..1: {_to_unit(low, high)}"
    if row.units == 1:
        return _units_for_classes(row, high - low + 1)
    return _columns(row)


def _columns(row: LossSignal) -> str:
    """For class numbers and several units under a binary crossentropy."""
    low, high, units = row.labels_min or 0.0, row.labels_max or 0.0, row.units or 0
    if row.labels_fractional:
        return f"one column for each unit of {row.output}, or one unit"
    if low < 0 or high >= units:
        return _units_for_classes(row, high - low + 1)
    sparse = 'activation="softmax" and loss="sparse_categorical_crossentropy"'
    columns = f"one column for each, y = keras.utils.to_categorical(y, {units})"
    if row.takes_logits:
        sparse = "loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)"
    elif row.activation != "sigmoid":
        columns = f'activation="sigmoid" and {columns}'
    return f"one class of several: {sparse}; any number of them: {columns}"
