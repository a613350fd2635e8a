"""Cross-entropy of several softmaxes over one hidden state, whose logits never exist at once.

A recording of 60 s has about 833 masked frames; sixteen heads of 8,192 codes give 437 MB of float32
logits, which the plain formula holds several times over. Here a head and a few hundred frames are
done at a time, gradients included: the logits of a part are turned into their gradient in place
and used up before the next part begins, so that nothing is computed twice.

Letters: N frames, D width, B heads, V classes of a head.
"""

from typing import Any

import torch
from torch import Tensor


def multi_softmax_loss(
    hidden: Tensor, heads: Tensor, targets: Tensor, *, chunk_frames: int
) -> tuple[Tensor, Tensor]:
    """Cross-entropy summed over frames and heads, and what each head would have said.

    Matrix products are computed in the type of autocast, where that is on; everything else, and the
    sums of gradients, in float32 or better. The gradient can be asked for once.

    Args:
        hidden: [N, D].
        heads: [B, D, V].
        targets: [N, B] int64.
        chunk_frames: frames whose logits of one head are held at a time.

    Returns:
        The loss, and the likeliest classes, [N, B] int64.
    """
    device = hidden.device.type
    autocast = torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if autocast else hidden.dtype
    with torch.autocast(device, enabled=False):
        return _MultiSoftmax.apply(
            hidden, heads, targets, dtype, chunk_frames, torch.is_grad_enabled()
        )


class _MultiSoftmax(torch.autograd.Function):
    """Computes the gradient beside the loss, while a part's logits are there."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        heads: Tensor,
        targets: Tensor,
        dtype: torch.dtype,
        chunk_frames: int,
        differentiate: bool,
    ) -> tuple[Tensor, Tensor]:
        exact = torch.promote_types(dtype, torch.float32)
        loss = torch.zeros((), dtype=exact, device=hidden.device)
        predictions = torch.empty_like(targets)
        if differentiate:
            hidden_gradient = torch.zeros_like(hidden, dtype=exact)
            heads_gradient = torch.zeros_like(heads, dtype=exact)
        inputs = hidden.to(dtype).split(chunk_frames)
        for book, head in enumerate(heads):
            head = head.to(dtype)
            for index, frames in enumerate(inputs):
                rows = slice(index * chunk_frames, index * chunk_frames + len(frames))
                wanted = targets[rows, book, None]
                logits = (frames @ head).to(exact)  # [chunk, V]
                highest, predictions[rows, book] = logits.max(dim=1)
                right = logits.gather(1, wanted)[:, 0] - highest
                odds = logits.sub_(highest[:, None]).exp_()
                total = odds.sum(dim=1)
                loss += (total.log() - right).sum()
                if differentiate:
                    gradient = odds.div_(total[:, None])
                    gradient.scatter_add_(1, wanted, gradient.new_full((len(frames), 1), -1.0))
                    gradient = gradient.to(dtype)
                    _add_product(hidden_gradient[rows], gradient, head.T)
                    _add_product(heads_gradient[book], frames.T, gradient)
                    del gradient
                del logits, odds  # before the next part takes its own
        if differentiate:
            ctx.gradients = (hidden_gradient.to(hidden.dtype), heads_gradient.to(heads.dtype))
        ctx.mark_non_differentiable(predictions)
        return loss, predictions

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("the gradient of multi_softmax_loss can be asked for only once")
        of_hidden, of_heads = ctx.gradients
        ctx.gradients = None  # scaled in place: the heads' may be as large as the heads
        scale = gradients[0]
        return of_hidden.mul_(scale), of_heads.mul_(scale), None, None, None, None


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add ``left @ right`` to ``total``, in the type of ``total``."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right
