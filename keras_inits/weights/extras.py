"""What else a drawn kernel is part of: other layers, and LoRA's factors."""

from __future__ import annotations

from functools import partial
from typing import Any

import keras
from keras import ops

from keras_inits.distribution import placed
from keras_inits.linear_maps import LinearMap
from keras_inits.structure.selection import Selection
from keras_inits.structure.walking import own_variables

Tensor = Any


def borrowed(selection: Selection) -> set[int]:
    """`id` of maps whose kernel is drawn for another layer: the one that holds it."""
    first: dict[int, LinearMap] = {}
    others = set()
    for m in (m for maps in selection.maps.values() for m in maps):
        known = first.setdefault(id(m.kernel), m)
        if known.layer is m.layer:
            continue
        if not _holds(known) and _holds(m):
            first[id(m.kernel)], known, m = m, m, known
        others.add(id(m))
    return others


def _holds(m: LinearMap) -> bool:
    return any(v is m.kernel for v in own_variables(m.layer))


def without_lora(m: LinearMap) -> list[tuple[keras.Variable, Tensor]]:
    """LoRA's second factor as `enable_lora` has it: the kernel is the whole map."""
    if not getattr(m.layer, "lora_enabled", False):
        return []
    return [(v, placed(v, partial(ops.zeros_like, v.value))) for v in m.extra_kernels]
