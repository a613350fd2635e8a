"""The parts of a timm or open_clip ViT by what they do; what has no part here is refused."""

from dataclasses import dataclass
from typing import Any

from open_clip.transformer import LayerScale as OpenClipLayerScale
from open_clip.transformer import ResidualAttentionBlock
from timm.layers import Attention, LayerScale, Mlp, PatchEmbed
from timm.models.vision_transformer import Block
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class BlockParts:
    """One transformer block."""

    attention_norm: nn.LayerNorm
    qkv: tuple[Tensor, Tensor | None]
    """Weight `[3 * D, D]` and bias `[3 * D]` of query, key and value."""
    output: nn.Linear
    attention_scale: Tensor | None
    """Layer scale `[D]` after the attention."""
    feed_forward_norm: nn.LayerNorm
    up: nn.Linear
    activation: nn.Module
    down: nn.Linear
    feed_forward_scale: Tensor | None


@dataclass(frozen=True, kw_only=True)
class ViTParts:
    """A whole ViT up to the tokens of its last block."""

    patch: nn.Conv2d
    class_token: Tensor | None
    """`[D]`."""
    positions: Tensor
    """`[P, D]`, the class token's first."""
    pre_norm: nn.LayerNorm | None
    blocks: list[BlockParts]
    post_norm: nn.LayerNorm
    num_heads: int


def timm_parts(vit: Any) -> ViTParts:
    """Take apart a timm `VisionTransformer`.

    Raises:
        ValueError: it has a part that the encoder cannot represent.
    """
    _refuse_if(
        type(vit.patch_embed) is not PatchEmbed, "another patch embedding than one convolution"
    )
    _refuse_if(type(vit.patch_embed.norm) is not nn.Identity, "a norm in its patch embedding")
    _refuse_if(vit.num_reg_tokens > 0, f"{vit.num_reg_tokens} register tokens")
    _refuse_if(vit.pos_embed is None, "no learned position embeddings")
    post_norm = vit.fc_norm if isinstance(vit.norm, nn.Identity) else vit.norm
    positions, class_token = vit.pos_embed[0], None
    if vit.has_class_token:
        class_token = vit.cls_token[0, 0]
        if vit.no_embed_class:
            positions = nn.functional.pad(positions, (0, 0, 1, 0))
    return ViTParts(
        patch=vit.patch_embed.proj,
        class_token=class_token,
        positions=positions,
        pre_norm=None if isinstance(vit.norm_pre, nn.Identity) else vit.norm_pre,
        blocks=[_timm_block(block) for block in vit.blocks],
        post_norm=post_norm,
        num_heads=vit.blocks[0].attn.num_heads,
    )


def _timm_block(block: Any) -> BlockParts:
    _refuse_if(type(block) is not Block, f"blocks of the kind {type(block).__name__}")
    attention, mlp = block.attn, block.mlp
    _refuse_if(
        type(attention) is not Attention, f"attention of the kind {type(attention).__name__}"
    )
    _refuse_if(type(mlp) is not Mlp, f"a feed-forward of the kind {type(mlp).__name__}")
    _refuse_if(not isinstance(attention.q_norm, nn.Identity), "norms of query and key")
    _refuse_if(not isinstance(attention.norm, nn.Identity), "a norm within its attention")
    _refuse_if(not isinstance(mlp.norm, nn.Identity), "a norm within its feed-forward")
    _refuse_if(attention.gate is not None, "gated attention")
    _refuse_if(
        attention.attn_dim != attention.proj.out_features, "heads wider than its hidden states"
    )
    return BlockParts(
        attention_norm=block.norm1,
        qkv=(attention.qkv.weight, attention.qkv.bias),
        output=attention.proj,
        attention_scale=block.ls1.gamma if isinstance(block.ls1, LayerScale) else None,
        feed_forward_norm=block.norm2,
        up=mlp.fc1,
        activation=mlp.act,
        down=mlp.fc2,
        feed_forward_scale=block.ls2.gamma if isinstance(block.ls2, LayerScale) else None,
    )


def open_clip_parts(vit: Any) -> ViTParts:
    """Take apart open_clip's own `VisionTransformer`.

    Raises:
        ValueError: it has a part that the encoder cannot represent.
    """
    _refuse_if(
        vit.attn_pool is not None, "attentional pooling instead of a final norm of its tokens"
    )
    return ViTParts(
        patch=vit.conv1,
        class_token=vit.class_embedding,
        positions=vit.positional_embedding,
        pre_norm=None if isinstance(vit.ln_pre, nn.Identity) else vit.ln_pre,
        blocks=[_open_clip_block(block) for block in vit.transformer.resblocks],
        post_norm=vit.ln_post,
        num_heads=vit.transformer.resblocks[0].attn.num_heads,
    )


def _open_clip_block(block: Any) -> BlockParts:
    kind = type(block).__name__
    _refuse_if(type(block) is not ResidualAttentionBlock, f"blocks of the kind {kind}")
    return BlockParts(
        attention_norm=block.ln_1,
        qkv=(block.attn.in_proj_weight, block.attn.in_proj_bias),
        output=block.attn.out_proj,
        attention_scale=block.ls_1.gamma if isinstance(block.ls_1, OpenClipLayerScale) else None,
        feed_forward_norm=block.ln_2,
        up=block.mlp.c_fc,
        activation=block.mlp.gelu,
        down=block.mlp.c_proj,
        feed_forward_scale=block.ls_2.gamma if isinstance(block.ls_2, OpenClipLayerScale) else None,
    )


def _refuse_if(found: bool, what: str) -> None:
    if found:
        raise ValueError(f"this ViT cannot become an image encoder: it has {what}")
