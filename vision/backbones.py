"""Public ViTs of timm and open_clip as image encoders, so that a model can start from a CLIP or
SigLIP.

Weights are copied into an :class:`ImageEncoder`: position embeddings resized to the tile
(bicubic, the class token's kept), layer scale folded into the projection that it follows, the
activation recognised by its values, since CLIPs silently fail with the wrong one (open_clip issue
771). What the encoder gives for a random tile is then compared with what the source gives, so
that a source with parts that are unknown here is refused rather than read wrongly. Gates are
closed: tile embeddings and global blocks change nothing before they are trained.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer as OpenClipViT
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import Tensor, nn

from vision.blocks import ACTIVATIONS, Activation
from vision.encoder import ImageEncoder, ImageEncoderConfig
from vision.positions import resize_positions
from vision.tiles import CLIP_MEAN, CLIP_STD, TilesConfig
from vision.vit_parts import ViTParts, open_clip_parts, timm_parts

Colour = tuple[float, float, float]
"""One number each for red, green and blue."""

Normalisation = tuple[Colour, Colour]
"""Mean and deviation of pixels in 0..1."""


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """An encoder with a public model's weights, and how its pictures are normalised."""

    encoder: ImageEncoder
    """In eval mode, float32."""
    mean: Colour
    """Of pixel values in 0..1."""
    std: Colour
    """Of pixel values in 0..1."""

    @property
    def tiles(self) -> TilesConfig:
        """Tiles as this encoder takes them."""
        config = self.encoder.config
        return TilesConfig(
            tile_size=config.image_size,
            max_num_tiles=config.max_num_tiles,
            mean=self.mean,
            std=self.std,
        )


def backbone(
    source: nn.Module | tuple[str, str, str | None],
    *,
    image_size: int | None = None,
    num_global_layers: int = 0,
    intermediate_layers: tuple[int, ...] = (),
    max_num_tiles: int = 4,
    normalisation: Normalisation | None = None,
) -> Backbone:
    """Make an image encoder of a ViT of timm or open_clip.

    Args:
        source: a timm `VisionTransformer`, an open_clip model or its image tower (it is put in eval
            mode); or ("timm" or "open_clip", name, pretrained), where `pretrained` is a file of
            weights, a published tag of open_clip, "default" for timm's own, None for random ones.
        image_size: edge of a tile in pixels; by default what the source's patches cover.
        num_global_layers: gated blocks to add; they start as the identity.
        intermediate_layers: blocks, counted from 0, whose outputs are features beside the last.
        max_num_tiles: most tiles of a picture.
        normalisation: mean and std of pixels in 0..1, where the source does not say them.

    Raises:
        ValueError: the source, a part of it or its normalisation has no equal here; says which.
    """
    if not isinstance(source, nn.Module):
        library, name, pretrained = source
        if normalisation is None and library == "open_clip":
            normalisation = _published_normalisation(name, pretrained)
        source = _create(library, name, pretrained)
    tower = _image_tower(source).eval()
    mean, std = normalisation or _normalisation_of(source)
    parts = timm_parts(tower) if isinstance(tower, TimmViT) else open_clip_parts(tower)
    native = _config(parts)
    encoder = _encoder(native, parts)
    _compare(encoder, tower)
    config = replace(
        native,
        image_size=image_size or native.image_size,
        num_global_layers=num_global_layers,
        intermediate_layers=intermediate_layers,
        max_num_tiles=max_num_tiles,
    )
    if config != native:
        encoder = _encoder(config, parts)
    return Backbone(encoder=encoder, mean=mean, std=std)


def _create(library: str, name: str, pretrained: str | None) -> nn.Module:
    """Build a model by its library's own rules."""
    if library == "open_clip":
        tag = open_clip.get_pretrained_cfg(name, pretrained) if pretrained else {}
        config = open_clip.get_model_config(name)
        if config is None:
            raise ValueError(f"open_clip has no model {name!r}")
        if tag and tag.get("quick_gelu", False) != config.get("quick_gelu", False):
            other = (
                f"{name}-quickgelu" if tag.get("quick_gelu") else name.removesuffix("-quickgelu")
            )
            raise ValueError(
                f"open_clip's weights {pretrained!r} of {name} were trained with the activation of "
                f"{other}: name that model instead"
            )
        return open_clip.create_model(name, pretrained=pretrained)
    if library != "timm":
        raise ValueError(f"backbones come from 'timm' or 'open_clip', not from {library!r}")
    if pretrained is None or pretrained == "default":
        return timm.create_model(name, pretrained=pretrained is not None, num_classes=0)
    if not Path(pretrained).is_file():
        raise ValueError(f"{pretrained}: no file of weights; timm takes a file or 'default'")
    overlay = {"file": pretrained}
    return timm.create_model(name, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay)


def _image_tower(model: Any) -> Any:
    """The ViT within a model of either library."""
    tower = getattr(model, "visual", model)
    tower = tower.trunk if isinstance(tower, TimmModel) else tower
    if type(tower) not in (TimmViT, OpenClipViT):
        raise ValueError(
            f"{type(tower).__name__} is not the plain VisionTransformer of timm or open_clip"
        )
    return tower


def _published_normalisation(name: str, pretrained: str | None) -> Normalisation | None:
    """What open_clip says of a tag or, for other weights, of all tags of the model; None if unsure.

    A model that open_clip builds without a tag says CLIP's values whatever its own are.
    """
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained is not None and open_clip.get_pretrained_cfg(name, pretrained):
        tags = [pretrained]
    published = [open_clip.get_pretrained_cfg(name, tag) for tag in tags]
    values = {(tuple(tag["mean"]), tuple(tag["std"])) for tag in published}
    return values.pop() if len(values) == 1 else None


def _normalisation_of(model: Any) -> Normalisation:
    """What a model object says; an open_clip model of a timm trunk must agree with its trunk."""
    tower = getattr(model, "visual", model)
    trunk = tower.trunk if isinstance(tower, TimmModel) else tower
    said = [getattr(tower, "preprocess_cfg", None), getattr(trunk, "pretrained_cfg", None)]
    values = {(tuple(config["mean"]), tuple(config["std"])) for config in said if config}
    if len(values) != 1:
        found = "different normalisations" if values else "no normalisation"
        raise ValueError(
            f"this model says {found} of its pictures: give normalisation=((r, g, b), (r, g, b)), "
            f"mean and std as it was trained; OpenAI's CLIP has ({CLIP_MEAN}, {CLIP_STD})"
        )
    return values.pop()


def _config(parts: ViTParts) -> ImageEncoderConfig:
    """The encoder that the parts make, without anything added."""
    patch_size = parts.patch.kernel_size
    blocks = parts.blocks
    norms = [parts.post_norm] if parts.pre_norm is None else [parts.pre_norm, parts.post_norm]
    norms += [norm for block in blocks for norm in (block.attention_norm, block.feed_forward_norm)]
    plain = all(isinstance(norm, nn.LayerNorm) and norm.bias is not None for norm in norms)
    if not plain or len({norm.eps for norm in norms}) > 1:
        raise ValueError("this ViT's norms are not LayerNorms with biases and one common eps")
    if patch_size[0] != patch_size[1] or parts.patch.stride != patch_size:
        raise ValueError(f"this ViT's patches of {patch_size} are not squares side by side")
    num_patches = len(parts.positions) - (parts.class_token is not None)
    grid = round(num_patches**0.5)
    if grid**2 != num_patches:
        raise ValueError(f"this ViT's {num_patches} patches are no square")
    return ImageEncoderConfig(
        image_size=grid * patch_size[0],
        patch_size=patch_size[0],
        dim=parts.positions.shape[1],
        num_layers=len(blocks),
        num_heads=parts.num_heads,
        ffn_dim=blocks[0].up.out_features,
        activation=_recognise(blocks[0].activation),
        norm_eps=norms[0].eps,
        class_token=parts.class_token is not None,
        patch_bias=parts.patch.bias is not None,
        attention_bias=any(b.qkv[1] is not None or b.output.bias is not None for b in blocks),
        pre_norm=parts.pre_norm is not None,
        tile_positions=False,
    )


def _recognise(activation: nn.Module) -> Activation:
    """Which of our activations has the values of this one."""
    x = torch.linspace(-6, 6, 241)
    for name, ours in ACTIVATIONS.items():
        if torch.allclose(activation(x), ours(x), atol=1e-6, rtol=0):
            return name
    raise ValueError(f"this ViT's activation {activation} is none of {', '.join(ACTIVATIONS)}")


@torch.no_grad()
def _encoder(config: ImageEncoderConfig, parts: ViTParts) -> ImageEncoder:
    """An encoder in eval mode with the parts' weights; what they lack is as it is made."""
    encoder = ImageEncoder(config).eval()
    _copy(encoder.patch_embedding, parts.patch)
    encoder.position_embedding.table.copy_(
        resize_positions(
            parts.positions.float(), num_patches=config.num_patches, class_token=config.class_token
        )
    )
    if parts.class_token is not None:
        encoder.class_embedding.copy_(parts.class_token)
    if parts.pre_norm is not None:
        _copy(encoder.pre_norm, parts.pre_norm)
    _copy(encoder.post_norm, parts.post_norm)
    block: Any
    for block, source in zip(encoder.local_blocks, parts.blocks, strict=True):
        _copy(block.attention_norm, source.attention_norm)
        weights = source.qkv[0].chunk(3)
        biases = [None] * 3 if source.qkv[1] is None else source.qkv[1].chunk(3)
        projections = (block.attention.query, block.attention.key, block.attention.value)
        for projection, weight, bias in zip(projections, weights, biases, strict=True):
            _fill(projection, weight, bias)
        _copy(block.attention.output, source.output, scale=source.attention_scale)
        _copy(block.feed_forward_norm, source.feed_forward_norm)
        _copy(block.feed_forward.up, source.up)
        _copy(block.feed_forward.down, source.down, scale=source.feed_forward_scale)
    return encoder


def _copy(ours: Any, theirs: Any, *, scale: Tensor | None = None) -> None:
    """Copy weight and bias, each output times `scale`."""
    weight, bias = theirs.weight, theirs.bias
    if scale is not None:
        weight, bias = scale[:, None] * weight, None if bias is None else scale * bias
    _fill(ours, weight, bias)


def _fill(ours: Any, weight: Tensor, bias: Tensor | None) -> None:
    ours.weight.copy_(weight.reshape(ours.weight.shape))
    if ours.bias is not None:
        ours.bias.zero_() if bias is None else ours.bias.copy_(bias)


@torch.no_grad()
def _compare(encoder: ImageEncoder, tower: Any) -> None:
    """Refuse an encoder that does not give what its source gives for a random tile."""
    reference = next(tower.parameters())
    size = tower.patch_embed.img_size if isinstance(tower, TimmViT) else tower.image_size
    tile = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    tokens = _last_tokens(tower, tile.to(reference.device, reference.dtype))
    expected = encoder.post_norm(tokens.cpu().float())
    covered = encoder.config.image_size  # some models leave a rim that is no whole patch
    found = encoder(tile[..., :covered, :covered], torch.tensor([[1, 1]]))
    tolerance = 1e-3 if reference.dtype == torch.float32 else 5e-2
    if found.shape != expected.shape or not torch.allclose(found, expected, atol=tolerance):
        raise ValueError("this ViT computes something that the image encoder cannot represent")


def _last_tokens(tower: Any, tile: Tensor) -> Tensor:
    """What the source's last block gives, `[1, P, D]`, by its library's own means."""
    options = {"indices": 1, "output_fmt": "NLC", "intermediates_only": True}
    if isinstance(tower, OpenClipViT):
        given = tower.forward_intermediates(tile, output_extra_tokens=True, **options)
        return torch.cat(
            [given["image_intermediates_prefix"][0], given["image_intermediates"][0]], 1
        )
    if tower.num_prefix_tokens == 0:
        return tower.forward_intermediates(tile, **options)[0]
    ((patches, prefix),) = tower.forward_intermediates(tile, return_prefix_tokens=True, **options)
    return torch.cat([prefix, patches], dim=1)
