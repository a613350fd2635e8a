"""A small core and small taggers of random weights."""

import pytest
import torch

from language.config import LlamaConfig
from language.model import Llama
from language.tokenizer import train_bpe
from speech.embeddings import CoreEmbeddings
from speech.normalization.rules import language
from speech.normalization.tagger import Tagger, TaggerConfig


@pytest.fixture(scope="session")
def embeddings():
    tokenizer = train_bpe(["Dr. Lee lives at 12 Elm Dr. near the old mill."] * 50, num_merged=40)
    config = LlamaConfig(
        vocab_size=tokenizer.vocab_size,
        dim=32,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        ffn_dim=48,
        rope_theta=10000.0,
        max_positions=512,
    )
    torch.manual_seed(0)
    core = Llama(config)
    core.reset_parameters()
    return CoreEmbeddings(core.eval(), tokenizer, layer=2)


@pytest.fixture(scope="session")
def new_tagger(embeddings):
    def make(*, look_ahead, sees, memory=48):
        torch.manual_seed(1)
        tagger = Tagger(
            TaggerConfig(
                labels=language("en").labels,
                look_ahead=look_ahead,
                core_dim=embeddings.dim if sees else None,
                dim=16,
                hidden_dim=24,
                num_heads=2,
                num_word_rows=64,
                memory=memory,
            )
        )
        for parameter in tagger.parameters():
            if parameter.dim() == 1:
                torch.nn.init.normal_(parameter, std=0.3)
        return tagger.eval()

    return make
