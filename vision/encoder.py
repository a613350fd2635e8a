"""The image encoder: a ViT with features of several layers and gated global blocks (section 7.2).

Each tile is cut into patches. *Local* blocks come first; the outputs of some of them are features
beside the last. *Global* blocks attend over all tiles of a picture and start as the identity,
since tanh gates close them.

Two modes share every parameter:

- `packed` computes only real tiles; local blocks attend within a tile or within a picture, by
  config.
- `released` gives what Llama 3.2 Vision gives: pictures are padded to the most tiles and tiles to
  a multiple of 8 tokens, and real tokens *do* see that padding (only padding does not see
  padding).

Letters: I pictures, N real tiles of all pictures, K most tiles of one picture, C tiles as
computed (N or I * K), P tokens of a tile (its class token among them), D width, S pixels of a
tile's edge, A x L sequences and tokens as computed.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from vision.blocks import ACTIVATIONS, Activation, Block, Scope, packed_scope, released_scope
from vision.positions import PositionEmbedding, TileEmbedding, TileLayout
from vision.tiles import arrangements


@dataclass(frozen=True, kw_only=True)
class ImageEncoderConfig:
    """Sizes and choices of an image encoder."""

    image_size: int
    """Edge of a tile in pixels."""
    patch_size: int
    """Edge of a patch in pixels."""
    dim: int
    """Width of the hidden states."""
    num_layers: int
    """Local blocks."""
    num_heads: int
    """Attention heads of every block."""
    ffn_dim: int
    """Hidden width of the feed-forward layers."""
    num_global_layers: int = 0
    """Gated blocks over all tiles of a picture, after the local ones."""
    intermediate_layers: tuple[int, ...] = ()
    """Local blocks, counted from 0, whose outputs are features beside the last block's."""
    max_num_tiles: int = 4
    """Most tiles of a picture; it fixes the list of arrangements."""
    mode: Literal["packed", "released"] = "packed"
    """Compute real tiles alone, or pad as Llama 3.2 Vision does."""
    local_attention: Literal["tile", "image"] = "tile"
    """In packed mode, whether local blocks attend within a tile or over the tiles of a picture."""
    activation: Activation = "gelu"
    """Of the feed-forward layers; OpenAI's CLIP needs `quick_gelu`."""
    norm_eps: float = 1e-5
    """Added to the variance in every LayerNorm."""
    class_token: bool = True
    """Whether a learned token stands before the patches of each tile."""
    patch_bias: bool = False
    """Whether the patch embedding has a bias."""
    attention_bias: bool = False
    """Whether the four projections of attention have biases."""
    pre_norm: bool = True
    """Whether a LayerNorm stands before the first block, as in CLIP."""
    tile_positions: bool = True
    """Whether each tile of each arrangement has its own position table beside the common one."""
    activation_checkpointing: bool = False
    """Recompute each block in the backward pass instead of keeping its activations."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "intermediate_layers", tuple(self.intermediate_layers))
        for name in ("image_size", "patch_size", "dim", "num_layers", "num_heads", "ffn_dim"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"image_encoder: {name} must be at least 1, not {getattr(self, name)}"
                )
        arrangements(self.max_num_tiles)  # refuses a number out of bounds
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_encoder: image_size {self.image_size} must be a multiple of patch_size "
                f"{self.patch_size}"
            )
        if self.dim % self.num_heads:
            raise ValueError(
                f"image_encoder: dim {self.dim} must be a multiple of num_heads {self.num_heads}"
            )
        if any(not 0 <= layer < self.num_layers for layer in self.intermediate_layers):
            raise ValueError(
                f"image_encoder.intermediate_layers {self.intermediate_layers} must lie in 0 .. "
                f"{self.num_layers - 1}: blocks are counted from 0"
            )
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"image_encoder.activation: {self.activation!r} is none of {', '.join(ACTIVATIONS)}"
            )
        if self.mode not in ("packed", "released"):
            raise ValueError(
                f"image_encoder.mode: {self.mode!r} is neither 'packed' nor 'released'"
            )
        if self.local_attention not in ("tile", "image"):
            raise ValueError(
                f"image_encoder.local_attention: {self.local_attention!r} is not 'tile' or 'image'"
            )
        if self.mode == "released" and not self.class_token:
            raise ValueError("image_encoder: mode 'released' needs class_token: true")

    @property
    def num_patches(self) -> int:
        """Patches of a tile."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def num_tokens(self) -> int:
        """Tokens of a tile, P: its patches and the class token."""
        return self.num_patches + self.class_token

    @property
    def feature_dim(self) -> int:
        """Features of a token: the last block's and each intermediate layer's."""
        return self.dim * (1 + len(self.intermediate_layers))


_VIT_H_14 = ImageEncoderConfig(
    image_size=336,
    patch_size=14,
    dim=1280,
    num_layers=32,
    num_heads=16,
    ffn_dim=5120,
    num_global_layers=8,
    intermediate_layers=(3, 7, 15, 23, 30),
)

IMAGE_ENCODERS: dict[str, ImageEncoderConfig] = {
    "tiny": ImageEncoderConfig(
        image_size=64,
        patch_size=8,
        dim=128,
        num_layers=4,
        num_heads=4,
        ffn_dim=384,
        num_global_layers=2,
        intermediate_layers=(1, 2),
        tile_positions=False,
        class_token=False,
    ),
    "vit-h-14": _VIT_H_14,
    "llama-3.2-448": replace(_VIT_H_14, image_size=448, mode="released"),
    "llama-3.2-560": replace(_VIT_H_14, image_size=560, mode="released"),
}


class ImageEncoder(nn.Module):
    """Pictures' tiles to features of every token of every real tile."""

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.patch_embedding = nn.Linear(3 * config.patch_size**2, dim, bias=config.patch_bias)
        self.pre_tile_embedding = TileEmbedding(dim, max_num_tiles=config.max_num_tiles)
        if config.class_token:
            self.class_embedding = nn.Parameter(dim**-0.5 * torch.randn(dim))
        self.position_embedding = PositionEmbedding(
            dim,
            num_tokens=config.num_tokens,
            max_num_tiles=config.max_num_tiles,
            per_tile=config.tile_positions,
        )
        self.pre_norm = nn.LayerNorm(dim, eps=config.norm_eps) if config.pre_norm else nn.Identity()
        self.local_blocks = self._blocks(config.num_layers, gated=False)
        self.post_norm = nn.LayerNorm(dim, eps=config.norm_eps)
        self.post_tile_embedding = TileEmbedding(dim, max_num_tiles=config.max_num_tiles)
        self.global_blocks = self._blocks(config.num_global_layers, gated=True)

    def _blocks(self, number: int, *, gated: bool) -> nn.ModuleList:
        config = self.config
        return nn.ModuleList(
            Block(
                config.dim,
                num_heads=config.num_heads,
                ffn_dim=config.ffn_dim,
                activation=config.activation,
                attention_bias=config.attention_bias,
                norm_eps=config.norm_eps,
                gated=gated,
            )
            for _ in range(number)
        )

    def forward(self, tiles: Tensor, arrangements: Tensor) -> Tensor:
        """Encode all pictures of a batch.

        Args:
            tiles: `[N, 3, S, S]`, normalised; the real tiles, picture by picture, row by row.
            arrangements: `[I, 2]` integers, rows and columns of tiles of each picture.

        Returns:
            `[N, P, feature_dim]`: the last block's output, then the intermediate layers'
            interleaved as the release does (`D + d * layers + l` is feature `d` of layer `l`).

        Raises:
            ValueError: tiles of another size or number than the arrangements say.
        """
        config = self.config
        padded = config.mode == "released"
        layout = TileLayout.of(arrangements, max_num_tiles=config.max_num_tiles, padded=padded)
        expected = (len(layout.slots), 3, config.image_size, config.image_size)
        if tiles.shape != expected:
            raise ValueError(f"the arrangements ask for tiles {expected}, not {tuple(tiles.shape)}")
        x = self.embed(layout.place(tiles), layout)  # [C, P, D]
        return layout.take(self._released(x, layout) if padded else self._packed(x, layout))

    def compile_blocks(self) -> None:
        """Compile the blocks by torch.compile, with nothing that is compiled anew for each batch.

        Where attention works by picture, its groups differ from batch to batch and it stays eager.
        """
        within_tile = self.config.mode == "packed" and self.config.local_attention == "tile"
        for block in (*self.local_blocks, *self.global_blocks):
            assert isinstance(block, Block)
            (block if within_tile and not block.gated else block.feed_forward).compile()

    def embed(self, tiles: Tensor, layout: TileLayout) -> Tensor:
        """Tiles as computed `[C, 3, S, S]` to what the first block takes `[C, P, D]`."""
        patch = self.config.patch_size
        patches = tiles.unflatten(3, (-1, patch)).unflatten(2, (-1, patch))
        patches = (
            patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        )  # [C, patches, 3 * patch^2]
        x = self.patch_embedding(patches.to(self.patch_embedding.weight.dtype))
        x = x + self.pre_tile_embedding(layout).unsqueeze(1)
        if self.config.class_token:
            x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], dim=1)
        return self.pre_norm(x + self.position_embedding(layout))

    def _packed(self, x: Tensor, layout: TileLayout) -> Tensor:
        groups = layout.groups()
        within_tile = self.config.local_attention == "tile"
        local_scope = packed_scope([(len(x), 1)] if within_tile else groups)
        tile_embedding = self.post_tile_embedding(layout).unsqueeze(1)  # [C, 1, D]
        return self._run(x, local_scope, packed_scope(groups), tile_embedding)

    def _released(self, x: Tensor, layout: TileLayout) -> Tensor:
        """Each picture is one sequence: real tiles, padded tiles, then the padding of all tiles."""
        config = self.config
        num_tokens, num_tiles = config.num_tokens, config.max_num_tiles
        padding = -num_tokens % 8
        x = x.view(-1, num_tiles * num_tokens, config.dim)  # [I, K * P, D]
        x = F.pad(x, (0, 0, 0, num_tiles * padding))  # [I, K * (P + padding), D]
        scope = released_scope([(count, tiles * num_tokens) for count, tiles in layout.groups()])
        tile_embedding = self.post_tile_embedding(layout).view(-1, num_tiles, config.dim)
        tile_embedding = torch.cat(
            [tile_embedding.repeat_interleave(tokens, dim=1) for tokens in (num_tokens, padding)], 1
        )  # [I, K * (P + padding), D]
        features = self._run(x, scope, scope, tile_embedding)[:, : num_tiles * num_tokens]
        return features.reshape(-1, num_tokens, config.feature_dim)  # [I * K, P, feature_dim]

    def _run(
        self, x: Tensor, local_scope: Scope, global_scope: Scope, tile_embedding: Tensor
    ) -> Tensor:
        """All blocks over `x` `[A, L, D]`; features `[A, L, feature_dim]`."""
        outputs = {}
        for layer, block in enumerate(self.local_blocks):
            x = self._call(block, x, local_scope)
            if layer in self.config.intermediate_layers:
                outputs[layer] = x
        x = self.post_norm(x) + tile_embedding
        for block in self.global_blocks:
            x = self._call(block, x, global_scope)
        if not outputs:
            return x
        between = torch.stack([outputs[layer] for layer in self.config.intermediate_layers], dim=-1)
        return torch.cat([x, between.flatten(-2)], dim=-1)

    def _call(self, block: nn.Module, x: Tensor, scope: Scope) -> Tensor:
        if self.config.activation_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, x, scope, use_reentrant=False)
        return block(x, scope)
