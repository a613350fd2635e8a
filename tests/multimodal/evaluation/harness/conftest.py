"""A Llama of random weights, in the files that transformers and we both read."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tokenizers
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from language.tokenizer import train_bpe

TEXTS = [
    "Three small dogs stand left of a big red cup. Which colour is the cup? It is red.",
    "naïve café — 漢字とかな\n\nQuestion: How many dogs are there?\nAnswer: 3, not 12345!\n\n",
    "<|image|> user assistant system content",
]
POSITIONS = 128
"""Of the model."""
CHAT = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}{% if add_generation_prompt %}"
    "<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
"""Llama 3's format, as a template of transformers."""


@pytest.fixture(scope="session")
def llama_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tokenizer puts the beginning-of-text token before a text, as the published one does."""
    directory = tmp_path_factory.mktemp("llama")
    train_bpe(TEXTS * 40, num_merged=120).save(directory)
    file = directory / "tokenizer.json"
    tokenizer = tokenizers.Tokenizer.from_file(str(file))
    bos = "<|begin_of_text|>"
    begin = tokenizer.token_to_id(bos)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, begin)]
    )
    tokenizer.save(str(file))
    end = tokenizer.token_to_id("<|end_of_text|>")
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": bos,
        "eos_token": "<|end_of_text|>",
        "pad_token": "<|finetune_right_pad_id|>",
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(about))
    config = LlamaConfig(
        vocab_size=tokenizer.token_to_id("<|image|>"),
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        intermediate_size=96,
        max_position_embeddings=POSITIONS,
        rope_theta=500_000.0,
        bos_token_id=begin,
        eos_token_id=end,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).eval()
    for parameter in model.parameters():
        if parameter.dim() == 2:  # logits of about unit scale: no token is likeliest everywhere
            torch.nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
    torch.nn.init.normal_(model.model.embed_tokens.weight)
    model.save_pretrained(directory)
    return directory


@pytest.fixture
def requests() -> Callable[..., list[Any]]:
    """Makes requests of a harness, each given its arguments."""

    def make(*arguments: tuple[Any, ...]) -> list[Any]:
        return [
            SimpleNamespace(args=each, arguments=each, task_name="made-up") for each in arguments
        ]

    return make
