"""Log-mel features of recordings, stacked four by four (section 8: 80 bands, 10 ms, then 40 ms).

No frame depends on what comes later, nor on what stands beside it in a batch:

- A window of 25 ms starts every 10 ms, as long as it lies within the recording: nothing is padded
  at either end. What is left over at the end is less than one hop (10 ms).
- Bands are normalised by what was heard up to now (see `FeaturesConfig.normalization`).
- Four frames become one of 40 ms; the last is filled up with zeros, the mean.

A recording of N samples therefore has `M = max(0, (N - 240) // 160)` mel frames and `ceil(M / 4)`
stacked ones: 60 s give 1,500. `LogMelStream` gives the same frames while the sound arrives.

Sums over bins and frames are in float64, so that rounding hides the order in which they are taken:
frames are the same to the last bit alone and in any batch. (Apple's GPUs have float32 only.)
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speech.audio import SAMPLE_RATE
from speech.frames import Frames

Count = TypeVar("Count", int, Tensor)

BLOCK_FRAMES = 2**15
"""Mel frames whose spectra are in memory at a time."""


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """How sound becomes frames; it belongs to the checkpoint of whatever is trained on them."""

    num_mels: int = 80
    """Bands of the mel scale."""
    window: int = 400
    """Samples of a frame's Hann window: 25 ms."""
    hop: int = 160
    """Samples from one frame to the next: 10 ms."""
    fft_size: int = 512
    """Samples of the Fourier transform; the window is filled up with zeros."""
    min_frequency: float = 0.0
    """Lower edge of the lowest band, in Hz."""
    max_frequency: float = 8000.0
    """Upper edge of the highest band, in Hz."""
    floor: float = 1e-7
    """Power below which a band is silent: about 10 dB above the rounding of 16-bit samples."""
    stack: int = 4
    """Mel frames of a feature frame."""
    normalization: Literal["running", "fixed", "utterance"] = "running"
    """By which mean and standard deviation each band is normalised.

    - `running`: those of the recording's frames up to the present one, and of `prior_frames`
      frames that have the `mean` and `std` below. It follows the loudness and the room of a
      recording within about `prior_frames`, and needs to know nothing of what comes.
    - `fixed`: `mean` and `std`, which should be measured (`measured`).
    - `utterance`: those of the whole recording. It cannot stream: its first frame depends on the
      last.
    """
    mean: tuple[float, ...] = (-9.0,)
    """Mean log power of each band, or one for all."""
    std: tuple[float, ...] = (4.0,)
    """Standard deviation of the log power of each band, or one for all."""
    prior_frames: int = 100
    """Weight of `mean` and `std` against the recording's own, in mel frames."""
    min_std: float = 0.5
    """Least deviation that is divided by, so that long silence is not blown up."""

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
            if len(getattr(self, name)) not in (1, self.num_mels):
                raise ValueError(f"features.{name}: give 1 or num_mels ({self.num_mels}) values")
        for name in ("num_mels", "window", "hop", "stack", "prior_frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"features.{name} must be at least 1, not {getattr(self, name)}")
        if self.hop > self.window:
            raise ValueError(f"features.hop {self.hop} leaves gaps between windows: {self.window}")
        if self.fft_size < self.window:
            raise ValueError(
                f"features.fft_size {self.fft_size} must be at least the window, {self.window}"
            )
        if not 0 <= self.min_frequency < self.max_frequency <= SAMPLE_RATE / 2:
            raise ValueError(
                f"features: frequencies {self.min_frequency} .. {self.max_frequency} must rise "
                f"within 0 .. {SAMPLE_RATE / 2:g} Hz"
            )
        if self.floor <= 0 or self.min_std <= 0 or min(self.std) <= 0:
            raise ValueError("features: floor, std and min_std must be positive")
        if self.normalization not in ("running", "fixed", "utterance"):
            raise ValueError(
                f"features.normalization: {self.normalization!r} is not 'running', 'fixed' or "
                "'utterance'"
            )
        if (mel_filters(self, torch.device("cpu")).sum(dim=0) == 0).any():
            raise ValueError(
                f"features: {self.num_mels} bands are too many for fft_size {self.fft_size}: "
                "some would be empty"
            )

    @property
    def dim(self) -> int:
        """Width of a feature frame."""
        return self.stack * self.num_mels

    @property
    def frame_seconds(self) -> float:
        """Seconds from one feature frame to the next."""
        return self.stack * self.hop / SAMPLE_RATE

    def num_mel_frames(self, num_samples: Count) -> Count:
        """Mel frames of a recording of so many samples (an int or a tensor of them)."""
        frames = (num_samples - self.window + self.hop) // self.hop
        return frames.clamp(min=0) if isinstance(frames, Tensor) else max(0, frames)

    def num_frames(self, num_samples: Count) -> Count:
        """Feature frames of a recording of so many samples (an int or a tensor of them)."""
        return -(-self.num_mel_frames(num_samples) // self.stack)


class LogMel(nn.Module):
    """Waveforms to normalised, stacked log-mel frames; it has no parameters and no gradients."""

    def __init__(self, config: FeaturesConfig) -> None:
        super().__init__()
        self.config = config
        self.dim = config.dim

    def num_frames(self, num_samples: Count) -> Count:
        """Feature frames of a recording of so many samples."""
        return self.config.num_frames(num_samples)

    @torch.no_grad()
    def forward(self, waveforms: Tensor, lengths: Tensor) -> Frames:
        """Compute the features of each recording.

        Args:
            waveforms: [recordings, samples] at 16 kHz in -1 .. 1, whatever stands past their ends.
            lengths: real samples of each, [recordings].

        Returns:
            [recordings, frames, stack * num_mels] in float32: the bands of the first mel frame,
            then of the second, and so on.
        """
        mel = self.mel(waveforms, lengths)
        return Frames(
            values=_stacked(_normalised(mel, self.config), self.config),
            lengths=self.config.num_frames(lengths.to(mel.lengths)),
        )

    @torch.no_grad()
    def mel(self, waveforms: Tensor, lengths: Tensor) -> Frames:
        """Natural logarithms of the power in each band, [recordings, mel frames, num_mels].

        Neither stacked nor normalised; arguments as for `forward`.
        """
        lengths = lengths.to(waveforms.device, torch.int64)
        longest = max(lengths.tolist(), default=0)
        if longest > waveforms.shape[1]:
            raise ValueError(f"{longest} real samples of {waveforms.shape[1]}: lengths are wrong")
        values = _log_mel(waveforms[:, :longest], self.config)
        frames = Frames(values=values, lengths=self.config.num_mel_frames(lengths))
        frames.values = values.masked_fill(~frames.mask[..., None], 0.0)
        return frames


class LogMelStream:
    """The features of one recording while it arrives: those of `LogMel`, none withheld."""

    def __init__(self, config: FeaturesConfig) -> None:
        """Start before the first sample.

        Raises:
            ValueError: the normalization needs the whole recording.
        """
        if config.normalization == "utterance":
            raise ValueError("features.normalization 'utterance' cannot stream: it is not causal")
        self.config = config
        self._samples = torch.empty(0)
        self._mel = torch.empty(0, config.num_mels)  # normalised, not yet stacked
        self._sums = _prior(self._mel, config)
        self._count = config.prior_frames

    @torch.no_grad()
    def push(self, samples: Tensor) -> Tensor:
        """Take further samples [samples]; return the frames that they complete [frames, dim]."""
        config = self.config
        samples = torch.cat([self._samples.to(samples.device), samples.float()])
        mel = _log_mel(samples[None], config)[0]
        self._samples = samples[len(mel) * config.hop :]
        if config.normalization == "running":
            sums = self._sums.to(mel.device)
            self._count, count = self._count + len(mel), self._count
            mel, totals = _running(mel, config, count=count, sums=sums)
            self._sums = torch.cat([sums[None], totals])[-1]
        else:
            mel = _fixed(mel, config)
        mel = torch.cat([self._mel.to(mel.device), mel])
        whole = len(mel) - len(mel) % config.stack
        self._mel = mel[whole:]
        return _stacked(mel[:whole], config)

    def finish(self) -> Tensor:
        """Return the last frame, if one is left, filled up with zeros [0 or 1, dim]."""
        rest, self._mel = self._mel, self._mel[:0]
        return _stacked(rest, self.config)


def measured(config: FeaturesConfig, waveforms: Iterable[Tensor]) -> FeaturesConfig:
    """Return the config with the mean and deviation of each band over recordings [samples].

    Raises:
        ValueError: there is not one frame in them.
    """
    sums = torch.zeros(2, config.num_mels, dtype=torch.float64)
    num_frames = 0
    for waveform in waveforms:
        mel = _log_mel(waveform[None], config)[0].double().cpu()
        sums += torch.stack([mel.sum(dim=0), mel.square().sum(dim=0)])
        num_frames += len(mel)
    if num_frames == 0:
        raise ValueError("no recording is as long as one window: nothing to measure")
    mean, square = sums / num_frames
    std = (square - mean.square()).clamp(min=config.min_std**2).sqrt()
    return replace(config, mean=tuple(mean.tolist()), std=tuple(std.tolist()))


# All below work on the last two dimensions, [..., mel frames, num_mels].


def _log_mel(waveforms: Tensor, config: FeaturesConfig) -> Tensor:
    """Log power of each band in each window that lies within [recordings, samples]."""
    device = waveforms.device
    waveforms = waveforms.float()
    if len(waveforms) == 0 or waveforms.shape[1] < config.window:
        return waveforms.new_empty(len(waveforms), 0, config.num_mels)
    hann = torch.hann_window(config.window, device=device)
    filters = mel_filters(config, device)
    windows = waveforms.unfold(1, config.window, config.hop)  # [recordings, frames, window]
    parts = []
    with torch.autocast(device.type, enabled=False):
        for part in windows.split(max(1, BLOCK_FRAMES // len(windows)), dim=1):
            spectrum = torch.fft.rfft(part * hann, n=config.fft_size)
            power = spectrum.real.square() + spectrum.imag.square()  # [recordings, frames, bins]
            parts.append((power.to(filters) @ filters).float())
    return torch.cat(parts, dim=1).clamp(min=config.floor).log()


def _normalised(mel: Frames, config: FeaturesConfig) -> Tensor:
    values, real = mel.values, mel.mask[..., None]
    if config.normalization == "fixed":
        values = _fixed(values, config)
    elif config.normalization == "running":
        values, _ = _running(values, config, count=config.prior_frames, sums=_prior(values, config))
    else:
        count = mel.lengths[:, None, None].clamp(min=1)
        values = values.to(_exact(values.device))
        values = values - values.sum(dim=1, keepdim=True) / count  # zero past the ends
        variance = values.square().masked_fill(~real, 0.0).sum(dim=1, keepdim=True) / count
        values = (values / variance.sqrt().clamp(min=config.min_std)).float()
    return values.masked_fill(~real, 0.0)


def _fixed(mel: Tensor, config: FeaturesConfig) -> Tensor:
    return (mel - mel.new_tensor(config.mean)) / mel.new_tensor(config.std)


def _prior(mel: Tensor, config: FeaturesConfig) -> Tensor:
    """The sums that `_running` starts from, [2, num_mels], for the type and device of `mel`."""
    std = torch.tensor(config.std, dtype=_exact(mel.device), device=mel.device)
    squares = (config.prior_frames * std.square()).expand(config.num_mels)
    return torch.stack([torch.zeros_like(squares), squares])


def _running(
    mel: Tensor, config: FeaturesConfig, *, count: int, sums: Tensor
) -> tuple[Tensor, Tensor]:
    """Normalise each frame by all up to it.

    Args:
        mel: [..., frames, num_mels].
        config: the features'.
        count: frames that came before, the prior's included.
        sums: over these, of deviations from the prior mean and of their squares, [2, num_mels].

    Returns:
        The normalised frames, and the sums after each of them [..., frames, 2, num_mels].
    """
    values = mel.to(sums) - sums.new_tensor(config.mean)
    totals = torch.stack([values, values.square()], dim=-2).cumsum(dim=-3) + sums
    counts = count + torch.arange(1, mel.shape[-2] + 1, device=mel.device)[:, None]  # [frames, 1]
    mean, square = totals[..., 0, :] / counts, totals[..., 1, :] / counts
    std = (square - mean.square()).clamp(min=config.min_std**2).sqrt()
    return ((values - mean) / std).float(), totals


def _stacked(mel: Tensor, config: FeaturesConfig) -> Tensor:
    """Frames [..., mel frames, num_mels] to [..., ceil(mel frames / stack), stack * num_mels]."""
    mel = F.pad(mel, (0, 0, 0, -mel.shape[-2] % config.stack))
    return mel.unflatten(-2, (-1, config.stack)).flatten(-2)


def _exact(device: torch.device) -> torch.dtype:
    """The type for sums."""
    return torch.float32 if device.type == "mps" else torch.float64


@cache
def mel_filters(config: FeaturesConfig, device: torch.device) -> Tensor:
    """Triangles of equal area on Slaney's mel scale, [bins, num_mels], in the type for sums.

    No buffer of a module: it survives a model's cast to bfloat16, and its birth on no device.
    """
    step = math.log(6.4) / 27  # of a mel above 1 kHz; below, a mel is 200/3 Hz

    def mel(frequency: float) -> float:
        linear = frequency * 3 / 200
        return linear if linear < 15 else 15 + math.log(frequency / 1000) / step

    lowest, highest = mel(config.min_frequency), mel(config.max_frequency)
    mels = np.linspace(lowest, highest, config.num_mels + 2)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp(step * (mels - 15)))  # in Hz
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    bins = np.linspace(0, SAMPLE_RATE / 2, config.fft_size // 2 + 1)[:, None]
    triangles = np.minimum((bins - left) / (centre - left), (right - bins) / (right - centre))
    filters = triangles.clip(min=0) * 2 / (right - left)
    return torch.from_numpy(filters).to(device, _exact(device))
