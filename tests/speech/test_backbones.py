"""Public encoders from Hugging Face directories give transformers' own features."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    SeamlessM4TFeatureExtractor,
    Wav2Vec2BertForCTC,
    Wav2Vec2BertModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperModel,
)
from transformers import Wav2Vec2BertConfig as HuggingFaceW2vBertConfig

from language.errors import InputError
from speech.backbones import load_backbone
from speech.encoder import build_encoder
from speech.w2v_bert import W2vBertEncoder
from speech.whisper import WhisperEncoder

LENGTHS = torch.tensor([32_000, 15_999, 9_000, 720])


def whisper_config(**options: Any) -> WhisperConfig:
    """A window of two seconds, and a decoder that must be left alone."""
    sizes = {
        "d_model": 32,
        "encoder_layers": 3,
        "encoder_attention_heads": 4,
        "encoder_ffn_dim": 56,
        "decoder_layers": 1,
        "decoder_attention_heads": 2,
        "decoder_ffn_dim": 16,
        "max_source_positions": 100,
        "vocab_size": 60,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 3,
    }
    return WhisperConfig(**(sizes | options))


def w2v_bert_config(**options: Any) -> HuggingFaceW2vBertConfig:
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 56,
        "conv_depthwise_kernel_size": 7,
        "left_max_position_embeddings": 11,
        "right_max_position_embeddings": 4,
        "output_hidden_size": 32,
        "vocab_size": 20,
    }
    return HuggingFaceW2vBertConfig(**(sizes | options))


def randomised(model: nn.Module) -> Any:
    """Every parameter random, so that zero biases and unit norms hide nothing."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data += (0.2 if parameter.dim() == 1 else 0.1) * noise
    return model.eval()


SOURCES: dict[str, Callable[[], Any]] = {
    "w2v-bert": lambda: Wav2Vec2BertModel(w2v_bert_config()),
    "w2v-bert without masks": lambda: Wav2Vec2BertModel(
        w2v_bert_config(mask_time_prob=0.0, apply_spec_augment=False, layer_norm_eps=1e-3)
    ),
    "w2v-bert with its reach": lambda: Wav2Vec2BertModel(
        w2v_bert_config(
            left_max_position_embeddings=64,
            right_max_position_embeddings=8,
            conv_depthwise_kernel_size=31,
        )
    ),
    "w2v-bert for CTC": lambda: Wav2Vec2BertForCTC(w2v_bert_config()),
    "whisper": lambda: WhisperModel(whisper_config()),
    "whisper with 128 bands": lambda: WhisperModel(whisper_config(num_mel_bins=128)),
    "whisper with its decoder": lambda: WhisperForConditionalGeneration(whisper_config()),
}


def recordings() -> Tensor:
    rng = np.random.default_rng(0)
    times = np.arange(int(LENGTHS.max())) / 16_000
    rows = []
    for number, length in enumerate(LENGTHS.tolist()):
        tone = np.sin(2 * np.pi * (200 + 300 * number + 900 * times) * times)
        row = 0.3 / (1 + number) * tone * (times % 0.5 < 0.3) + 0.01 * rng.normal(size=len(times))
        rows.append(np.where(np.arange(len(times)) < length, row, 0.0))
    return torch.tensor(np.stack(rows), dtype=torch.float32)


@torch.no_grad()
def transformers_frames(model: Any) -> tuple[list[Tensor], Tensor]:
    """From waveforms on, by transformers alone: frames after each layer, and which are real."""
    waves = [row[:length].numpy() for row, length in zip(recordings(), LENGTHS, strict=True)]
    if model.config.model_type == "whisper":
        extractor = WhisperFeatureExtractor(feature_size=model.config.num_mel_bins, chunk_length=2)
        inputs = extractor(
            waves, sampling_rate=16_000, return_tensors="pt", return_attention_mask=True
        )
        mask = inputs.attention_mask[:, ::2].bool()
        given = model.get_encoder()(inputs.input_features, output_hidden_states=True)
    else:
        inputs = SeamlessM4TFeatureExtractor()(waves, sampling_rate=16_000, return_tensors="pt")
        mask = inputs.attention_mask.bool()
        given = model.base_model(**inputs, output_hidden_states=True)
    return [*given.hidden_states[1:-1], given.last_hidden_state], mask


@torch.no_grad()
@pytest.mark.parametrize("kind", SOURCES)
def test_frames_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    model = randomised(SOURCES[kind]())
    model.save_pretrained(tmp_path)
    encoder = load_backbone(tmp_path)
    features = encoder.features(recordings(), LENGTHS)
    outputs = encoder.layer_outputs(features)
    expected, mask = transformers_frames(model)
    final = encoder(features)
    assert len(outputs) == len(expected) == encoder.num_layers == 3
    assert torch.equal(final.lengths, mask.sum(1))
    num_frames = final.values.shape[1]
    for ours, theirs in zip([*outputs, final], [*expected, expected[-1]], strict=True):
        assert theirs[mask].std() > 0.3
        difference = ours.values - theirs[:, :num_frames]
        assert difference[mask[:, :num_frames]].abs().max() <= 1e-4


@pytest.mark.parametrize("kind", SOURCES)
def test_the_encoder_says_what_it_is(kind: str, tmp_path: Path) -> None:
    SOURCES[kind]().save_pretrained(tmp_path)
    encoder = load_backbone(tmp_path)
    assert isinstance(encoder, WhisperEncoder if "whisper" in kind else W2vBertEncoder)
    assert not encoder.training
    assert all(parameter.dtype == torch.float32 for parameter in encoder.parameters())
    assert encoder.frame_seconds == 0.02 and encoder.dim == encoder.config.dim == 32
    assert encoder.max_seconds == (2 if "whisper" in kind else float("inf"))
    again = build_encoder(encoder.config)
    assert {n: p.shape for n, p in again.named_parameters()} == {
        n: p.shape for n, p in encoder.named_parameters()
    }


def test_shards_and_stored_types(tmp_path: Path) -> None:
    model = randomised(WhisperModel(whisper_config()))
    model.save_pretrained(tmp_path / "whole")
    model.half().save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    whole, shards = load_backbone(tmp_path / "whole"), load_backbone(tmp_path / "shards")
    for ours, theirs in zip(whole.parameters(), shards.parameters(), strict=True):
        assert torch.equal(ours.half().float(), theirs)
    halves = load_backbone(tmp_path / "shards", dtype=None)
    assert all(parameter.dtype == torch.float16 for parameter in halves.parameters())


def save_w2v_bert(directory: Path, **changes: Any) -> Path:
    """A directory whose config says something else than its weights."""
    Wav2Vec2BertModel(w2v_bert_config()).save_pretrained(directory)
    change(directory, **changes)
    return directory


def change(directory: Path, **changes: Any) -> None:
    file = directory / "config.json"
    data = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in data.items() if value != "absent"}))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"add_adapter": True}, "add_adapter True is not supported"),
        ({"position_embeddings_type": "rotary"}, "position_embeddings_type 'rotary'"),
        ({"position_embeddings_type": None}, "position_embeddings_type None"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"hidden_size": "absent"}, "lacks the key hidden_size"),
        ({"hidden_size": "many"}, "dim must be of type int"),
        ({"hidden_size": 33}, "must be a multiple"),
        ({"hidden_size": 64}, "the config wants"),
        ({"num_hidden_layers": 2}, "for which the config has no place"),
        ({"num_hidden_layers": 4}, "lacks the weights encoder.layers.3."),
        ({"num_hidden_layers": 10**9}, "layers of"),
        ({"model_type": "hubert"}, "model_type 'hubert' is no known speech encoder: w"),
        ({"model_type": ["whisper"]}, "is no known speech encoder"),
        ({"model_type": "absent"}, "model_type None"),
        ({"quantization_config": {"bits": 4}}, "quantized"),
    ],
    ids=str,
)
def test_what_cannot_be_right_is_one_line(changes: dict, fault: str, tmp_path: Path) -> None:
    directory = save_w2v_bert(tmp_path, **changes)
    with pytest.raises(InputError, match=fault) as found:
        load_backbone(directory)
    assert "\n" not in str(found.value) and str(tmp_path) in str(found.value)


def test_activations_of_other_whispers_are_refused(tmp_path: Path) -> None:
    WhisperModel(whisper_config(activation_function="relu")).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="activation_function 'relu' is not supported"):
        load_backbone(tmp_path)


def test_pickled_weights_alone_are_refused(tmp_path: Path) -> None:
    save_w2v_bert(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InputError, match="no weights"):
        load_backbone(tmp_path)
    torch.save(weights, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="pytorch_model.bin.*convert it to safetensors"):
        load_backbone(tmp_path)


def test_missing_left_over_and_broken_weights_are_named(tmp_path: Path) -> None:
    save_w2v_bert(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    name = "encoder.layers.1.self_attn.distance_embedding.weight"
    save_file({key: value for key, value in weights.items() if key != name}, file)
    with pytest.raises(InputError, match=f"lacks the weights {name}"):
        load_backbone(tmp_path)
    save_file(weights | {"encoder.layers.1.gate": torch.zeros(1)}, file)
    with pytest.raises(InputError, match="encoder.layers.1.gate, for which the config has no"):
        load_backbone(tmp_path)
    file.write_bytes(file.read_bytes()[:1_000])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        load_backbone(tmp_path)


def test_no_directory_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such directory"):
        load_backbone(tmp_path / "nowhere")
    with pytest.raises(InputError, match="config.json: no such file"):
        load_backbone(tmp_path)
