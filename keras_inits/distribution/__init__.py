"""Several devices, several processes: the same initialisation everywhere.

| setting | what is computed where | what goes between processes |
|---|---|---|
| replicas in one process (`MirroredStrategy`) | one pass, its result on every replica | nothing |
| copies (`MultiWorkerMirroredStrategy`, `torch.distributed`) | each process a pass on its own batch; the first one's result counts | the new kernels, once |
| one global model (`keras.distribution` on JAX) | one pass by all devices together, on the first process's batch | what the layers themselves exchange |

| module | |
|---|---|
| `peers` | the other processes: meet them, within a time limit; hear the first one |
| `on_tensorflow`, `on_jax`, `on_torch` | how each backend does that |
| `everywhere` | a verb that changes a model in all processes, or in none |
| `placement` | batches and new kernels laid out as the model is (JAX) |
| `replicas` | batch statistics as each replica sees them (TensorFlow) |
"""  # noqa: E501

from keras_inits.distribution.everywhere import everywhere
from keras_inits.distribution.peers import Peers, current_peers
from keras_inits.distribution.placement import (
    is_global,
    laid_out_like,
    placed,
    shared_batch,
)
from keras_inits.distribution.replicas import interleaved, local_statistics

__all__ = [
    "Peers",
    "current_peers",
    "everywhere",
    "interleaved",
    "is_global",
    "laid_out_like",
    "local_statistics",
    "placed",
    "shared_batch",
]
