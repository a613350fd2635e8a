"""Gated feed-forward, SwiGLU (arXiv 2002.05202; paper section 3.2)."""

from torch import Tensor, nn


class FeedForward(nn.Module):
    """``down(silu(gate(x)) * up(x))``."""

    def __init__(self, dim: int, ffn_dim: int) -> None:
        """Three matrices between ``dim`` and ``ffn_dim``, without biases."""
        super().__init__()
        self.gate = nn.Linear(dim, ffn_dim, bias=False)
        self.up = nn.Linear(dim, ffn_dim, bias=False)
        self.down = nn.Linear(ffn_dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` [..., dim] to [..., dim]."""
        return self.down(nn.functional.silu(self.gate(x)) * self.up(x))
