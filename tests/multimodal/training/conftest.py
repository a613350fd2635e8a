"""A core and an encoder on disk, and a run of the adapter's training beside them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from language.checkpoint import save_llama
from language.config import LlamaConfig
from language.model import Llama
from language.optimization import AdamWConfig, ScheduleConfig
from language.tokenizer import train_bpe
from multimodal.training.adapter import ImageAdapterTraining
from multimodal.training.parts import FreshAdapter, ModelParts
from tests.multimodal.training.fakes import TILE, Counting, Recorder, quiet_trainer
from vision.checkpoint import save_encoder
from vision.encoder import ImageEncoder, ImageEncoderConfig
from vision.tiles import TilesConfig

TOKENIZER = train_bpe(["one two three"] * 3, num_merged=4)
ENCODER = ImageEncoderConfig(
    image_size=TILE,
    patch_size=8,
    dim=16,
    num_layers=2,
    num_heads=2,
    ffn_dim=24,
    num_global_layers=1,
    intermediate_layers=(0,),
)


def write_core(directory: Path, *, seed: int) -> str:
    """A core with its tokenizer."""
    torch.manual_seed(seed)
    model = Llama(
        LlamaConfig(
            vocab_size=TOKENIZER.vocab_size,
            dim=32,
            num_layers=4,
            num_heads=4,
            num_kv_heads=2,
            ffn_dim=48,
            max_positions=512,
        )
    )
    model.reset_parameters()
    companions = directory.with_name(directory.name + "-tokenizer")
    companions.mkdir()
    TOKENIZER.save(companions)
    save_llama(model, directory, companions=companions)
    return str(directory)


@pytest.fixture(scope="session")
def core(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Directory of a core."""
    return write_core(tmp_path_factory.mktemp("models") / "core", seed=0)


@pytest.fixture(scope="session")
def sibling(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Directory of another core of the same sizes."""
    return write_core(tmp_path_factory.mktemp("models") / "sibling", seed=1)


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Directory of an image encoder."""
    torch.manual_seed(2)
    directory = tmp_path_factory.mktemp("models") / "encoder"
    save_encoder(ImageEncoder(ENCODER), directory, tiles=TilesConfig(tile_size=TILE))
    return str(directory)


@pytest.fixture
def parts(core: str, encoder: str) -> ModelParts:
    """A new adapter between the two, its gates ajar."""
    adapter = FreshAdapter(positions=(1, 3), gate_init=0.3)
    return ModelParts(core=core, image_encoder=encoder, adapter=adapter)


@pytest.fixture
def adapt(tmp_path: Path, parts: ModelParts) -> Any:
    """Trains from seed 0; gives the module and what was recorded."""

    def run(
        *,
        data: Any = None,
        callbacks: Any = (),
        trainer: Any = None,
        fit: Any = None,
        **settings: Any,
    ) -> tuple[ImageAdapterTraining, Recorder]:
        torch.manual_seed(0)
        usual = {
            "parts": parts,
            "optimizer": AdamWConfig(learning_rate=1e-2),
            "schedule": ScheduleConfig(warmup_steps=2),
        }
        module, recorder = ImageAdapterTraining(**usual | settings), Recorder()
        lightning = quiet_trainer(
            tmp_path / "run",
            callbacks=[recorder, *callbacks],
            **{"max_steps": 8, **(trainer or {})},
        )
        lightning.fit(module, data or Counting(pictures=True), **(fit or {}))
        return module, recorder

    return run
