"""Transformer parts of speech encoders and adapters, over rows that a context keeps apart."""

from typing import Protocol

from torch import Tensor, nn


class Context(Protocol):
    """What a pass, or a stream, gives its layers: sight beyond their own row."""

    def attend(self, qkv: Tensor) -> Tensor:
        """Queries, keys and values [rows, 3, heads, head_dim] to [rows, heads * head_dim]."""

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """``x`` [rows, dim] convolved along time by ``weight`` [dim, 1, kernel]."""


class SelfAttention(nn.Module):
    """Bidirectional multi-head attention; queries, keys and values are one product."""

    def __init__(self, dim: int, *, num_heads: int, bias: bool) -> None:
        """``dim`` is shared out among ``num_heads``."""
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=bias)
        self.output = nn.Linear(dim, dim, bias=bias)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """Mix ``x`` [rows, dim] along time."""
        qkv = self.qkv(x).view(len(x), 3, self.num_heads, -1)
        return self.output(context.attend(qkv))


class PlainFeedForward(nn.Module):
    """``down(silu(up(x)))``: two matrices, no gate."""

    def __init__(self, dim: int, ffn_dim: int, *, bias: bool, dropout: float = 0.0) -> None:
        """Dropout falls on the hidden units."""
        super().__init__()
        self.up = nn.Linear(dim, ffn_dim, bias=bias)
        self.dropout = nn.Dropout(dropout)
        self.down = nn.Linear(ffn_dim, dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` [..., dim] to [..., dim]."""
        return self.down(self.dropout(nn.functional.silu(self.up(x))))
