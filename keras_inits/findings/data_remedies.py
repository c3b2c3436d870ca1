"""What to do about data: code to type."""

from __future__ import annotations

from collections.abc import Sequence

from keras_inits.records import INPUT_TYPES, LayerSignal

# Columns that are named; of more there are dots.
NAMED = 3
DIFFERENT_ROWS = "pass samples that differ: here every row says the same"


def standardise(row: LayerSignal) -> str:
    """For data far from mean 0 and deviation 1."""
    mean, std, x = row.mean or 0.0, row.std or 0.0, _in_x(row.path)
    of_data = row.layer_type in INPUT_TYPES
    if of_data and std == 0:
        return "look at the data: all of its values are the same"
    if row.columns:
        kind = column_of(row)
        where = "and take it as the first layer, or " if x == "x" else "and "
        named = isinstance(row.columns[0][0], str)  # Keras takes no data frame there
        array = f"np.asarray({x})" if named else x
        return (
            f"standardise each {kind}: norm = keras.layers.Normalization(); norm.adapt("
            f"{array}); {where}{x} = keras.ops.convert_to_numpy(norm({array}))"
        )
    if of_data and len(row.output_shape or ()) == 4:
        pixels = 0 <= mean - std and 20 < std < 130 and mean < 255
        factor, offset = (
            ("1 / 127.5", "-1") if pixels else (f"{1 / std:.3g}", f"{-mean / std:.3g}")
        )
        why = "for pixels in 0..255" if pixels else "for these data"
        where = "as the first layer" if x == "x" else f"on {x}"
        return (
            f"standardise the images: keras.layers.Rescaling({factor}, "
            f"offset={offset}) {where}, {why}"
        )
    least = " + 1e-6" if std > 1e-3 else ""  # of columns that do not vary
    deviation = f"({x}.std(axis=0){least})" if least else f"{x}.std(axis=0)"
    return f"standardise the data: {x} = ({x} - {x}.mean(axis=0)) / {deviation}"


def adapt(row: LayerSignal, *, again: bool) -> str:
    """For a Normalization that passes data on as they are.

    `again`: kernels have been scaled for these.
    """
    layer, x = row.unadapted or "", _in_x(row.path)
    nested = "/" in layer
    found = "norm being that layer, norm" if nested else f'model.get_layer("{layer}")'
    named = row.columns and isinstance(row.columns[0][0], str)
    scale = "keras_inits.lsuv_init(model, x), then " if again else ""
    return (
        f"adapt it to the training data, {found}.adapt("
        f"{f'np.asarray({x})' if named else x}), then {scale}compile (anew, if it is)"
    )


def column_of(row: LayerSignal) -> str:
    """What the last axis of the data counts."""
    return "column" if len(row.output_shape or ()) == 2 else "channel"


def in_columns(names: Sequence[int | str]) -> str:
    """Where in a table something is: by the names of columns, or their places."""
    if not names:
        return ""
    shown = [f"{name!r}" for name in names[:NAMED]] + ["..."] * (len(names) > NAMED)
    return f" in column{'s' * (len(names) > 1)} {', '.join(shown)}"


def clean_data(path: str | None = None, *, labelled: bool = False) -> str:
    """For NaN in the data, of any rank: code that runs.

    Args:
        path: where it is in `data` that is a structure of arrays, `"data['u']"`.
        labelled: whether there are labels, which lose the same rows.
    """
    x = _in_x(path)
    kept = _kept(labelled, x != "x")
    return f"drop or fill such rows: keep = {_finite(x)}; {kept}"


def clean_labels(several: bool) -> str:
    """For NaN in the labels, which the data lose too.

    Args:
        several: whether data or labels are structures of arrays.
    """
    each = f"np.all([{_finite('v')} for v in keras.tree.flatten(y)], axis=0)"
    keep = each if several else _finite("y")
    return f"drop or fill such rows: keep = {keep}; {_kept(True, several)}"


def _finite(x: str) -> str:
    """Which rows are, of an array of any rank, a tensor or a frame."""
    return f"np.isfinite(np.asarray({x})).reshape(len({x}), -1).all(axis=1)"


def _kept(labelled: bool, several: bool) -> str:
    """Rows of one array or of several, and the labels with them."""
    if several:
        names, both = ("x, y", "(x, y)") if labelled else ("x", "x")
        return f"{names} = keras.tree.map_structure(lambda v: v[keep], {both})"
    return "x, y = x[keep], y[keep]" if labelled else "x = x[keep]"


def _in_x(path: str | None) -> str:
    """What a user types for one array of `data`: `x["u"]`, or `x` itself."""
    keys = path.removeprefix("data") if path and path.startswith("data[") else ""
    return "x" + keys.replace("'", '"')
