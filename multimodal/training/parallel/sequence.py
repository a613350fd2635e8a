"""Sequence parallelism: between matrices tensor ranks have some tokens each (arXiv 2205.05198).

What tensor parallelism leaves whole on all ranks, norms, gates and the residual stream, is split by
tokens instead: the sum behind a pair of matrices gives each rank its tokens alone, and the norm
before the next pair gathers them. As much is sent as before, and a rank keeps 1 / size of the
activations that lie between.
"""

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from multimodal.training.parallel.mesh import Ranks

NORMS = (
    "language.blocks.*.attention_norm",
    "language.blocks.*.feed_forward_norm",
    "*_adapter.layers.*.attention_norm",
    "*_adapter.layers.*.feed_forward_norm",
)
"""Norms that act on each rank's tokens, and whose outputs matrices read."""
SPLIT = (*(f"{norm}.*" for norm in NORMS), "*_adapter.layers.*_gate")
"""Weights that act on each rank's tokens alone: their gradients are summed."""


class TokenSplit:
    """The tokens of a pass over the core's blocks, in equal parts; the last ones may be filled up.

    One stands in a core as its ``split``; the walk enters and leaves it.
    """

    def __init__(self, ranks: Ranks) -> None:
        """Split over a tensor group."""
        self.ranks = ranks
        self._num_tokens = 0

    def enter(self, hidden: Tensor) -> Tensor:
        """Of ``hidden`` [batch, tokens, dim], the same on all ranks, this one's tokens."""
        self._num_tokens = hidden.shape[1]
        return _Changed.apply(hidden, self.own, self._whole(hidden.shape[1]))

    def leave(self, hidden: Tensor) -> Tensor:
        """All tokens [batch, tokens, dim] of the ranks' own, the same on all of them."""
        return _Changed.apply(hidden, self._whole(self._num_tokens), self.own)

    def gathered(self, hidden: Tensor) -> Tensor:
        """All tokens, for matrices that are cut: each rank has a part of their gradient."""
        return _Changed.apply(hidden, self._whole(self._num_tokens), self._summed)

    def summed(self, hidden: Tensor) -> Tensor:
        """This rank's tokens of the sum of what cut matrices give, [batch, tokens, dim] each."""
        return _Changed.apply(hidden, self._summed, self._whole(hidden.shape[1]))

    def own(self, whole: Tensor) -> Tensor:
        """This rank's tokens of ``whole`` [batch, tokens, ...]."""
        return self._parts(whole)[self.ranks.rank]

    def _parts(self, whole: Tensor) -> Tensor:
        """[ranks, batch, tokens of a rank, ...]."""
        filled = F.pad(whole, (0, 0, 0, -whole.shape[1] % self.ranks.size))
        return filled.unflatten(1, (self.ranks.size, -1)).movedim(1, 0).contiguous()

    def _whole(self, num_tokens: int) -> Callable[[Tensor], Tensor]:
        def gather(own: Tensor) -> Tensor:
            size, rows = self.ranks.size, len(own)
            parts = own.new_empty(size * rows, *own.shape[1:])
            dist.all_gather_into_tensor(parts, own.contiguous(), group=self.ranks.group)
            parts = parts.unflatten(0, (size, rows))
            return parts.movedim(0, 1).flatten(1, 2)[:, :num_tokens].contiguous()

        return gather

    def _summed(self, whole: Tensor) -> Tensor:
        parts = self._parts(whole)
        own = torch.empty_like(parts[0])
        dist.reduce_scatter_tensor(own, parts.flatten(0, 1), group=self.ranks.group)
        return own


def split_tokens(model: nn.Module, ranks: Ranks, *, prefix: str) -> TokenSplit:
    """Let the norms of a model gather the tokens that matrices read.

    Args:
        model: `MultimodalLlama`, or a core.
        ranks: of the tensor group.
        prefix: "language." for a core, whose names lack it.
    """
    split = TokenSplit(ranks)
    for name, module in model.named_modules():
        if any(fnmatchcase(prefix + name, pattern) for pattern in NORMS):
            module.register_forward_hook(lambda _, __, out: split.gathered(out))
    return split


class _Changed(torch.autograd.Function):
    """A message forward, and its counterpart backward."""

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        ctx,
        x: Tensor,
        change: Callable[[Tensor], Tensor],
        back: Callable[[Tensor], Tensor],
    ) -> Tensor:
        ctx.back = back
        return change(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Any, ...]:  # type: ignore[no-untyped-def]
        return ctx.back(grad), None, None
