"""Speech encoders on disk: ours and others', told apart by content."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Wav2Vec2BertConfig, Wav2Vec2BertModel, WhisperConfig, WhisperModel

from language.errors import InputError
from language.weights import fill
from speech.backbones import load_backbone
from speech.checkpoint import load_encoder, open_encoder, save_encoder
from speech.conformer import ConformerConfig
from speech.encoder import SpeechEncoderConfig, build_encoder
from speech.w2v_bert import W2vBertConfig
from speech.whisper import WhisperEncoderConfig

SIZES: dict[str, Any] = {"dim": 16, "num_layers": 2, "num_heads": 2, "ffn_dim": 24}
CONFIGS = {
    "conformer": SpeechEncoderConfig(conformer=ConformerConfig(**SIZES)),
    "whisper": SpeechEncoderConfig(whisper=WhisperEncoderConfig(**SIZES, max_frames=100)),
    "w2v_bert": SpeechEncoderConfig(w2v_bert=W2vBertConfig(**SIZES, kernel_size=5)),
}
LENGTHS = torch.tensor([20_000, 7_000])


def recordings() -> Tensor:
    return 0.1 * torch.randn(2, 20_000, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
@pytest.mark.parametrize("kind", CONFIGS)
def test_an_encoder_comes_back(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    written = build_encoder(CONFIGS[kind]).eval()
    save_encoder(written, tmp_path / "encoder")
    found = load_encoder(tmp_path / "encoder")
    assert found.config == CONFIGS[kind] and not found.training
    for (name, ours), theirs in zip(found.named_parameters(), written.parameters(), strict=True):
        assert torch.equal(ours, theirs) and ours.requires_grad == theirs.requires_grad, name
    expected = written(written.features(recordings(), LENGTHS))
    frames = found(found.features(recordings(), LENGTHS))
    assert torch.equal(frames.values, expected.values)
    assert {path.name for path in (tmp_path / "encoder").iterdir()} == {
        "config.json",
        "model.safetensors",
    }


def test_stored_tensors_fill_an_encoder_of_the_config(tmp_path: Path) -> None:
    written = build_encoder(CONFIGS["conformer"])
    save_encoder(written, tmp_path / "encoder")
    config, stored = open_encoder(tmp_path / "encoder")
    with torch.device("meta"):
        encoder = build_encoder(config)
    fill(encoder, stored, dtype=torch.bfloat16)
    for ours, theirs in zip(encoder.parameters(), written.parameters(), strict=True):
        assert torch.equal(ours, theirs.bfloat16())


def test_saving_replaces_checkpoints_alone(tmp_path: Path) -> None:
    save_encoder(build_encoder(CONFIGS["conformer"]), tmp_path / "encoder")
    save_encoder(build_encoder(CONFIGS["w2v_bert"]), tmp_path / "encoder")
    assert load_encoder(tmp_path / "encoder").config == CONFIGS["w2v_bert"]
    (tmp_path / "encoder" / "thesis.tex").touch()
    with pytest.raises(InputError, match="thesis.tex"):
        save_encoder(build_encoder(CONFIGS["conformer"]), tmp_path / "encoder")


@torch.no_grad()
@pytest.mark.parametrize("kind", ["whisper", "w2v-bert"])
def test_backbones_are_told_apart_by_content(kind: str, tmp_path: Path) -> None:
    """Loaded as published, written as ours, loaded again: the same frames."""
    sizes = {"num_attention_heads": 2, "intermediate_size": 24, "num_hidden_layers": 2}
    if kind == "whisper":
        halves = {f"{half}_{key}": 2 for half in ("encoder", "decoder") for key in ("layers",)}
        heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
        small = {"d_model": 16, "encoder_ffn_dim": 24, "vocab_size": 9, "max_source_positions": 100}
        ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
        model = WhisperModel(WhisperConfig(**halves, **heads, **small, **ids))
    else:
        model = Wav2Vec2BertModel(Wav2Vec2BertConfig(hidden_size=16, **sizes))
    model.save_pretrained(tmp_path / "published")
    published = load_encoder(tmp_path / "published")
    expected = load_backbone(tmp_path / "published")
    assert published.config == expected.config
    save_encoder(published, tmp_path / "ours")
    for encoder in (published, load_encoder(tmp_path / "ours")):
        frames = encoder(encoder.features(recordings(), LENGTHS))
        features = expected.features(recordings(), LENGTHS)
        assert torch.equal(frames.values, expected(features).values)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{}", "no speech encoder"),
        ("[", "not JSON"),
        ('{"format": "openherd-image-encoder", "version": 1}', "no speech encoder"),
        ('{"format": "openherd-speech-encoder", "version": 2}', "version 1"),
        ('{"format": "openherd-speech-encoder", "version": 1}', "exactly one of"),
        (
            '{"format": "openherd-speech-encoder", "version": 1, "speech_encoder": {"rnn": {}}}',
            "no key 'rnn'",
        ),
        (
            '{"format": "openherd-speech-encoder", "version": 1, "speech_encoder": 3}',
            "config.json",
        ),
        ('{"model_type": "llama"}', "no known speech encoder"),
    ],
    ids=str,
)
def test_a_broken_config_is_one_clear_line(text: str, fault: str, tmp_path: Path) -> None:
    save_encoder(build_encoder(CONFIGS["conformer"]), tmp_path / "encoder")
    (tmp_path / "encoder" / "config.json").write_text(text)
    with pytest.raises(InputError, match=fault) as caught:
        load_encoder(tmp_path / "encoder")
    assert "config.json" in str(caught.value) and "\n" not in str(caught.value)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    directory = tmp_path / "encoder"
    save_encoder(build_encoder(CONFIGS["conformer"]), directory)
    data = json.loads((directory / "config.json").read_text())
    for key, value, fault in (
        ("ffn_dim", 28, "the config wants"),
        ("num_layers", 1, "for which the config has no place"),
        ("num_layers", 3, "lacks the weights"),
        ("num_layers", 10**9, "layers of"),
    ):
        changed = json.loads(json.dumps(data))
        changed["speech_encoder"]["conformer"][key] = value
        (directory / "config.json").write_text(json.dumps(changed))
        with pytest.raises(InputError, match=fault):
            load_encoder(directory)
    (directory / "config.json").write_text(json.dumps(data))
    (directory / "model.safetensors").unlink()
    with pytest.raises(InputError, match="no weights"):
        load_encoder(directory)
    with pytest.raises(InputError, match="no such directory"):
        load_encoder(tmp_path / "nowhere")
