"""A process reads of a drafted model what it keeps, and nothing else."""

from dataclasses import replace

import pytest
import torch

from language.config import LlamaConfig
from language.draft import Draft, fresh
from language.errors import InputError
from language.model import Llama
from multimodal.training.parallel.filling import fill_part
from multimodal.training.parallel.layout import keep_stages
from multimodal.training.parallel.mesh import Mesh, Ranks
from multimodal.training.parallel.tensor import cut_matrices

CONFIG = LlamaConfig(
    vocab_size=64, dim=16, num_layers=4, num_heads=4, num_kv_heads=2, ffn_dim=24, max_positions=32
)
STAGES = [range(0, 2), range(2, 4)]


def draft(config: LlamaConfig, *, read: list[str]) -> Draft[Llama]:
    """A core whose sources note what is read of them."""
    with torch.device("meta"):
        model = Llama(config)

    def noting(stored):
        def noted(tensor):
            read.append(stored.name)
            return tensor

        return stored.changed(noted, shape=stored.shape)

    return Draft(model=model, sources={n: noting(s) for n, s in fresh(model).items()})


def place(**ranks: tuple[int, int]) -> Mesh:
    """A mesh without processes: (size, rank) by name, alone elsewhere."""
    names = ("pipeline", "data", "tensor", "plane", "shard", "replica")
    groups = {name: ranks.get(name, (1, 0)) for name in names}
    return Mesh(**{n: Ranks(group=None, size=size, rank=r) for n, (size, r) in groups.items()})


@pytest.mark.parametrize("tied", [False, True])
def test_each_stage_and_each_tensor_rank_reads_its_own(tied):
    config = replace(CONFIG, tied_embeddings=tied)
    torch.manual_seed(5)
    whole = dict(draft(config, read=[]).fill().named_parameters(remove_duplicate=False))
    seen: set[str] = set()
    for stage in range(2):
        parts = []
        for rank in range(2):
            read: list[str] = []
            made, mesh = draft(config, read=read), place(pipeline=(2, stage), tensor=(2, rank))
            for parameter in made.model.parameters():
                parameter.requires_grad_(False)  # or a tied table would stay in all stages
            keep_stages(made.model, STAGES, [stage])
            cut = cut_matrices(made.model, mesh.tensor, prefix="language.")
            fill_part(made, mesh, cut=cut, device=torch.device("cpu"))
            own = dict(made.model.named_parameters())
            stored = {"embedding.weight" if tied and n == "head.weight" else n for n in own}
            assert sorted(read) == sorted(stored)
            blocks = {f"blocks.{block}" for block in STAGES[1 - stage]}
            assert not any(name.startswith(tuple(blocks)) for name in read)
            parts.append(own)
        for name, first in parts[0].items():
            both = torch.cat([part[name] for part in parts], cut[name]) if name in cut else first
            assert torch.equal(both, whole[name])
        seen |= set(parts[0])
    assert seen == set(whole)


def test_fresh_weights_depend_on_name_and_seed_alone():
    torch.manual_seed(5)
    first = draft(CONFIG, read=[])
    torch.randn(7)  # whatever was drawn before
    second = draft(CONFIG, read=[])
    names = list(first.sources)
    backwards = {name: second.sources[name].read() for name in reversed(names)}
    assert all(torch.equal(first.sources[name].read(), backwards[name]) for name in names)
    query, key = (f"blocks.{block}.attention.query.weight" for block in (0, 1))
    assert not torch.equal(backwards[query], backwards[key])
    torch.manual_seed(6)
    assert not torch.equal(draft(CONFIG, read=[]).sources[query].read(), backwards[query])


def test_other_sizes_are_refused_before_anything_is_read():
    read: list[str] = []
    made = draft(CONFIG, read=read)
    with torch.device("meta"):
        wider = Llama(replace(CONFIG, ffn_dim=32))
    with pytest.raises(InputError, match="the config wants"):
        fill_part(replace(made, model=wider), place(), cut={}, device=torch.device("cpu"))
    assert not read
