"""Frames of a clip, spread evenly over its time, from wherever it comes (paper section 7).

A clip is a film in a container, an animated picture, a list or folder of pictures, or an array.
`num_frames` instants are spread evenly from the first shown frame to the last one's beginning; each
gives the frame that is on screen then, none twice, and its time is when it begins to be shown. One
frame alone is that of the middle instant. A clip of no more frames than asked for gives them all.

Frames come one after another and are held no longer than until the next one.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, cast

import numpy as np
from PIL import Image

from language.errors import InputError
from video.by_decord import decord_timeline
from video.films import Film, reason
from video.stills import (
    from_animation,
    from_array,
    from_folder,
    from_pictures,
    is_picture_file,
    open_animation,
    opened_bytes,
)
from video.timeline import Timeline, spread
from vision.pictures import Picture

SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
    *(".flv", ".ogv", ".wmv", ".asf", ".3gp", ".3g2", ".h264", ".264", ".hevc", ".h265", ".ivf"),
)
"""Names that count as clips when files are told from pictures."""

Clip = (
    str
    | os.PathLike[str]
    | bytes
    | list[Picture]
    | tuple[Picture, ...]
    | np.ndarray
    | tuple[np.ndarray, float]
    | Image.Image
)
"""Everything that `stream` accepts.

A path of a film, an animation or a folder of pictures; the bytes of a file; a list of pictures, one
per second; an array `[frames, height, width, 3]` of uint8 or float in 0..1, one per second or with
its rate; an animated PIL image.
"""


Decoder = Literal["av", "decord"]


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One frame of a clip."""

    picture: Image.Image
    """Upright, RGB; all of a clip have one size."""
    time: float
    """Seconds from the first shown instant of the clip to the beginning of this frame."""


def stream(
    clip: Clip, num_frames: int, *, name: str | None = None, decoder: Decoder = "av"
) -> Iterator[Frame]:
    """Yield the frames that are on screen at `num_frames` evenly spread instants, by time.

    The clip is open from the first frame asked for to the last, or until the iterator is closed.

    Args:
        clip: what to look at.
        num_frames: how many instants, 1 or more; fewer frames come where several instants see the
            same one.
        name: what an error calls the clip; the path by default.
        decoder: "av" decodes every film by PyAV; "decord" those by decord that it shows rightly
            (see `video.by_decord`), and the others by PyAV.

    Raises:
        ValueError: `num_frames` is less than 1, or there is no such decoder.
        InputError: while iterating: it cannot be read or is out of bounds.
    """
    if num_frames < 1:
        raise ValueError(f"num_frames must be 1 or more, not {num_frames}")
    if decoder not in ("av", "decord"):
        raise ValueError(f"decoder must be 'av' or 'decord', not {decoder!r}")
    return _stream(clip, num_frames, name=name or clip_name(clip), decoder=decoder)


def sample(
    clip: Clip, num_frames: int, *, name: str | None = None, decoder: Decoder = "av"
) -> list[Frame]:
    """Return what `stream` yields.

    Raises:
        ValueError: `num_frames` is less than 1, or there is no such decoder.
        InputError: it cannot be read or is out of bounds.
    """
    return list(stream(clip, num_frames, name=name, decoder=decoder))


def is_clip(path: str | os.PathLike[str]) -> bool:
    """Whether a path is named like a film; animations are named like pictures."""
    return Path(path).suffix.lower() in SUFFIXES


def is_animated(source: str | os.PathLike[str] | bytes | Image.Image) -> bool:
    """Whether a picture has more than one frame; what cannot be read has not."""
    if isinstance(source, Image.Image):
        return bool(getattr(source, "is_animated", False))
    try:
        with ExitStack() as stack:
            if isinstance(source, str | os.PathLike):
                file = stack.enter_context(open_regular(source, name=clip_name(source)))
            else:
                file = opened_bytes(source)
            if not is_picture_file(_head(file)):
                return False
            image = stack.enter_context(open_animation(file, name=""))
            return bool(getattr(image, "is_animated", False))
    except Exception:
        return False


def clip_name(clip: Any) -> str:
    """What an error calls a clip that nobody named."""
    return os.fspath(clip) if isinstance(clip, str | os.PathLike) else "clip"


def open_regular(path: str | os.PathLike[str], *, name: str) -> IO[bytes]:
    """Open a regular local file; nothing else is waited for or even opened.

    Raises:
        InputError: it is missing, no regular file, or cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        is_url = "://" in os.fspath(path)
        raise InputError(name, "a URL: only local files" if is_url else "no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise InputError(name, f"cannot be read ({reason(error)})") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(name, "not a regular file")
    return open(descriptor, "rb")


def _stream(clip: Clip, num_frames: int, *, name: str, decoder: Decoder) -> Iterator[Frame]:
    with ExitStack() as stack:
        timeline = _timeline(clip, name=name, stack=stack, decoder=decoder)
        size: tuple[int, int] | None = None
        chosen = spread(timeline.ticks, num_frames)
        for index, picture in timeline.pictures(chosen):
            size = size or picture.size
            yield Frame(picture=letterboxed(picture, size), time=timeline.time(index))
        if size is None:
            raise InputError(name, "no frame in it can be decoded")


def _timeline(clip: Clip, *, name: str, stack: ExitStack, decoder: Decoder) -> Timeline:
    """Open a clip of any kind; what has to be closed afterwards goes on the stack."""
    if isinstance(clip, str | os.PathLike):
        if os.path.isdir(clip):
            return from_folder(clip, name=name)
        file = stack.enter_context(open_regular(clip, name=name))
        return _from_file(file, name, stack, decoder)
    if isinstance(clip, bytes | bytearray | memoryview):
        return _from_file(opened_bytes(clip), name, stack, decoder)
    if isinstance(clip, np.ndarray):
        return from_array(clip, rate=1, name=name)
    if isinstance(clip, Image.Image):
        return _from_image(clip, name, stack)
    if isinstance(clip, tuple) and len(clip) == 2 and _is_rate(clip[1]):
        frames, rate = clip
        if not isinstance(frames, np.ndarray):
            raise InputError(name, f"{type(frames).__name__} with a rate, want an array")
        return from_array(frames, rate=float(rate), name=name)  # type: ignore[arg-type]
    if isinstance(clip, list | tuple):
        return from_pictures(cast(list[Picture], clip), name=name)
    raise InputError(name, f"{type(clip).__name__} is not a clip")


def _from_file(file: IO[bytes], name: str, stack: ExitStack, decoder: Decoder) -> Timeline:
    try:
        head = _head(file)
    except OSError as error:
        raise InputError(name, f"cannot be read ({reason(error)})") from None
    if not head:
        raise InputError(name, "empty file")
    if is_picture_file(head):
        return from_animation(stack.enter_context(open_animation(file, name=name)), name=name)
    film = Film(file, name=name)
    stack.callback(film.close)
    timeline = film.timeline()
    if decoder == "decord":
        return decord_timeline(film, file, timeline, name=name)
    return timeline


def _from_image(image: Image.Image, name: str, stack: ExitStack) -> Timeline:
    """An image that somebody else holds shows the same frame afterwards."""
    if not getattr(image, "is_animated", False):
        return from_pictures([image], name=name)
    stack.callback(image.seek, image.tell())
    return from_animation(image, name=name)


def letterboxed(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scale a picture into `size` (width, height), black around it where its shape differs."""
    if picture.size == size:
        return picture
    scale = min(size[0] / picture.width, size[1] / picture.height)
    fitted = [max(1, min(s, round(scale * p))) for s, p in zip(size, picture.size, strict=True)]
    canvas = Image.new("RGB", size)
    place = ((size[0] - fitted[0]) // 2, (size[1] - fitted[1]) // 2)
    canvas.paste(picture.resize((fitted[0], fitted[1]), Image.Resampling.BICUBIC), place)
    return canvas


def _is_rate(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _head(file: IO[bytes]) -> bytes:
    head = file.read(12)
    file.seek(0)
    return head
