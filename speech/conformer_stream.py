"""A Conformer that encodes chunk by chunk, as the sound comes in (section 8).

What it gives equals the pass over the whole recording under the same window: a chunk sees itself
and what its layers kept of the frames before it.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from language.rope import rotate
from speech.conformer import Conformer, ConformerConfig
from speech.packing import depthwise, rotary, scaled_attention


class ConformerStream:
    """Recordings of equal length that grow side by side, as from as many microphones.

    Each layer keeps the keys and values of ``left_context`` frames and the input of its convolution
    for half a kernel, no more, however long the stream.
    """

    def __init__(self, conformer: Conformer) -> None:
        """Begin a stream.

        Raises:
            ValueError: the encoder's window has no chunks.
        """
        if conformer.config.chunk_size == 0:
            raise ValueError("streaming needs an encoder with conformer.chunk_size above 0")
        self.conformer = conformer
        self._layers = [_LayerStream(conformer.config) for _ in conformer.blocks]
        self._is_over = False

    @torch.no_grad()
    def push(self, frames: Tensor) -> Tensor:
        """Encode the next chunk.

        Args:
            frames: [recordings, frames, input_dim], ``chunk_size`` frames; fewer end the stream.

        Returns:
            [recordings, frames, dim].

        Raises:
            ValueError: more frames than a chunk has, none, or a chunk after a short one.
        """
        recordings, num_frames = frames.shape[:2]
        size = self.conformer.config.chunk_size
        if not 1 <= num_frames <= size:
            raise ValueError(f"a chunk has 1 .. {size} frames, not {num_frames}")
        if self._is_over:
            raise ValueError("a chunk shorter than the others has ended this stream")
        self._is_over = num_frames < size
        x = self.conformer.embed(frames.flatten(0, 1))
        for block, layer in zip(self.conformer.blocks, self._layers, strict=True):
            layer.recordings = recordings
            x = block(x, layer)
        return x.unflatten(0, (recordings, num_frames))


class _LayerStream:
    """What one layer sees of the past: a context, as :class:`RowContext` is one of whole passes."""

    def __init__(self, config: ConformerConfig) -> None:
        self.config = config
        self.recordings = 0
        self._past: Tensor | None = None
        self._convolved: Tensor | None = None

    def attend(self, qkv: Tensor) -> Tensor:
        """Attend to the chunk and its left context; see :class:`speech.layers.Context`."""
        qkv = qkv.unflatten(0, (self.recordings, -1))  # [recordings, frames, 3, heads, head_dim]
        num_frames = qkv.shape[1]
        key_value = qkv[:, :, 1:]
        if self._past is not None:
            key_value = torch.cat((self._past, key_value), dim=1)
        # Keys are kept as they were before their turn and turned by their place in the window: only
        # distances count, and angles stay exact however long the stream.
        positions = torch.arange(key_value.shape[1], device=qkv.device)
        cos, sin = rotary(
            positions, head_dim=self.config.head_dim, theta=self.config.rope_theta
        )  # [window, head_dim]
        cos, sin = cos[:, None].to(qkv.dtype), sin[:, None].to(qkv.dtype)
        query = rotate(qkv[:, :, 0], cos[-num_frames:], sin[-num_frames:])
        key, value = key_value.unbind(2)
        left = self.config.left_context
        self._past = key_value if left is None else last(key_value, left)
        return scaled_attention(query, rotate(key, cos, sin), value, mask=None).flatten(0, 1)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Convolve the chunk behind its past; see :class:`speech.layers.Context`."""
        reach = self.config.kernel_size // 2
        x = x.unflatten(0, (self.recordings, -1))
        past = (
            x.new_zeros(len(x), reach, x.shape[2]) if self._convolved is None else self._convolved
        )
        x = torch.cat((past, x), dim=1)
        self._convolved = last(x, reach)
        return depthwise(F.pad(x, (0, 0, 0, reach)), weight, bias, padding=0).flatten(0, 1)


def last(x: Tensor, count: int) -> Tensor:
    """The last ``count`` frames of ``x`` [recordings, frames, ...], in memory of their own."""
    return x[:, max(x.shape[1] - count, 0) :].clone()
