"""Augmentation of speech: another speed, and hidden stretches of time and frequency.

Speed changes by resampling, which moves pitch and formants with it (Ko et al., Interspeech 2015).
Masks are those of SpecAugment (arXiv 1904.08779), the time masks in proportion to the recording as
in its sequel (arXiv 1912.05533): a mask hides frames or bands of one recording by zeros, which is
their mean after normalisation. All randomness comes from the generator that is given.
"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from speech.audio import SAMPLE_RATE, resample
from speech.frames import Frames


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """How much of a recording's features is hidden; the defaults are the sequel's."""

    num_time_masks: int = 10
    """Masks over time in each recording; they may overlap."""
    max_time_mask: float = 0.05
    """Longest of them, as a share of the recording's frames (rounded down)."""
    num_frequency_masks: int = 2
    """Masks over frequency in each recording; they may overlap."""
    max_frequency_mask: int = 27
    """Widest of them, in mel bands."""

    def __post_init__(self) -> None:
        if min(self.num_time_masks, self.num_frequency_masks, self.max_frequency_mask) < 0:
            raise ValueError("augmentation: numbers and widths of masks must not be negative")
        if not 0 <= self.max_time_mask <= 1:
            raise ValueError(f"augmentation.max_time_mask {self.max_time_mask} is no share")


def change_speed(waveform: Tensor, factor: float) -> Tensor:
    """Play a recording `factor` times as fast, on the CPU.

    Args:
        waveform: [samples] at 16 kHz.
        factor: of speed and pitch, to the nearest 1/16,000.

    Returns:
        [ceil(samples / factor)].
    """
    return resample(waveform, round(factor * SAMPLE_RATE)) if factor != 1 else waveform


def mask_features(
    frames: Frames, config: AugmentationConfig, *, stack: int, generator: Generator
) -> Frames:
    """Hide spans of time and of frequency, drawn for each recording by itself.

    A recording's masks depend on its place in the batch and its length, not on the padding.

    Args:
        frames: stacked features [recordings, frames, stack * num_mels] of `speech.features`.
        config: how many masks there are and how wide they may be.
        stack: mel frames of a frame. A mask over frequency hides the same bands in each of them.
        generator: on any device; the same masks come out for frames on all.

    Returns:
        New frames of the same lengths.
    """
    recordings, num_frames, dim = frames.values.shape
    lengths = frames.lengths.cpu()
    hidden_frames = _spans(
        lengths,
        widest=(lengths * config.max_time_mask).long(),
        size=num_frames,
        number=config.num_time_masks,
        generator=generator,
    )
    num_mels = dim // stack
    hidden_bands = _spans(
        torch.full((recordings,), num_mels),
        widest=torch.full((recordings,), min(config.max_frequency_mask, num_mels)),
        size=num_mels,
        number=config.num_frequency_masks,
        generator=generator,
    )
    hidden = hidden_frames[:, :, None] | hidden_bands.repeat(1, stack)[:, None]
    values = frames.values.masked_fill(hidden.to(frames.values.device), 0.0)
    return Frames(values=values, lengths=frames.lengths)


def _spans(
    extents: Tensor, *, widest: Tensor, size: int, number: int, generator: Generator
) -> Tensor:
    """Places within any of `number` spans in each row, [rows, size] bool.

    Each span is `0 .. widest` places wide, uniformly, and lies anywhere within the row's first
    `extents` places, uniformly; `widest` and `extents` are [rows] on the CPU.
    """
    draws = torch.rand(len(extents), number, 2, generator=generator, device=generator.device).cpu()
    widths = _below(widest[:, None] + 1, draws[..., 0])
    starts = _below(extents[:, None] - widths + 1, draws[..., 1])  # [rows, number]
    places = torch.arange(size)[:, None, None]
    return ((starts <= places) & (places < starts + widths)).any(dim=-1).T


def _below(bounds: Tensor, draws: Tensor) -> Tensor:
    """Integers in 0 .. bounds - 1 from numbers drawn in 0 .. 1."""
    return torch.minimum((draws * bounds).long(), bounds - 1)
