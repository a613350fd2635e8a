"""Llama 3 as published: Hugging Face's directories in and out, Meta's in (``language.meta``).

Both are opened as ``(config, tensors under our names)``; nothing is read before the model, built on
the meta device, is filled.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from language.config import LlamaConfig, RopeScaling
from language.directories import copy_companions, whole, written_whole
from language.errors import InputError
from language.meta import is_meta, open_meta
from language.model import Llama
from language.weights import (
    MAX_SHARD_BYTES,
    StoredTensor,
    fill,
    open_safetensors,
    read_json,
    renamed,
    write_json,
    write_safetensors,
)

BLOCK_NAMES = {
    "attention_norm": "input_layernorm",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.output": "self_attn.o_proj",
    "feed_forward_norm": "post_attention_layernorm",
    "feed_forward.gate": "mlp.gate_proj",
    "feed_forward.up": "mlp.up_proj",
    "feed_forward.down": "mlp.down_proj",
}
"""Modules of a block, ours and Hugging Face's."""


def load_llama(
    directory: Path | str,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> Llama:
    """The core from a Hugging Face or Meta directory, in eval mode.

    Args:
        directory: with ``config.json`` and safetensors, or ``params.json`` and
            ``consolidated*.pth`` (there or in its ``original`` folder).
        device: where the weights go.
        dtype: what they are cast to; None keeps the type they are stored in.

    Raises:
        InputError: what is wrong with which file.
    """
    config, stored = open_llama(Path(directory))
    with torch.device("meta"):
        model = Llama(config)
    fill(model, stored, device=device, dtype=dtype)
    return model.eval()


def open_llama(directory: Path) -> tuple[LlamaConfig, dict[str, StoredTensor]]:
    """Config and stored tensors, under the names of :class:`Llama`, of a published directory.

    Raises:
        InputError: what is wrong with which file.
    """
    directory = whole(directory)
    if is_meta(directory):
        return open_meta(directory)
    file = directory / "config.json"
    data = read_json(file)
    architecture = architecture_of(data)
    if architecture != "LlamaForCausalLM":
        raise InputError(file, f"architecture {architecture} is not LlamaForCausalLM")
    config = config_from_huggingface(data, source=file)
    stored = open_safetensors(directory)
    ignored = ("rotary_emb.inv_freq",) + (("lm_head.weight",) if config.tied_embeddings else ())
    names = huggingface_names(config)
    return config, renamed(stored, names, source=directory, ignored=ignored)


def save_llama(
    model: Llama,
    directory: Path | str,
    *,
    companions: Path | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Write the core as a Hugging Face directory, whole or not at all.

    Args:
        model: its weights are written as they are, in the type they have.
        directory: made, or replaced if it holds a checkpoint and nothing else.
        companions: a directory whose tokenizer and generation files are copied along.
        max_shard_bytes: larger weights are split.
    """
    parameters = dict(model.named_parameters())
    tensors = {theirs: parameters[ours] for ours, theirs in huggingface_names(model.config)}
    config = config_to_huggingface(model.config, dtype=model.embedding.weight.dtype)
    config |= token_ids(companions)
    with written_whole(Path(directory)) as target:
        write_json(target / "config.json", config)
        write_safetensors(target, tensors, max_shard_bytes=max_shard_bytes)
        if companions is not None:
            copy_companions(companions, target)


def huggingface_names(config: LlamaConfig) -> Iterator[tuple[str, str]]:
    """Pairs of our name and Hugging Face's, in the order of the walk."""
    yield "embedding.weight", "model.embed_tokens.weight"
    for layer in range(config.num_layers):
        for ours, theirs in BLOCK_NAMES.items():
            yield f"blocks.{layer}.{ours}.weight", f"model.layers.{layer}.{theirs}.weight"
    yield "norm.weight", "model.norm.weight"
    if not config.tied_embeddings:
        yield "head.weight", "lm_head.weight"


def architecture_of(data: Mapping[str, Any]) -> str:
    """The class that a Hugging Face config names, or "unknown"."""
    names = data.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else "unknown"


def config_from_huggingface(data: Mapping[str, Any], *, source: Path) -> LlamaConfig:
    """The core's config from Hugging Face's keys, those of transformers 4 and 5.

    Raises:
        InputError: a key is missing or wrong, or asks for something that Llama 3 doesn't have.
    """
    for key, only in (("attention_bias", False), ("mlp_bias", False), ("hidden_act", "silu")):
        if data.get(key, only) != only:
            raise InputError(source, f"{key} {data[key]!r} is not Llama 3's ({only!r})")
    if data.get("quantization_config"):
        raise InputError(source, "has a quantization_config: quantized weights are not read")
    try:
        theta, scaling = _rope_from_huggingface(data)
        heads = data["num_attention_heads"]
        return LlamaConfig(
            vocab_size=_whole(data, "vocab_size"),
            dim=_whole(data, "hidden_size"),
            num_layers=_whole(data, "num_hidden_layers"),
            num_heads=_whole(data, "num_attention_heads"),
            num_kv_heads=_whole(data, "num_key_value_heads", heads),
            head_dim=_whole(data, "head_dim", 0),
            ffn_dim=_whole(data, "intermediate_size"),
            norm_eps=float(data.get("rms_norm_eps", 1e-6)),
            rope_theta=theta,
            rope_scaling=scaling,
            max_positions=_whole(data, "max_position_embeddings", 2048),
            tied_embeddings=bool(data.get("tie_word_embeddings", False)),
        )
    except KeyError as error:
        raise InputError(source, f"lacks the key {error.args[0]}") from None
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise InputError(source, str(error)) from None


def _whole(data: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """A number of ``data``; absent or null means the default."""
    value = data.get(key)
    if value is None and default is not None:
        return default
    if value is None:
        raise KeyError(key)
    if not isinstance(value, int) or value <= 0:
        raise ValueError(f"{key} must be a positive whole number, not {value!r}")
    return value


def _rope_from_huggingface(data: Mapping[str, Any]) -> tuple[float, RopeScaling | None]:
    """Base and scaling from ``rope_parameters``, or from ``rope_theta`` and ``rope_scaling``."""
    rope = data.get("rope_parameters") or data.get("rope_scaling") or {}
    theta = float(rope.get("rope_theta") or data.get("rope_theta") or 10_000.0)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return theta, None
    if kind != "llama3":
        raise ValueError(f"rotary scaling {kind!r} is not Llama 3's")
    return theta, RopeScaling(
        factor=float(rope["factor"]),
        low_freq_factor=float(rope["low_freq_factor"]),
        high_freq_factor=float(rope["high_freq_factor"]),
        original_max_positions=rope["original_max_position_embeddings"],
    )


def config_to_huggingface(config: LlamaConfig, *, dtype: torch.dtype) -> dict[str, Any]:
    """The keys of ``config.json`` that every transformers since 4.43 reads."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "hidden_size": config.dim,
        "initializer_range": 0.02,
        "intermediate_size": config.ffn_dim,
        "max_position_embeddings": config.max_positions,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": config.num_heads,
        "num_hidden_layers": config.num_layers,
        "num_key_value_heads": config.num_kv_heads,
        "pretraining_tp": 1,
        "rms_norm_eps": config.norm_eps,
        **_rope_to_huggingface(config),
        "tie_word_embeddings": config.tied_embeddings,
        "torch_dtype": str(dtype).removeprefix("torch."),
        "use_cache": True,
        "vocab_size": config.vocab_size,
    }


def _rope_to_huggingface(config: LlamaConfig) -> dict[str, Any]:
    scaling = config.rope_scaling
    if scaling is None:
        return {"rope_scaling": None, "rope_theta": config.rope_theta}
    return {
        "rope_scaling": {
            "factor": scaling.factor,
            "high_freq_factor": scaling.high_freq_factor,
            "low_freq_factor": scaling.low_freq_factor,
            "original_max_position_embeddings": scaling.original_max_positions,
            "rope_type": "llama3",
        },
        "rope_theta": config.rope_theta,
    }


def token_ids(companions: Path | None) -> dict[str, Any]:
    """The special tokens of a Hugging Face config, which no config of ours holds.

    They are those that the companions' ``config.json`` or ``generation_config.json`` names.
    """
    ids: dict[str, Any] = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    for name in ("generation_config.json", "config.json"):
        if companions is not None and (companions / name).is_file():
            data = read_json(companions / name)
            data = data.get("text_config") or data
            ids |= {key: data[key] for key in ids if data.get(key) is not None}
    return ids
