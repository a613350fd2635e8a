"""Image encoders on disk, and the same weights for tiles of another size."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from language.errors import InputError
from language.weights import fill
from vision.checkpoint import differences, load_encoder, open_encoder, resized, save_encoder
from vision.encoder import ImageEncoder, ImageEncoderConfig
from vision.tiles import TilesConfig

SMALL = ImageEncoderConfig(
    image_size=32,
    patch_size=8,
    dim=16,
    num_layers=2,
    num_heads=2,
    ffn_dim=24,
    num_global_layers=1,
    intermediate_layers=(0,),
)
TILES = TilesConfig(tile_size=32, mean=(0.5, 0.4, 0.3))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_encoder(ImageEncoder(SMALL), tmp_path / "encoder", tiles=TILES)
    return tmp_path / "encoder"


def test_an_encoder_comes_back(directory: Path) -> None:
    torch.manual_seed(0)
    written = ImageEncoder(SMALL).state_dict()
    encoder, tiles = load_encoder(directory)
    assert encoder.config == SMALL and tiles == TILES and not encoder.training
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, written[name]), name


@pytest.mark.parametrize("size", [16, 48])
def test_positions_of_another_tile_size(directory: Path, size: int) -> None:
    """Each table is resampled as the picture of D channels that it is; the class token stays."""
    config, _, stored = open_encoder(directory)
    larger = replace(config, image_size=size)
    with torch.device("meta"):
        encoder = ImageEncoder(larger)
    fill(encoder, resized(stored, old=config, new=larger))
    old, new = load_encoder(directory)[0].position_embedding, encoder.position_embedding
    tables = [(old.table, new.table), (old.tile_table[3, 1], new.tile_table[3, 1])]
    for before, after in tables:
        assert torch.equal(after[0], before[0])
        picture = before[1:].T.view(1, 16, 4, 4)
        expected = F.interpolate(picture, size=size // 8, mode="bicubic", antialias=True)
        torch.testing.assert_close(after[1:].T, expected.flatten(2)[0])
    assert torch.isfinite(encoder(torch.randn(2, 3, size, size), torch.tensor([[1, 2]]))).all()


def test_the_same_size_is_left_alone(directory: Path) -> None:
    config, _, stored = open_encoder(directory)
    assert resized(stored, old=config, new=config) is stored


def test_differences_are_of_the_model_not_of_its_computing() -> None:
    assert not differences(SMALL, replace(SMALL, mode="released", activation_checkpointing=True))
    assert differences(SMALL, replace(SMALL, num_heads=4)) == ["num_heads"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{}", "no image encoder"),
        ('{"format": "openherd-image-encoder", "version": 1}', "needs the key"),
        ('{"format": "openherd-image-encoder", "version": 2}', "version 1"),
        ("[", "not JSON"),
    ],
)
def test_a_broken_config_is_one_clear_line(directory: Path, text: str, fault: str) -> None:
    (directory / "config.json").write_text(text)
    with pytest.raises(InputError, match=fault) as caught:
        load_encoder(directory)
    assert "config.json" in str(caught.value) and "\n" not in str(caught.value)


def test_weights_of_another_size_are_refused(directory: Path) -> None:
    config = (directory / "config.json").read_text()
    (directory / "config.json").write_text(config.replace('"ffn_dim": 24', '"ffn_dim": 28'))
    with pytest.raises(InputError, match="the config wants"):
        load_encoder(directory)
