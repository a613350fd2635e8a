"""A random core in Hugging Face's format, with a tokenizer, on both sides."""

from pathlib import Path

import pytest
import torch
import transformers

from language.tokenizer import train_bpe

TEXTS = ["The river begins in the hills and ends in the sea.", "One two three four five six."]


@pytest.fixture(scope="session")
def published(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    tokenizer = train_bpe(TEXTS * 3, num_merged=40)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=48, intermediate_size=96,
        num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=64, bos_token_id=tokenizer.bos_id,
        eos_token_id=tokenizer.stop_ids[0],
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3)  # likelihoods that differ
    model.save_pretrained(folder)
    tokenizer.save(folder)
    return folder


@pytest.fixture(scope="session")
def theirs(published):
    return transformers.LlamaForCausalLM.from_pretrained(published).eval()
