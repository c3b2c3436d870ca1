"""What is wrong, in words: findings drawn from the figures of a report."""

from __future__ import annotations

from collections.abc import Sequence

from keras_inits.records import Finding, LayerSignal


def find(
    layers: Sequence[LayerSignal],
    *,
    target_std: float | None = None,
    plain: bool | None = None,
) -> tuple[Finding, ...]:
    """The findings, the cause first."""
    return ()
