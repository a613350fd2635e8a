"""Padded, the encoder equals Llama 3.2 Vision's; packed, it equals each picture alone."""

from dataclasses import replace
from functools import partialmethod
from unittest.mock import patch

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from transformers import MllamaVisionConfig, MllamaVisionModel

from vision.encoder import IMAGE_ENCODERS, ImageEncoder, ImageEncoderConfig
from vision.released import encoder_config_from_released, released_names, released_vision_config
from vision.tiles import arrangement_id

SMALL = ImageEncoderConfig(
    image_size=28,
    patch_size=7,
    dim=32,
    num_layers=4,
    num_heads=4,
    ffn_dim=48,
    num_global_layers=2,
    intermediate_layers=(0, 2),
)
PICTURES = torch.tensor([[2, 2], [1, 1], [3, 1], [1, 2], [1, 1], [1, 4], [2, 1]])


def randomised(encoder: torch.nn.Module, *, seed: int = 0) -> torch.nn.Module:
    """Every parameter random, gates and norms among them."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in encoder.parameters():
        scale = 0.6 if parameter.numel() == 1 else max(parameter.shape[-1], 4) ** -0.5
        parameter.data = scale * torch.randn(parameter.shape, generator=generator)
    for module in encoder.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.weight.data += 1
    return encoder.eval()


def random_tiles(pictures: torch.Tensor, size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(int(pictures.prod(1).sum()), 3, size, size, generator=generator)


def released_oracle(size: int) -> MllamaVisionModel:
    config = MllamaVisionConfig(
        hidden_size=32,
        num_hidden_layers=4,
        num_global_layers=2,
        attention_heads=4,
        intermediate_size=48,
        vision_output_dim=32 * 4,
        image_size=size,
        patch_size=7,
        intermediate_layers_indices=[0, 2, 3],
    )
    return randomised(MllamaVisionModel(config))


def from_oracle(oracle: MllamaVisionModel) -> ImageEncoder:
    encoder = ImageEncoder(encoder_config_from_released(oracle.config.to_dict()))
    theirs = oracle.state_dict()
    names = released_names(encoder.config)
    assert set(names.values()) == set(theirs)
    ours = encoder.state_dict()
    encoder.load_state_dict(
        {name: theirs[names[name]].reshape(ours[name].shape) for name in ours}, strict=True
    )
    return encoder.eval()


@pytest.mark.parametrize("size", [28, 35])  # 17 and 26 tokens a tile: 7 and 6 tokens of padding
def test_released_mode_equals_transformers(size: int) -> None:
    oracle = released_oracle(size)
    encoder = from_oracle(oracle)
    tiles = random_tiles(PICTURES, size)
    counts = PICTURES.prod(1).tolist()
    padded = torch.zeros(1, len(PICTURES), 4, 3, size, size)
    mask = torch.zeros(1, len(PICTURES), 4, dtype=torch.long)
    for picture, own in enumerate(tiles.split(counts)):
        padded[0, picture, : len(own)] = own
        mask[0, picture, : len(own)] = 1
    ids = [arrangement_id((rows, columns), max_num_tiles=4) for rows, columns in PICTURES.tolist()]
    with torch.no_grad():
        expected = oracle(padded, torch.tensor([ids]), mask).last_hidden_state[0]
        features = encoder(tiles, PICTURES)
    expected = torch.cat([own[:count] for own, count in zip(expected, counts, strict=True)])
    assert expected.abs().max() > 1
    torch.testing.assert_close(features, expected, atol=1e-4, rtol=0)


def test_released_config_comes_back() -> None:
    for name in ("llama-3.2-448", "llama-3.2-560"):
        config = IMAGE_ENCODERS[name]
        written = released_vision_config(config)
        assert encoder_config_from_released(written) == config
        assert encoder_config_from_released(MllamaVisionConfig(**written).to_dict()) == config


def test_released_names_need_the_release_s_parameters() -> None:
    with pytest.raises(ValueError, match="image_encoder.class_token must be True"):
        released_names(replace(SMALL, class_token=False))


@pytest.mark.parametrize("local_attention", ["tile", "image"])
@pytest.mark.parametrize("class_token", [True, False])
def test_packed_pictures_equal_each_alone(local_attention: str, class_token: bool) -> None:
    config = replace(SMALL, local_attention=local_attention, class_token=class_token)
    encoder = randomised(ImageEncoder(config))
    tiles = random_tiles(PICTURES, 28)
    with torch.no_grad():
        together = encoder(tiles, PICTURES)
        alone = [
            encoder(own, picture[None])
            for own, picture in zip(tiles.split(PICTURES.prod(1).tolist()), PICTURES, strict=True)
        ]
    assert together.shape == (len(tiles), 16 + class_token, 32 * 3)
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)


def influence(config: ImageEncoderConfig, *, gates: float) -> torch.Tensor:
    """Whether tile `j` changes the last features of tile `i`, `[7, 7]`, for three pictures."""
    encoder = randomised(ImageEncoder(config))
    for block in encoder.global_blocks:
        block.attention_gate.data.fill_(gates)
        block.feed_forward_gate.data.fill_(gates)
    pictures = torch.tensor([[2, 2], [1, 1], [1, 2]])
    tiles = random_tiles(pictures, 28)
    seen = torch.zeros(len(tiles), len(tiles), dtype=torch.bool)
    with torch.no_grad():
        before = encoder(tiles, pictures)
        for j in range(len(tiles)):
            changed = tiles.clone()
            changed[j] += 1
            difference = (encoder(changed, pictures) - before)[..., : config.dim]
            seen[:, j] = difference.abs().amax((1, 2)) > 1e-5
    return seen


def test_tiles_see_what_the_scope_allows() -> None:
    same_picture = torch.block_diag(*(torch.ones(n, n) for n in (4, 1, 2))).bool()
    same_tile = torch.eye(7, dtype=torch.bool)
    assert torch.equal(influence(SMALL, gates=0.5), same_picture)
    assert torch.equal(influence(SMALL, gates=0.0), same_tile)
    wide = replace(SMALL, local_attention="image")
    assert torch.equal(influence(wide, gates=0.0), same_picture)


def test_global_blocks_start_as_the_identity_and_their_gates_learn() -> None:
    torch.manual_seed(0)
    encoder = ImageEncoder(SMALL)
    without = ImageEncoder(replace(SMALL, num_global_layers=0))
    without.load_state_dict(encoder.state_dict(), strict=False)
    tiles = random_tiles(PICTURES, 28)
    features = encoder(tiles, PICTURES)
    assert torch.equal(features, without(tiles, PICTURES))
    features.square().mul(torch.rand_like(features)).sum().backward()
    for block in encoder.global_blocks:
        assert block.attention_gate.grad.abs() > 0 and block.feed_forward_gate.grad.abs() > 0


def test_tile_embeddings_start_closed() -> None:
    """A fresh encoder gives a tile the same features in any arrangement."""
    torch.manual_seed(0)
    encoder = ImageEncoder(SMALL)
    tiles = random_tiles(torch.tensor([[2, 2]]), 28)
    whole = encoder(tiles, torch.tensor([[2, 2]]))
    torch.testing.assert_close(whole, encoder(tiles, torch.tensor([[1, 1]] * 4)))
    randomised(encoder)
    for block in encoder.global_blocks:
        block.attention_gate.data.zero_()
    upright, flat = (encoder(tiles, torch.tensor([shape])) for shape in ([4, 1], [1, 4]))
    assert (upright - flat).abs().max() > 1e-2


def test_checkpointing_changes_no_gradient() -> None:
    tiles, gradients = random_tiles(PICTURES, 28), []
    for config in (SMALL, replace(SMALL, activation_checkpointing=True)):
        encoder = randomised(ImageEncoder(config)).train()
        encoder(tiles, PICTURES).square().mean().backward()
        gradients.append({name: p.grad for name, p in encoder.named_parameters()})
    for name, gradient in gradients[0].items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(gradients[1][name], gradient)


def test_compiled_blocks_give_the_same_and_are_not_compiled_for_each_batch() -> None:
    """Counted by a backend that compiles nothing: two graphs for any mixture of pictures."""
    counter = CompileCounter()
    config = replace(SMALL, num_layers=1, intermediate_layers=())
    encoder = randomised(ImageEncoder(config))
    mixtures = [PICTURES[:1], PICTURES, PICTURES[1:4], PICTURES[[1, 4]], PICTURES.flip(0)]
    expected = [encoder(random_tiles(pictures, 28), pictures) for pictures in mixtures]
    with patch.object(torch.nn.Module, "compile", partialmethod(compile_by, counter)):
        encoder.compile_blocks()
    for pictures, features in zip(mixtures, expected, strict=True):
        assert torch.equal(encoder(random_tiles(pictures, 28), pictures), features)
    # a block and two feed-forwards, each once for its first batch and once for any other
    assert counter.frame_count <= 6


def compile_by(module: torch.nn.Module, backend: CompileCounter) -> None:
    module._compiled_call_impl = torch.compile(module._call_impl, backend=backend)


@pytest.mark.parametrize("name", IMAGE_ENCODERS)
def test_presets_build_on_the_meta_device(name: str) -> None:
    with torch.device("meta"):
        encoder = ImageEncoder(IMAGE_ENCODERS[name])
    total = sum(parameter.numel() for parameter in encoder.parameters())
    local = sum(parameter.numel() for parameter in encoder.local_blocks.parameters())
    if name != "tiny":
        assert encoder.config.feature_dim == 7680
        assert 0.99 < local / 630e6 < 1.01
        assert 0.95 < total / 850e6 < 1.05


def test_llama_preset_counts_as_the_release() -> None:
    config = IMAGE_ENCODERS["llama-3.2-560"]
    with torch.device("meta"):
        encoder = ImageEncoder(config)
        oracle = MllamaVisionModel(MllamaVisionConfig(**released_vision_config(config)))
    theirs = {name: parameter.numel() for name, parameter in oracle.named_parameters()}
    names = released_names(config)
    assert {names[name]: p.numel() for name, p in encoder.named_parameters()} == theirs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 30}, "multiple of patch_size"),
        ({"num_heads": 5}, "multiple of num_heads"),
        ({"intermediate_layers": (4,)}, "intermediate_layers"),
        ({"activation": "relu"}, "activation"),
        ({"mode": "padded"}, "mode"),
        ({"local_attention": "row"}, "local_attention"),
        ({"mode": "released", "class_token": False}, "class_token"),
    ],
)
def test_a_wrong_config_names_its_key(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)


def test_tiles_must_be_as_many_as_the_arrangements_say() -> None:
    encoder = ImageEncoder(SMALL)
    with pytest.raises(ValueError, match="arrangements ask for tiles"):
        encoder(torch.zeros(3, 3, 28, 28), torch.tensor([[2, 2]]))
    with pytest.raises(ValueError, match=r"no arrangement of at most 4 tiles is \(3, 2\)"):
        encoder(torch.zeros(6, 3, 28, 28), torch.tensor([[3, 2]]))
