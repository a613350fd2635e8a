"""Gated cross-attention from text to picture features (paper section 7.2).

Layers stand between blocks of the frozen core at positions that the config names. Both gates of a
layer start at 0, so a fresh adapter leaves the core as it was. Keys and values of a picture depend
on the picture alone: they are computed once and serve the whole generation and later turns.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from language.attention import attend
from language.layers.feed_forward import FeedForward
from language.layers.norm import RMSNorm


@dataclass(frozen=True, kw_only=True)
class ImageAdapterConfig:
    """Where the cross-attention layers stand and how wide they are."""

    positions: tuple[int, ...]
    """Layer i stands before block positions[i] of the core (num_layers: after the last block)."""
    dim: int
    """Width of the core's residual stream."""
    num_heads: int
    num_kv_heads: int
    head_dim: int
    ffn_dim: int
    feature_dim: int
    """Width of an image feature; the paper's six encoder layers of 1,280 make 7,680."""
    norm_eps: float = 1e-5
    gate_init: float = 0.0
    """Both gates before tanh; 0 makes a fresh adapter the identity."""
    output_init_scale: float = 1.0
    """Multiplies the fresh output matrices, to match a core whose residual stream is large."""
    query_norm_init: float = 1.0
    """Initial weight of query and key norm; above 1 sharpens a fresh layer's attention."""
    leak_before_first_image: bool = False
    """Let the attention output reach tokens that see no image, as transformers' Mllama does."""

    def __post_init__(self) -> None:
        if (
            list(self.positions) != sorted(set(self.positions))
            or min(self.positions, default=0) < 0
        ):
            raise ValueError(f"positions must rise and start at 0 or above: {self.positions}")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads ({self.num_heads}) must be a multiple of "
                f"num_kv_heads ({self.num_kv_heads})"
            )


@dataclass
class ImageMemory:
    """What the text may look at: keys and values of every picture of every row.

    Slots of a row hold its pictures' features one after another; shorter rows are padded.
    """

    keys: list[Tensor]
    """One a layer, [batch, kv_heads, slots, head_dim]."""
    values: list[Tensor]
    owner: Tensor
    """Which picture of its row a slot belongs to, [batch, slots]; -1 marks padding."""
    num_images: int
    """Most pictures in a row."""
    padded: bool
    """Whether any slot is padding."""

    def extend(self, other: "ImageMemory") -> "ImageMemory":
        """Add the pictures of later turns behind these."""
        return ImageMemory(
            keys=[torch.cat(pair, dim=2) for pair in zip(self.keys, other.keys, strict=True)],
            values=[torch.cat(pair, dim=2) for pair in zip(self.values, other.values, strict=True)],
            owner=torch.cat(
                (self.owner, torch.where(other.owner < 0, -1, other.owner + self.num_images)), dim=1
            ),
            num_images=self.num_images + other.num_images,
            padded=self.padded or other.padded,
        )


@dataclass
class CrossAttentionContext:
    """What all cross-attention layers of one forward pass share."""

    mask: Tensor | None
    """Slots each token may attend to, [batch, 1, tokens or 1, slots] bool; None means all."""
    sees: Tensor
    """Whether a token sees any picture, [batch, tokens, 1] bool."""


def cross_attention_context(memory: ImageMemory, visible: Tensor) -> CrossAttentionContext:
    """Turn ``visible`` [batch, tokens, images] into a mask over the slots of ``memory``.

    Tokens that see nothing attend to everything, so that no softmax runs over nothing; what they
    get is thrown away. That spares the mask altogether where a row has one picture.
    """
    sees = visible.any(dim=-1, keepdim=True)
    real = memory.owner >= 0
    if memory.num_images == 1:
        mask = real[:, None, None, :] if memory.padded else None
        if mask is not None:  # rows without a picture hold padding alone
            mask = mask | ~real.any(dim=1)[:, None, None, None]
    else:
        index = memory.owner.clamp(min=0)[:, None, :].expand(-1, visible.shape[1], -1)
        mask = visible.gather(2, index) & real[:, None, :]  # [batch, tokens, slots]
        mask = (mask | ~mask.any(dim=-1, keepdim=True))[:, None]
    return CrossAttentionContext(mask=mask, sees=sees)


class CrossAttention(nn.Module):
    """Grouped-query attention with normalised queries and keys, and no positions."""

    def __init__(self, config: ImageAdapterConfig) -> None:
        """Queries come from the text, keys and values from projected image features."""
        super().__init__()
        self.head_dim = config.head_dim
        self.query = nn.Linear(config.dim, config.num_heads * config.head_dim, bias=False)
        self.key = nn.Linear(config.dim, config.num_kv_heads * config.head_dim, bias=False)
        self.value = nn.Linear(config.dim, config.num_kv_heads * config.head_dim, bias=False)
        self.output = nn.Linear(config.num_heads * config.head_dim, config.dim, bias=False)
        self.query_norm = RMSNorm(config.head_dim, eps=config.norm_eps)
        self.key_norm = RMSNorm(config.head_dim, eps=config.norm_eps)

    def queries(self, x: Tensor) -> Tensor:
        """Queries [batch, heads, tokens, head_dim] of text ``x`` [batch, tokens, dim]."""
        heads = self.query(x).unflatten(-1, (-1, self.head_dim))
        return self.query_norm(heads).transpose(1, 2)

    def keys_values(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [..., kv_heads, head_dim] of projected ``features`` [..., dim]."""
        key = self.key(features).unflatten(-1, (-1, self.head_dim))
        value = self.value(features).unflatten(-1, (-1, self.head_dim))
        return self.key_norm(key), value

    def forward(self, x: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None) -> Tensor:
        """What ``x`` [batch, tokens, dim] finds in the slots, [batch, tokens, dim]."""
        return self.output(attend(self.queries(x), key, value, mask=mask))

    def weights(self, x: Tensor, key: Tensor, *, mask: Tensor | None) -> Tensor:
        """Attention weights averaged over heads, [batch, tokens, slots]."""
        query = self.queries(x)
        key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
        scores = query @ key.transpose(-1, -2) / self.head_dim**0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        return scores.softmax(dim=-1).mean(dim=1)


class CrossAttentionLayer(nn.Module):
    """Cross-attention and feed-forward, each behind a norm and a tanh gate.

    A token that sees no picture leaves as it came, bit for bit.
    """

    def __init__(self, config: ImageAdapterConfig) -> None:
        """One layer of the adapter."""
        super().__init__()
        self.attention_norm = RMSNorm(config.dim, eps=config.norm_eps)
        self.attention = CrossAttention(config)
        self.attention_gate = nn.Parameter(torch.zeros(1))
        self.feed_forward_norm = RMSNorm(config.dim, eps=config.norm_eps)
        self.feed_forward = FeedForward(config.dim, config.ffn_dim)
        self.feed_forward_gate = nn.Parameter(torch.zeros(1))
        self._leak = config.leak_before_first_image

    def keys_values(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [..., kv_heads, head_dim] of projected features [..., dim]."""
        return self.attention.keys_values(projected)

    def forward(
        self, x: Tensor, key: Tensor, value: Tensor, context: CrossAttentionContext
    ) -> Tensor:
        """Add what the pictures say to ``x`` [batch, tokens, dim].

        Args:
            x: [batch, tokens, dim].
            key: [batch, kv_heads, slots, head_dim].
            value: the same.
            context: mask and which tokens see a picture.
        """
        attended = self.attention(self.attention_norm(x), key, value, mask=context.mask)
        hidden = x + self.attention_gate.tanh() * attended
        skipped = hidden if self._leak else x
        change = self.feed_forward(self.feed_forward_norm(hidden))
        return torch.where(context.sees, hidden + self.feed_forward_gate.tanh() * change, skipped)


class ImageAdapter(nn.Module):
    """Projection of image features to the core's width, and the cross-attention layers."""

    def __init__(self, config: ImageAdapterConfig) -> None:
        """Layers in the order of ``config.positions``."""
        super().__init__()
        self.config = config
        self.projection = nn.Linear(config.feature_dim, config.dim)
        self.layers = nn.ModuleList(CrossAttentionLayer(config) for _ in config.positions)
        self.at_position = {position: i for i, position in enumerate(config.positions)}

    def reset_parameters(self) -> None:
        """Draw fresh weights: normal by fan-in, gates and norms from the config."""
        for name, parameter in self.named_parameters():
            self.draw(name, parameter)

    def draw(self, name: str, tensor: Tensor, *, generator: torch.Generator | None = None) -> None:
        """Draw fresh values for the parameter ``name``, in place."""
        if name.endswith("gate"):
            nn.init.constant_(tensor, self.config.gate_init)
        elif name.endswith(("query_norm.weight", "key_norm.weight")):
            nn.init.constant_(tensor, self.config.query_norm_init)
        elif name.endswith("bias"):
            nn.init.zeros_(tensor)
        elif tensor.dim() == 1:
            nn.init.ones_(tensor)
        else:
            writes = name.endswith(("output.weight", "down.weight"))
            scale = self.config.output_init_scale if writes else 1.0
            nn.init.normal_(tensor, std=scale * tensor.shape[1] ** -0.5, generator=generator)

    def remember(
        self, features: Tensor, *, images: Tensor, rows: Tensor, batch_size: int
    ) -> ImageMemory:
        """Keys and values of all pictures, laid out by row.

        Args:
            features: [tiles, patches, feature_dim], the tiles of all pictures in order.
            images: picture of each tile, [tiles], rising.
            rows: batch row of each picture, [images], rising.
            batch_size: rows of the batch.
        """
        return self.lay_out(
            self.projection(features), images=images, rows=rows, batch_size=batch_size
        )

    def lay_out(
        self, projected: Tensor, *, images: Tensor, rows: Tensor, batch_size: int
    ) -> ImageMemory:
        """The same from features that went through the projection, [tiles, patches, dim].

        Layers that are not here, but in another stage of a pipeline, get nothing.
        """
        num_tiles, num_patches = projected.shape[:2]
        tile_rows = rows[images]
        first_image = torch.searchsorted(rows, rows)  # of the row that each picture stands in
        owner_of_tile = (torch.arange(len(rows), device=rows.device) - first_image)[images]
        place = torch.arange(num_tiles, device=rows.device) - torch.searchsorted(
            tile_rows, tile_rows
        )
        per_row = torch.bincount(tile_rows, minlength=batch_size)
        most = int(per_row.max())
        padded = bool(per_row.min() < most)
        owner = rows.new_full((batch_size, most), -1)
        owner[tile_rows, place] = owner_of_tile
        slots = (batch_size, most)

        def by_row(x: Tensor) -> Tensor:  # [tiles, patches, kv_heads, head_dim]
            if padded:
                laid_out = x.new_zeros(*slots, *x.shape[1:])
                x = laid_out.index_put((tile_rows, place), x)
            else:
                x = x.view(*slots, *x.shape[1:])
            return x.flatten(1, 2).transpose(1, 2)  # [batch, kv_heads, slots, head_dim]

        keys, values = [], []
        for layer in self.layers:
            if isinstance(layer, CrossAttentionLayer):
                key, value = (by_row(x) for x in layer.keys_values(projected))
            else:
                key = value = projected.new_empty(0)
            keys.append(key)
            values.append(value)
        return ImageMemory(
            keys=keys,
            values=values,
            owner=owner.repeat_interleave(num_patches, dim=1),
            num_images=int(owner.max()) + 1,
            padded=padded,
        )
