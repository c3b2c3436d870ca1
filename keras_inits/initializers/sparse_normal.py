"""Sparse kernels."""

import math
from typing import Any

import keras
from keras import ops

from keras_inits.initializers.base import (
    Initializer,
    Seed,
    Seeds,
    Tensor,
    positive,
)
from keras_inits.initializers.sampling import normal
from keras_inits.registry import register


@register("sparse_normal", law="N(0, stddev^2) with a share of zeros for each input")
class SparseNormal(Initializer):
    """Normal values, a fixed number of them zero for each input.

    Of the `outputs` values that leave each input, `ceil(sparsity * outputs)`, chosen
    anew for each, are 0; the others follow N(0, stddev^2). Convolutions are flattened
    to `(inputs, outputs)`.

    Example:

    >>> layer = keras.layers.Dense(
    ...     64, kernel_initializer=keras_inits.SparseNormal(0.9)
    ... )

    Args:
        sparsity: share of zeros, in [0, 1].
        stddev: standard deviation of the other values.
        seed: as in `VarianceScaling`.

    Raises:
        ValueError: if `sparsity` is not in [0, 1] or `stddev` not positive; on a call,
            if the shape has less than two axes.

    References:
        `torch.nn.init.sparse_`. Martens (2010), Deep learning via Hessian-free
        optimization.
    """

    def __init__(
        self, sparsity: float = 0.1, stddev: float = 0.01, seed: Seed = None
    ) -> None:
        super().__init__(seed)
        positive(stddev=stddev)
        if not 0 <= sparsity <= 1:
            raise ValueError(
                f"`sparsity` must lie in [0, 1]. Received: sparsity={sparsity}"
            )
        self.sparsity = sparsity
        self.stddev = stddev

    def _draw(self, shape: tuple[int, ...], dtype: str, seeds: Seeds) -> Tensor:
        if len(shape) < 2:
            raise ValueError(
                "`SparseNormal` needs a kernel with inputs and outputs. Received: "
                f"shape={shape}. Use another initializer for vectors."
            )
        values = normal(shape, self.stddev, dtype, seeds)
        zeros = math.ceil(self.sparsity * shape[-1])
        if not zeros or 0 in shape:
            return values
        # The rank of a value among its row is a random permutation.
        order = ops.argsort(keras.random.uniform(shape, seed=seeds.next()), axis=-1)
        rank = ops.argsort(order, axis=-1)
        return values * ops.cast(rank >= zeros, dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            "sparsity": self.sparsity,
            "stddev": self.stddev,
            **super().get_config(),
        }
