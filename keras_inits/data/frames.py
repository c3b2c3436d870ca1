"""Names of columns: data frames have them, and what is drawn of frames keeps them."""

from __future__ import annotations

from typing import Any

from keras_inits.data.arrays import arrays_of, inputs_of, is_held, mapped


class Drawn(tuple[Any]):
    """`(batch,)`, which is no pair of data and labels, and the names of its columns."""

    names: dict[int, list[str]]

    @classmethod
    def of(cls, batch: Any, source: Any) -> Drawn:
        """What `draw_batch` has drawn, and from what."""
        drawn = cls((batch,))
        drawn.names = column_names(source)
        return drawn


def column_names(data: Any) -> dict[int, list[str]]:
    """Names of the columns of those arrays, in the batch's order, that are frames."""
    if isinstance(data, Drawn):
        return data.names
    x = inputs_of(data) if isinstance(data, tuple) else data
    if not is_held(x):
        return {}
    frames = arrays_of(mapped(lambda v: v if hasattr(v, "iloc") else 0, x))
    tables = ((i, v) for i, v in enumerate(frames) if hasattr(v, "columns"))
    return {i: list(map(str, v.columns)) for i, v in tables}
