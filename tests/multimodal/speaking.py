"""A small model of random weights that sees and hears, and sounds for it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from language.config import LlamaConfig
from language.tokenizer import train_bpe
from multimodal.checkpoint import save_model
from multimodal.config import MultimodalConfig
from multimodal.model import MultimodalLlama
from speech.adapter import SpeechAdapterConfig
from speech.conformer import ConformerConfig
from speech.encoder import SpeechEncoderConfig
from vision.adapter import ImageAdapterConfig
from vision.encoder import ImageEncoderConfig
from vision.tiles import TilesConfig

RATE = 16_000
TOKENIZER = train_bpe(
    ["Repeat after me in English: What is the cup? user assistant system\n\n one two three"] * 3,
    num_merged=40,
)


def speaking_model(*, pictures: bool = True) -> MultimodalLlama:
    """Fresh weights; with open gates, so that pictures matter."""
    core = LlamaConfig(
        vocab_size=TOKENIZER.vocab_size,
        dim=32,
        num_layers=3,
        num_heads=4,
        num_kv_heads=2,
        ffn_dim=48,
        max_positions=512,
    )
    config = MultimodalConfig(
        language=core,
        speech_encoder=SpeechEncoderConfig(
            conformer=ConformerConfig(dim=16, num_layers=2, num_heads=2, ffn_dim=24)
        ),
        speech_adapter=SpeechAdapterConfig(
            input_dim=16, output_dim=32, dim=16, ffn_dim=24, num_heads=2, output_scale=1.0
        ),
    )
    if pictures:
        encoder = ImageEncoderConfig(
            image_size=16, patch_size=4, dim=16, num_layers=1, num_heads=2, ffn_dim=24
        )
        config = replace(
            config,
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
    torch.nn.init.normal_(model.language.embedding.weight)
    if pictures:
        model.image_adapter.reset_parameters()
    model.speech_encoder.reset_parameters()
    return model.eval()


def write_speaking(directory: Path, *, pictures: bool = True) -> Path:
    """The model as a directory."""
    save_model(speaking_model(pictures=pictures), directory, TOKENIZER)
    return directory


def sound(seconds: float, *, seed: int = 0) -> tuple[np.ndarray, int]:
    """Something that rises and falls as speech does, with its rate."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    wave = sum(np.sin(2 * np.pi * rng.uniform(80, 300) * k * time) / k for k in range(1, 12))
    swing = 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(3, 5) * time)
    return (0.1 * wave * swing).astype(np.float32), RATE


def says(*parts: object, role: str = "user") -> dict[str, object]:
    """A message: texts as they are, sounds as audio parts."""
    content = [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {"type": "audio", "audio": part}
        for part in parts
    ]
    return {"role": role, "content": content}
