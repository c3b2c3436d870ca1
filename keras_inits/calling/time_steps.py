"""`TimeDistributed` as one call on `(batch * time, ...)`, not one per step.

Only what normalises by its batch is called step by step, as Keras does it.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops

from keras_inits.calling.masks import Masks
from keras_inits.structure.walking import walk

Tensor = Any
Call = Callable[..., Any]


class TimeSteps:
    """Calls that stand in for those of `TimeDistributed` and of what is in it.

    Args:
        masks: Of the pass.
    """

    def __init__(self, masks: Masks) -> None:
        self._masks = masks
        self._thread = threading.get_ident()
        self._count = 1  # of the steps that lie in a batch now

    def merged(self, wrapper: Any) -> Iterator[tuple[keras.layers.Layer, Call]]:
        """The wrapper, and layers in it, each with what replaces its `call`."""
        yield wrapper, self._merged(wrapper)
        for layer in walk(wrapper.layer):
            if isinstance(layer, keras.layers.BatchNormalization):
                yield layer, self._apart(layer)

    def _merged(self, wrapper: Any) -> Call:
        original: Call = wrapper.call
        accepted = inspect.signature(wrapper.layer.call).parameters

        def merge(x: Tensor) -> Tensor:
            return ops.reshape(x, (-1, *x.shape[2:]))

        def call(inputs: Tensor, training: bool = False, mask: Any = None) -> Tensor:
            if threading.get_ident() != self._thread:
                return original(inputs, training=training, mask=mask)
            kwargs: dict[str, Any] = {}
            if "mask" in accepted and mask is not None:
                kwargs["mask"] = merge(mask)
            if "training" in accepted:
                kwargs["training"] = training
            outside, self._count = self._count, self._count * inputs.shape[1]
            parts = {} if mask is None else {wrapper.layer: mask}
            try:
                with self._masks.told(parts):
                    output = wrapper.layer.call(merge(inputs), **kwargs)
            finally:
                self._count = outside
            return ops.reshape(output, (-1, inputs.shape[1], *output.shape[1:]))

        return call

    def _apart(self, layer: Any) -> Call:
        """Step by step where it normalises by the batch."""
        original: Call = layer.call

        def call(inputs: Tensor, training: Any = None, mask: Any = None) -> Tensor:
            here = threading.get_ident() == self._thread
            if not (here and self._count > 1 and training and layer.trainable):
                return original(inputs, training=training, mask=mask)
            steps = [self._split(inputs), None if mask is None else self._split(mask)]
            found = [
                original(
                    steps[0][:, i],
                    training=training,
                    mask=None if steps[1] is None else steps[1][:, i],
                )
                for i in range(self._count)
            ]
            return ops.reshape(ops.stack(found, axis=1), inputs.shape)

        return call

    def _split(self, x: Tensor) -> Tensor:
        return ops.reshape(x, (-1, self._count, *x.shape[1:]))
