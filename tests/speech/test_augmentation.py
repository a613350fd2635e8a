"""Speed and masks do what they say, within each recording, and again from the same seed."""

import numpy as np
import pytest
import torch

from language.config_dict import config_from_dict, config_to_dict
from speech.augmentation import (
    AugmentationConfig,
    change_speed,
    mask_features,
)
from speech.frames import Frames

STACK, NUM_MELS = 4, 80


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ones(*lengths: int, num_frames: int | None = None) -> Frames:
    """Frames of ones, zero past each recording's end."""
    num_frames = num_frames or max(lengths)
    frames = Frames(
        values=torch.ones(len(lengths), num_frames, STACK * NUM_MELS),
        lengths=torch.tensor(lengths),
    )
    frames.values *= frames.mask[..., None]
    return frames


def masked(frames: Frames, seed: int = 0, **options) -> torch.Tensor:
    config = AugmentationConfig(**options)
    return mask_features(frames, config, stack=STACK, generator=seeded(seed)).values


def runs(hidden: np.ndarray) -> list[int]:
    """Lengths of the runs of true values."""
    edges = np.flatnonzero(np.diff(np.pad(hidden.astype(int), 1)))
    return (edges[1::2] - edges[::2]).tolist()


@pytest.mark.parametrize("factor", [0.9, 1.1, 0.5, 2.0, 1.0, 0.95, 1.0 / 3 + 0.5])
def test_speed_gives_exact_lengths_and_moves_a_tone(factor):
    rate = round(factor * 16_000)
    for size in (0, 1, 159, 16_000, 70_001):
        assert len(change_speed(torch.zeros(size), factor)) == -(-size * 16_000 // rate)
    tone = 0.5 * torch.sin(2 * torch.pi * 440 * torch.arange(16_000) / 16_000)
    found = change_speed(tone, factor)
    true_factor = rate / 16_000
    wanted = 0.5 * torch.sin(2 * torch.pi * 440 * true_factor * torch.arange(len(found)) / 16_000)
    assert (found - wanted)[300:-300].abs().max() < 1e-3


def test_masks_are_the_same_from_the_same_seed_and_others_from_another():
    frames = ones(100, 60)
    assert torch.equal(masked(frames, 3), masked(frames, 3))
    assert not torch.equal(masked(frames, 3), masked(frames, 4))
    assert frames.values[0].all()  # what was given is left alone


def test_a_time_mask_hides_whole_frames_of_its_own_recording():
    lengths = [200, 100, 61, 19, 1, 0]
    seen = set()
    for seed in range(200):
        values = masked(
            ones(*lengths), seed, num_time_masks=1, max_time_mask=0.1, num_frequency_masks=0
        )
        hidden = (values == 0).all(dim=-1)
        assert torch.equal(hidden, (values == 0).any(dim=-1))
        for row, length in zip(hidden, lengths, strict=True):
            widths = runs(row[:length].numpy())
            assert len(widths) <= 1 and sum(widths) <= int(0.1 * length)
            seen.add((length, *widths))
    # All widths from none to the widest occur, and places differ between recordings.
    assert {s[1:] for s in seen if s[0] == 61} == {(), *((w,) for w in range(1, 7))}
    assert {s[1:] for s in seen if s[0] == 19} == {(), (1,)}


def test_shares_are_those_of_uniform_widths():
    frames = ones(*[100] * 1000)
    hidden = masked(frames, num_time_masks=1, max_time_mask=0.2, num_frequency_masks=0) == 0
    assert float(hidden.float().mean()) == pytest.approx(0.10, abs=0.01)
    by_place = hidden.all(dim=-1).float().mean(dim=0)  # [frames]
    assert by_place[0] < by_place[50] < 0.16 and by_place[50] > 2 * by_place[0]
    bands = masked(frames, num_time_masks=0, num_frequency_masks=1, max_frequency_mask=27) == 0
    assert float(bands.float().mean()) == pytest.approx(13.5 / 80, abs=0.01)
    hidden = masked(frames, num_time_masks=10, max_time_mask=0.05, num_frequency_masks=0) == 0
    assert float(hidden.float().mean()) == pytest.approx(1 - (1 - 0.025) ** 10, abs=0.015)


def test_a_frequency_mask_hides_the_same_bands_in_every_frame_and_stacked_frame():
    rows = set()
    values = masked(ones(*[7] * 300), num_time_masks=0, num_frequency_masks=1)
    for recording in values:
        hidden = recording.view(7 * STACK, NUM_MELS) == 0
        assert torch.equal(hidden, hidden[:1].expand_as(hidden))
        widths = runs(hidden[0].numpy())
        assert len(widths) <= 1 and sum(widths) <= 27
        rows.add(tuple(torch.where(hidden[0])[0].tolist()))
    assert len(rows) > 200  # each recording has its own
    assert max(map(len, rows)) == 27 and min(map(len, rows)) == 0
    assert {0, 79} <= {band for row in rows for band in row}


def test_padding_changes_no_mask_and_is_not_touched():
    short, long = ones(50, 90), ones(50, 90, num_frames=200)
    assert torch.equal(masked(short), masked(long)[:, :90])
    assert not masked(long)[:, 90:].any()
    many = [masked(ones(40, 400), seed, num_frequency_masks=0)[0, :40] for seed in range(200)]
    share = float((torch.stack(many) == 0).float().mean())
    assert share == pytest.approx(1 - (1 - 1 / 40) ** 10, abs=0.02)  # widths 0, 1 or 2 of 40


def test_what_is_left_is_unchanged_and_gradients_pass():
    frames = ones(30)
    frames.values = torch.randn(1, 30, STACK * NUM_MELS, requires_grad=True)
    values = masked(frames)
    assert torch.equal(values[values != 0], frames.values[values != 0])
    values.sum().backward()
    assert torch.equal(frames.values.grad, (values != 0).float())


def test_masks_can_be_none_or_everything():
    frames = ones(30, 10)
    assert torch.equal(masked(frames, num_time_masks=0, num_frequency_masks=0), frames.values)
    everything = [
        masked(ones(3), seed, num_time_masks=40, max_time_mask=1.0).any() for seed in range(5)
    ]
    assert not any(everything)
    empty = Frames(values=torch.zeros(0, 5, 320), lengths=torch.zeros(0, dtype=torch.int64))
    assert masked(empty).shape == (0, 5, 320)
    assert masked(ones(9), max_frequency_mask=500).shape == (1, 9, 320)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"num_time_masks": -1}, "must not be negative"),
        ({"max_time_mask": 2.0}, "is no share"),
    ],
)
def test_impossible_configs_are_refused(options, fault):
    with pytest.raises(ValueError, match=fault):
        AugmentationConfig(**options)


def test_the_config_survives_a_checkpoint():
    config = AugmentationConfig(num_time_masks=3)
    assert config_from_dict(AugmentationConfig, config_to_dict(config)) == config
