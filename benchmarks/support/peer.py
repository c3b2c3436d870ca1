"""The `lsuv` package for PyTorch on the architectures of `support.models`."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import keras

from support.timing import interleaved

# PyTorch modules are Any here: neither torch nor lsuv need be installed.
Module = Any


def installed() -> bool:
    """Whether the peer can run beside the backend in use."""
    found = importlib.util.find_spec("lsuv") is not None
    return found and keras.backend.backend() == "torch"


def torch_stack(kind: str, depth: int) -> tuple[Module, Any]:
    """The same stack in plain PyTorch, with a batch."""
    import torch
    from torch import nn

    layers: list[Module] = []
    for _ in range(depth):
        conv = kind == "conv"
        made = nn.Conv2d(32, 32, 3, padding=1) if conv else nn.Linear(512, 512)
        layers += [made, nn.ReLU()]
    shape = (64, 32, 16, 16) if kind == "conv" else (64, 512)
    return nn.Sequential(*layers).eval(), torch.randn(shape)


def peer_ratio(kind: str, depth: int, rounds: int = 3) -> float:
    """The peer's LSUV over one forward pass in PyTorch, to the same tolerance."""
    import lsuv
    import torch

    model, batch = torch_stack(kind, depth)
    fresh = {name: value.clone() for name, value in model.state_dict().items()}

    def run() -> None:
        lsuv.lsuv_with_singlebatch(
            model, batch, std_tol=1e-3, do_orthonorm=False, verbose=False
        )

    def plain() -> Any:
        with torch.no_grad():
            return model(batch)

    functions: dict[str, Callable[[], Any]] = {"forward": plain, "lsuv": run}
    times = interleaved(functions, rounds, before=lambda: model.load_state_dict(fresh))
    return times["lsuv"].over(times["forward"])
