"""Who works with whom: processes in a mesh of pipeline, data and tensor ranks (section 7.3).

Neighbours in rank are tensor ranks, which talk most; then data ranks, then stages of the pipeline.
The *plane* of a data rank is all processes that work on its rows: its pipeline and tensor ranks.
"""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

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

    def largest(self, tensor: Tensor) -> None:
        """Take the largest number of the group at each place, in place."""
        if self.size > 1:
            dist.all_reduce(tensor, dist.ReduceOp.MAX, group=self.group)

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
    shard: Ranks
    """Data ranks that have each a part of the weights; one alone has all of them."""
    replica: Ranks
    """Data ranks that have the same part."""
    sharding: DeviceMesh | None = None
    """Replicas x shards, or shards alone, as torch takes them; None where weights stay whole."""


def data_size(*, world_size: int, pipeline: int, tensor: int, shards: int = 1) -> int:
    """Data ranks that are left.

    Raises:
        InputError: the processes, or the data ranks, do not divide so.
    """
    if pipeline < 1 or tensor < 1 or world_size % (pipeline * tensor):
        raise InputError(
            "trainer.strategy",
            f"{world_size} processes do not divide into pipeline {pipeline} x tensor {tensor}",
        )
    data = world_size // (pipeline * tensor)
    if shards < 1 or data % shards:
        raise InputError(
            "trainer.strategy.shards", f"{data} data ranks do not divide into {shards} shards"
        )
    return data


def make_mesh(device: torch.device, *, pipeline: int, tensor: int, shards: int = 1) -> Mesh:
    """The mesh over all processes of the run.

    Raises:
        InputError: the processes, or the data ranks, do not divide so.
    """
    data = data_size(
        world_size=dist.get_world_size(), pipeline=pipeline, tensor=tensor, shards=shards
    )
    names = ("pipeline", "replica", "shard", "tensor")
    sizes = (pipeline, data // shards, shards, tensor)
    mesh = init_device_mesh(device.type, sizes, mesh_dim_names=names)
    groups = {name: mesh[name].get_group() for name in names}
    groups["data"] = mesh["replica", "shard"]._flatten("data").get_group()
    groups["plane"] = mesh["pipeline", "tensor"]._flatten("plane").get_group()
    sharding = None
    if shards > 1:
        sharding = mesh["shard"] if shards == data else mesh["replica", "shard"]
    return Mesh(
        sharding=sharding,
        **{
            name: Ranks(group=group, size=dist.get_world_size(group), rank=dist.get_rank(group))
            for name, group in groups.items()
        },
    )
