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
        # Outside the state dict, and real also where the module is built on the meta device.
        self._eps = torch.tensor(eps, dtype=torch.float32, device="cpu")

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` [..., dim]; the type is kept."""
        if x.dtype == torch.float32 and x.device.type == "cpu":
            # PyTorch composes its own from more steps there: a fifth of the time of a small
            # core's decoding (benchmarks/README.md).
            norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
            scale = torch.addcmul(self._eps, norm, norm, value=1 / x.shape[-1]).rsqrt()
            return x * scale * self.weight
        return nn.functional.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)
