"""Processes of `torch.distributed`."""

from __future__ import annotations

import datetime
import sys
from typing import Any

import numpy as np

from keras_inits.errors import DistributionError

Tensor = Any


class TorchChannel:
    """A group of its own, on the CPU, with its own time limit: any backend has one.

    Args:
        torch: The module.
        limit: Seconds.
    """

    def __init__(self, torch: Any, limit: float) -> None:
        self.torch, self.distributed = torch, torch.distributed
        self.errors: tuple[type[Exception], ...] = (RuntimeError,)
        self.rank = self.distributed.get_rank()
        self.count = self.distributed.get_world_size()
        self._limit = datetime.timedelta(seconds=limit)
        self._group: Any = None

    @property
    def group(self) -> Any:
        """Opened when first used, where a process that does not come is noticed."""
        if self._group is None:
            self._group = self.distributed.new_group(
                backend="gloo", timeout=self._limit
            )
        return self._group

    def gather(self, words: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        mine = self.torch.from_numpy(words.copy())
        heard = [self.torch.empty_like(mine) for _ in range(self.count)]
        self.distributed.all_gather(heard, mine, group=self.group)
        return np.stack([x.numpy() for x in heard])

    def first(self, value: Tensor) -> Tensor:
        tensor = value.detach() if self.torch.is_tensor(value) else value.copy()
        tensor = self.torch.as_tensor(tensor)
        # As bytes, on the CPU: every dtype and device, bit for bit.
        here = tensor.cpu().contiguous().clone().reshape(-1).view(self.torch.uint8)
        self.distributed.broadcast(here, src=0, group=self.group)
        return here.view(tensor.dtype).reshape(tensor.shape).to(tensor.device)

    def close(self) -> None:
        if self._group is not None:
            self.distributed.destroy_process_group(self._group)


def channel(limit: float) -> TorchChannel | None:
    """None where there is one process, or `torch.distributed` is not in use."""
    torch = sys.modules["torch"]
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return None
    if distributed.get_world_size() == 1:
        return None
    if not distributed.is_gloo_available():
        raise DistributionError(
            "Processes of torch.distributed agree by way of gloo, and this build of "
            "PyTorch has none. Set KERAS_INITS_TIMEOUT=0, initialise in process 0 and "
            "let DistributedDataParallel spread the weights."
        )
    return TorchChannel(torch, limit)
