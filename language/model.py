"""The Llama 3 decoder (paper section 3.2): the core that every modality is added to.

The forward pass is a walk over ``blocks``. Compositions that add adapter layers walk the same
blocks themselves, from the same pieces (``context``, ``run_block``, ``logits``): a block never
learns that adapters exist.
"""

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from language.attention import AttentionContext, SelfAttention, attention_context
from language.cache import KeyValueCache
from language.config import LlamaConfig
from language.layers.feed_forward import FeedForward
from language.layers.norm import RMSNorm
from language.rope import RotaryTables


class Block(nn.Module):
    """Self-attention and feed-forward, each behind a norm and added to the residual."""

    def __init__(self, config: LlamaConfig, *, layer: int) -> None:
        """The block at index ``layer`` of the stack."""
        super().__init__()
        self.attention_norm = RMSNorm(config.dim, eps=config.norm_eps)
        self.attention = SelfAttention(config, layer=layer)
        self.feed_forward_norm = RMSNorm(config.dim, eps=config.norm_eps)
        self.feed_forward = FeedForward(config.dim, config.ffn_dim)

    def forward(self, x: Tensor, context: AttentionContext) -> Tensor:
        """Map ``x`` [batch, tokens, dim] to the same shape."""
        x = x + self.attention(self.attention_norm(x), context)
        return x + self.feed_forward(self.feed_forward_norm(x))


class Split(Protocol):
    """Of the tokens between two norms and matrices, over processes that share the matrices."""

    def enter(self, hidden: Tensor) -> Tensor:
        """This process's tokens of ``hidden`` [batch, tokens, dim]."""

    def leave(self, hidden: Tensor) -> Tensor:
        """All tokens again."""

    def own(self, whole: Tensor) -> Tensor:
        """This process's tokens of ``whole`` [batch, tokens, ...]."""


class Llama(nn.Module):
    """Tokens in, next-token logits out."""

    split: Split | None = None
    """How a walk's tokens are split over processes; None where each has all."""

    def __init__(self, config: LlamaConfig) -> None:
        """Build under ``torch.device("meta")`` where weights are read from a file anyway."""
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.dim)
        self.blocks = nn.ModuleList(Block(config, layer=i) for i in range(config.num_layers))
        self.norm = RMSNorm(config.dim, eps=config.norm_eps)
        self.head = nn.Linear(config.dim, config.vocab_size, bias=False)
        if config.tied_embeddings:
            self.head.weight = self.embedding.weight
        self._tables = RotaryTables(config)

    def reset_parameters(self) -> None:
        """Draw fresh weights: normal, by fan-in, the residual's writers smaller with depth."""
        for name, parameter in self.named_parameters():
            self.draw(name, parameter)

    def draw(self, name: str, tensor: Tensor, *, generator: torch.Generator | None = None) -> None:
        """Draw fresh values for the parameter ``name``, in place."""
        if tensor.dim() == 1:
            nn.init.ones_(tensor)
        elif name == "embedding.weight":
            nn.init.normal_(tensor, std=0.02, generator=generator)
        else:
            writes = name.endswith(("output.weight", "down.weight"))
            depth = (2 * self.config.num_layers) ** -0.5 if writes else 1.0
            nn.init.normal_(tensor, std=depth * tensor.shape[1] ** -0.5, generator=generator)

    def forward(
        self,
        tokens: Tensor,
        *,
        documents: Tensor | None = None,
        cache: KeyValueCache | None = None,
        num_new: list[int] | None = None,
    ) -> Tensor:
        """Logits of the token after each position.

        Args:
            tokens: [batch, tokens] int64, rows padded on the right.
            documents: [batch, tokens], the number of the document each token belongs to, where
                several are packed into a row.
            cache: continued and filled, if given.
            num_new: real tokens of each row, for the cache; all by default.

        Returns:
            [batch, tokens, vocabulary].
        """
        return self.logits(
            self.hidden_states(tokens, documents=documents, cache=cache, num_new=num_new)
        )

    def hidden_states(
        self,
        tokens: Tensor,
        *,
        documents: Tensor | None = None,
        cache: KeyValueCache | None = None,
        num_new: list[int] | None = None,
    ) -> Tensor:
        """The walk over all blocks, [batch, tokens, dim]; arguments as in :meth:`forward`."""
        hidden = self.walk(self.embedding(tokens), documents=documents, cache=cache)
        if cache is not None:
            cache.advance([tokens.shape[1]] * len(tokens) if num_new is None else num_new)
        return hidden

    def walk(
        self,
        hidden: Tensor,
        *,
        documents: Tensor | None = None,
        cache: KeyValueCache | None = None,
        blocks: range | None = None,
    ) -> Tensor:
        """``hidden`` [batch, tokens, dim] after ``blocks``, by default all.

        A cache is filled, but not advanced.
        """
        context = self.context(hidden, documents=documents, cache=cache)
        hidden = hidden if self.split is None else self.split.enter(hidden)
        for index in range(len(self.blocks)) if blocks is None else blocks:
            hidden = self.run_block(index, hidden, context)
        return hidden if self.split is None else self.split.leave(hidden)

    def context(
        self,
        hidden: Tensor,
        *,
        documents: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> AttentionContext:
        """Rotary tables and mask for a pass over ``hidden`` [batch, tokens, dim]."""
        return attention_context(
            self._tables,
            num_tokens=hidden.shape[1],
            dtype=hidden.dtype,
            device=hidden.device,
            documents=documents,
            cache=cache,
        )

    def run_block(self, index: int, hidden: Tensor, context: AttentionContext) -> Tensor:
        """Block ``index`` on ``hidden`` [batch, tokens, dim], checkpointed if the config says."""
        block = self.blocks[index]
        if self.config.activation_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, hidden, context, use_reentrant=False)
        return block(hidden, context)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [..., vocabulary] of ``hidden`` [..., dim] after the last block."""
        return self.head(self.norm(hidden))

    def new_cache(self, batch_size: int, *, max_length: int) -> KeyValueCache:
        """An empty cache for ``batch_size`` rows of at most ``max_length`` tokens."""
        weight = self.embedding.weight
        return KeyValueCache(
            self.config.num_layers,
            batch_size=batch_size,
            num_kv_heads=self.config.num_kv_heads,
            max_length=max_length,
            head_dim=self.config.head_dim,
            dtype=weight.dtype,
            device=weight.device,
        )
