"""Tensor parallelism: matrices cut over processes, whole everywhere else (arXiv 1909.08053).

A pair of matrices is cut so that nothing is exchanged between them: the first by its outputs
(*columns*), the second by its inputs (*rows*). Heads of attention and hidden units of feed-forward
layers so belong to one process each; norms, gates and embeddings are whole on all of them. The
head of the vocabulary is cut by its outputs, and its logits are put together.
"""

from fnmatch import fnmatchcase

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from language.errors import InputError
from multimodal.training.parallel.mesh import Ranks
from multimodal.training.parallel.sequence import TokenSplit

_ATTENTION = ("query", "key", "value")
_FEED_FORWARD = ("gate", "up")
COLUMNS = (
    *(f"language.blocks.*.attention.{name}" for name in _ATTENTION),
    *(f"language.blocks.*.feed_forward.{name}" for name in _FEED_FORWARD),
    *(f"*_adapter.layers.*.attention.{name}" for name in _ATTENTION),
    *(f"*_adapter.layers.*.feed_forward.{name}" for name in _FEED_FORWARD),
)
"""Matrices that are cut by their outputs, by their names in a `MultimodalLlama`."""
ROWS = (
    "language.blocks.*.attention.output",
    "language.blocks.*.feed_forward.down",
    "*_adapter.layers.*.attention.output",
    "*_adapter.layers.*.feed_forward.down",
)
"""Matrices that are cut by their inputs."""
MEMORIES = ("*_adapter.layers.*.attention.key", "*_adapter.layers.*.attention.value")
"""Those of ``COLUMNS`` that read what was sensed, and no text."""
HEAD = "language.head"
PARTIAL = ("*_adapter.layers.*.attention.query_norm.*", "*_adapter.layers.*.attention.key_norm.*")
"""Whole weights that are used on each process's own heads alone: their gradients are summed."""


class ColumnLinear(nn.Linear):
    """Has some of the outputs; its input's gradient is summed over the group."""

    def __init__(self, whole: nn.Linear, ranks: Ranks, *, gathers: bool = False) -> None:
        nn.Module.__init__(self)
        self.ranks, self.gathers = ranks, gathers  # what gathered its input sums the gradient
        self.in_features, self.out_features = whole.in_features, whole.out_features // ranks.size
        self.weight = _cut(whole.weight, ranks, dim=0)
        self.bias = None if whole.bias is None else _cut(whole.bias, ranks, dim=0)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` [..., in] to this process's share [..., out / size]."""
        x = x if self.gathers else _Shared.apply(x, self.ranks)
        return F.linear(x, self.weight, self.bias)


class RowLinear(nn.Linear):
    """Takes some of the inputs; its output is summed over the group, all of it or some tokens."""

    def __init__(self, whole: nn.Linear, ranks: Ranks, *, split: TokenSplit | None = None) -> None:
        nn.Module.__init__(self)
        self.ranks, self.split = ranks, split
        self.in_features, self.out_features = whole.in_features // ranks.size, whole.out_features
        self.weight = _cut(whole.weight, ranks, dim=1)
        self.bias = whole.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map this process's share ``x`` [..., in / size] to the whole [..., out]."""
        out = F.linear(x, self.weight)
        out = _Summed.apply(out, self.ranks) if self.split is None else self.split.summed(out)
        return out if self.bias is None else out + self.bias


class GatheredLinear(ColumnLinear):
    """Has some of the outputs, and gives all of them."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` [..., in] to [..., out]."""
        return _Gathered.apply(super().forward(x), self.ranks)


def check_tensor(*, size: int, heads: dict[str, int], widths: dict[str, int]) -> None:
    """Refuse more ranks than there are heads, or widths that do not divide.

    Args:
        size: tensor ranks.
        heads: key and value heads by the part that has them.
        widths: hidden units of feed-forward layers by part.

    Raises:
        InputError: what does not divide.
    """
    for what, counts in (("key and value heads", heads), ("hidden units", widths)):
        for part, count in counts.items():
            if count % size:
                raise InputError(
                    "trainer.strategy.tensor",
                    f"{size} tensor ranks do not divide the {count} {what} of {part}",
                )


def cut_matrices(
    model: nn.Module, ranks: Ranks, *, prefix: str = "", split: TokenSplit | None = None
) -> dict[str, int]:
    """Replace the matrices of ``COLUMNS`` and ``ROWS`` by this process's shares.

    Args:
        model: `MultimodalLlama`, or a core.
        ranks: of the tensor group.
        prefix: "language." for a core, whose names lack it.
        split: of tokens between the matrices, if there is one.

    Returns:
        By the names of the parameters that were cut, the dimension along which they are.
    """
    cut: dict[str, int] = {}
    if ranks.size == 1:
        return cut
    for name, module in list(model.named_modules()):
        if not isinstance(module, nn.Linear):
            continue
        shared: nn.Linear | None = None
        if _matches(prefix + name, COLUMNS):
            remembers = _matches(prefix + name, MEMORIES)
            shared = ColumnLinear(module, ranks, gathers=split is not None and not remembers)
        elif _matches(prefix + name, ROWS):
            shared = RowLinear(module, ranks, split=split)
        elif prefix + name == HEAD and not _is_tied(model, module, ranks):
            shared = GatheredLinear(module, ranks)
        if shared is None:
            continue
        model.set_submodule(name, shared)
        is_row = isinstance(shared, RowLinear)
        cut[f"{name}.weight"] = 1 if is_row else 0
        if shared.bias is not None and not is_row:
            cut[f"{name}.bias"] = 0
    return cut


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _is_tied(model: nn.Module, head: nn.Linear, ranks: Ranks) -> bool:
    """Whether the head must stay whole: it shares its weight, or does not divide."""
    others = (m for m in model.modules() if isinstance(m, nn.Embedding))
    return head.out_features % ranks.size != 0 or any(m.weight is head.weight for m in others)


def _cut(whole: Tensor, ranks: Ranks, *, dim: int) -> nn.Parameter:
    part = whole.detach().chunk(ranks.size, dim=dim)[ranks.rank].clone()
    return nn.Parameter(part, requires_grad=whole.requires_grad)


class _Shared(torch.autograd.Function):
    """The same on all processes; the gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx, x: Tensor, ranks: Ranks) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.ranks = ranks
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
        grad = grad.clone(memory_format=torch.contiguous_format)
        ctx.ranks.sum(grad)
        return grad, None


class _Summed(torch.autograd.Function):
    """The sum over all processes; each has the gradient of it."""

    @staticmethod
    def forward(ctx, x: Tensor, ranks: Ranks) -> Tensor:  # type: ignore[no-untyped-def]
        x = x.clone(memory_format=torch.contiguous_format)
        ranks.sum(x)
        return x

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
        return grad, None


class _Gathered(torch.autograd.Function):
    """All shares side by side in the last dimension; each has its own part of the gradient."""

    @staticmethod
    def forward(ctx, x: Tensor, ranks: Ranks) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.ranks = ranks
        shares = [torch.empty_like(x) for _ in range(ranks.size)]
        dist.all_gather(shares, x.contiguous(), group=ranks.group)
        return torch.cat(shares, dim=-1)

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
        return grad.chunk(ctx.ranks.size, dim=-1)[ctx.ranks.rank].contiguous(), None
