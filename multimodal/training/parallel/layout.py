"""Giving a process its part of a model: blocks of its stages, shares of their matrices."""

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from language.draft import Draft
from language.errors import InputError
from language.model import Llama
from language.next_token import NextTokenTraining
from multimodal.model import MultimodalLlama
from multimodal.training.parallel.filling import fill_part
from multimodal.training.parallel.gradients import Placed, owners
from multimodal.training.parallel.mesh import Mesh
from multimodal.training.parallel.sequence import SPLIT, split_tokens
from multimodal.training.parallel.sharding import own_shards, shard_weights
from multimodal.training.parallel.tensor import PARTIAL, check_tensor, cut_matrices

SENSES = (
    "image_encoder.*",
    "image_adapter.projection.*",
    "video_aggregator.*",
    "video_adapter.projection.*",
    "speech_encoder.*",
    "speech_adapter.*",
)
"""What senses media before the walk begins; all processes of a plane have it."""


class Elsewhere(nn.Module):
    """Stands for a part that another stage has."""


def core_of(model: nn.Module) -> Llama:
    """The core of a model, or the model that is one."""
    core = model.language if isinstance(model, MultimodalLlama) else model
    assert isinstance(core, Llama)
    return core


def check_training(training: NextTokenTraining, *, tensor: int, shards: int) -> None:
    """Refuse what cannot be laid out so that processes have parts of matrices.

    Raises:
        InputError: heads or widths that do not divide, or an optimizer of whole matrices.
    """
    if max(tensor, shards) > 1 and training.optimizer_config.orthogonal:
        raise InputError(
            "optimizer.orthogonal",
            "Muon steps whole matrices: leave trainer.strategy.tensor and shards at 1",
        )
    model = training.model
    core = core_of(model).config
    heads, widths = {"the core": core.num_kv_heads}, {"the core": core.ffn_dim}
    if isinstance(model, MultimodalLlama):
        for name in ("image_adapter", "video_adapter"):
            adapter = getattr(model.config, name)
            if adapter is not None:
                heads[name], widths[name] = adapter.num_kv_heads, adapter.ffn_dim
    check_tensor(size=tensor, heads=heads, widths=widths)


def keep_stages(model: nn.Module, stages: Sequence[range], mine: Collection[int]) -> None:
    """Leave of a model what its stages ``mine`` need.

    An embedding that trains and is the head, too, stays everywhere.
    """
    core = core_of(model)
    blocks = {block for index in mine for block in stages[index]}
    is_first, is_last = 0 in mine, len(stages) - 1 in mine
    tied = core.head.weight is core.embedding.weight and core.head.weight.requires_grad
    for block in range(len(core.blocks)):
        if block not in blocks:
            core.blocks[block] = Elsewhere()
    if not is_first and not tied:
        core.embedding = Elsewhere()  # type: ignore[assignment]
    if not is_last:
        core.norm = Elsewhere()  # type: ignore[assignment]
        if not tied:
            core.head = Elsewhere()  # type: ignore[assignment]
    if isinstance(model, MultimodalLlama):
        if not is_first and model.config.extra_tokens:
            model.extra_embedding = Elsewhere()  # type: ignore[assignment]
        for name in ("image_adapter", "video_adapter"):
            if (adapter := getattr(model, name, None)) is not None:
                for position, layer in adapter.at_position.items():
                    if max(position - 1, 0) not in blocks:  # it stands behind that block
                        adapter.layers[layer] = Elsewhere()


def lay_out(
    draft: Draft[Any],
    mesh: Mesh,
    stages: Sequence[range],
    *,
    device: torch.device,
    shard_frozen: bool = True,
    split_text: bool = False,
) -> list[Placed]:
    """Leave of a model what this process needs, read that, and say where what trains of it lies.

    Args:
        draft: of the model, with what trains chosen; nothing of it is read yet.
        mesh: of the processes.
        stages: blocks of every stage of the pipeline, which processes take in turn.
        device: where the process's part goes.
        shard_frozen: where weights are cut over data ranks, cut the frozen ones, too.
        split_text: split tokens over tensor ranks between the matrices.
    """
    model = draft.model
    core = core_of(model)
    is_tied = core.head.weight is core.embedding.weight
    keep_stages(model, stages, range(mesh.pipeline.rank, len(stages), mesh.pipeline.size))
    prefix = "" if isinstance(model, MultimodalLlama) else "language."
    split = split_tokens(model, mesh.tensor, prefix=prefix) if split_text else None
    core.split = split
    cut = cut_matrices(model, mesh.tensor, prefix=prefix, split=split)
    used_in_part = PARTIAL if split is None else PARTIAL + SPLIT
    if mesh.shard.size > 1:
        units = [*core.blocks, *adapter_layers(model)]
        shard_weights(model, units, mesh, frozen=shard_frozen)
    fill_part(draft, mesh, cut=cut, device=device)
    shards = own_shards(model, mesh)
    placed = []
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    kept_whole = [parameter.numel() for name, parameter in trained if name not in shards]
    owned_by = iter(owners(kept_whole, mesh.data.size))
    for name, parameter in trained:
        is_sense = any(fnmatchcase(name, pattern) for pattern in SENSES)
        is_table = is_tied and parameter is core.embedding.weight
        partial = any(fnmatchcase(prefix + name, pattern) for pattern in used_in_part)
        shard, along = shards.get(name), cut.get(name)
        whole, start = list(parameter.shape), [0] * parameter.dim()
        if along is not None:
            start[along] = mesh.tensor.rank * whole[along]
            whole[along] *= mesh.tensor.size
        if shard is not None:
            start[0] += shard.start
        owner = next(owned_by) if shard is None else None
        speaks = mesh.replica.rank == 0 if owner is None else mesh.data.rank == owner
        placed.append(
            Placed(
                name=name,
                parameter=parameter if shard is None else shard.part,
                summed="plane" if is_sense else "pipeline" if is_table
                else "tensor" if partial else "",
                whole=tuple(whole),
                start=tuple(start),
                owner=owner,
                is_first=speaks
                and not (mesh.pipeline.rank and (is_sense or is_table))
                and not (mesh.tensor.rank and along is None),
                sharded=None if shard is None else parameter,
            )
        )  # fmt: skip
    return placed


def adapter_layers(model: nn.Module) -> list[nn.Module]:
    """The layers of a model's adapters, those elsewhere among them."""
    adapters = [getattr(model, name, None) for name in ("image_adapter", "video_adapter")]
    return [layer for adapter in adapters if adapter is not None for layer in adapter.layers]


def depends_on_training(model: nn.Module, stages: Sequence[range]) -> tuple[list[bool], bool]:
    """Where gradients are needed, of a whole model with what trains chosen.

    Returns:
        For each stage, whether what it gives depends on something that trains; whether what is
        sensed of media does.
    """
    trains = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    senses = any(fnmatchcase(name, pattern) for name in trains for pattern in SENSES)
    core = "language." if isinstance(model, MultimodalLlama) else ""
    first = {f"{core}embedding.", "extra_embedding."}
    if isinstance(model, MultimodalLlama) and model.config.speech_adapter is not None:
        first |= {"speech_encoder.", "speech_adapter."}  # recordings stand among the embeddings
    needs, found = [], any(name.startswith(tuple(first)) for name in trains)
    for stage in stages:
        prefixes = [f"{core}blocks.{block}." for block in stage]
        sees = False
        if isinstance(model, MultimodalLlama):
            for name in ("image_adapter", "video_adapter"):
                if (adapter := getattr(model, name, None)) is not None:
                    for position, layer in adapter.at_position.items():
                        if max(position - 1, 0) in stage:
                            prefixes.append(f"{name}.layers.{layer}.")
                            sees = True
        found |= any(name.startswith(tuple(prefixes)) for name in trains) or (senses and sees)
        needs.append(found)
    return needs, senses
