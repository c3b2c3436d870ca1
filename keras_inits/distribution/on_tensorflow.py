"""Processes of `tf.distribute.MultiWorkerMirroredStrategy`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_inits.errors import DistributionError

Tensor = Any


class TensorFlowChannel:
    """The strategy's own collectives, with a time limit."""

    def __init__(self, tf: Any, strategy: Any, limit: float) -> None:
        self.tf, self.strategy = tf, strategy
        self.count = processes(strategy)
        self.errors: tuple[type[Exception], ...] = (tf.errors.OpError,)
        resolver = strategy.cluster_resolver
        # A chief comes before the workers.
        chief = "chief" in resolver.cluster_spec().jobs
        late = chief and resolver.task_type != "chief"
        self.rank = int(resolver.task_id) + late
        self.options = tf.distribute.experimental.CommunicationOptions(
            timeout_seconds=limit
        )

    def gather(self, words: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        def step(x: Tensor) -> Tensor:
            context = self.tf.distribute.get_replica_context()
            x = self.tf.identity(x)  # on the device of the replica
            return context.all_gather(x, axis=0, options=self.options)

        # Of several replicas in one process each says the same.
        heard = self._run(step, words[None].astype("int32")).numpy()
        return heard[:: len(heard) // self.count].astype("uint8")

    def first(self, value: Tensor) -> Tensor:
        """The sum of the value of replica 0 and of zeros, NaN or not."""
        tensor = self.tf.convert_to_tensor(value)
        summed = tensor.dtype.is_floating or tensor.dtype in ("int32", "int64")
        if not summed:
            wide = self.first(self.tf.cast(tensor, "int32"))
            return self.tf.cast(wide, tensor.dtype)

        def step(x: Tensor) -> Tensor:
            context = self.tf.distribute.get_replica_context()
            own = self.tf.equal(context.replica_id_in_sync_group, 0)
            shown = self.tf.where(own, x, self.tf.zeros_like(x))
            return context.all_reduce("SUM", shown, options=self.options)

        return self._run(step, tensor)

    def close(self) -> None:
        """Nothing was opened."""

    def _run(self, step: Callable[[Tensor], Tensor], value: Tensor) -> Tensor:
        # Compiled: run eagerly, the strategy warns of its own slowness.
        run = self.tf.function(lambda x: self.strategy.run(step, args=(x,)))
        answer = run(self.tf.convert_to_tensor(value))
        return self.strategy.experimental_local_results(answer)[0]


def channel(model: keras.Model, limit: float) -> TensorFlowChannel | None:
    """None where one process holds all replicas."""
    strategy = strategy_of(model)
    if strategy is None or processes(strategy) == 1:
        return None
    return TensorFlowChannel(sys.modules["tensorflow"], strategy, limit)


def strategy_of(model: keras.Model) -> Any:
    """The strategy under which the model's variables were made, None for none."""
    for variable in model.variables[:1]:
        return getattr(variable.value, "distribute_strategy", None)
    return None


def processes(strategy: Any) -> int:
    """How many processes hold replicas."""
    tf = sys.modules["tensorflow"]
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 1
    cluster = strategy.cluster_resolver.cluster_spec()
    jobs = (name for name in cluster.jobs if name in ("chief", "worker"))
    return max(1, sum(cluster.num_tasks(name) for name in jobs))


def refuse_in_replica(verb: str) -> None:
    """Inside `strategy.run` each replica would come to weights of its own.

    Raises:
        DistributionError: Called there.
    """
    distribute = sys.modules["tensorflow"].distribute
    if distribute.has_strategy() and not distribute.in_cross_replica_context():
        raise DistributionError(
            f"{verb} was called inside strategy.run, in one of several replicas, each "
            "of which would come to weights of its own. Call it before, outside of "
            "strategy.run (with or without strategy.scope()): it sets every replica."
        )
