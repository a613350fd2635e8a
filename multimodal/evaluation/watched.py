"""What the benchmarks of clips share: finding a clip, and showing it."""

from collections.abc import Sequence
from pathlib import Path

from language.errors import InputError
from multimodal.evaluation.benchmark import Dialogue
from multimodal.evaluation.published import within
from multimodal.media import Watched, turn

ENDINGS = (".mp4", ".mkv", ".webm", ".avi")
FOLDERS = ("videos", "clips", "NExTVideo", "frames_hq", "")
"""Where sets keep their clips, below their own folder."""


def clip(directory: Path, names: Sequence[str]) -> Path:
    """The file of a clip, or the folder of its frames.

    Args:
        directory: of the set.
        names: under which it may lie, without an ending.

    Raises:
        InputError: it is missing.
    """
    for folder in FOLDERS:
        for name in names:
            for ending in (*ENDINGS, ""):
                path = within(directory, f"{folder}/{name}{ending}" if folder else name + ending)
                if path.is_file() or (not ending and path.is_dir()):
                    return path
    where = directory / FOLDERS[0] / f"{names[0]}{ENDINGS[0]}"
    raise InputError(where, "missing: half of the set?")


def asked(path: Path, text: str) -> Dialogue:
    """A question about a clip."""
    return Dialogue(messages=turn(Watched(path), text, watches=True))
