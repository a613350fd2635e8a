"""Encoders made of timm's and open_clip's ViTs give their sources' own features."""

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
from open_clip.transformer import VisionTransformer as OpenClipViT
from safetensors.torch import save_file
from timm.data import IMAGENET_INCEPTION_MEAN
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import nn

from vision.backbones import Backbone, backbone
from vision.encoder import ImageEncoder
from vision.tiles import CLIP_MEAN, CLIP_STD

CLIP = (CLIP_MEAN, CLIP_STD)
ONE_TILE = torch.tensor([[1, 1], [1, 1]])


def randomised(model: nn.Module) -> Any:
    """Every parameter random, so that zero biases, unit norms and layer scales hide nothing."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data += (0.1 if parameter.dim() == 1 else 0.03) * noise
    return model.eval()


def timm_vit(**options: Any) -> TimmViT:
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 4}
    return randomised(TimmViT(**(sizes | {"num_classes": 0} | options)))


def open_clip_vit(**options: Any) -> OpenClipViT:
    sizes = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 3, "heads": 4}
    return randomised(OpenClipViT(**(sizes | {"mlp_ratio": 3.0, "output_dim": 16} | options)))


def tokens_of_timm(vit: TimmViT, tiles: torch.Tensor) -> list[torch.Tensor]:
    """The final features, then each block's."""
    final = vit.fc_norm(vit.forward_features(tiles))
    between = vit.forward_intermediates(
        tiles,
        output_fmt="NLC",
        return_prefix_tokens=bool(vit.num_prefix_tokens),
        intermediates_only=True,
    )
    return [final, *(torch.cat(pair[::-1], 1) if type(pair) is tuple else pair for pair in between)]


def tokens_of_open_clip(vit: OpenClipViT, tiles: torch.Tensor) -> list[torch.Tensor]:
    given = vit.forward_intermediates(
        tiles, output_fmt="NLC", output_extra_tokens=True, intermediates_only=True
    )
    prefixes, patches = given["image_intermediates_prefix"], given["image_intermediates"]
    between = [torch.cat(pair, 1) for pair in zip(prefixes, patches, strict=True)]
    return [vit.ln_post(between[-1]), *between]


def assert_same_features(made: Backbone, expected: list[torch.Tensor], tiles: torch.Tensor) -> None:
    config = made.encoder.config
    assert not made.encoder.training
    found = made.encoder(tiles, torch.tensor([[1, 1]] * len(tiles)))
    between = found[..., config.dim :].unflatten(-1, (config.dim, -1)).unbind(-1)
    for ours, theirs in zip([found[..., : config.dim], *between], expected, strict=True):
        assert theirs.std() > 0.1
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


TIMM_VITS = {
    "plain": {},
    "clip": {"pre_norm": True, "norm_layer": "layernorm", "act_layer": "quick_gelu"},
    "siglip": {"class_token": False, "global_pool": "map", "act_layer": "gelu_tanh"},
    "average": {"class_token": False, "global_pool": "avg"},
    "layer scale": {"init_values": 0.5},
    "class token without position": {"no_embed_class": True},
    "without biases": {"qkv_bias": False, "proj_bias": False},
    "output bias only": {"qkv_bias": False},
    "own eps": {"norm_layer": lambda dim, **rest: nn.LayerNorm(dim, eps=1e-3, **rest)},
    "patches with a rim": {"img_size": 35},
}


@torch.no_grad()
@pytest.mark.parametrize("kind", TIMM_VITS)
def test_timm_features(kind: str) -> None:
    vit = timm_vit(**TIMM_VITS[kind])
    size = vit.patch_embed.img_size[0] // 8 * 8
    made = backbone(vit, normalisation=CLIP, intermediate_layers=(0, 1, 2), num_global_layers=2)
    tiles = torch.randn(2, 3, *vit.patch_embed.img_size)
    assert_same_features(made, tokens_of_timm(vit, tiles), tiles[..., :size, :size])


@torch.no_grad()
@pytest.mark.parametrize("kind", ["plain", "siglip", "class token without position"])
@pytest.mark.parametrize("size", [24, 56])
def test_timm_features_at_another_tile_size(kind: str, size: int) -> None:
    vit = timm_vit(**TIMM_VITS[kind])
    made = backbone(vit, image_size=size, normalisation=CLIP, intermediate_layers=(0, 1, 2))
    vit.set_input_size(img_size=(size, size))
    tiles = torch.randn(2, 3, size, size)
    assert_same_features(made, tokens_of_timm(vit, tiles), tiles)


OPEN_CLIP_VITS = {
    "plain": {},
    "quick gelu": {"act_layer": open_clip.model.QuickGELU},
    "no norm before": {"no_ln_pre": True},
    "layer scale": {"ls_init_value": 0.5},
    "sines": {"pos_embed_type": "sin_cos_2d"},
    "average": {"pool_type": "avg", "final_ln_after_pool": True},
}


@torch.no_grad()
@pytest.mark.parametrize("kind", OPEN_CLIP_VITS)
def test_open_clip_features(kind: str) -> None:
    vit = open_clip_vit(**OPEN_CLIP_VITS[kind])
    made = backbone(vit, normalisation=CLIP, intermediate_layers=(0, 1, 2), num_global_layers=1)
    tiles = torch.randn(2, 3, 32, 32)
    assert_same_features(made, tokens_of_open_clip(vit, tiles), tiles)


@torch.no_grad()
def test_open_clip_features_at_another_tile_size() -> None:
    """The oracle is open_clip's own resizing, as done when it loads weights of another size."""
    vit, larger = open_clip_vit(), open_clip_vit(image_size=56)
    made = backbone(vit, image_size=56, normalisation=CLIP, intermediate_layers=(0, 1, 2))
    weights = {f"visual.{name}": tensor for name, tensor in vit.state_dict().items()}
    holder = nn.Module()
    holder.visual = larger
    open_clip.model.resize_pos_embed(weights, holder)
    holder.load_state_dict(weights)
    tiles = torch.randn(2, 3, 56, 56)
    assert_same_features(made, tokens_of_open_clip(larger, tiles), tiles)


def create_small(name: str, pretrained: None = None) -> nn.Module:
    """An open_clip model by its published config, but with few layers and a small text tower."""
    config = open_clip.get_model_config(name)
    if "layers" in config["vision_cfg"]:
        config["vision_cfg"] |= {"layers": 2, "width": 128}
    config["text_cfg"] = {
        "vocab_size": 64,
        "context_length": 8,
        "width": 64,
        "layers": 1,
        "heads": 2,
    }
    config.pop("custom_text", None)
    model = open_clip.CustomTextCLIP(**config)
    open_clip.model.set_model_preprocess_cfg(model, asdict(open_clip.transform.PreprocessCfg()))
    return randomised(model)


@pytest.mark.parametrize(
    ("name", "activation"), [("ViT-B-32", "gelu"), ("ViT-B-32-quickgelu", "quick_gelu")]
)
@torch.no_grad()
def test_published_clip(name: str, activation: str) -> None:
    model = create_small(name)
    made = backbone(model)
    assert made.encoder.config.activation == activation
    assert (made.mean, made.std) == CLIP
    tiles = torch.randn(1, 3, 224, 224)
    pooled = made.encoder(tiles, torch.tensor([[1, 1]]))[:, 0] @ model.visual.proj
    torch.testing.assert_close(pooled, model.encode_image(tiles), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_published_siglip(monkeypatch: pytest.MonkeyPatch) -> None:
    """By name the normalisation is that of the published weights; open_clip's object differs."""
    small_trunk = partial(timm.create_model, depth=2, embed_dim=64, num_heads=4)
    monkeypatch.setattr(timm, "create_model", small_trunk)
    monkeypatch.setattr(open_clip, "create_model", create_small)
    made = backbone(("open_clip", "ViT-B-32-SigLIP2-256", None))
    assert made.mean == made.std == IMAGENET_INCEPTION_MEAN
    assert made.tiles.mean == IMAGENET_INCEPTION_MEAN and made.tiles.tile_size == 256
    assert not made.encoder.config.class_token
    with pytest.raises(ValueError, match="different normalisations"):
        backbone(create_small("ViT-B-32-SigLIP2-256"))


@torch.no_grad()
def test_weights_from_a_file(tmp_path: Path) -> None:
    vit = randomised(timm.create_model("vit_tiny_patch16_224", img_size=224))  # with its classifier
    path = tmp_path / "weights.safetensors"
    save_file(vit.state_dict(), path)
    made = backbone(("timm", "vit_tiny_patch16_224", str(path)), intermediate_layers=(11,))
    assert made.mean == IMAGENET_INCEPTION_MEAN
    tiles = torch.randn(1, 3, 224, 224)
    found = made.encoder(tiles, torch.tensor([[1, 1]]))[..., :192]
    torch.testing.assert_close(found, vit.forward_features(tiles), atol=1e-4, rtol=1e-4)


class Unknown(TimmViT):
    """Looks like timm's ViT and computes something else."""


def doubled(vit: TimmViT) -> TimmViT:
    vit.blocks[1].register_forward_hook(lambda module, inputs, output: 2 * output)
    return vit


REFUSED = {
    "register tokens": lambda: timm_vit(reg_tokens=4),
    "no learned position": lambda: timm_vit(pos_embed="none"),
    "norms of query and key": lambda: timm_vit(qk_norm=True),
    "feed-forward of the kind SwiGLU": lambda: timm_vit(mlp_layer=timm.layers.SwiGLU),
    "is none of": lambda: timm_vit(act_layer="silu"),
    "not LayerNorms": lambda: timm_vit(norm_layer="rmsnorm"),
    "no square": lambda: timm_vit(img_size=(32, 24)),
    "not the plain VisionTransformer": lambda: Unknown(embed_dim=24, depth=1, num_heads=2),
    "attentional pooling": lambda: open_clip_vit(attentional_pool=True, attn_pooler_heads=2),
    "CustomResidualAttentionBlock": lambda: open_clip_vit(qk_norm=True, block_type="custom"),
    "cannot represent": lambda: doubled(timm_vit()),
    "no model 'ViT-Z'": lambda: ("open_clip", "ViT-Z", None),
    "trained with the activation": lambda: ("open_clip", "ViT-B-32", "openai"),
    "not from 'keras'": lambda: ("keras", "vit", None),
    "no file of weights": lambda: ("timm", "vit_tiny_patch16_224", "missing.safetensors"),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_has_no_equal_is_refused_in_one_line(message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        backbone(REFUSED[message](), normalisation=CLIP)
    assert "\n" not in str(caught.value)


def test_normalisation_must_be_known() -> None:
    with pytest.raises(ValueError, match="says no normalisation"):
        backbone(timm_vit())


def test_what_is_added_starts_as_nothing_and_learns() -> None:
    vit = timm_vit()
    made = backbone(vit, normalisation=CLIP, num_global_layers=1, intermediate_layers=(1,))
    tiles = torch.randn(2, 3, 32, 32)
    apart = made.encoder(tiles, ONE_TILE)
    together = made.encoder(tiles, torch.tensor([[1, 2]]))
    torch.testing.assert_close(together, apart)
    together.square().mean().backward()
    gate = made.encoder.global_blocks[0].attention_gate
    assert gate.grad is not None and gate.grad.abs() > 0
    bare = ImageEncoder(replace(made.encoder.config, num_global_layers=0, intermediate_layers=()))
    bare.load_state_dict(backbone(vit, normalisation=CLIP).encoder.state_dict())
