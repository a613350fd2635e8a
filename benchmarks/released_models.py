"""Randomly initialised models in the public formats: both sides of a comparison read the same."""

from pathlib import Path

import torch
import transformers

MLLAMA_VOCABULARY = 1024


def save_llama(directory: Path, *, dtype: torch.dtype, **sizes: int) -> None:
    """A ``LlamaForCausalLM`` of the given ``transformers.LlamaConfig`` sizes."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        max_position_embeddings=4096, rope_theta=500_000.0, eos_token_id=None, **sizes
    )
    transformers.LlamaForCausalLM(config).to(dtype).save_pretrained(directory)


def save_mllama(directory: Path, *, tile_size: int = 112) -> None:
    """A small ``MllamaForConditionalGeneration`` of 11B's shape with open gates."""
    torch.manual_seed(0)
    vision = transformers.models.mllama.configuration_mllama.MllamaVisionConfig(
        hidden_size=192,
        intermediate_size=768,
        num_hidden_layers=8,
        num_global_layers=2,
        attention_heads=6,
        image_size=tile_size,
        patch_size=14,
        intermediate_layers_indices=[1, 3, 5],
        vision_output_dim=4 * 192,
        max_num_tiles=4,
        supported_aspect_ratios=[[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]],
    )
    text = transformers.models.mllama.configuration_mllama.MllamaTextConfig(
        vocab_size=MLLAMA_VOCABULARY,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=10,
        num_attention_heads=8,
        num_key_value_heads=2,
        cross_attention_layers=[3, 8],
        rope_theta=500_000.0,
        rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
        max_position_embeddings=4096,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    config = transformers.MllamaConfig(
        vision_config=vision, text_config=text, image_token_index=MLLAMA_VOCABULARY
    )
    model = transformers.MllamaForConditionalGeneration(config)
    for name, parameter in model.named_parameters():
        if "gate" in name and parameter.numel() == 1:
            torch.nn.init.constant_(parameter, 0.5)
    model.save_pretrained(directory)
