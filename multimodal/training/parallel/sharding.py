"""Weights cut over data ranks and put together where they are used (FSDP, arXiv 2304.11277).

Blocks of the core and layers of the adapters are cut by torch's `fully_shard`, each a unit that is
gathered before it runs, forward and backward, and whose gradients are summed in float32 as they
arrive. Encoders and tables stay whole on all data ranks: beside a core they are small, and of these
only the optimizer's moments are spread.

All data ranks must run the same units in the same order, whatever media their rows bring:
`multimodal.training.parallel.media` sees to that.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor

from multimodal.training.parallel.gradients import local
from multimodal.training.parallel.mesh import Mesh, Ranks


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A data rank's part of a parameter that trains: some of its rows."""

    part: nn.Parameter
    """In the same memory; this is what the optimizer steps."""
    start: int
    """Its first row."""


def shard_weights(
    model: nn.Module, units: Iterable[nn.Module], mesh: Mesh, *, frozen: bool
) -> None:
    """Cut the weights of ``units`` over data ranks, which then have a part each.

    Args:
        model: that is walked over, with what trains chosen.
        units: modules of it that are run one after another; those without weights are passed over.
        mesh: of the processes.
        frozen: cut frozen weights, too, or leave them whole.
    """
    whole = set(model.parameters())
    for unit in units:
        kept = {p for p in unit.parameters() if not (p.requires_grad or frozen)}
        if cut := set(unit.parameters()) - kept:
            _shard(unit, mesh, ignored=kept)
            whole -= cut
            if hasattr(unit, "keys_values"):
                register_fsdp_forward_method(unit, "keys_values")
    # The model is the root by which units know one another; it is never called itself.
    _shard(model, mesh, ignored=whole)
    for entry in ("look_at", "walk"):
        if hasattr(model, entry):
            register_fsdp_forward_method(model, entry)


def own_shards(model: nn.Module, mesh: Mesh) -> dict[str, Shard]:
    """The parts that are here of what trains and is cut, by name.

    The model must lie where it is to stay: its parts would be left behind.
    """
    return {
        name: Shard(part=_part(parameter), start=first_row(len(parameter), mesh.shard))
        for name, parameter in model.named_parameters()
        if isinstance(parameter, DTensor) and parameter.requires_grad
    }


def _shard(module: nn.Module, mesh: Mesh, *, ignored: set[nn.Parameter]) -> None:
    fully_shard(
        module,
        mesh=mesh.sharding,
        reshard_after_forward=True,
        mp_policy=MixedPrecisionPolicy(reduce_dtype=torch.float32),
        ignored_params=ignored,
    )
    assert isinstance(module, FSDPModule)
    module.set_gradient_divide_factor(1.0)  # gradients are sums over all rows, and no means
    module.set_force_sum_reduction_for_comms(True)


def _part(parameter: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(local(parameter.detach()))


def first_row(rows: int, ranks: Ranks) -> int:
    """Where a rank's part of so many rows begins: the first ranks' are the larger ones."""
    return min(ranks.rank * -(-rows // ranks.size), rows)
