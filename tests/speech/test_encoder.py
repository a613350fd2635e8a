"""Whatever encoder a config names, it has the same members and keeps the same promises."""

from typing import Any

import pytest
import torch
from torch import Tensor

from language.config_dict import config_from_dict, config_to_dict
from speech.conformer import ConformerConfig
from speech.encoder import ConformerEncoder, SpeechEncoder, SpeechEncoderConfig, build_encoder
from speech.features import FeaturesConfig
from speech.w2v_bert import W2vBertConfig
from speech.whisper import WhisperEncoderConfig

SIZES: dict[str, Any] = {"dim": 24, "num_layers": 2, "num_heads": 4, "ffn_dim": 40}
CONFIGS = {
    "conformer": SpeechEncoderConfig(conformer=ConformerConfig(**SIZES)),
    "whisper": SpeechEncoderConfig(whisper=WhisperEncoderConfig(**SIZES, max_frames=150)),
    "w2v_bert": SpeechEncoderConfig(w2v_bert=W2vBertConfig(**SIZES, kernel_size=5)),
}
LENGTHS = torch.tensor([40_001, 16_000, 5_000])


def recordings() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    waveforms = 0.1 * torch.randn(3, int(LENGTHS.max()), generator=generator)
    return waveforms.cumsum(1).sin() * (torch.arange(waveforms.shape[1]) < LENGTHS[:, None])


def built(kind: str) -> SpeechEncoder:
    torch.manual_seed(0)
    return build_encoder(CONFIGS[kind]).eval()


@torch.no_grad()
@pytest.mark.parametrize("kind", CONFIGS)
def test_members_are_what_they_say(kind: str) -> None:
    encoder = built(kind)
    assert encoder.config == CONFIGS[kind]
    assert encoder.dim == encoder.config.dim == 24
    assert encoder.num_layers == encoder.config.num_layers == 2
    features = encoder.features(recordings(), LENGTHS)
    assert features.values.dtype == torch.float32
    assert features.values.shape[2] == encoder.feature_dim
    frames = encoder(features)
    assert frames.values.shape == (3, int(frames.lengths.max()), encoder.dim)
    assert not frames.values[~frames.mask].any()
    assert torch.equal(frames.lengths, -(-features.lengths // encoder.stride))
    assert torch.equal(frames.lengths, encoder.num_frames(LENGTHS))
    assert frames.lengths.tolist() == [encoder.num_frames(length) for length in LENGTHS.tolist()]
    seconds = LENGTHS / 16_000
    assert ((frames.lengths * encoder.frame_seconds - seconds).abs() <= 0.05).all()
    assert encoder.max_seconds >= seconds.max()


@torch.no_grad()
@pytest.mark.parametrize("kind", CONFIGS)
def test_a_recording_is_the_same_alone_and_among_others(kind: str) -> None:
    encoder = built(kind)
    waveforms = recordings()
    together = encoder(encoder.features(waveforms, LENGTHS)).values
    for index, length in enumerate(LENGTHS.tolist()):
        alone = waveforms[index : index + 1, :length]
        found = encoder(encoder.features(alone, LENGTHS[index : index + 1])).values[0]
        assert len(found) and (together[index, : len(found)] - found).abs().max() <= 1e-5


@torch.no_grad()
@pytest.mark.parametrize("kind", CONFIGS)
def test_layers_end_with_the_output(kind: str) -> None:
    encoder = built(kind)
    features = encoder.features(recordings(), LENGTHS)
    outputs = encoder.layer_outputs(features)
    expected = encoder(features)
    assert len(outputs) == encoder.num_layers
    assert torch.equal(outputs[-1].values, expected.values)
    assert all(torch.equal(output.lengths, expected.lengths) for output in outputs)


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_weight_learns(kind: str) -> None:
    encoder = built(kind).train()
    frames = encoder(encoder.features(recordings(), LENGTHS))
    (frames.values * torch.randn_like(frames.values)).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert not parameter.requires_grad or parameter.grad.any(), name


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_reset_draws_other_weights(kind: str) -> None:
    encoder = built(kind)
    before = [parameter.clone() for parameter in encoder.parameters() if parameter.dim() > 1]
    encoder.reset_parameters()
    after = [parameter for parameter in encoder.parameters() if parameter.dim() > 1]
    kept = [torch.equal(*pair) for pair in zip(before, after, strict=True)]
    assert sum(kept) == (kind == "whisper"), "its table of positions is made of sines"


@torch.no_grad()
@pytest.mark.parametrize("kind", CONFIGS)
def test_a_cast_model_keeps_its_front_end(kind: str) -> None:
    expected = built(kind).features(recordings(), LENGTHS).values
    encoder = built(kind).to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        found = encoder.features(recordings(), LENGTHS)
    assert found.values.dtype == torch.float32
    assert torch.equal(found.values, expected)


@pytest.mark.parametrize("kind", CONFIGS)
def test_configs_survive_json(kind: str) -> None:
    data = config_to_dict(CONFIGS[kind])
    assert config_from_dict(SpeechEncoderConfig, data) == CONFIGS[kind]


def test_exactly_one_encoder() -> None:
    conformer, whisper = CONFIGS["conformer"].conformer, CONFIGS["whisper"].whisper
    with pytest.raises(ValueError, match="exactly one of conformer, whisper, w2v_bert, not none"):
        SpeechEncoderConfig()
    with pytest.raises(ValueError, match="not conformer and whisper"):
        SpeechEncoderConfig(conformer=conformer, whisper=whisper)
    with pytest.raises(ValueError, match="whisper has its own"):
        SpeechEncoderConfig(whisper=whisper, features=FeaturesConfig())
    with pytest.raises(ValueError, match="input_dim 321 must be 320"):
        SpeechEncoderConfig(conformer=ConformerConfig(**SIZES, input_dim=321))
    assert CONFIGS["conformer"].features == FeaturesConfig()
    assert isinstance(built("conformer"), ConformerEncoder)


@torch.no_grad()
@pytest.mark.parametrize("kind", CONFIGS)
def test_an_empty_recording_harms_nobody(kind: str) -> None:
    encoder = built(kind)
    lengths = torch.tensor([16_000, 0])
    frames = encoder(encoder.features(recordings()[:2, :16_000], lengths))
    assert frames.lengths[1] == 0 and not frames.values[1].any()
    assert torch.isfinite(frames.values).all() and frames.values[0].any()
