"""A clip as tiles: frames sampled over its time, each cut as a picture is (paper section 7.2)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from language.errors import InputError
from multimodal.config import ClipsConfig
from multimodal.data.clip_key import clip_key
from multimodal.rows import FrameTiles
from video.contained import ContainedDecoder
from video.frames import Frame
from vision.tiles import TilesConfig, tile_picture

Reader = Callable[[Any, int], Iterator[Frame]]
"""Yields so many frames of a clip, spread over its time."""


class KnownFeatures(Protocol):
    """Where image features of clips may be known already."""

    def find(self, key: str) -> FrameTiles | None:
        """What is known of a clip."""


@dataclass(frozen=True, kw_only=True)
class Watcher:
    """Samples clips and cuts their frames."""

    tiles: TilesConfig
    """How pictures are cut."""
    clips: ClipsConfig
    reader: Reader = field(default_factory=ContainedDecoder)
    """Takes frames from a clip; by default in a child process, which a broken file may crash."""
    known: KnownFeatures | None = None
    """Asked before a clip is decoded."""

    @property
    def frame_tiles(self) -> TilesConfig:
        """How a frame is cut: as a picture, into no more tiles than a frame may take."""
        most = min(self.tiles.max_num_tiles, self.clips.max_num_tiles)
        return replace(self.tiles, max_num_tiles=most)

    def __call__(self, clip: Any) -> FrameTiles:
        """The tiles of a clip's frames, or what is known of it; a clip that was cut stays as it is.

        Raises:
            InputError: the clip is unusable.
        """
        if isinstance(clip, FrameTiles):
            return clip
        key = ""
        if self.known is not None and isinstance(clip, bytes | Path):
            key = clip_key(clip)
            if (found := self.known.find(key)) is not None:
                return found
        cut, times = [], []
        for frame in self.reader(clip, self.clips.num_frames):
            cut.append(tile_picture(frame.picture, self.frame_tiles))
            times.append(frame.time)
        if not cut:
            raise InputError("messages", "a clip without a frame")
        return FrameTiles(
            pixels=torch.cat([frame.pixels for frame in cut]),
            arrangement=cut[0].arrangement,
            times=tuple(times),
            key=key,
        )
