"""Grouped-query self-attention with rotary positions and a document mask (paper section 3.2)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from language.cache import KeyValueCache
from language.config import LlamaConfig
from language.rope import RotaryTables, rotate


@dataclass
class AttentionContext:
    """What all blocks of one forward pass share."""

    cos: Tensor
    """Cosine of the rotary angles, [batch or 1, 1, tokens, head_dim]."""
    sin: Tensor
    mask: Tensor | None
    """What may be attended to, [batch, 1, tokens, slots] bool; None means all before (or all)."""
    is_causal: bool
    """With ``mask`` None: whether token ``i`` sees keys 0 .. i only."""
    cache: KeyValueCache | None = None
    positions: Tensor | None = None
    """Slots to write in the cache, [batch, tokens]; None where rows are equally long."""


def attention_context(
    tables: RotaryTables,
    *,
    num_tokens: int,
    dtype: torch.dtype,
    device: torch.device,
    documents: Tensor | None = None,
    cache: KeyValueCache | None = None,
) -> AttentionContext:
    """Positions and mask of a pass over ``num_tokens`` tokens a row.

    ``documents`` [batch, tokens] numbers the documents packed in a row: each has its own
    positions from 0 and sees itself alone (paper section 3.2). A cache continues its rows.
    """
    if documents is not None:
        if cache is not None:
            raise ValueError("packed documents cannot be cached: give one document a row")
        positions = document_positions(documents)
        cos, sin = (
            table[positions].unsqueeze(1).to(dtype) for table in tables.up_to(num_tokens, device)
        )
        return AttentionContext(cos, sin, document_mask(documents), is_causal=False)
    end = num_tokens if cache is None else cache.reserve(num_tokens)
    tables_to_end = tables.up_to(end, device)
    if cache is None or cache.is_uniform():
        cos, sin = (table[None, None, end - num_tokens : end].to(dtype) for table in tables_to_end)
        mask = None
        if 1 < num_tokens < end:
            mask = torch.ones(num_tokens, end, dtype=torch.bool, device=device)
            mask = mask.tril(end - num_tokens)[None, None]
        return AttentionContext(cos, sin, mask, is_causal=end == num_tokens > 1, cache=cache)
    positions = cache.positions(num_tokens)
    cos, sin = (table[positions].unsqueeze(1).to(dtype) for table in tables_to_end)
    mask = positions[:, None, :, None] >= torch.arange(end, device=device)
    return AttentionContext(cos, sin, mask, is_causal=False, cache=cache, positions=positions)


def document_positions(documents: Tensor) -> Tensor:
    """Position of each token within its own document, [batch, tokens]."""
    index = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
    starts = torch.ones_like(documents, dtype=torch.bool)
    starts[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return index - torch.where(starts, index, 0).cummax(dim=1).values


def document_mask(documents: Tensor) -> Tensor:
    """Which earlier tokens belong to the same document, [batch, 1, tokens, tokens] bool."""
    same = documents[:, None, :, None] == documents[:, None, None, :]
    return same.tril()


def attend(
    query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None, is_causal: bool = False
) -> Tensor:
    """Scaled dot-product attention in which each key head serves a group of query heads.

    Args:
        query: [batch, heads, tokens, head_dim].
        key: [batch, kv_heads, slots, head_dim].
        value: the same.
        mask: [batch, 1, tokens, slots] bool, True where attention is allowed, or None.
        is_causal: without a mask, whether token ``i`` sees slots 0 .. i only.

    Returns:
        [batch, tokens, heads * head_dim].
    """
    out = nn.functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=is_causal,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return out.transpose(1, 2).flatten(2)  # [batch, tokens, heads * head_dim]


class SelfAttention(nn.Module):
    """Causal self-attention of one block."""

    def __init__(self, config: LlamaConfig, *, layer: int) -> None:
        """``layer`` is the block's index, by which it finds its place in the cache."""
        super().__init__()
        self.layer = layer
        self.head_dim = config.head_dim
        self.query = nn.Linear(config.dim, config.num_heads * config.head_dim, bias=False)
        self.key = nn.Linear(config.dim, config.num_kv_heads * config.head_dim, bias=False)
        self.value = nn.Linear(config.dim, config.num_kv_heads * config.head_dim, bias=False)
        self.output = nn.Linear(config.num_heads * config.head_dim, config.dim, bias=False)

    def forward(self, x: Tensor, context: AttentionContext) -> Tensor:
        """Mix ``x`` [batch, tokens, dim] along the tokens."""
        heads = (*x.shape[:2], -1, self.head_dim)
        query = self.query(x).view(heads).transpose(1, 2)  # [batch, heads, tokens, head_dim]
        key = self.key(x).view(heads).transpose(1, 2)  # [batch, kv_heads, tokens, head_dim]
        value = self.value(x).view(heads).transpose(1, 2)
        query = rotate(query, context.cos, context.sin)
        key = rotate(key, context.cos, context.sin)
        if context.cache is not None:
            key, value = context.cache.update(self.layer, key, value, context.positions)
        return self.output(
            attend(query, key, value, mask=context.mask, is_causal=context.is_causal)
        )
