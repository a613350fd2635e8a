"""The encoder's transformer block, and the scopes that its attention works in (section 7.2).

One block serves all: projections, norms and feed-forward work token by token, so they never ask
which tokens belong together. A *scope* alone knows it, as whole groups of equally many tokens: no
mask is needed, and every attention may take the fast kernel.

Letters: A x L sequences and tokens as computed, H heads, P tokens of a tile, N tiles.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from language.attention import attend


def quick_gelu(x: Tensor) -> Tensor:
    """The sigmoid approximation of GELU that OpenAI's CLIP was trained with."""
    return x * torch.sigmoid(1.702 * x)


Activation = Literal["gelu", "gelu_tanh", "quick_gelu"]

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "quick_gelu": quick_gelu,
}

Scope = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Attention of query, key and value `[A, L, H, head_dim]`; gives `[A, L, H * head_dim]`."""


def packed_scope(groups: list[tuple[int, int]]) -> Scope:
    """Attention over all tiles of each picture; pictures of equally many tiles stand together.

    Args:
        groups: number of pictures and tiles of each; `[(N, 1)]` attends within tiles.
    """

    def scope(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        sizes = [pictures * tiles for pictures, tiles in groups]
        mixed = []
        for (pictures, _), *states in zip(
            groups, *(state.split(sizes) for state in (query, key, value)), strict=True
        ):
            # [tiles of the group, P, H, head_dim] -> [pictures, H, tiles * P, head_dim]
            whole = (
                state.reshape(pictures, -1, *state.shape[2:]).transpose(1, 2) for state in states
            )
            mixed.append(attend(*whole, mask=None).reshape(*states[0].shape[:2], -1))
        return torch.cat(mixed) if len(mixed) > 1 else mixed[0]

    return scope


def released_scope(groups: list[tuple[int, int]]) -> Scope:
    """Attention of the release: real tokens see all, padding sees real tokens alone.

    Args:
        groups: number of pictures and real tokens of each, which come first in its sequence.
    """

    def scope(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        sizes = [pictures for pictures, _ in groups]
        mixed = []
        for (_, real), *states in zip(
            groups, *(state.split(sizes) for state in (query, key, value)), strict=True
        ):
            q, k, v = (state.transpose(1, 2) for state in states)  # [pictures, H, L, head_dim]
            seen = attend(q[:, :, :real], k, v, mask=None)
            hidden = attend(q[:, :, real:], k[:, :, :real], v[:, :, :real], mask=None)
            mixed.append(torch.cat([seen, hidden], dim=1))
        return torch.cat(mixed)

    return scope


class Attention(nn.Module):
    """Multi-head self-attention within a scope that the caller gives."""

    def __init__(self, dim: int, *, num_heads: int, bias: bool) -> None:
        super().__init__()
        self.head_dim = dim // num_heads
        self.query = nn.Linear(dim, dim, bias=bias)
        self.key = nn.Linear(dim, dim, bias=bias)
        self.value = nn.Linear(dim, dim, bias=bias)
        self.output = nn.Linear(dim, dim, bias=bias)

    def forward(self, x: Tensor, scope: Scope) -> Tensor:
        """Mix `x` `[A, L, D]` among the tokens of a scope."""
        query, key, value = (
            project(x).unflatten(-1, (-1, self.head_dim))  # [A, L, H, head_dim]
            for project in (self.query, self.key, self.value)
        )
        return self.output(scope(query, key, value))


class MLP(nn.Module):
    """Two layers with biases and an activation between."""

    def __init__(self, dim: int, *, ffn_dim: int, activation: Activation) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.up = nn.Linear(dim, ffn_dim)
        self.down = nn.Linear(ffn_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map `x` `[..., D]` to `[..., D]`."""
        return self.down(self.activation(self.up(x)))


class Block(nn.Module):
    """Pre-norm transformer block; a gated one is the identity until its gates open."""

    def __init__(
        self,
        dim: int,
        *,
        num_heads: int,
        ffn_dim: int,
        activation: Activation,
        attention_bias: bool,
        norm_eps: float,
        gated: bool,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim, eps=norm_eps)
        self.attention = Attention(dim, num_heads=num_heads, bias=attention_bias)
        self.feed_forward_norm = nn.LayerNorm(dim, eps=norm_eps)
        self.feed_forward = MLP(dim, ffn_dim=ffn_dim, activation=activation)
        self.gated = gated
        if gated:
            self.attention_gate = nn.Parameter(torch.zeros(1))
            self.feed_forward_gate = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, scope: Scope) -> Tensor:
        """`x` `[A, L, D]` to the same shape, attending within `scope`."""
        mixed = self.attention(self.attention_norm(x), scope)
        x = x + (self.attention_gate.tanh() * mixed if self.gated else mixed)
        fed = self.feed_forward(self.feed_forward_norm(x))
        return x + (self.feed_forward_gate.tanh() * fed if self.gated else fed)
