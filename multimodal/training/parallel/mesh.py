"""Who works with whom: processes in a mesh of pipeline, data and tensor ranks (section 7.3).

Neighbours in rank are tensor ranks, which talk most; then data ranks, then stages of the pipeline.
The *plane* of a data rank is all processes that work on its rows: its pipeline and tensor ranks.
"""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh

from language.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """One group of processes that this one belongs to."""

    group: dist.ProcessGroup
    size: int
    rank: int
    """This process's number in the group."""

    def sum(self, tensor: Tensor) -> None:
        """Add up over the group, in place."""
        if self.size > 1:
            dist.all_reduce(tensor, group=self.group)

    def broadcast(self, tensor: Tensor, *, source: int) -> None:
        """Overwrite with what the group's process ``source`` has."""
        if self.size > 1:
            dist.broadcast(tensor, dist.get_global_rank(self.group, source), group=self.group)

    def sum_to(self, tensor: Tensor, *, target: int) -> None:
        """Add up over the group; only its process ``target`` has the sum, others get garbage."""
        if self.size > 1:
            dist.reduce(tensor, dist.get_global_rank(self.group, target), group=self.group)


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """This process's groups."""

    pipeline: Ranks
    data: Ranks
    tensor: Ranks
    plane: Ranks
    """Pipeline and tensor ranks of one data rank: ``pipeline.rank * tensor.size + tensor.rank``."""


def data_size(*, world_size: int, pipeline: int, tensor: int) -> int:
    """Data ranks that are left.

    Raises:
        InputError: the processes do not divide so.
    """
    if pipeline < 1 or tensor < 1 or world_size % (pipeline * tensor):
        raise InputError(
            "trainer.strategy",
            f"{world_size} processes do not divide into pipeline {pipeline} x tensor {tensor}",
        )
    return world_size // (pipeline * tensor)


def make_mesh(device: torch.device, *, pipeline: int, tensor: int) -> Mesh:
    """The mesh over all processes of the run.

    Raises:
        InputError: the processes do not divide so.
    """
    data = data_size(world_size=dist.get_world_size(), pipeline=pipeline, tensor=tensor)
    names = ("pipeline", "data", "tensor")
    mesh = init_device_mesh(device.type, (pipeline, data, tensor), mesh_dim_names=names)
    groups = {name: mesh[name].get_group() for name in names}
    groups["plane"] = mesh["pipeline", "tensor"]._flatten("plane").get_group()
    return Mesh(
        **{
            name: Ranks(group=group, size=dist.get_world_size(group), rank=dist.get_rank(group))
            for name, group in groups.items()
        }
    )
