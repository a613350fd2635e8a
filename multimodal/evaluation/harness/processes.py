"""Several processes that share a harness's requests, as torchrun starts them."""

import os
from typing import Any

import torch
from torch import Tensor, distributed


class Processes:
    """What lm-eval asks of a model that runs in several processes."""

    def __init__(self) -> None:
        """Join the others, if the launcher's environment speaks of any."""
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        if self.size > 1 and not distributed.is_initialized():
            distributed.init_process_group("gloo")  # numbers and texts alone are exchanged

    def all_gather(self, tensor: Tensor) -> Tensor:
        """Every process's numbers one after another, on all."""
        if self.size == 1:
            return tensor
        own = tensor.cpu().reshape(-1)
        gathered = [torch.empty_like(own) for _ in range(self.size)]
        distributed.all_gather(gathered, own)
        return torch.cat(gathered)

    def gather(self, value: Any, *, to: int) -> list[Any] | None:
        """Every process's value, on process ``to``; None on the others."""
        if self.size == 1:
            return [value]
        values: list[Any] | None = [None] * self.size if self.rank == to else None
        distributed.gather_object(value, values, dst=to)
        return values

    def wait(self) -> None:
        """Wait until all are here."""
        if self.size > 1:
            distributed.barrier()
