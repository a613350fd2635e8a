"""The parts of a speaker, of random weights."""

from pathlib import Path

import torch

from language.checkpoint import save_llama
from language.config import LlamaConfig
from language.model import Llama
from multimodal.world.speaking import write_core_data
from speech.normalization.checkpoint import save_tagger
from speech.normalization.rules import language
from speech.normalization.tagger import Tagger, TaggerConfig
from speech.prosody.checkpoint import save_prosody
from speech.prosody.model import ProsodyConfig, ProsodyModel


def random_parts(folder: Path) -> dict[str, Path]:
    """Write a core, a tagger and a prosody model; where each is."""
    write_core_data(folder, number=1, seed=0)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=2048,
        dim=16,
        num_layers=4,
        num_heads=2,
        num_kv_heads=1,
        ffn_dim=16,
        rope_theta=1e4,
        max_positions=256,
    )
    core = Llama(config)
    core.reset_parameters()
    save_llama(core, folder / "core", companions=folder / "tokenizer")
    labels = language("en").labels
    tagger = Tagger(TaggerConfig(labels=labels, core_dim=16, dim=16, hidden_dim=16, num_heads=2))
    save_tagger(tagger, folder / "normalization", language_code="en")
    means, spreads = (-2.5, 4.8, -8.0), (0.3, 0.2, 0.5)
    prosody = ProsodyModel(
        ProsodyConfig(dim=24, num_layers=1, ffn_dim=16, core_dim=16, means=means, spreads=spreads)
    )
    save_prosody(prosody, folder / "prosody")
    return {name: folder / name for name in ("core", "normalization", "prosody")}
