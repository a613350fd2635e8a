"""Gradients over the mesh: summed in float32 where several processes have a part, and their norm.

Every process computes the gradient of the *sum* of the losses of its rows. What is missing to that
of the whole batch depends on who else has the parameter:

- every data rank has read other rows: all gradients are summed over these, each on the one that
  steps the parameter;
- what all processes of a plane have, such as an encoder, each runs on other micro-batches: summed
  over the plane;
- an embedding that is the head, too, is used by the first stage and the last one: summed over the
  stages;
- the norms of queries and keys act on each tensor rank's own heads: summed over these;
- a matrix that is cut, and whatever one stage has alone, is complete.

What is cut over data ranks (`multimodal.training.parallel.sharding`) comes summed over these.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from multimodal.training.parallel.mesh import Mesh, Ranks


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A parameter that trains, and where its copies and parts are."""

    name: str
    parameter: nn.Parameter
    """All of it, or the part that is here."""
    summed: Literal["", "plane", "pipeline", "tensor"] = ""
    """Processes of the plane over which its gradient is spread; "" if each has all of it."""
    whole: tuple[int, ...]
    """Shape of all of it."""
    start: tuple[int, ...]
    """Where in the whole the part begins."""
    owner: int | None = 0
    """Data rank that steps it, and alone has its moments (ZeRO stage 1, arXiv 1910.02054); None if
    each steps the part that it has."""
    is_first: bool = True
    """Whether of all processes with this part that are stepped it is this one that speaks for it.
    """
    sharded: nn.Parameter | None = None
    """The model's own parameter, if data ranks have parts, of which ``parameter`` is the one here.
    """


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that is here, in the same memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def owners(sizes: Sequence[int], number: int) -> list[int]:
    """Which of so many data ranks steps each parameter, so that all have about as many weights.

    Args:
        sizes: weights of each parameter.
        number: data ranks.
    """
    loads, chosen = [0] * number, [0] * len(sizes)
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        chosen[index] = loads.index(min(loads))
        loads[chosen[index]] += sizes[index]
    return chosen


def sum_gradients(placed: Sequence[Placed], mesh: Mesh) -> None:
    """Complete the gradients on their owners; a parameter that was not used gets one of 0."""
    for each in placed:
        if each.sharded is not None and each.sharded.grad is not None:
            each.parameter.grad, each.sharded.grad = local(each.sharded.grad), None
        if each.parameter.grad is None:
            each.parameter.grad = torch.zeros_like(each.parameter)
    for ranks in ("plane", "pipeline", "tensor"):
        _sum([each for each in placed if each.summed == ranks], getattr(mesh, ranks))
    for owner in range(mesh.data.size):
        _sum([each for each in placed if each.owner == owner], mesh.data, target=owner)


def share_weights(placed: Sequence[Placed], mesh: Mesh) -> None:
    """Give all data ranks what their owners have made of the parameters."""
    for owner in range(mesh.data.size if mesh.data.size > 1 else 0):
        mine = [each.parameter.detach() for each in placed if each.owner == owner]
        if mine:
            flat = torch.cat([parameter.flatten() for parameter in mine])
            mesh.data.broadcast(flat, source=owner)
            parts = flat.split([parameter.numel() for parameter in mine])
            for parameter, part in zip(mine, parts, strict=True):
                parameter.copy_(part.view_as(parameter))


def _sum(placed: Sequence[Placed], ranks: Ranks, *, target: int | None = None) -> None:
    """Sum over a group in float32, in one message; with a target, only there."""
    if ranks.size == 1 or not placed:
        return
    gradients = [grad for each in placed if (grad := each.parameter.grad) is not None]
    flat = torch.cat([gradient.float().flatten() for gradient in gradients])
    if target is None:
        ranks.sum(flat)
    else:
        ranks.sum_to(flat, target=target)
        if ranks.rank != target:
            for each in placed:
                each.parameter.grad = None
            return
    parts = flat.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def gradient_norm(placed: Sequence[Placed], mesh: Mesh, *, device: torch.device) -> Tensor:
    """Norm of the whole model's gradient, 0-d float32: each parameter counts once."""
    total = torch.zeros((), dtype=torch.float64, device=device)
    for each in (each for each in placed if each.is_first):
        assert each.parameter.grad is not None
        total += each.parameter.grad.float().square().sum(dtype=torch.float64)
    mesh.plane.sum(total)
    mesh.data.sum(total)
    return total.sqrt().float()
