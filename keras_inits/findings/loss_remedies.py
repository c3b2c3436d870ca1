"""What to do where outputs, labels and loss do not go together."""

from __future__ import annotations

from keras_inits.records import LossSignal

NUMBER_CLASSES = (
    "number the classes: classes, y = np.unique(y, return_inverse=True); for a figure "
    'to be predicted, one unit and loss="mse"'
)
CLEAN_LABELS = "drop or fill such rows: keep = np.isfinite(y); x, y = x[keep], y[keep]"
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


def other_crossentropy(row: LossSignal) -> str:
    """For class numbers where the loss takes columns, or the reverse."""
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
        return "map -1 and 1 to 0 and 1: y = (y + 1) / 2; or take a hinge loss"
    if "ategorical" in row.loss or high > 2:
        return (
            "one column for each class: keras.utils.to_categorical(y); or class "
            'numbers with loss="sparse_categorical_crossentropy"'
        )
    return f"map them to 0..1: y = (y - {low:.4g}) / {high - low or 1:.4g}"
