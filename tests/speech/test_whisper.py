"""Whisper's front end and encoder: windows, lengths, neighbours (parity: test_backbones.py)."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import WhisperFeatureExtractor

from language.errors import InputError
from speech.frames import Frames
from speech.whisper import WhisperEncoder, WhisperEncoderConfig

SMALL = WhisperEncoderConfig(dim=24, num_layers=2, num_heads=4, ffn_dim=40, max_frames=100)
"""A window of two seconds."""
LENGTHS = torch.tensor([32_000, 16_000, 7_777, 159, 0])


def recordings(lengths: Tensor, *, seed: int = 0) -> Tensor:
    """Rising tones in noise of unequal loudness, with rubbish past their ends."""
    rng = np.random.default_rng(seed)
    rows = []
    for number, length in enumerate(lengths.tolist()):
        times = np.arange(int(lengths.max())) / 16_000
        tone = np.sin(2 * np.pi * (200 + 300 * number + 900 * times) * times)
        row = 0.3 / (1 + number) * tone * (times % 0.5 < 0.3) + 0.01 * rng.normal(size=len(times))
        row[length:] = rng.normal(size=len(times) - length)
        rows.append(row)
    return torch.tensor(np.stack(rows), dtype=torch.float32)


def small_encoder(**options: object) -> WhisperEncoder:
    torch.manual_seed(0)
    return WhisperEncoder(replace(SMALL, **options)).eval()


@pytest.mark.parametrize("num_mels", [80, 128])
@pytest.mark.parametrize("seconds", [2, 30])
def test_features_are_those_of_transformers(num_mels: int, seconds: int) -> None:
    encoder = small_encoder(num_mels=num_mels, max_frames=50 * seconds)
    lengths = torch.tensor([16_000 * seconds, 21_111, 9_000, 100, 0])
    waveforms = recordings(lengths)
    found = encoder.features(waveforms, lengths)
    oracle = WhisperFeatureExtractor(feature_size=num_mels, chunk_length=seconds)
    expected = oracle(
        [row[:length].numpy() for row, length in zip(waveforms, lengths, strict=True)],
        sampling_rate=16_000,
        return_tensors="pt",
        return_attention_mask=True,
    )
    assert found.values.dtype == torch.float32
    assert (found.values - expected.input_features.transpose(1, 2)).abs().max() <= 1e-5
    assert torch.equal(found.lengths, expected.attention_mask.sum(1))


def test_frames_are_counted_exactly() -> None:
    encoder = small_encoder()
    found = encoder(encoder.features(recordings(LENGTHS), LENGTHS))
    assert found.lengths.tolist() == [100, 50, 25, 1, 0]
    assert torch.equal(encoder.num_frames(LENGTHS), found.lengths)
    assert [encoder.num_frames(length) for length in LENGTHS.tolist()] == found.lengths.tolist()
    assert found.values.shape == (5, 100, encoder.dim)
    assert not found.values[~found.mask].any() and found.values[found.mask].all()
    short = encoder(encoder.features(recordings(LENGTHS)[1:], LENGTHS[1:]))
    assert short.values.shape[1] == 50, "only as many frames as the longest recording has"


@torch.no_grad()
def test_neighbours_and_padding_do_not_matter() -> None:
    encoder = small_encoder()
    waveforms = recordings(LENGTHS)
    together = encoder(encoder.features(waveforms, LENGTHS))
    for index, length in enumerate(LENGTHS.tolist()):
        alone = waveforms[index : index + 1, :length]
        found = encoder(encoder.features(alone, LENGTHS[index : index + 1]))
        difference = together.values[index, : found.values.shape[1]] - found.values[0]
        assert difference.numel() == 0 or difference.abs().max() <= 1e-5


@torch.no_grad()
def test_the_whole_window_is_heard() -> None:
    """By Whisper's design: what comes late changes early frames."""
    encoder = small_encoder()
    waveforms, lengths = recordings(LENGTHS[:1]), LENGTHS[:1]
    before = encoder(encoder.features(waveforms, lengths)).values
    waveforms[0, 30_000:] *= 3
    after = encoder(encoder.features(waveforms, lengths)).values
    assert (after - before)[0, :10].abs().max() > 1e-4


def test_longer_recordings_are_refused_with_the_limit() -> None:
    encoder = small_encoder()
    lengths = torch.tensor([100, 32_001])
    with pytest.raises(InputError, match=r"recording 1: lasts 2.00 s.* takes 2 s at most") as found:
        encoder.features(torch.zeros(2, 40_000), lengths)
    assert "\n" not in str(found.value)
    whole = encoder.features(torch.zeros(2, 40_000), torch.tensor([100, 32_000]))
    assert whole.values.shape[1] == 200, "what is longer may only be padding"
    assert WhisperEncoder(replace(SMALL, max_frames=1500)).max_seconds == 30


def test_a_cut_window_is_refused() -> None:
    encoder = small_encoder()
    features = encoder.features(recordings(LENGTHS), LENGTHS)
    with pytest.raises(ValueError, match=r"windows of \(200, 80\)"):
        encoder(Frames(values=features.values[:, :150], lengths=features.lengths))


@torch.no_grad()
def test_the_front_end_stays_in_float32() -> None:
    waveforms = recordings(LENGTHS)
    expected = small_encoder().features(waveforms, LENGTHS).values
    encoder = small_encoder().to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(encoder.features(waveforms, LENGTHS).values, expected)
    assert encoder(encoder.features(waveforms, LENGTHS)).values.dtype == torch.bfloat16


@torch.no_grad()
def test_outputs_of_layers_end_with_the_encoders() -> None:
    encoder = small_encoder()
    features = encoder.features(recordings(LENGTHS), LENGTHS)
    outputs = encoder.layer_outputs(features)
    assert len(outputs) == encoder.num_layers == 2
    assert torch.equal(outputs[-1].values, encoder(features).values)
    assert not torch.equal(outputs[0].values, outputs[1].values)


def test_recomputed_activations_give_the_same_gradients() -> None:
    gradients = []
    for again in (False, True):
        encoder = small_encoder(activation_checkpointing=again).train()
        encoder(encoder.features(recordings(LENGTHS), LENGTHS)).values.square().sum().backward()
        gradients.append([p.grad for p in encoder.parameters() if p.requires_grad])
    for kept, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(kept, recomputed)


def test_a_reset_encoder_is_new_but_for_its_positions() -> None:
    encoder = small_encoder()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    encoder.positions.zero_()
    encoder.reset_parameters()
    after = encoder.state_dict()
    assert torch.equal(before["positions"], after["positions"])
    assert not torch.equal(before["layers.0.query.weight"], after["layers.0.query.weight"])
    assert not encoder.positions.requires_grad


@pytest.mark.parametrize(
    "wrong", [{"dim": 25}, {"num_heads": 5}, {"num_layers": 0}, {"dropout": 1.0}], ids=str
)
def test_wrong_sizes_are_named(wrong: dict) -> None:
    with pytest.raises(ValueError, match=rf"whisper: .*{next(iter(wrong))}"):
        replace(SMALL, **wrong)
