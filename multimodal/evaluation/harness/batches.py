"""Work in batches that shrink where memory does not suffice."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

Item = TypeVar("Item")


def in_batches(
    items: Sequence[Item], work: Callable[[Sequence[Item]], None], *, batch_size: int
) -> None:
    """Do ``work`` on consecutive batches; what runs out of memory is tried again in halves.

    Args:
        items: in order; the largest first, so that memory runs out at the beginning or never.
        work: keeps nothing of a batch that it fails on.
        batch_size: most items of a batch.
    """
    start = 0
    while start < len(items):
        batch = items[start : start + batch_size]
        try:
            work(batch)
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
            batch_size = len(batch) // 2
        else:
            start += len(batch)
