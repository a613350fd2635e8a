"""decord as a second decoder, for the films that it shows rightly (tried with 0.6.0, its last).

It is right on H.264, VP8 and VP9 of 8 bits in MP4, MOV, MKV and WebM whose groups are closed and
whose packets are all shown. Against decoding everything it gives other frames where an edit list
cuts, where groups are open, in MPEG-TS, and after seeking in H.265 and in MPEG-4 with B frames;
it knows no AV1, no pixels that are not square, no mirroring. Its FFmpeg is of 2018. On clips that
it shows rightly it takes 1.4 to 2 times as long as `video.films` does, which is why that is the
default; what a film is, and when its frames are shown, is found out there in any case.
"""

import io
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from PIL import Image

from language.errors import InputError
from video.films import Film, reason
from video.timeline import Timeline

SLACK_SECONDS = 2e-3
"""By how much decord's times, which it rounds, may differ from the packets'."""


def decord_timeline(film: Film, file: IO[bytes], timeline: Timeline, *, name: str) -> Timeline:
    """The same timeline with decord's pictures, or itself where decord is not to be trusted."""
    reader = _reader(file) if film.is_plain(timeline) else None
    if reader is None or not _agrees(reader, timeline):
        return timeline

    def pictures(chosen: np.ndarray) -> Iterator[tuple[int, Image.Image]]:
        for index in map(int, chosen):
            try:
                frame = reader[index]
            except Exception as error:  # it raises nearly anything on hostile bytes
                raise InputError(name, f"cannot be decoded ({reason(error)})") from None
            # The bridge is a setting of the whole process: arrays may come as tensors.
            pixels = frame.asnumpy() if hasattr(frame, "asnumpy") else np.asarray(frame)
            yield index, Image.fromarray(pixels)

    return Timeline(
        ticks=timeline.ticks, seconds_per_tick=timeline.seconds_per_tick, pictures=pictures
    )


def _reader(file: IO[bytes]) -> Any:
    """Open what is open already once more; None where decord cannot, or is not installed."""
    try:
        import decord
    except (ImportError, OSError):  # there are wheels for Linux on x86-64 alone
        return None
    decord.logging.set_level(decord.logging.QUIET)
    try:
        if isinstance(file, io.BytesIO):
            return decord.VideoReader(io.BytesIO(file.getvalue()), num_threads=1)
        return decord.VideoReader(f"/proc/self/fd/{file.fileno()}", num_threads=1)
    except Exception:
        return None


def _agrees(reader: Any, timeline: Timeline) -> bool:
    if len(reader) != len(timeline.ticks):
        return False
    found = reader.get_frame_timestamp(np.arange(len(reader)))[:, 0]
    ticks = timeline.ticks - timeline.ticks[0]
    wanted = ticks * float(timeline.seconds_per_tick)
    return bool(np.abs(found - found[0] - wanted).max() < SLACK_SECONDS)
