"""Llama 3.2 Vision as published: ``MllamaForConditionalGeneration`` directories in and out.

The release numbers self-attention and cross-attention layers as one stack and holds the new
embeddings below the frozen ones in one table; here the core and what was added to it stand apart.
Every number survives both ways.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from language.checkpoint import (
    BLOCK_NAMES,
    config_from_huggingface,
    config_to_huggingface,
    token_ids,
)
from language.config import LlamaConfig
from language.directories import copy_companions, written_whole
from language.errors import InputError
from language.weights import (
    MAX_SHARD_BYTES,
    StoredTensor,
    check_depth,
    open_safetensors,
    read_json,
    renamed,
    write_json,
    write_safetensors,
)
from multimodal.config import MultimodalConfig, released_adapter
from multimodal.model import MultimodalLlama
from vision.encoder import ImageEncoder, ImageEncoderConfig
from vision.released import (
    encoder_config_from_released,
    released_names,
    released_vision_config,
)
from vision.tiles import TilesConfig

EXTRA_TOKENS = 8
"""New embeddings of the release; the first is the image token's."""
RESAMPLING: dict[int, Literal["bilinear", "bicubic"]] = {2: "bilinear", 3: "bicubic"}
"""Numbers of Pillow's filters in ``preprocessor_config.json``."""

LLAMA_ONLY = {
    "architectures",
    "attention_bias",
    "attention_dropout",
    "head_dim",
    "mlp_bias",
    "pretraining_tp",
}
"""Keys of a Llama config that the release's ``text_config`` doesn't have."""

LAYER_NAMES = {
    "attention_norm.weight": "input_layernorm.weight",
    "attention.query.weight": "cross_attn.q_proj.weight",
    "attention.key.weight": "cross_attn.k_proj.weight",
    "attention.value.weight": "cross_attn.v_proj.weight",
    "attention.output.weight": "cross_attn.o_proj.weight",
    "attention.query_norm.weight": "cross_attn.q_norm.weight",
    "attention.key_norm.weight": "cross_attn.k_norm.weight",
    "attention_gate": "cross_attn_attn_gate",
    "feed_forward_norm.weight": "post_attention_layernorm.weight",
    "feed_forward.gate.weight": "mlp.gate_proj.weight",
    "feed_forward.up.weight": "mlp.up_proj.weight",
    "feed_forward.down.weight": "mlp.down_proj.weight",
    "feed_forward_gate": "cross_attn_mlp_gate",
}
"""Parameters of an adapter layer, ours and the release's."""

PUBLISHED = {
    "text": "language_model.model.",
    "head": "language_model.lm_head.",
    "vision": "vision_model.",
    "projection": "multi_modal_projector.",
}
"""Prefixes in the files of the release, which transformers still writes."""
NESTED = {
    "text": "model.language_model.",
    "head": "lm_head.",
    "vision": "model.vision_model.",
    "projection": "model.multi_modal_projector.",
}
"""Prefixes of the modules of transformers 5."""


def open_released(directory: Path) -> tuple[MultimodalConfig, dict[str, StoredTensor]]:
    """Config and stored tensors, under the names of :class:`MultimodalLlama`, of a release.

    Raises:
        InputError: what is wrong with which file.
    """
    file = directory / "config.json"
    config = config_from_released(read_json(file), source=file)
    tiles = directory / "preprocessor_config.json"
    if tiles.exists():
        try:
            found = _tiles_from_released(read_json(tiles), config, source=tiles)
            config = replace(config, tiles=found)
        except InputError:
            raise
        except ValueError as error:  # tiles that do not go with the encoder
            raise InputError(tiles, str(error)) from None
    assert config.image_encoder is not None
    stored = open_safetensors(directory)
    encoder = config.image_encoder
    check_depth(encoder.num_layers, encoder.num_global_layers, stored=stored, source=file)
    prefixes = NESTED if f"{NESTED['text']}norm.weight" in stored else PUBLISHED
    ours = renamed(stored, released_tensors(config, prefixes=prefixes), source=directory)
    return config, _reshaped(_split_embedding(ours, config.language), config.image_encoder)


def save_released(
    model: MultimodalLlama,
    directory: Path | str,
    *,
    companions: Path | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Write a model as Llama 3.2 Vision, whole or not at all.

    Args:
        model: its weights are written as they are, in the type they have.
        directory: made, or replaced if it holds a checkpoint and nothing else.
        companions: a directory whose tokenizer and generation files are copied along.
        max_shard_bytes: larger weights are split.

    Raises:
        ValueError: the release has no place for such a model.
    """
    config = config_to_released(model.config, dtype=model.language.embedding.weight.dtype)
    config["text_config"] |= token_ids(companions)
    parameters = dict(model.named_parameters())
    tensors: dict[str, Tensor | tuple[Tensor, ...]] = {}
    for ours, theirs in released_tensors(model.config, prefixes=PUBLISHED):
        tensors[theirs] = _as_released(theirs, parameters[ours], model.config)
        if ours == "language.embedding.weight":
            tensors[theirs] = (parameters[ours], parameters["extra_embedding.weight"])
    with written_whole(Path(directory)) as target:
        write_json(target / "config.json", config)
        write_safetensors(target, tensors, max_shard_bytes=max_shard_bytes)
        if companions is not None:
            copy_companions(companions, target)
        if not (target / "preprocessor_config.json").exists():
            write_json(target / "preprocessor_config.json", _tiles_to_released(model.config))


def released_tensors(
    config: MultimodalConfig, *, prefixes: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Pairs of our name and the release's; the embedding stands for both its parts."""
    assert config.image_encoder is not None and config.image_adapter is not None
    text, positions = prefixes["text"], config.image_adapter.positions
    yield "language.embedding.weight", f"{text}embed_tokens.weight"
    for block in range(config.language.num_layers):
        fused = block + sum(position <= block for position in positions)
        for ours, theirs in BLOCK_NAMES.items():
            yield f"language.blocks.{block}.{ours}.weight", f"{text}layers.{fused}.{theirs}.weight"
    for layer, fused in enumerate(fused_positions(positions)):
        for ours, theirs in LAYER_NAMES.items():
            yield f"image_adapter.layers.{layer}.{ours}", f"{text}layers.{fused}.{theirs}"
    yield "language.norm.weight", f"{text}norm.weight"
    yield "language.head.weight", f"{prefixes['head']}weight"
    yield "image_adapter.projection.weight", f"{prefixes['projection']}weight"
    yield "image_adapter.projection.bias", f"{prefixes['projection']}bias"
    for ours, theirs in released_names(config.image_encoder).items():
        yield f"image_encoder.{ours}", f"{prefixes['vision']}{theirs}"


def fused_positions(positions: tuple[int, ...]) -> list[int]:
    """Places in the release's one stack of layers that stand before these blocks of the core."""
    return [position + layer for layer, position in enumerate(positions)]


def config_from_released(data: Mapping[str, Any], *, source: Path) -> MultimodalConfig:
    """The config from the release's ``config.json``.

    Raises:
        InputError: a key is missing or wrong, or asks for something that the release doesn't have.
    """
    try:
        text, vision = data["text_config"], data["vision_config"]
        fused = sorted(text["cross_attention_layers"])
        self_attention = text["num_hidden_layers"] - len(fused)
        language = config_from_huggingface(
            {**text, "num_hidden_layers": self_attention}, source=source
        )
        encoder = encoder_config_from_released(vision)
        adapter = released_adapter(language, feature_dim=encoder.feature_dim)
        positions = tuple(place - layer for layer, place in enumerate(fused))
        return MultimodalConfig(
            language=language,
            image_encoder=encoder,
            image_adapter=replace(adapter, positions=positions),
            tiles=TilesConfig(tile_size=encoder.image_size, max_num_tiles=encoder.max_num_tiles),
            extra_tokens=EXTRA_TOKENS,
            visibility="until_next",
        )
    except InputError:
        raise
    except KeyError as error:
        raise InputError(source, f"lacks the key {error.args[0]}") from None
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise InputError(source, str(error)) from None


def config_to_released(config: MultimodalConfig, *, dtype: torch.dtype) -> dict[str, Any]:
    """The release's ``config.json``.

    Raises:
        ValueError: the release has no place for such a model.
    """
    encoder, adapter, core = config.image_encoder, config.image_adapter, config.language
    if encoder is None or adapter is None:
        raise ValueError("a model without image parts is no Llama 3.2 Vision: write it as Llama")
    like_core = released_adapter(core, feature_dim=adapter.feature_dim)
    required = (
        ("extra_tokens", config.extra_tokens, EXTRA_TOKENS),
        ("visibility", config.visibility, "until_next"),
        ("image_encoder.mode", encoder.mode, "released"),
        ("language.tied_embeddings", core.tied_embeddings, False),
        ("language.head_dim", core.head_dim, core.dim // core.num_heads),
        *(
            (f"image_adapter.{key}", getattr(adapter, key), getattr(like_core, key))
            for key in ("num_heads", "num_kv_heads", "head_dim", "ffn_dim", "norm_eps")
        ),
    )
    for key, value, wanted in required:
        if value != wanted:
            raise ValueError(f"{key} is {value!r}, Llama 3.2 Vision's would be {wanted!r}")
    text = config_to_huggingface(core, dtype=dtype)
    for key in set(text) & LLAMA_ONLY:
        del text[key]
    data_type = text.pop("torch_dtype")
    return {
        "architectures": ["MllamaForConditionalGeneration"],
        "image_token_index": core.vocab_size,
        "model_type": "mllama",
        "text_config": text
        | {
            "cross_attention_layers": fused_positions(adapter.positions),
            "model_type": "mllama_text_model",
            "num_hidden_layers": core.num_layers + len(adapter.positions),
        },
        "torch_dtype": data_type,
        "vision_config": released_vision_config(encoder),
    }


def _split_embedding(stored: dict[str, StoredTensor], core: LlamaConfig) -> dict[str, StoredTensor]:
    """The frozen rows of the release's table, and the new ones below them."""
    table = stored["language.embedding.weight"]
    if len(table.shape) != 2 or table.shape[0] != core.vocab_size + EXTRA_TOKENS:
        raise InputError(
            table.file,
            f"{table.name} is {list(table.shape)}, the config wants "
            f"{[core.vocab_size + EXTRA_TOKENS, core.dim]}",
        )
    width = table.shape[1:]
    rows = {
        "language.embedding.weight": slice(None, core.vocab_size),
        "extra_embedding.weight": slice(core.vocab_size, None),
    }
    return stored | {
        name: table.changed(partial(_rows, rows=part), shape=(size, *width))
        for (name, part), size in zip(rows.items(), (core.vocab_size, EXTRA_TOKENS), strict=True)
    }


def _rows(table: Tensor, *, rows: slice) -> Tensor:
    return table[rows]


def _reshaped(
    stored: dict[str, StoredTensor], config: ImageEncoderConfig
) -> dict[str, StoredTensor]:
    """The encoder's tensors in the shapes that they have here."""
    with torch.device("meta"):
        encoder = ImageEncoder(config)
    changed = {}
    for name, parameter in encoder.named_parameters():
        entry, shape = stored[f"image_encoder.{name}"], tuple(parameter.shape)
        if torch.Size(entry.shape).numel() == parameter.numel():
            entry = entry.changed(partial(Tensor.reshape, shape=shape), shape=shape)
        changed[f"image_encoder.{name}"] = entry
    return stored | changed


def _as_released(name: str, tensor: Tensor, config: MultimodalConfig) -> Tensor:
    """One of our tensors in the release's shape."""
    assert config.image_encoder is not None
    if name.endswith("patch_embedding.weight"):
        patch = config.image_encoder.patch_size
        return tensor.unflatten(1, (3, patch, patch))
    if name.startswith(PUBLISHED["vision"]) and tensor.dim() > 2:
        return tensor.flatten(1)
    return tensor


def _tiles_from_released(
    data: Mapping[str, Any], config: MultimodalConfig, *, source: Path
) -> TilesConfig:
    assert config.tiles is not None
    try:
        return replace(
            config.tiles,
            max_num_tiles=data.get("max_image_tiles", config.tiles.max_num_tiles),
            mean=tuple(data.get("image_mean", config.tiles.mean)),
            std=tuple(data.get("image_std", config.tiles.std)),
            resampling=RESAMPLING[data.get("resample", 2)],
        )
    except KeyError:
        raise InputError(
            source, f"resample {data['resample']} is not bilinear or bicubic"
        ) from None
    except (ValueError, TypeError) as error:
        raise InputError(source, str(error)) from None


def _tiles_to_released(config: MultimodalConfig) -> dict[str, Any]:
    tiles = config.tiles
    assert tiles is not None
    numbers = {name: number for number, name in RESAMPLING.items()}
    return {
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_pad": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(tiles.mean),
        "image_processor_type": "MllamaImageProcessor",
        "image_std": list(tiles.std),
        "max_image_tiles": tiles.max_num_tiles,
        "resample": numbers[tiles.resampling],
        "rescale_factor": 1 / 255,
        "size": {"height": tiles.tile_size, "width": tiles.tile_size},
    }
