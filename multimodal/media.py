"""What somebody hands over to be looked at: a picture or a clip, told apart by what it is.

A path is a clip by its ending, an array by its dimensions; an animated GIF or WebP is one for a
model that watches clips, and its first frame a picture for one that does not. What could be either,
such as a folder or a list of pictures, is said to be a clip by `Watched`.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from language.errors import InputError
from multimodal.processor import Message, medium_name
from video.frames import Clip, is_animated, is_clip
from vision.pictures import Picture

Kind = Literal["image", "video"]


@dataclass(frozen=True)
class Watched:
    """Anything that frames can be taken from, as a clip."""

    clip: Clip


Medium = Picture | tuple[np.ndarray, float] | Watched
"""A picture, a clip's file or array (frames, frames a second), or what is said to be a clip."""


def kind_of(medium: Medium, *, watches: bool) -> Kind:
    """Which of the two a medium is, for a model that watches clips or that does not."""
    if isinstance(medium, Watched | tuple):
        return "video"
    if isinstance(medium, np.ndarray):
        return "video" if medium.ndim == 4 else "image"
    if isinstance(medium, str | os.PathLike):
        return "video" if is_clip(Path(medium)) or (watches and is_animated(medium)) else "image"
    if isinstance(medium, bytes | Image.Image):
        return "video" if watches and is_animated(medium) else "image"
    return "image"  # whose reader says what is wrong with it


def content_of(medium: Medium) -> Any:
    """What the medium itself is."""
    return medium.clip if isinstance(medium, Watched) else medium


def turn(medium: Medium, text: str, *, watches: bool, sound: bool = False) -> list[Message]:
    """A dialogue that shows a medium and says something about it.

    Args:
        medium: a picture or a clip.
        text: what is said.
        watches: whether it is said to a model that watches clips.
        sound: whether a clip is heard, too.

    Raises:
        InputError: sound is asked of a picture.
    """
    kind = kind_of(medium, watches=watches)
    content = content_of(medium)
    shown: Message = {"type": kind, kind: content}
    if sound:
        if kind == "image":
            raise InputError(medium_name(content, "--with-sound"), "a picture has no sound")
        shown["sound"] = True
    return [{"role": "user", "content": [shown, {"type": "text", "text": text}]}]
