"""Every tensor that crosses a boundary: what the processor makes and models read."""

from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

IGNORED = -100
"""Target of a position that carries no loss."""


@dataclass(kw_only=True)
class Images:
    """The pictures of a batch, as tiles one after another."""

    tiles: Tensor
    """Pixels of all real tiles, picture by picture and row by row, [tiles, 3, height, width]."""
    arrangements: Tensor
    """Tile rows and tile columns of each picture, [images, 2] int64."""
    rows: Tensor
    """Batch row that each picture stands in, [images] int64, rising."""

    @property
    def of_tiles(self) -> Tensor:
        """Picture that each tile belongs to, [tiles]."""
        counts = self.arrangements.prod(dim=1)
        return torch.arange(len(counts), device=counts.device).repeat_interleave(
            counts, output_size=len(self.tiles)
        )

    def to(
        self, device: Any = None, *, dtype: torch.dtype | None = None, non_blocking: bool = False
    ) -> "Images":
        """Move to a device; ``dtype`` changes the pixels alone."""
        return _moved(self, device, dtype, non_blocking)

    def pin_memory(self) -> "Images":
        """Page-locked copies, for asynchronous transfer."""
        return _pinned(self)


@dataclass(kw_only=True)
class Clips:
    """The clips of a batch, as tiles of their sampled frames one after another.

    Clips whose image features are known already bring these instead of their tiles.
    """

    tiles: Tensor
    """Pixels of all tiles of all frames, clip by clip, [tiles, 3, height, width]."""
    arrangements: Tensor
    """Tile rows and tile columns of every frame of each clip, [clips, 2] int64."""
    lengths: Tensor
    """Frames of each clip, [clips] int64."""
    rows: Tensor
    """Batch row that each clip stands in, [clips] int64, rising."""
    features: Tensor | None = None
    """Known image features, [tiles, tokens, feature_dim], of the clips that are ``known``."""
    known: Tensor | None = None
    """Which clips have their features here and no tiles, [clips] bool."""
    keys: list[str] = field(default_factory=list)
    """Names the content of each clip where features are kept; "" keeps none."""
    times: list[tuple[float, ...]] = field(default_factory=list)
    """Seconds after its clip's first instant that each frame is shown at."""

    @property
    def tiles_per_clip(self) -> Tensor:
        """Tiles of all frames of each clip, [clips]."""
        return self.arrangements.prod(dim=1) * self.lengths

    def to(
        self, device: Any = None, *, dtype: torch.dtype | None = None, non_blocking: bool = False
    ) -> "Clips":
        """Move to a device; ``dtype`` changes pixels and features alone."""
        return _moved(self, device, dtype, non_blocking)

    def pin_memory(self) -> "Clips":
        """Page-locked copies, for asynchronous transfer."""
        return _pinned(self)


@dataclass(kw_only=True)
class Recordings:
    """The recordings of a batch."""

    waveforms: Tensor
    """Mono at 16 kHz, [recordings, samples] float32, padded with zeros on the right."""
    lengths: Tensor
    """Real samples of each, [recordings] int64."""
    rows: Tensor
    """Batch row that each recording stands in, [recordings] int64, rising."""

    def to(
        self, device: Any = None, *, dtype: torch.dtype | None = None, non_blocking: bool = False
    ) -> "Recordings":
        """Move to a device; samples stay float32, whatever type the model computes in."""
        return _moved(self, device, None, non_blocking)

    def pin_memory(self) -> "Recordings":
        """Page-locked copies, for asynchronous transfer."""
        return _pinned(self)


@dataclass(kw_only=True)
class Batch:
    """Rows of tokens, what they are trained on, and the media that they see and hear."""

    tokens: Tensor
    """[batch, tokens] int64, padded on the right."""
    lengths: Tensor
    """Real tokens of each row, [batch] int64."""
    targets: Tensor | None = None
    """Token wanted after each position, [batch, tokens]; IGNORED where there is no loss."""
    documents: Tensor | None = None
    """Number of the packed document that each token belongs to, [batch, tokens]."""
    images: Images | None = None
    visible: Tensor | None = None
    """Whether a token may see the m-th picture of its row, [batch, tokens, images] bool."""
    clips: Clips | None = None
    visible_clips: Tensor | None = None
    """Whether a token may see the m-th clip of its row, [batch, tokens, clips] bool."""
    recordings: Recordings | None = None
    spoken: Tensor | None = None
    """Where embeddings of the row's recordings stand in place of tokens, [batch, tokens] bool."""

    @property
    def num_targets(self) -> int:
        """Positions that carry loss."""
        return 0 if self.targets is None else int((self.targets != IGNORED).sum())

    def to(
        self, device: Any = None, *, dtype: torch.dtype | None = None, non_blocking: bool = False
    ) -> "Batch":
        """Move to a device; ``dtype`` changes the pixels alone."""
        return _moved(self, device, dtype, non_blocking)

    def pin_memory(self) -> "Batch":
        """Page-locked copies, for asynchronous transfer."""
        return _pinned(self)


def _moved(part: Any, device: Any, dtype: torch.dtype | None, non_blocking: bool) -> Any:
    def move(value: Any) -> Any:
        if isinstance(value, Images | Clips | Recordings):
            return value.to(device, dtype=dtype, non_blocking=non_blocking)
        if isinstance(value, Tensor):
            kind = dtype if value.is_floating_point() else None
            return value.to(device, kind, non_blocking=non_blocking)
        return value

    return type(part)(**{each.name: move(getattr(part, each.name)) for each in fields(part)})


def _pinned(part: Any) -> Any:
    values = {each.name: getattr(part, each.name) for each in fields(part)}
    return type(part)(
        **{k: v.pin_memory() if hasattr(v, "pin_memory") else v for k, v in values.items()}
    )
