"""Pictures as a clip: a list, a folder, an array of frames, or an animated GIF, WebP or PNG.

A list or folder has no clock: its pictures are shown one per second. Frames of differing sizes are
brought to the first one's later on, by whoever streams them.
"""

import io
import itertools
import math
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from language.errors import InputError
from video.timeline import Timeline
from vision import pictures as limits
from vision.pictures import Picture, open_picture

MAX_PICTURES = 2**20
"""Most pictures of a list, a folder, an array or an animation."""

MAX_ANIMATION_PIXELS = 2**34
"""Pixels of all frames of an animation together, which all have to be decoded: about a minute."""

MILLISECOND = Fraction(1, 1000)

DEFAULT_DURATION = 100
"""Milliseconds of an animation's frame that claims to last none, as browsers show it."""

MAGIC = (b"GIF8", b"RIFF", b"\x89PNG", b"\xff\xd8\xff")
"""First bytes of what Pillow reads; RIFF may be AVI too, which goes on differently."""


def is_picture_file(head: bytes) -> bool:
    """Whether the first 12 bytes of a file are those of a GIF, WebP, PNG or JPEG."""
    if head.startswith(b"RIFF"):
        return head[8:12] == b"WEBP"
    return head.startswith(MAGIC)


def from_pictures(sources: Sequence[Picture], *, name: str) -> Timeline:
    """A list of pictures, one per second; each is opened when its turn comes.

    Raises:
        InputError: there is none, or there are too many; later, one cannot be read.
    """
    _check_count(len(sources), name=name)

    def opened(chosen: np.ndarray) -> Iterator[tuple[int, Image.Image]]:
        for index in map(int, chosen):
            source = sources[index]
            is_path = isinstance(source, str | os.PathLike)
            yield index, open_picture(source, name=None if is_path else f"{name}[{index}]")

    return Timeline(ticks=np.arange(len(sources)), seconds_per_tick=Fraction(1), pictures=opened)


def from_folder(path: str | os.PathLike[str], *, name: str) -> Timeline:
    """The picture files in a folder, not those below it, in natural order: 9.png before 10.png.

    Raises:
        InputError: it cannot be read, or holds none or too many.
    """
    try:
        with os.scandir(path) as entries:
            found = (
                os.fsdecode(entry.name)
                for entry in entries
                if entry.name.lower().endswith(limits.SUFFIXES) and entry.is_file()
            )
            names = list(itertools.islice(found, MAX_PICTURES + 1))
    except OSError as error:
        raise InputError(name, f"cannot be read ({error.strerror})") from None
    if not names:
        raise InputError(name, f"a folder without pictures ({', '.join(limits.SUFFIXES)})")
    return from_pictures([Path(path, file) for file in sorted(names, key=natural_key)], name=name)


def natural_key(name: str) -> tuple[list[tuple[int, str]], str]:
    """What sorts names by the numbers in them."""
    parts = re.split(r"([0-9]+)", name.lower())
    return [(int(part[:4_000]), "") if part.isdigit() else (-1, part) for part in parts], name


def from_array(frames: np.ndarray, *, rate: float, name: str) -> Timeline:
    """Frames `[frames, height, width, 1 | 3 | 4]`, uint8 or float in 0..1, so many per second.

    Raises:
        InputError: another shape, no frame, or a rate that is none.
    """
    if frames.ndim != 4 or frames.shape[3] not in (1, 3, 4):
        raise InputError(name, f"shape {list(frames.shape)}, want [frames, height, width, 3]")
    if not (math.isfinite(rate) and rate > 0):
        raise InputError(name, f"{rate} frames per second, want a positive number")
    _check_count(len(frames), name=name)

    def opened(chosen: np.ndarray) -> Iterator[tuple[int, Image.Image]]:
        for index in map(int, chosen):
            yield index, open_picture(frames[index], name=f"{name}[{index}]")

    return Timeline(
        ticks=np.arange(len(frames)), seconds_per_tick=1 / Fraction(rate), pictures=opened
    )


def open_animation(file: IO[bytes], *, name: str) -> Image.Image:
    """Open a picture file as Pillow does, whether it moves or not; nothing is decoded yet.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(file, formats=limits.FORMATS)
    except Image.DecompressionBombError:
        raise InputError(name, f"more than the {limits.MAX_PIXELS:,} pixels allowed") from None
    except Exception as error:  # Pillow's parsers raise nearly anything on hostile bytes
        words = " ".join(str(error).split())
        raise InputError(name, f"broken or truncated picture ({words})") from None


def from_animation(image: Image.Image, *, name: str) -> Timeline:
    """The frames of a GIF, WebP or PNG, each for as long as it says; cut files as far as read.

    Raises:
        InputError: its first frame cannot be read, or it is too large or too long.
    """
    pixels = image.width * image.height
    if pixels > limits.MAX_PIXELS:
        raise InputError(name, f"more than the {limits.MAX_PIXELS:,} pixels allowed")
    ticks, clock = [], 0
    for number in itertools.count():
        if number >= MAX_PICTURES or number * pixels > MAX_ANIMATION_PIXELS:
            raise InputError(name, f"more than {number:,} frames of {pixels:,} pixels")
        if not _shows(image, number, name=name):
            break
        ticks.append(clock)
        clock += _milliseconds(image)
    image_ticks = np.array(ticks, np.int64)

    def shown(chosen: np.ndarray) -> Iterator[tuple[int, Image.Image]]:
        for index in map(int, chosen):
            if _shows(image, index, name=name):
                yield index, open_picture(image.copy(), name=name)

    return Timeline(ticks=image_ticks, seconds_per_tick=MILLISECOND, pictures=shown)


def opened_bytes(data: bytes) -> IO[bytes]:
    """A file over bytes, which are not copied."""
    return io.BytesIO(data)


def _shows(image: Image.Image, number: int, *, name: str) -> bool:
    """Decode a frame; False at the end, or where a later frame is broken."""
    try:
        if number or getattr(image, "is_animated", False):
            image.seek(number)
        image.load()
    except EOFError:
        return False
    except Exception as error:  # as above
        if number:
            return False
        words = " ".join(str(error).split()) or type(error).__name__
        raise InputError(name, f"broken or truncated picture ({words})") from None
    return True


def _milliseconds(image: Image.Image) -> int:
    duration = image.info.get("duration", 0)
    is_time = isinstance(duration, int | float) and math.isfinite(duration) and duration >= 1
    return int(min(duration, 2**31)) if is_time else DEFAULT_DURATION


def _check_count(count: int, *, name: str) -> None:
    if count == 0:
        raise InputError(name, "no picture in it")
    if count > MAX_PICTURES:
        raise InputError(name, f"{count:,} pictures, more than the {MAX_PICTURES:,} allowed")
