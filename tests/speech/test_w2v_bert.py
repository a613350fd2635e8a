"""w2v-BERT 2.0's front end and encoder: lengths, padding (parity: test_backbones.py)."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchaudio.compliance import kaldi
from transformers import SeamlessM4TFeatureExtractor

from speech.frames import Frames
from speech.w2v_bert import W2vBertConfig, W2vBertEncoder, kaldi_mel

SMALL = W2vBertConfig(
    dim=24, num_layers=2, num_heads=4, ffn_dim=40, kernel_size=5, max_left=6, max_right=3
)
LENGTHS = torch.tensor([16_000, 11_111, 9_000, 720, 560, 559, 0])


def recordings(lengths: Tensor, *, seed: int = 0) -> Tensor:
    """Rising tones in noise, with rubbish past their ends."""
    rng = np.random.default_rng(seed)
    rows = []
    for number, length in enumerate(lengths.tolist()):
        times = np.arange(int(lengths.max())) / 16_000
        tone = np.sin(2 * np.pi * (200 + 300 * number + 900 * times) * times)
        row = 0.3 / (1 + number) * tone * (times % 0.5 < 0.3) + 0.01 * rng.normal(size=len(times))
        row[length:] = rng.normal(size=len(times) - length)
        rows.append(row)
    return torch.tensor(np.stack(rows), dtype=torch.float32)


def small_encoder(**options: object) -> W2vBertEncoder:
    torch.manual_seed(0)
    encoder = W2vBertEncoder(replace(SMALL, **options)).eval()
    for layer in encoder.layers:
        layer.attention.distances.data.normal_()
    return encoder


def test_features_are_those_of_transformers() -> None:
    """Also which frames are real: a half-filled last one is not."""
    lengths = LENGTHS[LENGTHS >= 560]  # the oracle gives NaN for fewer than two windows
    waveforms = recordings(lengths)
    found = small_encoder().features(waveforms, lengths)
    expected = SeamlessM4TFeatureExtractor()(
        [row[:length].numpy() for row, length in zip(waveforms, lengths, strict=True)],
        sampling_rate=16_000,
        return_tensors="pt",
        padding="longest",
        pad_to_multiple_of=2,
    )
    assert torch.equal(found.lengths, expected.attention_mask.sum(1))
    real = expected.attention_mask[:, : found.values.shape[1]].bool()
    assert torch.equal(found.mask, real)
    difference = found.values - expected.input_features[:, : found.values.shape[1]]
    assert difference[real].abs().max() <= 1e-4
    assert found.values.dtype == torch.float32 and not found.values[~found.mask].any()


def test_mel_frames_are_kaldis() -> None:
    waveform = recordings(LENGTHS[:1])
    expected = kaldi.fbank(waveform * 2**15, num_mel_bins=80, window_type="povey", dither=0.0)
    torch.testing.assert_close(kaldi_mel(waveform)[0], expected, atol=1e-4, rtol=1e-4)


def test_frames_are_counted_exactly() -> None:
    encoder = small_encoder()
    found = encoder(encoder.features(recordings(LENGTHS), LENGTHS))
    assert found.lengths.tolist() == [49, 33, 27, 1, 1, 0, 0]
    assert torch.equal(encoder.num_frames(LENGTHS), found.lengths)
    assert [encoder.num_frames(length) for length in LENGTHS.tolist()] == found.lengths.tolist()
    for length in range(0, 2_000, 7):  # by counting windows that lie in the recording whole
        windows = sum(start + 400 <= length for start in range(0, length, 160))
        assert encoder.num_frames(length) == windows // 2
    assert torch.isfinite(found.values).all()
    assert not found.values[~found.mask].any() and found.values[found.mask].all()


@torch.no_grad()
def test_neighbours_and_padding_do_not_matter() -> None:
    encoder = small_encoder()
    waveforms = recordings(LENGTHS)
    together = encoder(encoder.features(F.pad(waveforms, (0, 5_000), value=9.0), LENGTHS))
    for index, length in enumerate(LENGTHS.tolist()):
        alone = waveforms[index : index + 1, :length]
        found = encoder(encoder.features(alone, LENGTHS[index : index + 1]))
        real = int(found.lengths[0])
        difference = together.values[index, :real] - found.values[0, :real]
        assert real == 0 or difference.abs().max() <= 1e-5


@torch.no_grad()
def test_padding_may_hold_anything() -> None:
    encoder = small_encoder()
    features = encoder.features(recordings(LENGTHS), LENGTHS)
    expected = encoder(features).values
    rubbish = features.values.masked_fill(~features.mask[..., None], 1e4)
    found = encoder(Frames(values=rubbish, lengths=features.lengths)).values
    assert (found - expected).abs().max() <= 1e-5


@torch.no_grad()
def test_the_front_end_stays_in_float32() -> None:
    waveforms = recordings(LENGTHS)
    expected = small_encoder().features(waveforms, LENGTHS).values
    encoder = small_encoder().to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(encoder.features(waveforms, LENGTHS).values, expected)
    found = encoder(encoder.features(waveforms, LENGTHS)).values
    assert found.dtype == torch.bfloat16 and torch.isfinite(found).all()


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
        encoder(encoder.features(recordings(LENGTHS), LENGTHS)).values.cumsum(1).sum().backward()
        gradients.append([parameter.grad for parameter in encoder.parameters()])
    for kept, recomputed in zip(*gradients, strict=True):
        assert torch.isfinite(kept).all()
        torch.testing.assert_close(kept, recomputed)


def test_dropout_works_in_training_alone() -> None:
    encoder = small_encoder(dropout=0.5)
    features = encoder.features(recordings(LENGTHS), LENGTHS)
    assert torch.equal(encoder(features).values, encoder(features).values)
    encoder.train()
    assert not torch.equal(encoder(features).values, encoder(features).values)


def test_the_public_size() -> None:
    """580M parameters, as its authors say."""
    with torch.device("meta"):
        encoder = W2vBertEncoder(W2vBertConfig())
    assert 575e6 < sum(parameter.numel() for parameter in encoder.parameters()) < 585e6


@pytest.mark.parametrize(
    "wrong", [{"num_heads": 5}, {"num_layers": 0}, {"max_left": -1}, {"dropout": 1.0}], ids=str
)
def test_wrong_sizes_are_named(wrong: dict) -> None:
    with pytest.raises(ValueError, match=rf"w2v_bert: .*{next(iter(wrong))}"):
        replace(SMALL, **wrong)
