"""Sparse kernels."""

import math
from typing import Any, Literal

from keras import ops

from keras_inits.initializers.base import (
    FanInitializer,
    Seed,
    Seeds,
    Tensor,
    as_kernel,
    finite,
    one_of,
    positive,
)
from keras_inits.initializers.sampling import chances, normal
from keras_inits.initializers.variance_scaling import Axes
from keras_inits.registry import register


@register("sparse_normal", law="N(0, stddev^2) with a share of zeros for each unit")
class SparseNormal(FanInitializer):
    """Normal values, a fixed number of them zero for each unit.

    Of the `outputs` values that leave each input, `ceil(sparsity * outputs)`, chosen
    anew for each, are 0; the others follow N(0, stddev^2). With `per="output"` the
    same of the `inputs` values that reach each output. Convolutions are flattened
    to `(inputs, outputs)`.

    Example:

    >>> layer = keras.layers.Dense(
    ...     64, kernel_initializer=keras_inits.SparseNormal(0.9)
    ... )

    Args:
        sparsity: share of zeros, in [0, 1].
        stddev: standard deviation of the other values.
        seed: as in `VarianceScaling`.
        per: `"input"`, as in PyTorch, or `"output"`, as in Lasagne and the paper.
        input_axes, output_axes: as in `VarianceScaling`. Where axes remain besides,
            the kernel holds a matrix at each of their places.

    Raises:
        ValueError: if `sparsity` is not in [0, 1], `stddev` not positive or `per`
            unknown; on a call, if the shape has less than two axes.

    References:
        `torch.nn.init.sparse_`, `lasagne.init.Sparse`. Martens (2010), Deep learning
        via Hessian-free optimization.
    """

    def __init__(
        self,
        sparsity: float = 0.1,
        stddev: float = 0.01,
        seed: Seed = None,
        per: Literal["input", "output"] = "input",
        input_axes: Axes = None,
        output_axes: Axes = None,
    ) -> None:
        super().__init__(seed, input_axes, output_axes)
        positive(stddev=stddev)
        one_of(("input", "output"), per=per)
        finite(sparsity=sparsity)
        if not 0 <= sparsity <= 1:
            raise ValueError(
                f"`sparsity` must lie in [0, 1]. Received: sparsity={sparsity}"
            )
        self.sparsity = sparsity
        self.stddev = stddev
        self.per = per

    def _draw(self, shape: tuple[int, ...], dtype: str, seeds: Seeds) -> Tensor:
        axes = self._split_axes(shape)
        values = normal(shape, self.stddev, dtype, seeds)
        rows, columns, beside = (math.prod(shape[i] for i in each) for each in axes)
        flat = (beside, rows, columns)
        axis = 2 if self.per == "input" else 1
        zeros = math.ceil(self.sparsity * flat[axis])
        if not zeros or 0 in shape:
            return values
        # The rank of a value among those of its unit is a random permutation.
        # In float32, whatever `floatx` says: bfloat16 has so few values that most are
        # equal, and of equal ones the first come first.
        chance = chances(flat, "float32", seeds)
        order = ops.argsort(chance, axis=axis)
        rank = as_kernel(ops.argsort(order, axis=axis), shape, *axes)
        return values * ops.cast(rank >= zeros, dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            "sparsity": self.sparsity,
            "stddev": self.stddev,
            "per": self.per,
            **super().get_config(),
        }
