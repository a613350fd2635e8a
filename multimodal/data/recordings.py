"""Recordings of samples: where they lie, and how long they last.

That is read from their headers when their source is indexed, since batches are made by duration
(`multimodal.data.durations`) and nothing can be decoded for it.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import av
import soundfile

from speech.decoding import CONTAINERS

RECORDINGS = ("flac", "wav", "mp3", "ogg", "opus", "m4a")
"""Endings of the members of a shard that are recordings."""


@dataclass(frozen=True, kw_only=True)
class Excerpt:
    """A part of a longer recording."""

    source: bytes | Path
    start: float = 0.0
    """Seconds into it."""
    duration: float | None = None
    """Seconds; to the end if None."""


MAX_SECONDS = 1e7
"""No recording lasts longer: four months."""

Recording = bytes | Path | Excerpt
"""A file's content, a file, or a part of one."""


class Slice(io.RawIOBase):
    """A part of an open file as a file of its own, so that a header is read and not a shard."""

    def __init__(self, file: IO[bytes], *, offset: int, size: int) -> None:
        """The ``size`` bytes of ``file`` from ``offset`` on."""
        self._file, self._offset, self._size, self._at = file, offset, size, 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """The place that is read next."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to another place."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        """Read as much as is asked for, or is left."""
        count = max(0, min(len(buffer), self._size - self._at))
        self._file.seek(self._offset + self._at)
        data = self._file.read(count)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def recording_seconds(file: IO[bytes] | Slice) -> float:
    """How long a recording lasts, as its header says; 0 if that does not tell."""
    try:
        info = soundfile.info(file)
        return plausible(info.frames / info.samplerate)
    except (soundfile.SoundFileError, ZeroDivisionError, OSError, ValueError):
        file.seek(0)
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": ""}
    try:
        with av.open(file, "r", metadata_errors="ignore", options=options) as container:
            return plausible((container.duration or 0) / av.time_base)
    except (av.FFmpegError, OSError, ValueError, IndexError):
        return 0.0


def plausible(seconds: Any) -> float:
    """A duration if it can be one, else 0; libsndfile gives 2^63 frames where a file is unsure."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return 0.0
    return float(seconds) if 0 < seconds < MAX_SECONDS else 0.0
