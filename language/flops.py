"""Floating-point operations that training needs, counted from the config (paper section 3.3.2).

What is counted is what the model needs, not what a kernel does: attention over the pairs that the
mask allows, real tokens without padding, no recomputation. Of a frozen matrix the backward pass
needs the gradient of its input alone (2 operations a weight and token instead of 4), and nothing at
all where nothing below it trains.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from language.config import LlamaConfig


@dataclass(kw_only=True)
class Work:
    """What one batch asks for; 0-d tensors, so that nobody waits for them each step."""

    samples: Tensor
    tokens: Tensor
    """Real text tokens."""
    flops: Tensor
    """Operations of forward and backward together, float64."""


def causal_pairs(lengths: Tensor) -> Tensor:
    """Pairs of a token and what it attends to, in texts of these lengths."""
    return (lengths * (lengths + 1) // 2).sum()


def block_weights(config: LlamaConfig) -> int:
    """Weights in the matrices of one block."""
    attention = 2 * config.dim * config.head_dim * (config.num_heads + config.num_kv_heads)
    return attention + 3 * config.dim * config.ffn_dim


def core_flops(
    config: LlamaConfig,
    *,
    tokens: Tensor,
    pairs: Tensor,
    logits: Tensor,
    trained: bool,
    first_block: int = 0,
) -> Tensor:
    """Operations of the core in one training step.

    Args:
        config: sizes of the core.
        tokens: real tokens.
        pairs: pairs of tokens that attend to each other, in each layer.
        logits: positions whose logits are computed.
        trained: whether the core itself trains.
        first_block: lowest block whose input needs a gradient; blocks below run forward only.
            A core that trains needs all.
    """
    linear = 2 * block_weights(config) * tokens.double()
    attention = 4 * config.num_heads * config.head_dim * pairs.double()
    head = 2 * config.dim * config.vocab_size * logits.double()
    backward_blocks = config.num_layers if trained else config.num_layers - first_block
    weights = 2 if trained else 1  # gradients of input and weights, or of the input alone
    forward = config.num_layers * (linear + attention) + head
    return forward + backward_blocks * (weights * linear + 2 * attention) + weights * head


def document_lengths(documents: Tensor | None, lengths: Tensor) -> Tensor:
    """Lengths of all texts of a batch: rows, or the documents packed into them.

    Args:
        documents: number of the document that each token belongs to, [batch, tokens].
        lengths: real tokens of each row, [batch].
    """
    if documents is None:
        return lengths
    index = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
    starts = index.eq(0)
    starts[:, 1:] |= documents[:, 1:] != documents[:, :-1]
    starts &= index < lengths[:, None]
    ends = index.add(1).eq(lengths[:, None])
    ends[:, :-1] |= starts[:, 1:]
    ends &= index < lengths[:, None]
    return index[ends] - index[starts] + 1
