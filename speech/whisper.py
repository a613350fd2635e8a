"""The encoder of Whisper as a speech encoder, from the recording on (a public start for section 8).

Whisper was trained on windows of 30 s, the rest of a shorter recording being silence, and is
computed so: its front end (log-mel, clamped at 8 decades below the loudest band of the window) and
its attention cover the whole window. Frames of a recording therefore depend on all of it and on
the silence behind it, so that encoding cannot stream; they do not depend on other recordings of the
batch. What is longer than the window is refused, never cut.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from language.attention import attend
from language.errors import InputError
from speech.audio import SAMPLE_RATE
from speech.features import FeaturesConfig, mel_filters
from speech.frames import Frames

if TYPE_CHECKING:
    from speech.encoder import SpeechEncoderConfig

Count = TypeVar("Count", int, Tensor)

WINDOW, HOP = 400, 160
"""Samples of a mel frame's window (25 ms) and from one frame to the next (10 ms)."""
STRIDE = 2
"""Mel frames of an output frame."""


@dataclass(frozen=True, kw_only=True)
class WhisperEncoderConfig:
    """Sizes of a Whisper encoder."""

    num_mels: int = 80
    """Bands of the front end; 128 since large-v3."""
    dim: int
    """Width of the hidden states."""
    num_layers: int
    num_heads: int
    ffn_dim: int
    """Inner width of the feed-forward layers."""
    max_frames: int = 1500
    """Output frames of the window, 20 ms each."""
    dropout: float = 0.0
    """Share of each sublayer's outputs that is zeroed while training."""
    activation_checkpointing: bool = False
    """Recompute each layer in the backward pass instead of keeping its activations."""

    def __post_init__(self) -> None:
        for name in ("num_mels", "num_layers", "num_heads", "ffn_dim", "max_frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"whisper: {name} must be at least 1, not {getattr(self, name)}")
        if self.dim < 4 or self.dim % 2 or self.dim % self.num_heads:
            raise ValueError(
                f"whisper: dim {self.dim} must be even, at least 4 and a multiple of num_heads "
                f"{self.num_heads}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"whisper: dropout must lie in 0 .. 1, not {self.dropout}")


class WhisperEncoder(nn.Module):
    """Recordings of up to 30 s to a frame for every 20 ms."""

    config: "SpeechEncoderConfig"
    """What it was built by; set by `speech.encoder.build_encoder`."""

    def __init__(self, config: WhisperEncoderConfig) -> None:
        super().__init__()
        self.feature_dim = config.num_mels
        self.stride = STRIDE
        self.stack = 1
        self.dim = config.dim
        self.num_layers = config.num_layers
        self.frame_seconds = STRIDE * HOP / SAMPLE_RATE
        self.max_seconds = config.max_frames * self.frame_seconds
        self.max_frames = config.max_frames
        self.dropout = config.dropout
        self.activation_checkpointing = config.activation_checkpointing
        self.conv1 = nn.Conv1d(config.num_mels, config.dim, 3, padding=1)
        self.conv2 = nn.Conv1d(config.dim, config.dim, 3, stride=STRIDE, padding=1)
        # A table in the checkpoint, though made of sines; Whisper's own training leaves it alone.
        self.positions = nn.Parameter(
            torch.empty(config.max_frames, config.dim), requires_grad=False
        )
        self.layers = nn.ModuleList(
            WhisperLayer(
                config.dim,
                num_heads=config.num_heads,
                ffn_dim=config.ffn_dim,
                dropout=config.dropout,
            )
            for _ in range(config.num_layers)
        )
        self.norm = nn.LayerNorm(config.dim)
        self._reset_positions()

    def reset_parameters(self) -> None:
        """Start from random weights and Whisper's table of positions."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv1d | nn.LayerNorm):
                module.reset_parameters()
        self._reset_positions()

    @torch.no_grad()
    def _reset_positions(self) -> None:
        half = self.dim // 2
        rates = np.exp(-np.log(10_000) / (half - 1) * np.arange(half))
        angles = np.arange(self.max_frames)[:, None] * rates  # [frames, dim / 2]
        table = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
        self.positions.copy_(torch.from_numpy(table))

    def num_frames(self, num_samples: Count) -> Count:
        """Output frames of a recording of so many samples."""
        return -(-num_samples // (STRIDE * HOP))

    @torch.no_grad()
    def features(self, waveforms: Tensor, lengths: Tensor) -> Frames:
        """The log-mel frames of each recording's window, in float32.

        Args:
            waveforms: [recordings, samples] at 16 kHz, whatever stands past their ends.
            lengths: real samples of each, [recordings].

        Returns:
            [recordings, 2 * max_frames, num_mels]. Past a recording's end stand the frames of the
            silence that fills its window, which are *not* zero: the encoder hears them.

        Raises:
            InputError: a recording is longer than the window.
        """
        window_length = self.max_frames * STRIDE * HOP
        lengths = lengths.to(waveforms.device)
        for index, length in enumerate(lengths.tolist()):
            if length > window_length:
                raise InputError(
                    f"recording {index}",
                    f"lasts {length / SAMPLE_RATE:.2f} s, Whisper's encoder takes "
                    f"{self.max_seconds:g} s at most: cut it into segments",
                )
        waveforms = waveforms[:, :window_length].float()
        waveforms = F.pad(waveforms, (0, window_length - waveforms.shape[1]))
        past_end = torch.arange(window_length, device=waveforms.device) >= lengths[:, None]
        waveforms = waveforms.masked_fill(past_end, 0.0)
        with torch.autocast(waveforms.device.type, enabled=False):
            values = log_mel(waveforms, num_mels=self.feature_dim)
        return Frames(values=values, lengths=-(-lengths // HOP))

    def forward(self, features: Frames) -> Frames:
        """Frames of each recording [recordings, frames, dim]; the silence behind it is dropped."""
        x = self._embed(features)
        for layer in self.layers:
            x = self._call(layer, x)
        return self._cut(self.norm(x), features)

    def layer_outputs(self, features: Frames) -> list[Frames]:
        """The frames after each layer; after the last, those of :meth:`forward`."""
        x, outputs = self._embed(features), []
        for layer in self.layers:
            x = self._call(layer, x)
            outputs.append(x)
        outputs[-1] = self.norm(x)
        return [self._cut(output, features) for output in outputs]

    def _embed(self, features: Frames) -> Tensor:
        """Features of whole windows to what the first layer takes, [recordings, frames, dim]."""
        expected = (STRIDE * self.max_frames, self.feature_dim)
        if features.values.shape[1:] != expected:
            raise ValueError(
                f"Whisper's encoder takes windows of {expected} mel frames and bands, not "
                f"{tuple(features.values.shape[1:])}"
            )
        x = features.values.to(self.conv1.weight.dtype).transpose(1, 2)
        x = F.gelu(self.conv2(F.gelu(self.conv1(x)))).transpose(1, 2)  # [recordings, frames, dim]
        return F.dropout(x + self.positions, self.dropout, self.training)

    def _call(self, layer: nn.Module, x: Tensor) -> Tensor:
        if self.activation_checkpointing and torch.is_grad_enabled():
            return checkpoint(layer, x, use_reentrant=False)
        return layer(x)

    def _cut(self, x: Tensor, features: Frames) -> Frames:
        """Real frames alone, zero past each recording's end."""
        lengths = -(-features.lengths // STRIDE)
        longest = int(lengths.max()) if len(lengths) else 0
        frames = Frames(values=x[:, :longest], lengths=lengths)
        frames.values = frames.values.masked_fill(~frames.mask[..., None], 0.0)
        return frames


class WhisperLayer(nn.Module):
    """Pre-norm transformer layer; keys have no bias."""

    def __init__(self, dim: int, *, num_heads: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        self.head_dim = dim // num_heads
        self.attention_norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim)
        self.output = nn.Linear(dim, dim)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, ffn_dim)
        self.down = nn.Linear(ffn_dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map `x` [recordings, frames, dim] to the same shape."""
        normed = self.attention_norm(x)
        query, key, value = (
            project(normed).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )  # [recordings, heads, frames, head_dim]
        x = x + self.dropout(self.output(attend(query, key, value, mask=None)))
        return x + self.dropout(self.down(F.gelu(self.up(self.feed_forward_norm(x)))))


def log_mel(waveforms: Tensor, *, num_mels: int) -> Tensor:
    """Whisper's spectrogram of whole windows, [recordings, samples / 160, num_mels].

    Powers in decades, no lower than 8 below the loudest of the window, scaled to about -1 .. 1.
    """
    device = waveforms.device
    slaney = FeaturesConfig(num_mels=num_mels, window=WINDOW, hop=HOP, fft_size=WINDOW)
    filters = mel_filters(slaney, device).float()  # [bins, num_mels]
    hann = torch.hann_window(WINDOW, device=device)
    spectrum = torch.stft(waveforms, WINDOW, HOP, window=hann, return_complex=True)
    power = spectrum[..., :-1].abs().square()  # [recordings, bins, frames]
    mels = (filters.T @ power).clamp(min=1e-10).log10()
    mels = torch.maximum(mels, mels.amax(dim=(1, 2), keepdim=True) - 8.0)
    return (mels.transpose(1, 2) + 4.0) / 4.0
