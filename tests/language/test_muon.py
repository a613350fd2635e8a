"""Muon against the singular value decomposition that it approximates, and AdamW beside it."""

import copy

import torch
from torch import nn

from language.muon import MuonWithAdamW, orthogonal
from language.optimization import AdamWConfig, adamw


def test_orthogonal_keeps_singular_vectors_and_evens_singular_values():
    torch.manual_seed(0)
    matrices = torch.randn(3, 16, 40)
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    seen = torch.einsum("nki,nkj,nlj->nil", u, orthogonal(matrices), vh)  # in the singular bases
    values = seen.diagonal(dim1=1, dim2=2)
    assert (values > 0.6).all() and (values < 1.3).all()
    assert (seen - torch.diag_embed(values)).abs().max() < 1e-3


def model() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def train(net: nn.Module, config: AdamWConfig, steps: int = 30) -> list[float]:
    optimizer = adamw(net.named_parameters(), config)
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(32, 6, generator=generator)
    y = x[:, :3].sin()
    losses = []
    for _ in range(steps):
        loss = (net(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_what_muon_does_not_step_moves_as_under_adamw():
    config = AdamWConfig(learning_rate=1e-2)
    plain, mixed = model(), model()
    train(plain, config, steps=1)
    train(mixed, AdamWConfig(learning_rate=1e-2, orthogonal=("0.*",)), steps=1)
    for name, parameter in mixed.named_parameters():
        same = torch.equal(parameter, dict(plain.named_parameters())[name])
        assert same == (name != "0.weight")


def test_an_update_is_as_large_as_its_rate_says():
    net = model()
    before = net[0].weight.detach().clone()
    train(net, AdamWConfig(learning_rate=1e-2, weight_decay=0.0, orthogonal=("0.*",)), steps=1)
    change = (net[0].weight - before).detach()
    spread = torch.linalg.svdvals(change) / (1e-2 * 0.2 * 8**0.5)
    assert (spread > 0.6).all() and (spread < 1.3).all()


def test_it_learns_and_resumes_exactly():
    losses = train(model(), AdamWConfig(learning_rate=2e-2, orthogonal=("*.weight",)))
    assert losses[-1] < 0.5 * losses[0]
    net = model()
    optimizer = adamw(
        net.named_parameters(), AdamWConfig(learning_rate=2e-2, orthogonal=("*.weight",))
    )
    assert isinstance(optimizer, MuonWithAdamW)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    other = model()
    other.load_state_dict(net.state_dict())
    resumed = adamw(
        other.named_parameters(), AdamWConfig(learning_rate=2e-2, orthogonal=("*.weight",))
    )
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for one, opt in ((net, optimizer), (other, resumed)):
        for parameter in one.parameters():
            parameter.grad = torch.full_like(parameter, 0.5)
        opt.step()
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
