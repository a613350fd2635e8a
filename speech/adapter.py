"""The speech adapter: encoder frames to embeddings that stand in the core's sequence (section 8).

A convolution halves the frame rate, one rotary Transformer layer follows, then a linear map to the
core's width. The layer is built as a block of the core is, without biases, but sees both ways.

The paper gives about 100M parameters for the cores of 8B and 70B alike and does not say whether
the feed-forward layer has a gate. With it the 8B adapter has 102.2M and the 70B one 114.8M; without
it they have 89.7M and 102.2M. The presets take what is nearest to 100M: gated for 8B, plain for
70B. Also chosen here: 24 heads, of 128 as the core's, and no activation behind the convolution.
"""

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from language.layers.feed_forward import FeedForward
from language.layers.norm import RMSNorm
from speech.frames import Frames
from speech.layers import PlainFeedForward, SelfAttention
from speech.packing import Packing, RowContext

Count = TypeVar("Count", int, Tensor)

STRIDE = 2
"""Encoder frames of one embedding."""
KERNEL_SIZE = 3
"""Encoder frames that the convolution sees, the middle one at every second frame."""


@dataclass(frozen=True, kw_only=True)
class SpeechAdapterConfig:
    """Sizes and choices of a speech adapter."""

    input_dim: int
    """Width of the encoder's frames."""
    output_dim: int
    """Width of the core's embeddings."""
    dim: int = 3072
    """Width of the Transformer layer."""
    ffn_dim: int = 4096
    """Hidden width of its feed-forward layer."""
    num_heads: int = 24
    """Its attention heads."""
    gated: bool = True
    """Whether the feed-forward layer is SwiGLU, of three matrices, or plain, of two."""
    rope_theta: float = 10_000.0
    """Base of the rotary frequencies."""
    norm_eps: float = 1e-5
    """Added to the mean square in every norm."""
    output_scale: float = 0.02
    """Root mean square of fresh embeddings: that of the core's own makes them look like text."""

    def __post_init__(self) -> None:
        for name in ("input_dim", "output_dim", "dim", "ffn_dim", "num_heads"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"speech_adapter: {name} must be at least 1, not {getattr(self, name)}"
                )
        if self.dim % (2 * self.num_heads):
            raise ValueError(
                f"speech_adapter: dim {self.dim} must be a multiple of twice num_heads "
                f"{self.num_heads}: rotary positions turn pairs"
            )
        if self.output_scale <= 0:
            raise ValueError(
                f"speech_adapter.output_scale must be above 0, which {self.output_scale} is not"
            )


SPEECH_ADAPTERS: dict[str, SpeechAdapterConfig] = {
    "8b": SpeechAdapterConfig(input_dim=1536, output_dim=4096, gated=True),
    "70b": SpeechAdapterConfig(input_dim=1536, output_dim=8192, gated=False),
}
"""Behind the 1B Conformer, for the core of that size; 102.2M parameters each."""


class SpeechAdapter(nn.Module):
    """Encoder frames to embeddings at half the rate."""

    start: nn.Parameter
    """Embedding that stands before a recording's, [output_dim]."""
    end: nn.Parameter
    """Embedding that stands after them, [output_dim]."""

    def __init__(self, config: SpeechAdapterConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        # A convolution of kernel 3 is a linear map of three frames side by side.
        self.convolution = nn.Linear(KERNEL_SIZE * config.input_dim, dim)
        self.attention_norm = RMSNorm(dim, eps=config.norm_eps)
        self.attention = SelfAttention(dim, num_heads=config.num_heads, bias=False)
        self.feed_forward_norm = RMSNorm(dim, eps=config.norm_eps)
        self.feed_forward: nn.Module = (
            FeedForward(dim, config.ffn_dim)
            if config.gated
            else PlainFeedForward(dim, config.ffn_dim, bias=False)
        )
        self.norm = RMSNorm(dim, eps=config.norm_eps)
        self.output = nn.Linear(dim, config.output_dim, bias=False)
        self.start = nn.Parameter(torch.empty(config.output_dim))
        self.end = nn.Parameter(torch.empty(config.output_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw fresh weights: normal by fan-in; start and end at the scale of the embeddings."""
        for name, parameter in self.named_parameters():
            if name in ("start", "end"):
                nn.init.normal_(parameter, std=self.config.output_scale)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 1:
                nn.init.ones_(parameter)
            else:
                nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)

    def num_tokens(self, num_frames: Count) -> Count:
        """Embeddings of so many encoder frames, start and end not counted; also of a tensor."""
        return (num_frames + STRIDE - 1) // STRIDE

    def forward(self, frames: Frames) -> Frames:
        """Embeddings of recordings, without start and end.

        Args:
            frames: [recordings, frames, input_dim]; what stands past an end is never read.

        Returns:
            [recordings, ceil(frames / 2), output_dim], zero past each end.

        Raises:
            ValueError: frames of another width, or a length above the frames.
        """
        config = self.config
        num_frames, width = frames.values.shape[1:]
        if width != config.input_dim:
            raise ValueError(f"frames must be {config.input_dim} wide, not {width}")
        packing = Packing(self.num_tokens(frames.lengths), num_frames=self.num_tokens(num_frames))
        x = self.convolution(neighbours(frames, packing))
        x = x.to(self.norm.weight.dtype)  # under autocast sums stay exact
        if packing.num_rows:
            context = RowContext(
                packing,
                head_dim=config.dim // config.num_heads,
                rope_theta=config.rope_theta,
            )
            x = x + self.attention(self.attention_norm(x), context)
            x = x + self.feed_forward(self.feed_forward_norm(x))
        # A constant, not smaller weights: a step of AdamW then changes them by their own measure.
        return packing.unpack(config.output_scale * self.output(self.norm(x)))


def neighbours(frames: Frames, packing: Packing) -> Tensor:
    """Every second frame between the one before and the one after, zero beyond both ends.

    Args:
        frames: [recordings, frames, dim].
        packing: that of the halved frames.

    Returns:
        [rows, 3 * dim], the earlier frame first.
    """
    recordings, num_frames, width = frames.values.shape
    offsets = torch.arange(KERNEL_SIZE, device=packing.positions.device) - KERNEL_SIZE // 2
    positions = STRIDE * packing.positions[:, None] + offsets  # [rows, 3]
    is_real = (positions >= 0) & (positions < frames.lengths[packing.owner][:, None])
    index = packing.owner[:, None] * num_frames + positions
    padded = F.pad(frames.values.flatten(0, 1), (0, 0, 0, 1))
    index = torch.where(is_real, index, recordings * num_frames)
    return padded.index_select(0, index.flatten()).view(packing.num_rows, KERNEL_SIZE * width)
