"""One answer a medium: streamed to a reader or as JSON lines; a bad one costs its own line."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from language.errors import InputError
from multimodal.cli import complain
from vision.pictures import SUFFIXES, find_pictures

if TYPE_CHECKING:
    from multimodal.media import Medium


@dataclass(frozen=True)
class Named:
    """A file that is answered about, or a folder that is one clip."""

    path: str
    is_frames: bool = False
    """Whether it is a folder of frames."""

    @property
    def medium(self) -> "Medium":
        """What the assistant takes."""
        from multimodal.media import Watched

        return Watched(self.path) if self.is_frames else self.path


def answer_each(
    paths: Iterable[str],
    answer: Callable[[Named], Iterator[str]],
    *,
    as_json: bool,
    key: str,
    fields: dict[str, Any] | None = None,
    as_clips: bool = False,
) -> int:
    """Print the answer about every medium and return the exit status.

    Args:
        paths: pictures, clips and folders of them.
        answer: yields the pieces of the answer about one of them.
        as_json: print an object a line instead of text.
        key: what the object calls the answer.
        fields: what else every object holds.
        as_clips: whether a folder is one clip, and its pictures the frames.
    """
    files, num_bad = _expand(paths, as_clips=as_clips)
    with_names = len(files) + num_bad > 1
    for file in files:
        try:
            if as_json:
                text = "".join(answer(file))
                print(
                    json.dumps({"file": file.path, **(fields or {}), key: text}, ensure_ascii=False)
                )
                continue
            pieces = answer(file)
            first = next(pieces, "")  # a bad medium is known before its name is printed
            print(f"{file.path}: " if with_names else "", first, sep="", end="", flush=True)
            for piece in pieces:
                print(piece, end="", flush=True)
            print(flush=True)
        except InputError as error:
            complain(str(error))
            num_bad += 1
    return 2 if num_bad else 0


def find_media(path: str, *, as_clips: bool = False) -> list[Named]:
    """The files behind a path: itself, or what a folder holds; or the folder as one clip.

    Raises:
        InputError: the folder holds nothing that could be looked at.
    """
    if as_clips and Path(path).is_dir():
        return [Named(path, is_frames=True)]
    from video.frames import SUFFIXES as CLIPS

    return [Named(str(file)) for file in find_pictures(path, suffixes=SUFFIXES + CLIPS)]


def _expand(paths: Iterable[str], *, as_clips: bool) -> tuple[list[Named], int]:
    """List the media behind paths, and count the folders without any."""
    files: list[Named] = []
    num_bad = 0
    for path in paths:
        try:
            files += find_media(path, as_clips=as_clips)
        except InputError as error:
            complain(str(error))
            num_bad += 1
    return files, num_bad
