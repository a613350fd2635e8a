"""How likely a core holds continuations: what harnesses ask of a language model."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from language.model import Llama

Pair = tuple[Sequence[int], Sequence[int]]
"""Ids of a context, at least one, and of what follows it, at least one."""


@torch.no_grad()
def continuation_likelihoods(
    core: Llama, pairs: Sequence[Pair], *, batch_size: int, max_length: int
) -> list[tuple[float, bool]]:
    """Log-probability of each continuation after its context, and whether it is the likeliest.

    Pairs are read some at a time, the longest first; where one is too long its context is cut on
    the left. Logits are computed for the continuation's places alone.

    Args:
        core: in eval mode.
        pairs: contexts and continuations.
        batch_size: that are read together.
        max_length: most tokens that are read of one.

    Returns:
        In the order of the pairs: the sum over the continuation's tokens, and whether each of them
        is the one that greedy decoding would take.

    Raises:
        ValueError: a context or a continuation is empty, or one continuation is too long alone.
    """
    for context, continuation in pairs:
        if not context or not continuation:
            raise ValueError("a context and what follows it need a token each")
        if len(continuation) > max_length:
            raise ValueError(f"{len(continuation)} tokens do not fit into {max_length}")
    found: list[tuple[float, bool]] = [(0.0, False)] * len(pairs)
    order = sorted(range(len(pairs)), key=lambda i: -len(pairs[i][0]) - len(pairs[i][1]))
    for start in range(0, len(order), batch_size):
        some = order[start : start + batch_size]
        for index, result in zip(
            some, _read(core, [pairs[i] for i in some], max_length), strict=True
        ):
            found[index] = result
    return found


def _read(core: Llama, pairs: Sequence[Pair], max_length: int) -> list[tuple[float, bool]]:
    device = core.embedding.weight.device
    # The last token is predicted, and not read.
    rows = [torch.tensor([*context, *after][:-1][-max_length:]) for context, after in pairs]
    hidden = core.hidden_states(pad_sequence(rows, batch_first=True).to(device))
    results = []
    for row, read, (_, after) in zip(hidden, rows, pairs, strict=True):
        logits = core.logits(row[len(read) - len(after) : len(read)])  # [after, vocabulary]
        results.append(_scored(logits, torch.tensor(list(after), device=device)))
    return results


def _scored(logits: Tensor, wanted: Tensor) -> tuple[float, bool]:
    shares = logits.float().log_softmax(dim=-1).gather(-1, wanted[:, None])
    return float(shares.sum()), bool((logits.argmax(dim=-1) == wanted).all())
