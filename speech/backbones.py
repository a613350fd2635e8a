"""Public speech encoders of Hugging Face directories in the place of ours: w2v-BERT 2.0, Whisper.

Only `config.json` and safetensors are read; what a directory holds beside the encoder, such as
Whisper's decoder or a head for CTC, stays where it is. An encoder with parts that are unknown here
is refused in one line rather than read wrongly.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from language.config_dict import config_from_dict
from language.directories import whole
from language.errors import InputError
from language.weights import StoredTensor, check_depth, fill, open_safetensors, read_json, renamed
from speech.encoder import SpeechEncoder, SpeechEncoderConfig, build_encoder


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """How a kind of encoder is published. Mappings are from our names to Hugging Face's."""

    field: str
    """Of `SpeechEncoderConfig`."""
    keys: Mapping[str, str]
    """Of the config."""
    only: Mapping[str, tuple[Any, ...]]
    """Their keys by which an encoder could differ from ours, and the values with which none does;
    the first is theirs by default."""
    stem: Mapping[str, str]
    """Modules and parameters outside the layers."""
    layer: Mapping[str, str]
    """Modules and parameters of a layer."""
    layers: str
    """Where their layers stand."""
    parts: tuple[str, ...]
    """Where their encoder's tensors stand; there must be none that ours lacks."""
    prefixes: tuple[str, ...]
    """Before all of their names, by what the encoder is a part of."""


_WHISPER = _Layout(
    field="whisper",
    keys={
        "num_mels": "num_mel_bins",
        "dim": "d_model",
        "num_layers": "encoder_layers",
        "num_heads": "encoder_attention_heads",
        "ffn_dim": "encoder_ffn_dim",
        "max_frames": "max_source_positions",
    },
    only={"activation_function": ("gelu",)},
    stem={
        "conv1": "encoder.conv1",
        "conv2": "encoder.conv2",
        "positions": "encoder.embed_positions.weight",
        "norm": "encoder.layer_norm",
    },
    layer={
        "attention_norm": "self_attn_layer_norm",
        "query": "self_attn.q_proj",
        "key": "self_attn.k_proj",
        "value": "self_attn.v_proj",
        "output": "self_attn.out_proj",
        "feed_forward_norm": "final_layer_norm",
        "up": "fc1",
        "down": "fc2",
    },
    layers="encoder.layers",
    parts=("encoder.",),
    prefixes=("model.", ""),
)
_W2V_BERT = _Layout(
    field="w2v_bert",
    keys={
        "dim": "hidden_size",
        "num_layers": "num_hidden_layers",
        "num_heads": "num_attention_heads",
        "ffn_dim": "intermediate_size",
        "kernel_size": "conv_depthwise_kernel_size",
        "max_left": "left_max_position_embeddings",
        "max_right": "right_max_position_embeddings",
        "norm_eps": "layer_norm_eps",
    },
    only={
        "position_embeddings_type": ("relative_key",),
        "hidden_act": ("swish", "silu"),
        "feature_projection_input_dim": (160,),
        "add_adapter": (False,),
        "use_intermediate_ffn_before_adapter": (False,),
    },
    stem={
        "input_norm": "feature_projection.layer_norm",
        "input_projection": "feature_projection.projection",
    },
    layer={
        "first.norm": "ffn1_layer_norm",
        "first.up": "ffn1.intermediate_dense",
        "first.down": "ffn1.output_dense",
        "attention.norm": "self_attn_layer_norm",
        "attention.query": "self_attn.linear_q",
        "attention.key": "self_attn.linear_k",
        "attention.value": "self_attn.linear_v",
        "attention.output": "self_attn.linear_out",
        "attention.distances": "self_attn.distance_embedding.weight",
        "convolution.norm": "conv_module.layer_norm",
        "convolution.gated": "conv_module.pointwise_conv1",
        "convolution.depthwise": "conv_module.depthwise_conv",
        "convolution.depthwise_norm": "conv_module.depthwise_layer_norm",
        "convolution.output": "conv_module.pointwise_conv2",
        "second.norm": "ffn2_layer_norm",
        "second.up": "ffn2.intermediate_dense",
        "second.down": "ffn2.output_dense",
        "norm": "final_layer_norm",
    },
    layers="encoder.layers",
    parts=("feature_projection.", "encoder."),
    prefixes=("wav2vec2_bert.", ""),
)
BACKBONES = {"wav2vec2-bert": _W2V_BERT, "whisper": _WHISPER}
"""By the `model_type` of their `config.json`."""


def load_backbone(
    directory: Path | str,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = torch.float32,
) -> SpeechEncoder:
    """The speech encoder of a local Hugging Face directory, in eval mode.

    Args:
        directory: of a `Wav2Vec2BertModel`, a `WhisperModel`, or one of them with a head.
        device: where the weights go.
        dtype: what they are cast to; None keeps the type that they are stored in.

    Raises:
        InputError: what is wrong with which file.
    """
    config, stored = open_backbone(Path(directory))
    with torch.device("meta"):
        encoder = build_encoder(config)
    fill(encoder, stored, device=device, dtype=dtype)
    return encoder.eval()


def open_backbone(directory: Path) -> tuple[SpeechEncoderConfig, dict[str, StoredTensor]]:
    """Config and stored tensors, under the names of our encoder; no weight is read yet.

    Raises:
        InputError: what is wrong with which file.
    """
    directory = whole(directory)
    file = directory / "config.json"
    data = read_json(file)
    kind = data.get("model_type")
    if not isinstance(kind, str) or kind not in BACKBONES:
        raise InputError(
            file, f"model_type {kind!r} is no known speech encoder: {', '.join(BACKBONES)}"
        )
    layout = BACKBONES[kind]
    config = _config(layout, data, source=file)
    stored = open_safetensors(directory)
    prefix = next(p for p in layout.prefixes if not p or any(n.startswith(p) for n in stored))
    parts = tuple(prefix + part for part in layout.parts)
    stored = {name: tensor for name, tensor in stored.items() if name.startswith(parts)}
    check_depth(config.num_layers, stored=stored, source=file)
    with torch.device("meta"):
        encoder = build_encoder(config)
    names = ((ours, prefix + theirs) for ours, theirs in _names(layout, encoder))
    found = renamed(stored, names, source=directory)
    shapes = {name: tuple(parameter.shape) for name, parameter in encoder.named_parameters()}
    return config, {name: _reshaped(tensor, shapes[name]) for name, tensor in found.items()}


def _config(layout: _Layout, data: Mapping[str, Any], *, source: Path) -> SpeechEncoderConfig:
    """Our config from Hugging Face's keys."""
    for key, values in layout.only.items():
        if data.get(key, values[0]) not in values:
            raise InputError(source, f"{key} {data[key]!r} is not supported, only {values[0]!r}")
    if data.get("quantization_config"):
        raise InputError(source, "has a quantization_config: quantized weights are not read")
    try:
        sizes = {ours: data[theirs] for ours, theirs in layout.keys.items()}
        return config_from_dict(SpeechEncoderConfig, {layout.field: sizes})
    except KeyError as error:
        raise InputError(source, f"lacks the key {error.args[0]}") from None
    except (TypeError, ValueError) as error:
        raise InputError(source, str(error)) from None


def _names(layout: _Layout, encoder: nn.Module) -> Iterator[tuple[str, str]]:
    """Pairs of our name and Hugging Face's, without prefix, of every parameter."""
    for name, _ in encoder.named_parameters():
        in_layer = re.fullmatch(r"layers\.(\d+)\.(.+)", name)
        if in_layer:
            yield name, f"{layout.layers}.{in_layer[1]}.{_name(layout.layer, in_layer[2])}"
        else:
            yield name, _name(layout.stem, name)


def _name(table: Mapping[str, str], name: str) -> str:
    """A parameter's name by a table of modules and parameters."""
    module, _, leaf = name.rpartition(".")
    return table[name] if name in table else f"{table[module]}.{leaf}"


def _reshaped(tensor: StoredTensor, shape: tuple[int, ...]) -> StoredTensor:
    """A convolution of kernel 1 as the matrix that it is."""

    def matrix(weight: Tensor) -> Tensor:
        return weight.squeeze(-1)

    return tensor.changed(matrix, shape=shape) if tensor.shape == (*shape, 1) else tensor
