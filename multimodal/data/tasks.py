"""What the samples of a source become: rows for one kind of training, and batches of rows.

A task runs in the loader's workers, so it must survive the way there by pickle.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from language.errors import InputError
from multimodal.batch import IGNORED, Batch
from multimodal.data.jsonl import JsonlSource
from multimodal.data.samples import Extent, Sample, Source, caption, dialogues
from multimodal.data.shards import ShardSource
from multimodal.processor import Processor
from multimodal.rows import Encoded, collate
from vision.tiles import TilesConfig, best_arrangement


class Task(Protocol):
    """One kind of training."""

    def cost(self, extent: Extent) -> float:
        """Orders samples, so that those of like cost share a batch."""

    def encode(self, sample: Any) -> Any:
        """A row; an InputError where the sample is unusable."""

    def collate(self, rows: Sequence[Any]) -> Any:
        """A batch."""

    def without_loss(self, row: Any) -> Any:
        """A row that fills a place and teaches nothing."""


class PictureTask:
    """Captions and dialogues with pictures or clips, next token by next token."""

    def __init__(self, processor: Processor) -> None:
        """Encode with ``processor``."""
        self.processor = processor

    def cost(self, extent: Extent) -> float:
        """Tiles first, and among as many tiles the length of the text."""
        config = self.processor.config
        tiles = extent.num_clips * config.clips.num_frames * config.clips.max_num_tiles
        return tiles * 1e9 + tiles_cost(extent, config.tiles)

    def encode(self, sample: Sample) -> Encoded:
        """A row.

        Raises:
            InputError: the sample is unusable.
            TooLongError: it has more tokens than fit.
        """
        text = caption(sample)
        try:
            if text is None:
                return self.processor.encode(dialogues(sample))
            if sample.clips and not sample.pictures:
                return self.processor.encode_caption(only_clip(sample), text, kind="video")
            return self.processor.encode_caption(only_picture(sample), text)
        except InputError as error:
            raise type(error)(sample.name, error.fault) from None

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """A batch."""
        return self.processor.collate(rows)

    def without_loss(self, row: Encoded) -> Encoded:
        """The row without targets."""
        return without_targets(row)


class TextTask:
    """Rows of packed documents, which come encoded."""

    def __init__(self, *, pad_id: int) -> None:
        """Pad with ``pad_id``."""
        self.pad_id = pad_id

    def cost(self, extent: Extent) -> float:
        """Rows are equally long."""
        return 0.0

    def encode(self, sample: Encoded) -> Encoded:
        """The row itself."""
        return sample

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """A batch."""
        return collate(rows, pad_id=self.pad_id)

    def without_loss(self, row: Encoded) -> Encoded:
        """The row without targets."""
        return without_targets(row)


def tiles_cost(extent: Extent, tiles: TilesConfig | None) -> float:
    """Order by tiles, then by the length of the text."""
    num_tiles = 0
    if tiles is not None:
        num_tiles = sum(_num_tiles(*size, tiles) for size in extent.pictures)
    return num_tiles * 1e9 + extent.num_characters


@lru_cache(maxsize=2**16)
def _num_tiles(width: int, height: int, tiles: TilesConfig) -> int:
    rows, columns = best_arrangement(
        max(height, 1),
        max(width, 1),
        tile_size=tiles.tile_size,
        max_num_tiles=tiles.max_num_tiles,
    )
    return rows * columns


def only_picture(sample: Sample) -> bytes | Path:
    """The picture that a caption is about.

    Raises:
        InputError: there is none, or more than one.
    """
    if len(sample.pictures) != 1:
        raise InputError(
            sample.name, f"{len(sample.pictures) or 'no'} pictures beside a caption, want one"
        )
    return next(iter(sample.pictures.values()))


def only_clip(sample: Sample) -> bytes | Path:
    """The clip that a caption is about.

    Raises:
        InputError: there is more than one.
    """
    if len(sample.clips) != 1:
        raise InputError(sample.name, f"{len(sample.clips)} clips beside a caption, want one")
    return next(iter(sample.clips.values()))


def without_targets(row: Encoded) -> Encoded:
    """The row, with no loss anywhere."""
    return replace(row, targets=np.full_like(row.targets, IGNORED))


def open_pictures(path: str, *, name: str, cache: Path) -> Source:
    """Shards, or JSONL beside folders of pictures, told apart by the ending of the path."""
    if path.rstrip("}").endswith(".jsonl"):
        return JsonlSource(path, name=name, cache=cache)
    return ShardSource(path, name=name, cache=cache)
