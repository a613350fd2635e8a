"""Log-mel frames against librosa and plain formulas, in any batch, and while the sound arrives."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from language.config_dict import config_from_dict, config_to_dict
from speech.features import FeaturesConfig, LogMel, LogMelStream, measured, mel_filters
from speech.frames import Frames

CONFIG = FeaturesConfig()
NORMALIZATIONS = ("running", "fixed", "utterance")


def sound(num_samples: int, *, seed: int = 0) -> torch.Tensor:
    """Noise whose loudness and colour drift, with some silence in it."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(num_samples, generator=generator)
    time = torch.arange(num_samples) / 16_000
    tone = torch.sin(2 * math.pi * (300 + 900 * time) * time)
    loudness = 0.05 + 0.2 * torch.sin(3 * time) ** 2
    waveform = loudness * (0.5 * noise + tone)
    waveform[num_samples // 3 : num_samples // 3 + 900] = 0
    return waveform.clamp(-1, 1)


def batch(*waveforms: torch.Tensor, junk: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Waveforms side by side, padded by `junk`."""
    lengths = torch.tensor([len(waveform) for waveform in waveforms])
    padded = torch.full((len(waveforms), int(lengths.max())), junk)
    for row, waveform in zip(padded, waveforms, strict=True):
        row[: len(waveform)] = waveform
    return padded, lengths


def one(waveform: torch.Tensor, config: FeaturesConfig = CONFIG) -> torch.Tensor:
    """Features of one recording alone, [frames, dim]."""
    return LogMel(config)(*batch(waveform)).values[0]


def brute_mel(waveform: torch.Tensor) -> np.ndarray:
    """Log-mel [frames, 80] by the definitions: a sum for every bin, a triangle for every band."""
    samples = waveform.double().numpy()
    time, bins = np.arange(400), np.arange(257)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * time / 400)
    basis = np.exp(-2j * np.pi * np.outer(time, bins) / 512)

    def mel_to_hz(mel: float) -> float:
        return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)

    top = 15 + 27 * math.log(8) / math.log(6.4)
    edges = [mel_to_hz(top * i / 81) for i in range(82)]
    filters = np.zeros((257, 80))
    for band, (left, centre, right) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        for k in bins:
            frequency = k * 16_000 / 512
            if left < frequency <= centre:
                filters[k, band] = (frequency - left) / (centre - left)
            elif centre < frequency < right:
                filters[k, band] = (right - frequency) / (right - centre)
        filters[:, band] *= 2 / (right - left)
    rows, start = [], 0
    while start + 400 <= len(samples):
        power = np.abs((samples[start : start + 400] * hann) @ basis) ** 2
        rows.append(np.log(np.maximum(power @ filters, 1e-7)))
        start += 160
    return np.array(rows).reshape(-1, 80)


def brute_features(waveform: torch.Tensor, config: FeaturesConfig) -> np.ndarray:
    """Stacked features [frames, 320], one mel frame after another."""
    mel = brute_mel(waveform)
    mean, std = np.broadcast_to(config.mean, 80), np.broadcast_to(config.std, 80)
    rows = []
    for index in range(len(mel)):
        if config.normalization == "fixed":
            rows.append((mel[index] - mean) / std)
            continue
        if config.normalization == "running":
            heard, weight = mel[: index + 1], config.prior_frames
        else:
            heard, weight = mel, 0
        count = weight + len(heard)
        own_mean = (weight * mean + heard.sum(axis=0)) / count
        square = (weight * (std**2 + mean**2) + (heard**2).sum(axis=0)) / count
        own_std = np.sqrt(np.maximum(square - own_mean**2, 0))
        rows.append((mel[index] - own_mean) / np.maximum(own_std, config.min_std))
    while len(rows) % 4:
        rows.append(np.zeros(80))
    return np.array(rows).reshape(-1, 320)


def test_mel_equals_the_definition():
    waveform = sound(7_777)
    mel = LogMel(CONFIG).mel(*batch(waveform))
    np.testing.assert_allclose(mel.values[0], brute_mel(waveform), rtol=0, atol=2e-5)
    assert mel.lengths.tolist() == [47] and mel.values.dtype == torch.float32


def test_mel_equals_librosa():
    librosa = pytest.importorskip("librosa")
    filters = librosa.filters.mel(sr=16_000, n_fft=512, n_mels=80, dtype=np.float64)
    np.testing.assert_allclose(mel_filters(CONFIG, torch.device("cpu")).T, filters, atol=1e-9)
    waveform = sound(12_345)
    # librosa puts the window into the middle of the transform's 512 samples, 56 in.
    power = librosa.feature.melspectrogram(
        y=np.pad(waveform.numpy(), (56, 56)),
        sr=16_000,
        n_fft=512,
        win_length=400,
        hop_length=160,
        n_mels=80,
        center=False,
    )
    mel = LogMel(CONFIG).mel(*batch(waveform)).values[0]
    np.testing.assert_allclose(mel.T, np.log(np.maximum(power, 1e-7)), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        {"num_mels": 40, "min_frequency": 50.0, "max_frequency": 7600.0},
        {"fft_size": 400, "num_mels": 64},
        {"num_mels": 128, "fft_size": 1024, "min_frequency": 20.0},
    ],
)
def test_other_bands_are_those_of_librosa(options):
    librosa = pytest.importorskip("librosa")
    filters = librosa.filters.mel(
        sr=16_000,
        n_fft=options.get("fft_size", 512),
        n_mels=options["num_mels"],
        fmin=options.get("min_frequency", 0.0),
        fmax=options.get("max_frequency", 8000.0),
        dtype=np.float64,
    )
    found = mel_filters(FeaturesConfig(**options), torch.device("cpu"))
    np.testing.assert_allclose(found.T, filters, atol=1e-9)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_features_equal_the_definition(normalization):
    generator = torch.Generator().manual_seed(1)
    config = FeaturesConfig(
        normalization=normalization,
        mean=tuple((torch.rand(80, generator=generator) - 8).tolist()),
        std=tuple((torch.rand(80, generator=generator) + 3).tolist()),
        prior_frames=17,
    )
    for num_samples in (400, 5_000, 16_000):
        waveform = sound(num_samples)
        wanted = brute_features(waveform, config)
        np.testing.assert_allclose(one(waveform, config), wanted, rtol=0, atol=1e-4)


def test_frames_are_counted_exactly():
    lengths = [*range(0, 3000), 15_999, 16_000, 16_001, 960_000]
    log_mel = LogMel(CONFIG)
    for num_samples in lengths:
        starts = range(0, num_samples - 400 + 1, 160)
        assert CONFIG.num_mel_frames(num_samples) == len(starts)
        assert log_mel.num_frames(num_samples) == len(range(0, len(starts), 4))
    tensor = torch.tensor(lengths)
    assert log_mel.num_frames(tensor).tolist() == [log_mel.num_frames(n) for n in lengths]
    assert log_mel.num_frames(tensor).dtype == torch.int64
    assert log_mel.num_frames(60 * 16_000) == 1500
    for num_samples in (0, 1, 399, 400, 559, 560, 879, 880, 1039, 1040, 1041, 4_321):
        frames = log_mel(*batch(torch.zeros(num_samples)))
        assert frames.values.shape == (1, log_mel.num_frames(num_samples), 320)
        assert frames.lengths.tolist() == [log_mel.num_frames(num_samples)]
    assert log_mel(torch.zeros(0, 500), torch.zeros(0, dtype=torch.int64)).values.shape[0] == 0


@pytest.mark.parametrize("junk", [0.0, 0.5, math.nan])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_a_recording_is_the_same_alone_and_beside_others(normalization, junk):
    config = replace(CONFIG, normalization=normalization)
    waveforms = [sound(n, seed=n) for n in (16_000, 39, 400, 8_765, 31_234, 5_003, 0)]
    log_mel = LogMel(config)
    for compute in (log_mel, log_mel.mel):
        together = compute(*batch(*waveforms, junk=junk))
        for index, waveform in enumerate(waveforms):
            alone = compute(*batch(waveform))
            length = int(alone.lengths[0])
            assert int(together.lengths[index]) == length
            assert torch.equal(together.values[index, :length], alone.values[0])
            assert not together.values[index, length:].any()


def test_blocks_of_frames_do_not_show(monkeypatch):
    whole = one(sound(20_000))
    monkeypatch.setattr("speech.features.BLOCK_FRAMES", 7)
    assert torch.equal(one(sound(20_000)), whole)


@pytest.mark.parametrize("normalization", ["running", "fixed"])
def test_nothing_depends_on_what_comes_later(normalization):
    config = replace(CONFIG, normalization=normalization)
    waveform = sound(20_000)
    other = torch.cat([waveform[:9_000], sound(11_000, seed=5)])
    frames = config.num_mel_frames(9_000) // 4  # those that end before the change
    first, second = one(waveform, config), one(other, config)
    assert torch.equal(first[:frames], second[:frames])
    assert not torch.equal(first[frames:], second[frames:])


@pytest.mark.parametrize("normalization", ["running", "fixed"])
@pytest.mark.parametrize("sizes", [[1, 7, 399, 1000], [160], [3333], [100_000], [0, 640]])
def test_a_stream_gives_the_same_frames(normalization, sizes):
    config = replace(CONFIG, normalization=normalization)
    for num_samples in (0, 300, 400, 1040, 20_011):
        waveform, stream = sound(num_samples), LogMelStream(config)
        parts, position, turn = [], 0, 0
        while position < num_samples:
            size = sizes[turn % len(sizes)]
            parts.append(stream.push(waveform[position : position + size]))
            position, turn = position + size, turn + 1
            ready = config.num_mel_frames(min(position, num_samples)) // 4
            assert sum(map(len, parts)) == ready  # none is withheld
        parts.append(stream.finish())
        found = torch.cat(parts)
        torch.testing.assert_close(found, one(waveform, config), rtol=0, atol=1e-5)


def test_only_causal_normalizations_stream():
    with pytest.raises(ValueError, match="cannot stream"):
        LogMelStream(replace(CONFIG, normalization="utterance"))


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_silence_and_a_constant_give_small_finite_values(normalization, level):
    waveform = torch.full((160_000,), level)
    waveform[80_000:] = 0
    values = one(waveform, replace(CONFIG, normalization=normalization))
    assert values.isfinite().all() and values.abs().max() < 30


def test_running_normalization_forgets_the_loudness():
    waveform = sound(160_000)
    loud, faint = one(waveform), one(0.1 * waveform)
    difference = (loud - faint).abs().mean(dim=1)
    assert difference[-50:].mean() < 0.5 * difference[:25].mean()
    assert abs(float(one(waveform, replace(CONFIG, normalization="utterance")).mean())) < 0.01


def test_measured_statistics_normalise_what_they_were_measured_on():
    waveforms = [sound(n, seed=n) for n in (16_000, 100, 23_456)]
    config = measured(replace(CONFIG, normalization="fixed"), iter(waveforms))
    assert len(config.mean) == len(config.std) == 80
    frames = [one(w, config).reshape(-1, 80)[: config.num_mel_frames(len(w))] for w in waveforms]
    frames = torch.cat(frames)
    torch.testing.assert_close(frames.mean(dim=0), torch.zeros(80), rtol=0, atol=1e-4)
    torch.testing.assert_close(frames.std(dim=0), torch.ones(80), rtol=0, atol=1e-2)
    with pytest.raises(ValueError, match="nothing to measure"):
        measured(CONFIG, [torch.zeros(100)])


def test_a_model_cast_or_made_without_a_device_computes_the_same():
    inputs = batch(sound(9_999))
    wanted = LogMel(CONFIG)(*inputs)
    with torch.device("meta"):
        log_mel = LogMel(CONFIG)
    log_mel = log_mel.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = log_mel(inputs[0].requires_grad_(), inputs[1])
    assert isinstance(found, Frames) and found.values.dtype == torch.float32
    assert torch.equal(found.values, wanted.values) and not found.values.requires_grad
    assert not log_mel.state_dict()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_computes_the_same():
    waveforms, lengths = batch(*(sound(n, seed=n) for n in (16_000, 39, 31_234)))
    log_mel = LogMel(CONFIG)
    wanted, found = log_mel(waveforms, lengths), log_mel(waveforms.cuda(), lengths)
    torch.testing.assert_close(found.values.cpu(), wanted.values, rtol=0, atol=1e-4)
    assert torch.equal(found.lengths.cpu(), wanted.lengths)
    alone = log_mel(waveforms[:1, :16_000].cuda(), lengths[:1])
    assert torch.equal(found.values[0, : alone.values.shape[1]], alone.values[0])


def test_lengths_beyond_the_samples_are_refused():
    with pytest.raises(ValueError, match="9 real samples of 5"):
        LogMel(CONFIG)(torch.zeros(1, 5), torch.tensor([9]))


def test_the_config_survives_a_checkpoint():
    config = replace(CONFIG, mean=tuple(range(80)), normalization="fixed")
    assert config_from_dict(FeaturesConfig, config_to_dict(config)) == config
    assert CONFIG.dim == 320 and CONFIG.frame_seconds == 0.04


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"num_mels": 0}, "num_mels must be at least 1"),
        ({"hop": 500}, "leaves gaps"),
        ({"fft_size": 256}, "fft_size 256 must be at least"),
        ({"max_frequency": 9000.0}, r"within 0 .. 8000 Hz"),
        ({"min_frequency": 8000.0}, "must rise"),
        ({"floor": 0.0}, "must be positive"),
        ({"std": (0.0,)}, "must be positive"),
        ({"mean": (1.0, 2.0)}, r"give 1 or num_mels \(80\) values"),
        ({"normalization": "none"}, "'none' is not"),
        ({"prior_frames": 0}, "prior_frames must be at least 1"),
        ({"num_mels": 300}, "some would be empty"),
    ],
)
def test_impossible_configs_are_refused(options, fault):
    with pytest.raises(ValueError, match=fault):
        FeaturesConfig(**options)
