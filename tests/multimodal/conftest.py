"""A small composed model and batches of mixed rows, shared by the tests of the composition."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from language.config import LlamaConfig
from language.tokenizer import train_bpe
from multimodal.batch import Batch, Images
from multimodal.checkpoint import save_model
from multimodal.config import MultimodalConfig
from multimodal.model import MultimodalLlama
from vision.adapter import ImageAdapterConfig
from vision.encoder import ImageEncoderConfig
from vision.tiles import TilesConfig


@pytest.fixture
def config() -> MultimodalConfig:
    """Four core layers, adapter layers before blocks 1 and 3 and after the last."""
    encoder = ImageEncoderConfig(
        image_size=16,
        patch_size=8,
        dim=16,
        num_layers=2,
        num_global_layers=1,
        num_heads=2,
        ffn_dim=24,
        intermediate_layers=(0,),
    )
    language = LlamaConfig(
        vocab_size=300, dim=32, num_layers=4, num_heads=4, num_kv_heads=2, ffn_dim=48
    )
    return MultimodalConfig(
        language=language,
        image_encoder=encoder,
        image_adapter=ImageAdapterConfig(
            positions=(1, 3, 4),
            dim=32,
            num_heads=4,
            num_kv_heads=2,
            head_dim=8,
            ffn_dim=48,
            feature_dim=encoder.feature_dim,
            gate_init=0.6,
        ),
        tiles=TilesConfig(tile_size=16),
        extra_tokens=8,
        visibility="all_before",
    )


@pytest.fixture
def model(config: MultimodalConfig) -> MultimodalLlama:
    """Fresh weights with open gates, so that pictures matter."""
    torch.manual_seed(0)
    model = MultimodalLlama(config)
    model.language.reset_parameters()
    model.image_adapter.reset_parameters()
    for name, parameter in model.image_encoder.named_parameters():
        if name.endswith("gate"):
            torch.nn.init.constant_(parameter, 0.4)
    return model.eval()


MakeBatch = Callable[..., Batch]


@pytest.fixture
def make_batch() -> MakeBatch:
    """Builds a batch: ``pictures[row]`` lists (position, (tile rows, tile columns)) of each."""

    def make(
        pictures: list[list[tuple[int, tuple[int, int]]]], *, num_tokens: int = 12, seed: int = 0
    ) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        tokens = torch.randint(300, (len(pictures), num_tokens), generator=generator)
        lengths = torch.full((len(pictures),), num_tokens)
        flat = [(row, *picture) for row, some in enumerate(pictures) for picture in some]
        if not flat:
            return Batch(tokens=tokens, lengths=lengths)
        visible = torch.zeros(len(pictures), num_tokens, max(map(len, pictures)), dtype=torch.bool)
        for row, some in enumerate(pictures):
            for index, (position, _) in enumerate(some):
                tokens[row, position] = 300  # the picture's placeholder, past the core's table
                visible[row, position:, index] = True
        arrangements = torch.tensor([shape for _, _, shape in flat])
        num_tiles = int(arrangements.prod(1).sum())
        images = Images(
            tiles=torch.randn(num_tiles, 3, 16, 16, generator=generator),
            arrangements=arrangements,
            rows=torch.tensor([row for row, _, _ in flat]),
        )
        return Batch(tokens=tokens, lengths=lengths, images=images, visible=visible)

    return make


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory as users have one: random weights, open gates, a tokenizer of few words."""
    texts = ["What colour is the cup? Describe the picture. user assistant system\n\n"] * 3
    tokenizer = train_bpe(texts, num_merged=40)
    encoder = ImageEncoderConfig(
        image_size=16, patch_size=4, dim=16, num_layers=1, num_heads=2, ffn_dim=24
    )
    config = MultimodalConfig(
        language=LlamaConfig(
            vocab_size=tokenizer.vocab_size,
            dim=32,
            num_layers=3,
            num_heads=4,
            num_kv_heads=2,
            ffn_dim=48,
            max_positions=512,
        ),
        image_encoder=encoder,
        image_adapter=ImageAdapterConfig(
            positions=(1, 2),
            dim=32,
            num_heads=4,
            num_kv_heads=2,
            head_dim=8,
            ffn_dim=48,
            feature_dim=encoder.feature_dim,
            gate_init=0.6,
        ),
        tiles=TilesConfig(tile_size=16),
        extra_tokens=8,
    )
    torch.manual_seed(0)
    model = MultimodalLlama(config)
    model.language.reset_parameters()
    model.image_adapter.reset_parameters()
    directory = tmp_path_factory.mktemp("models") / "random"
    save_model(model, directory, tokenizer)
    return directory
