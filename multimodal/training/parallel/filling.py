"""Reading of a drafted model what one process has of it, and no more.

A file's pages are mapped, and of each tensor only those are read that the process keeps: its rows
or columns among the tensor ranks, and its rows of these among the shards.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from language.draft import Draft
from language.model import Llama
from language.weights import check_shape, mapped_tensor
from multimodal.model import MultimodalLlama
from multimodal.training.parallel.gradients import local
from multimodal.training.parallel.mesh import Mesh
from multimodal.training.parallel.sharding import first_row


@torch.no_grad()
def fill_part(
    draft: Draft[Any], mesh: Mesh, *, cut: Mapping[str, int], device: torch.device
) -> None:
    """Give the modules that are left of a drafted model their memory and their weights.

    Args:
        draft: its model is laid out, on the meta device still.
        mesh: of the processes.
        cut: dimension along which tensor ranks have parts of a parameter, by name.
        device: where the weights go.

    Raises:
        InputError: a tensor is broken, or not as large as the model wants it.
    """
    model, sources = draft.model, dict(draft.sources)
    core = model.language if isinstance(model, MultimodalLlama) else model
    assert isinstance(core, Llama)
    table = getattr(core.embedding, "weight", None)
    is_tied = table is not None and table is getattr(core.head, "weight", None)
    if core.config.tied_embeddings:
        prefix = "" if model is core else "language."
        sources[f"{prefix}head.weight"] = sources[f"{prefix}embedding.weight"]
    for name, parameter in model.named_parameters():
        wanted = list(parameter.shape)
        if name in cut:
            wanted[cut[name]] *= mesh.tensor.size
        check_shape(sources[name], tuple(wanted))
    model.to_empty(device=device)
    if is_tied:
        core.head.weight = core.embedding.weight
    for name, parameter in model.named_parameters():
        part = mapped_tensor(sources[name])
        if name in cut:
            part = part.chunk(mesh.tensor.size, dim=cut[name])[mesh.tensor.rank]
        here = local(parameter)
        if isinstance(parameter, DTensor):
            start = first_row(len(part), mesh.shard)
            part = part[start : start + len(here)]
        here.copy_(part)
