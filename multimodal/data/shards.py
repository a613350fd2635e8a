"""Samples of WebDataset tar shards, read at random.

WebDataset's own reader is a stream: its shuffle depends on how many workers read which shards, and
to resume it must read again all that was read before. Here the same shards are indexed once
(`multimodal.data.tar`) and each sample is read by its offset, which makes the order a pure function
and costs no more than the stream on a local disk. Shards that lie elsewhere are copied to a cache.
"""

from pathlib import Path
from typing import Any

from language.errors import InputError
from multimodal.data.files import find_files
from multimodal.data.indexed import IndexedFiles
from multimodal.data.recordings import Recording
from multimodal.data.samples import Extent, Sample, parse_record
from multimodal.data.tar import is_clip, is_picture, is_recording, tar_members


class ShardSource:
    """The samples of one or more shards, one shard after another."""

    def __init__(self, path: str, *, name: str = "", cache: Path) -> None:
        """Index the shards.

        Args:
            path: see `find_files`.
            name: what logs call the source; the path by default.
            cache: folder for indexes and for copies of remote shards.

        Raises:
            InputError: a shard is missing or unreadable, or there is no sample in any of them.
        """
        self.name = name or path
        self._shards = IndexedFiles(find_files(path, cache=cache), tar_members, cache=cache)
        if not len(self):
            raise InputError(
                path,
                "no samples (KEY.jpg|png|webp|mp4|webm|mkv|flac|wav|mp3 beside KEY.json|txt) "
                "in the tar",
            )

    def __len__(self) -> int:
        return len(self._shards)

    def extent(self, index: int) -> Extent:
        """Size of a sample."""
        _, members = self._shards[index]
        pictures = [m for m in members if is_picture(m.extension)]
        return Extent(
            pictures=tuple((m.width, m.height) for m in pictures),
            num_characters=max(m.num_characters for m in members),
            num_clips=sum(is_clip(m.extension) for m in members),
            seconds=tuple(m.seconds for m in members if is_recording(m.extension)),
        )

    def read(self, index: int) -> Sample:
        """Read a sample.

        Raises:
            InputError: the sample is unusable.
        """
        shard, members = self._shards[index]
        name = f"{self._shards.paths[shard]}: sample {members[0].key}"
        pictures: dict[str, bytes | Path] = {}
        clips: dict[str, bytes | Path] = {}
        recordings: dict[str, Recording] = {}
        record: dict[str, Any] = {}
        for member in members:
            data = self._shards.read(shard, member, name=name)
            if is_picture(member.extension):
                pictures[member.extension.rpartition(".")[0]] = data
            elif is_clip(member.extension):
                clips[member.extension.rpartition(".")[0]] = data
            elif is_recording(member.extension):
                recordings[member.extension.rpartition(".")[0]] = data
            elif member.extension == "txt":
                record.setdefault("text", data.decode("utf-8", "replace"))
            else:
                record |= parse_record(data, name=name)
        return Sample(
            name=name, record=record, pictures=pictures, clips=clips, recordings=recordings
        )
