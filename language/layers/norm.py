"""Root-mean-square normalisation (arXiv 1910.07467), computed in float32."""

import torch
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """``x / rms(x) * weight`` over the last dimension."""

    def __init__(self, dim: int, *, eps: float) -> None:
        """Weights of ``dim`` start at 1; ``eps`` is added to the mean square."""
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` [..., dim]; the type is kept."""
        return nn.functional.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)
