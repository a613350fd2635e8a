"""Recordings of unequal length laid end to end: no layer computes padding, so none can see it.

All layers of one pass work on *rows*: the real frames of every recording, one after another. Only
attention and convolution look beyond a row, and both ask a :class:`RowContext`, which keeps them
within the recording, and within its chunks where encoding must stream (section 8).
"""

from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from language.rope import rotate
from speech.frames import Frames


class Packing:
    """Where the frames of padded recordings stand when laid end to end."""

    def __init__(self, lengths: Tensor, *, num_frames: int) -> None:
        """Read the lengths, for which a GPU is waited for once a pass.

        Args:
            lengths: real frames of each recording, [recordings] int64.
            num_frames: frames that they are padded to.

        Raises:
            ValueError: a length below 0 or above ``num_frames``.
        """
        self.counts: list[int] = lengths.tolist()
        if self.counts and not 0 <= min(self.counts) <= max(self.counts) <= num_frames:
            raise ValueError(f"lengths {self.counts} must lie in 0 .. {num_frames}, the frames")
        self.lengths = lengths
        self.num_frames = num_frames
        self.num_rows = sum(self.counts)
        self.is_uniform = len(set(self.counts)) < 2
        device = lengths.device
        self.owner = torch.arange(len(self.counts), device=device).repeat_interleave(
            lengths, output_size=self.num_rows
        )
        """Recording of each row, [rows]."""
        starts = lengths.cumsum(0) - lengths
        self.positions = torch.arange(self.num_rows, device=device) - starts[self.owner]
        """Place of each row in its recording, [rows]."""
        self._index = self.owner * num_frames + self.positions

    def pack(self, values: Tensor) -> Tensor:
        """Padded ``values`` [recordings, frames, dim] to rows [rows, dim]."""
        if self.is_uniform:
            return values[:, : max(self.counts, default=0)].flatten(0, 1)
        return values.flatten(0, 1).index_select(0, self._index)

    def unpack(self, x: Tensor) -> Frames:
        """Rows ``x`` [rows, dim] to padded frames, zero past each end."""
        shape = (len(self.counts), self.num_frames, x.shape[1])
        if self.is_uniform and self.counts:
            values = x.view(len(self.counts), self.counts[0], x.shape[1])
            values = F.pad(values, (0, 0, 0, self.num_frames - self.counts[0]))
        else:
            values = x.new_zeros(shape[0] * shape[1], shape[2]).index_copy(0, self._index, x)
        return Frames(values=values.view(shape), lengths=self.lengths)


@dataclass(frozen=True, kw_only=True)
class Window:
    """What a frame may see of its recording; all of it by default."""

    chunk_size: int = 0
    """Frames of a chunk, beyond whose end no frame of it sees; 0 means no chunks."""
    left_context: int | None = None
    """Frames before its chunk that a frame may attend to; None means all of them."""

    def sees(self, query: Tensor, key: Tensor) -> Tensor:
        """Whether the frame at ``query`` may attend to that at ``key``; positions, broadcast."""
        if self.chunk_size == 0:
            return (query >= 0) & (key >= 0)
        start = query // self.chunk_size * self.chunk_size
        seen = key < start + self.chunk_size
        return seen if self.left_context is None else seen & (key >= start - self.left_context)


WHOLE = Window()
LEAST_HEAD_DIM = 16
"""Narrower heads FlexAttention refuses on a GPU."""


class RowContext:
    """What all layers of one pass share: positions, who sees whom, and gaps for convolutions."""

    def __init__(
        self,
        packing: Packing,
        *,
        head_dim: int,
        rope_theta: float,
        kernel_size: int = 1,
        window: Window = WHOLE,
    ) -> None:
        """``kernel_size`` (odd) is that of the convolutions that will be asked for."""
        self.packing = packing
        self.window = window
        self.reach = kernel_size // 2
        cos, sin = rotary(packing.positions, head_dim=head_dim, theta=rope_theta)
        self.cos, self.sin = cos[:, None, None], sin[:, None, None]  # [rows, 1, 1, head_dim]

    def attend(self, qkv: Tensor) -> Tensor:
        """Attention of every row to the rows of its recording.

        Args:
            qkv: queries, keys and values before their turn, [rows, 3, heads, head_dim].

        Returns:
            [rows, heads * head_dim].
        """
        query_key, value = qkv.split((2, 1), dim=1)
        query_key = rotate(query_key, self.cos.to(qkv.dtype), self.sin.to(qkv.dtype))
        query, key = query_key.unbind(1)
        value = value.squeeze(1)  # [rows, heads, head_dim], as query and key
        counts = self.packing.counts
        if self.packing.is_uniform:
            batch = [x.unflatten(0, (len(counts), -1)) for x in (query, key, value)]
            return scaled_attention(*batch, mask=self.mask).flatten(0, 1)
        if self.uses_flex_attention:
            batch = [x.transpose(0, 1).unsqueeze(0) for x in (query, key, value)]
            attention = compiled(flex_attention) if qkv.is_cuda else flex_attention
            out = attention(*batch, block_mask=self.block_mask)  # [1, heads, rows, head_dim]
            return out[0].transpose(0, 1).flatten(1)
        outs = []
        for recording in zip(*(x.split(counts) for x in (query, key, value)), strict=True):
            count = len(recording[0])
            if count:
                mask = None if self.mask is None else self.mask[:count, :count]
                outs.append(scaled_attention(*(x.unsqueeze(0) for x in recording), mask=mask)[0])
        return torch.cat(outs)

    @property
    def uses_flex_attention(self) -> bool:
        """Whether one kernel takes all recordings: worth it where launching many is slow."""
        return self.packing.lengths.is_cuda and self.cos.shape[-1] >= LEAST_HEAD_DIM

    @cached_property
    def mask(self) -> Tensor | None:
        """What the window lets the frames of the longest recording see; None if all."""
        if self.window.chunk_size == 0:
            return None
        positions = torch.arange(max(self.packing.counts), device=self.cos.device)
        return self.window.sees(positions[:, None], positions)

    @cached_property
    def block_mask(self) -> BlockMask:
        """The same over all rows at once, for FlexAttention."""
        owner, positions, window = self.packing.owner, self.packing.positions, self.window

        def visible(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            seen = window.sees(positions[query], positions[key])
            return (owner[query] == owner[key]) & seen

        create = compiled(create_block_mask) if owner.is_cuda else create_block_mask
        rows = self.packing.num_rows
        return create(visible, B=None, H=None, Q_LEN=rows, KV_LEN=rows, device=owner.device)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Depthwise convolution within each recording, and not past the end of a frame's chunk.

        Args:
            x: [rows, dim].
            weight: [dim, 1, kernel_size].
            bias: [dim].

        Returns:
            [rows, dim].
        """
        if self.packing.is_uniform and self.window.chunk_size == 0:
            batch = x.unflatten(0, (len(self.packing.counts), -1))
            return depthwise(batch, weight, bias, padding=self.reach).flatten(0, 1)
        sources, places = self._gaps
        spread = F.pad(x, (0, 0, 0, 1)).index_select(0, sources)
        return depthwise(spread[None], weight, bias, padding=self.reach)[0].index_select(0, places)

    @cached_property
    def _gaps(self) -> tuple[Tensor, Tensor]:
        """Rows spread so that a kernel between two pieces meets nothing of another piece.

        A piece is a recording or a chunk of it. Before it come ``reach`` slots with the frames
        that precede it in its recording, zero where there are none; after it as many zeros.

        Returns:
            Row that each slot holds, with the number of rows for zero, [slots]; slot of each row.
        """
        packing, reach = self.packing, self.reach
        size = self.window.chunk_size or max(packing.num_frames, 1)
        num_pieces = sum(-(-count // size) for count in packing.counts)
        num_slots = packing.num_rows + 2 * reach * num_pieces
        is_first = packing.positions % size == 0
        piece = is_first.cumsum(0) - 1
        rows = torch.arange(packing.num_rows, device=piece.device)
        places = rows + reach * (2 * piece + 1)
        # One slot too many takes what is not wanted: choosing by index would wait for a GPU.
        sources = rows.new_full((num_slots + 1,), packing.num_rows).scatter(0, places, rows)
        for back in range(1, reach + 1):
            wanted = is_first & (packing.positions >= back)
            sources = sources.scatter(0, torch.where(wanted, places - back, num_slots), rows - back)
        return sources[:-1], places


def rotary(positions: Tensor, *, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and signed sine at ``positions`` [rows], each [rows, head_dim] float32.

    As :func:`language.rope.rotate` takes them; ``theta`` is the base of the frequencies.
    """
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device=positions.device)
    angles = positions[:, None].float() / theta ** (exponents / head_dim)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((cos, cos), dim=1), torch.cat((-sin, sin), dim=1)


def scaled_attention(query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None) -> Tensor:
    """Attention of [batch, frames, heads, head_dim], to [batch, frames, heads * head_dim]."""
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))  # heads before frames
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return out.transpose(1, 2).flatten(2)


def depthwise(x: Tensor, weight: Tensor, bias: Tensor, *, padding: int) -> Tensor:
    """Convolve each channel of ``x`` [batch, frames, dim] along the frames.

    As a picture of height 1 whose channels lie innermost already, nothing is transposed: on CPU the
    forward pass then takes a seventh of ``conv1d``'s time.
    """
    image = x.transpose(1, 2).unsqueeze(2)  # [batch, dim, 1, frames]
    out = F.conv2d(image, weight.unsqueeze(2), bias, padding=(0, padding), groups=len(weight))
    return out.squeeze(2).transpose(1, 2)


@cache
def compiled(function):  # type: ignore[no-untyped-def]  # the same type comes out
    """``function`` by torch.compile, once a process."""
    return torch.compile(function)
