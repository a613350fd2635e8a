"""The encoder of w2v-BERT 2.0 as a speech encoder, from the recording on (a Conformer as in
section 8, pre-trained by others).

Its front end is Kaldi's: 80 log-mel bands of 25 ms windows, each band normalised over the
recording, two frames stacked. Layers differ from ours in their causal convolution, which is
followed by LayerNorm, and in positions: a learned vector for each clipped distance between query
and key (Shaw et al.). A recording's frames do not depend on padding or on its neighbours.
"""

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from language.attention import attend
from speech.audio import SAMPLE_RATE
from speech.frames import Frames

if TYPE_CHECKING:
    from speech.encoder import SpeechEncoderConfig

Count = TypeVar("Count", int, Tensor)

WINDOW, HOP, FFT = 400, 160, 512
"""Samples of a mel frame's window (25 ms), between two frames (10 ms), and of the transform."""
NUM_MELS, STACK = 80, 2
"""Bands of a mel frame, and mel frames of a feature frame."""


@dataclass(frozen=True, kw_only=True)
class W2vBertConfig:
    """Sizes of a w2v-BERT 2.0 encoder; by default those of the public one (580M parameters)."""

    dim: int = 1024
    """Width of the hidden states."""
    num_layers: int = 24
    num_heads: int = 16
    ffn_dim: int = 4096
    """Inner width of the two feed-forward halves of a layer."""
    kernel_size: int = 31
    """Frames under the causal convolution: the present one and those before it."""
    max_left: int = 64
    """Largest distance to an earlier frame that has a vector of its own; those beyond share it."""
    max_right: int = 8
    """The same for later frames."""
    norm_eps: float = 1e-5
    """Added to the variance in every LayerNorm."""
    dropout: float = 0.0
    """Share of each sublayer's outputs that is zeroed while training."""
    activation_checkpointing: bool = False
    """Recompute each layer in the backward pass instead of keeping its activations."""

    def __post_init__(self) -> None:
        for name in ("dim", "num_layers", "num_heads", "ffn_dim", "kernel_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"w2v_bert: {name} must be at least 1, not {getattr(self, name)}")
        for name in ("max_left", "max_right"):
            if getattr(self, name) < 0:
                raise ValueError(f"w2v_bert: {name} must not be negative")
        if self.dim % self.num_heads:
            raise ValueError(
                f"w2v_bert: dim {self.dim} must be a multiple of num_heads {self.num_heads}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"w2v_bert: dropout must lie in 0 .. 1, not {self.dropout}")


class W2vBertEncoder(nn.Module):
    """Recordings to a frame for every 20 ms."""

    config: "SpeechEncoderConfig"
    """What it was built by; set by `speech.encoder.build_encoder`."""

    def __init__(self, config: W2vBertConfig) -> None:
        super().__init__()
        self.feature_dim = NUM_MELS * STACK
        self.stride = 1
        self.stack = STACK
        self.dim = config.dim
        self.num_layers = config.num_layers
        self.frame_seconds = STACK * HOP / SAMPLE_RATE
        self.max_seconds = float("inf")
        self.max_left, self.max_right = config.max_left, config.max_right
        self.activation_checkpointing = config.activation_checkpointing
        self.input_norm = nn.LayerNorm(self.feature_dim, eps=config.norm_eps)
        self.input_projection = nn.Linear(self.feature_dim, config.dim)
        self.layers = nn.ModuleList(W2vBertLayer(config) for _ in range(config.num_layers))

    def reset_parameters(self) -> None:
        """Start from random weights."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv1d | nn.LayerNorm | DistanceAttention):
                module.reset_parameters()

    def num_frames(self, num_samples: Count) -> Count:
        """Output frames of a recording of so many samples: two whole windows make one."""
        return (num_samples - WINDOW + HOP) // (STACK * HOP) * (num_samples >= WINDOW + HOP)

    @torch.no_grad()
    def features(self, waveforms: Tensor, lengths: Tensor) -> Frames:
        """Stacked, normalised log-mel frames of each recording, in float32.

        Args:
            waveforms: [recordings, samples] at 16 kHz, whatever stands past their ends.
            lengths: real samples of each, [recordings].

        Returns:
            [recordings, frames, 160].
        """
        lengths = lengths.to(waveforms.device)
        waveforms = F.pad(waveforms.float(), (0, max(0, WINDOW + HOP - waveforms.shape[1])))
        with torch.autocast(waveforms.device.type, enabled=False):
            mels = torch.cat([kaldi_mel(one) for one in waveforms.split(1)])
        num_mel_frames = (lengths - WINDOW + HOP).clamp(min=0) // HOP
        values = normalised(Frames(values=mels, lengths=num_mel_frames))
        num_frames = values.shape[1] // STACK
        values = values[:, : num_frames * STACK].unflatten(1, (-1, STACK)).flatten(2)
        return _silenced(values, num_mel_frames // STACK)

    def forward(self, features: Frames) -> Frames:
        """Frames of each recording, [recordings, frames, dim]."""
        x, distances, mask = self._embed(features)
        for layer in self.layers:
            x = self._call(layer, x, distances, mask)
        return _silenced(x, features.lengths)

    def layer_outputs(self, features: Frames) -> list[Frames]:
        """The frames after each layer; after the last, those of :meth:`forward`."""
        x, distances, mask = self._embed(features)
        outputs = []
        for layer in self.layers:
            x = self._call(layer, x, distances, mask)
            outputs.append(_silenced(x, features.lengths))
        return outputs

    def _embed(self, features: Frames) -> tuple[Tensor, Tensor, Tensor]:
        """What the layers take: frames, rows of their distance tables, which keys are real."""
        x = features.values.to(self.input_projection.weight.dtype)
        x = self.input_projection(self.input_norm(x))
        steps = torch.arange(x.shape[1], device=x.device)
        distances = (steps - steps[:, None]).clamp(-self.max_left, self.max_right) + self.max_left
        return x, distances, features.mask[:, None, None]

    def _call(self, layer: nn.Module, x: Tensor, distances: Tensor, mask: Tensor) -> Tensor:
        if self.activation_checkpointing and torch.is_grad_enabled():
            return checkpoint(layer, x, distances, mask, use_reentrant=False)
        return layer(x, distances, mask)


class W2vBertLayer(nn.Module):
    """Half a feed-forward, attention, convolution, half a feed-forward, norm."""

    def __init__(self, config: W2vBertConfig) -> None:
        super().__init__()
        self.first = FeedForward(config)
        self.attention = DistanceAttention(config)
        self.convolution = CausalConvolution(config)
        self.second = FeedForward(config)
        self.norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, distances: Tensor, mask: Tensor) -> Tensor:
        """Map `x` [recordings, frames, dim] to the same shape.

        Args:
            x: real frames first, whatever stands past them.
            distances: row of the distance table for each query and key, [frames, frames].
            mask: which keys are real, [recordings, 1, 1, frames] bool.
        """
        x = x + 0.5 * self.dropout(self.first(x))
        x = x + self.dropout(self.attention(x, distances, mask))
        x = x + self.dropout(self.convolution(x))
        x = x + 0.5 * self.dropout(self.second(x))
        return self.norm(x)


class FeedForward(nn.Module):
    """Norm, and two layers with a swish between."""

    def __init__(self, config: W2vBertConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.up = nn.Linear(config.dim, config.ffn_dim)
        self.down = nn.Linear(config.ffn_dim, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map `x` [..., dim] to the same shape."""
        return self.down(F.silu(self.up(self.norm(x))))


class DistanceAttention(nn.Module):
    """Norm, and self-attention whose scores gain the query's product with a distance's vector."""

    def __init__(self, config: W2vBertConfig) -> None:
        super().__init__()
        dim = config.dim
        self.head_dim = dim // config.num_heads
        self.norm = nn.LayerNorm(dim, eps=config.norm_eps)
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.output = nn.Linear(dim, dim)
        num_distances = config.max_left + 1 + config.max_right
        self.distances = nn.Parameter(torch.empty(num_distances, self.head_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Distances that hardly matter yet."""
        nn.init.normal_(self.distances, std=0.02)

    def forward(self, x: Tensor, distances: Tensor, mask: Tensor) -> Tensor:
        """Mix `x` [recordings, frames, dim] among its real frames."""
        normed = self.norm(x)
        query, key, value = (
            project(normed).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )  # [recordings, heads, frames, head_dim]
        # A product with each distance, then picked for each key: no [frames, frames, head_dim].
        scores = query @ self.distances.T * self.head_dim**-0.5
        bias = scores.gather(-1, distances.expand(*scores.shape[:2], -1, -1))
        # The least number, not -inf: a recording without frames must not become NaN.
        bias = bias.masked_fill(~mask, torch.finfo(bias.dtype).min)
        return self.output(attend(query, key, value, mask=bias))


class CausalConvolution(nn.Module):
    """Norm, gate, a convolution over each channel's past, norm, swish, projection."""

    def __init__(self, config: W2vBertConfig) -> None:
        super().__init__()
        dim = config.dim
        self.norm = nn.LayerNorm(dim, eps=config.norm_eps)
        self.gated = nn.Linear(dim, 2 * dim, bias=False)
        self.depthwise = nn.Conv1d(dim, dim, config.kernel_size, groups=dim, bias=False)
        self.depthwise_norm = nn.LayerNorm(dim, eps=config.norm_eps)
        self.output = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `x` [recordings, frames, dim] to the same shape; padding lies in the future."""
        x = F.glu(self.gated(self.norm(x))).transpose(1, 2)  # [recordings, dim, frames]
        x = self.depthwise(F.pad(x, (self.depthwise.kernel_size[0] - 1, 0))).transpose(1, 2)
        return self.output(F.silu(self.depthwise_norm(x)))


def _silenced(values: Tensor, lengths: Tensor) -> Frames:
    """Frames that are zero past each recording's end."""
    frames = Frames(values=values, lengths=lengths)
    frames.values = values.masked_fill(~frames.mask[..., None], 0.0)
    return frames


def normalised(mels: Frames) -> Tensor:
    """Each band with mean 0 and deviation 1 over the real frames of a recording."""
    mask = mels.mask[..., None]
    count = mels.lengths[:, None, None]
    mean = mels.values.masked_fill(~mask, 0.0).sum(1, keepdim=True) / count.clamp(min=1)
    centred = mels.values - mean
    squares = centred.square().masked_fill(~mask, 0.0).sum(1, keepdim=True)
    return centred * (squares / (count - 1).clamp(min=1) + 1e-7).rsqrt()


def kaldi_mel(waveforms: Tensor) -> Tensor:
    """Kaldi's log-mel frames of samples in -1 .. 1, [recordings, mel frames, 80].

    In float64 up to the power: beside a loud tone, the rounding of float32 is louder than what
    quiet bands hold, and bands are normalised one by one. (Apple's GPUs have float32 only.)
    """
    exact = torch.float32 if waveforms.device.type == "mps" else torch.float64
    windows = (waveforms.to(exact) * 2**15).unfold(1, WINDOW, HOP)  # [.., mel frames, samples]
    windows = windows - windows.mean(-1, keepdim=True)
    before = torch.cat([windows[..., :1], windows[..., :-1]], dim=-1)
    windows = (windows - 0.97 * before) * povey_window(waveforms.device)
    power = torch.fft.rfft(windows, n=FFT).abs().square().float()  # [.., mel frames, bins]
    return (power @ mel_filters(waveforms.device)).clamp(min=torch.finfo(torch.float32).eps).log()


@cache
def povey_window(device: torch.device) -> Tensor:
    """Kaldi's window, a Hann window that is less narrow; [samples], as exact as the device can."""
    window = torch.from_numpy(np.hanning(WINDOW) ** 0.85)
    return (window.float() if device.type == "mps" else window).to(device)


@cache
def mel_filters(device: torch.device) -> Tensor:
    """Kaldi's triangles on its mel scale over 20 Hz .. 8 kHz, [bins, 80].

    Not a buffer, so that casting a model leaves the front end in float32.
    """
    low, high = 1127 * np.log1p(np.array([20, SAMPLE_RATE / 2]) / 700)
    edges = np.linspace(low, high, NUM_MELS + 2)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    bins = 1127 * np.log1p(np.linspace(0, SAMPLE_RATE / 2, FFT // 2 + 1) / 700)[:, None]
    triangles = np.minimum((bins - left) / (centre - left), (right - bins) / (right - centre))
    return torch.from_numpy(triangles.clip(min=0)).to(device, torch.float32)
