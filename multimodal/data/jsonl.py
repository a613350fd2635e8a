"""Samples of a JSONL file whose pictures lie in a folder beside it, as Hugging Face data sets do.

A line is a record as in a shard, and names its pictures by ``"images": [PATH, ...]`` or
``"image": PATH``, or right in the messages by ``{"type": "image", "image": PATH}``. Paths are
relative to the file's folder and may not lead out of it.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from language.errors import InputError
from multimodal.data.files import find_files
from multimodal.data.index import FAULTS, HEADER_BYTES, Member, picture_size
from multimodal.data.indexed import IndexedFiles
from multimodal.data.samples import Extent, Sample, parse_record
from multimodal.data.tar import MAX_RECORD_BYTES, num_characters


class JsonlSource:
    """The lines of one or more JSONL files, one file after another."""

    def __init__(self, path: str, *, name: str = "", cache: Path) -> None:
        """Index the lines and the sizes of their pictures.

        Args:
            path: see `find_files`.
            name: what logs call the source; the path by default.
            cache: folder for indexes and for copies of remote files.

        Raises:
            InputError: a file is missing, or there is no line in any of them.
        """
        self.name = name or path
        files = find_files(path, cache=cache, suffixes=(".jsonl",))
        self._files = IndexedFiles(files, line_members, cache=cache)
        if not len(self):
            raise InputError(path, "no lines in it")

    def __len__(self) -> int:
        return len(self._files)

    def extent(self, index: int) -> Extent:
        """Size of a sample."""
        _, (record, *pictures) = self._files[index]
        return Extent(
            pictures=tuple((m.width, m.height) for m in pictures),
            num_characters=record.num_characters,
        )

    def read(self, index: int) -> Sample:
        """Read a sample.

        Raises:
            InputError: the line is no record, or names a picture that is not in the folder.
        """
        file, (line, *_) = self._files[index]
        path = self._files.paths[file]
        name = f"{path}: line {line.key}"
        record = parse_record(self._files.read(file, line, name=name), name=name)
        pictures: dict[str, bytes | Path] = {}
        for picture in picture_names(record):
            pictures[picture] = _inside(path.parent, picture, name=name)
        return Sample(name=name, record=record, pictures=pictures)


def line_members(path: Path) -> Iterator[Member]:
    """The non-empty lines of a file, each followed by its pictures."""
    sample = -1
    with open(path, "rb") as file:
        for number in itertools.count(1):
            offset = file.tell()
            line = file.readline(MAX_RECORD_BYTES + 1)
            if not line:
                return
            is_whole = len(line) <= MAX_RECORD_BYTES
            if not is_whole:
                while not line.endswith(b"\n") and (rest := file.readline(MAX_RECORD_BYTES)):
                    line = rest
            if line.strip() or not is_whole:
                sample += 1
                yield Member(
                    sample=sample,
                    key=str(number),
                    extension="json",
                    offset=offset,
                    size=file.tell() - offset,
                    num_characters=num_characters(line, extension="json"),
                    fault=0 if is_whole else FAULTS.index("is larger than allowed"),
                )
                yield from _pictures_of(line, sample=sample, folder=path.parent)


def _pictures_of(line: bytes, *, sample: int, folder: Path) -> Iterator[Member]:
    """Sizes of the pictures that a record names; of a broken record none."""
    try:
        for picture in picture_names(parse_record(line, name="")):
            with open(_inside(folder, picture, name=""), "rb") as file:
                width, height = picture_size(file.read(HEADER_BYTES))
            yield Member(sample=sample, key="", extension="jpg", width=width, height=height)
    except (InputError, OSError):
        return


def picture_names(record: dict[str, Any]) -> list[str]:
    """Paths of the pictures of a record, each once, in order."""
    listed = record.get("images", record.get("image"))
    names = listed if isinstance(listed, list) else [listed]
    dialogues = record.get("dialogues", [record.get("messages")])
    for dialogue in dialogues if isinstance(dialogues, list) else []:
        for message in dialogue if isinstance(dialogue, list) else []:
            content = message.get("content") if isinstance(message, dict) else None
            for part in content if isinstance(content, list) else []:
                if isinstance(part, dict) and part.get("type") == "image":
                    names = [*names, part.get("image")]
    return list(dict.fromkeys(n for n in names if isinstance(n, str)))


def _inside(folder: Path, picture: str, *, name: str) -> Path:
    """The path of a picture; an InputError if it leads out of the folder."""
    relative = PurePosixPath(picture)
    if relative.is_absolute() or ".." in relative.parts or "\0" in picture:
        raise InputError(name, f"picture {picture!r} must be a path inside {folder}")
    path = folder / relative
    if not path.is_file():
        raise InputError(name, f"picture {picture}: no such file in {folder}")
    return path
