"""Records of plain values: kept, compared, pickled, written as JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar


def _plain(value: Any) -> Any:
    """NumPy (or tensor) scalars and arrays as Python scalars and tuples."""
    if isinstance(value, Record):
        return value
    if hasattr(value, "tolist"):  # np.float64 is a float, but prints as its own type
        value = value.tolist()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return tuple(_plain(item) for item in value)
    return value


def _json_safe(value: Any) -> Any:
    """What `json.dumps` takes: NaN and infinity are None, tuples are lists."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): _json_safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_safe(item) for item in value]
    return value


def _comparable(value: Any) -> Any:
    """Two records that both saw NaN say the same, though NaN != NaN."""
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if isinstance(value, tuple):
        return tuple(_comparable(item) for item in value)
    return value


_PLAIN_TYPES = frozenset({type(None), bool, int, float, str})


class Record:
    """Base of frozen dataclasses: plain values, equality, `to_dict`."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def __post_init__(self) -> None:
        for name, value in [*vars(self).items()]:
            if type(value) in _PLAIN_TYPES:
                continue
            if type(value) is tuple and _PLAIN_TYPES.issuperset(map(type, value)):
                continue
            object.__setattr__(self, name, _plain(value))

    def _key(self) -> tuple[Any, ...]:
        values = (getattr(self, field.name) for field in dataclasses.fields(self))
        return tuple(_comparable(value) for value in values)

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return isinstance(other, Record) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        """The fields that say something: those not at their default."""
        shown = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        ]
        return f"{type(self).__name__}({', '.join(shown)})"

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON takes them: NaN and infinity become None."""
        fields = dataclasses.fields(self)
        return {f.name: _json_safe(getattr(self, f.name)) for f in fields}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Histogram(Record):
    """Counts of a layer's pre-activations.

    Args:
        counts: one count per bin.
        edges: bin edges in ascending order, one more than there are counts.
    """

    counts: tuple[int, ...]
    edges: tuple[float, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.edges) != len(self.counts) + 1:
            raise ValueError(
                "A histogram has one edge more than it has counts. Received: "
                f"{len(self.counts)} counts and {len(self.edges)} edges."
            )
