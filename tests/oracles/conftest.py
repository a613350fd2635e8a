"""Small random models of transformers, saved as that library saves them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MllamaConfig,
    MllamaForConditionalGeneration,
    PreTrainedModel,
)


def randomize(model: nn.Module, *, seed: int = 0) -> None:
    """Weights that give logits of about unit scale; norms and gates off their usual start."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "gate" in name and parameter.numel() == 1:
            parameter.data = 0.5 + 0.2 * noise
        elif parameter.dim() == 1 and name.endswith("norm.weight"):
            parameter.data = 1 + 0.1 * noise
        elif parameter.dim() == 1:
            parameter.data = 0.1 * noise
        else:
            parameter.data = noise * parameter[0].numel() ** -0.5


@pytest.fixture
def save_huggingface(tmp_path: Path) -> Callable[..., Path]:
    """Saves a model of transformers in a given type and shard size; gives the directory."""

    def save(
        model: PreTrainedModel, *, dtype: torch.dtype = torch.float32, max_shard_size: str = "5GB"
    ) -> Path:
        directory = tmp_path / "huggingface"
        model.to(dtype).save_pretrained(directory, max_shard_size=max_shard_size)
        return directory

    return save


@pytest.fixture
def their_llama() -> Callable[..., LlamaForCausalLM]:
    """Builds a small random LlamaForCausalLM."""

    def build(**changes: Any) -> LlamaForCausalLM:
        config = LlamaConfig(
            **{
                "vocab_size": 96,
                "hidden_size": 64,
                "num_hidden_layers": 3,
                "num_attention_heads": 8,
                "num_key_value_heads": 4,
                "intermediate_size": 96,
                "max_position_embeddings": 512,
                "rms_norm_eps": 1e-5,
                "rope_theta": 500_000.0,
                "bos_token_id": 90,
                "eos_token_id": 91,
                **changes,
            }
        )
        model = LlamaForCausalLM(config).eval()
        randomize(model)
        model.tie_weights()
        return model

    return build


@pytest.fixture
def their_vision() -> Callable[..., MllamaForConditionalGeneration]:
    """Builds a small random MllamaForConditionalGeneration."""

    def build(
        *, image_size: int = 28, text: dict[str, Any] | None = None, **vision: Any
    ) -> MllamaForConditionalGeneration:
        text_config = {
            "vocab_size": 96,
            "hidden_size": 64,
            "num_hidden_layers": 6,
            "cross_attention_layers": [1, 4],
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 96,
            "max_position_embeddings": 512,
            "rope_theta": 500_000.0,
            "bos_token_id": 90,
            "eos_token_id": 91,
            "pad_token_id": 92,
            **(text or {}),
        }
        vision_config = {
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_global_layers": 2,
            "attention_heads": 2,
            "intermediate_size": 48,
            "vision_output_dim": 96,
            "image_size": image_size,
            "patch_size": 14,
            "intermediate_layers_indices": [0, 1],
            **vision,
        }
        config = MllamaConfig(
            text_config=text_config,
            vision_config=vision_config,
            image_token_index=text_config["vocab_size"],
        )
        model = MllamaForConditionalGeneration(config).eval()
        randomize(model)
        return model

    return build
