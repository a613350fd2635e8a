"""Samples of a JSONL file whose media lie in a folder beside it, as Hugging Face data sets do.

A line is a record as in a shard, and names its pictures by ``"images": [PATH, ...]`` or
``"image": PATH``, or right in the messages by ``{"type": "image", "image": PATH}``; clips by
``videos`` or ``video`` in the same way, and recordings by ``audios`` or ``audio``. Paths are
relative to the file's folder and may not lead out of it. Lines of speech manifests have rules of
their own (`multimodal.data.manifest`).
"""

import itertools
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from language.errors import InputError
from multimodal.data.files import find_files
from multimodal.data.index import FAULTS, HEADER_BYTES, Member, picture_size
from multimodal.data.indexed import IndexedFiles
from multimodal.data.manifest import KEY, manifest_recording
from multimodal.data.recordings import Excerpt, Recording, plausible, recording_seconds
from multimodal.data.samples import Extent, Sample, parse_record
from multimodal.data.tar import MAX_RECORD_BYTES, glance, num_characters

PICTURE, CLIP, RECORDING = "jpg", "mp4", "wav"
"""Stand in the index for the extensions of media, whatever they are."""


class JsonlSource:
    """The lines of one or more JSONL files, one file after another."""

    def __init__(self, path: str, *, name: str = "", cache: Path) -> None:
        """Index the lines and the sizes of their media.

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
        _, (record, *media) = self._files[index]
        return Extent(
            pictures=tuple((m.width, m.height) for m in media if m.extension == PICTURE),
            num_characters=record.num_characters,
            num_clips=sum(m.extension == CLIP for m in media),
            seconds=tuple(m.seconds for m in media if m.extension == RECORDING),
        )

    def read(self, index: int) -> Sample:
        """Read a sample.

        Raises:
            InputError: the line is no record, or names a medium that is not in the folder.
        """
        file, (line, *_) = self._files[index]
        path = self._files.paths[file]
        name = f"{path}: line {line.key}"
        record = parse_record(self._files.read(file, line, name=name), name=name)
        return Sample(
            name=name,
            record=record,
            pictures={
                picture: _inside(path.parent, picture, kind="picture", name=name)
                for picture in media_names(record, "image")
            },
            clips={
                clip: _inside(path.parent, clip, kind="clip", name=name)
                for clip in media_names(record, "video")
            },
            recordings=_recordings(record, folder=path.parent, name=name),
        )


def line_members(path: Path) -> Iterator[Member]:
    """The non-empty lines of a file, each followed by its media."""
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
                record = glance(line)
                yield Member(
                    sample=sample,
                    key=str(number),
                    extension="json",
                    offset=offset,
                    size=file.tell() - offset,
                    num_characters=num_characters(record),
                    fault=0 if is_whole else FAULTS.index("is larger than allowed"),
                )
                yield from _pictures_of(record, sample=sample, folder=path.parent)
                for _ in media_names(record, "video"):
                    yield Member(sample=sample, key="", extension=CLIP)
                yield from _recordings_of(record, sample=sample, folder=path.parent)


def _pictures_of(record: dict[str, Any], *, sample: int, folder: Path) -> Iterator[Member]:
    """Sizes of the pictures that a record names."""
    try:
        for picture in media_names(record, "image"):
            with open(_inside(folder, picture, kind="picture", name=""), "rb") as file:
                width, height = picture_size(file.read(HEADER_BYTES))
            yield Member(sample=sample, key="", extension=PICTURE, width=width, height=height)
    except (InputError, OSError):
        return


def _recordings_of(record: dict[str, Any], *, sample: int, folder: Path) -> Iterator[Member]:
    """Durations of the recordings that a record names: what it says, or else their headers."""
    try:
        recordings = _recordings(record, folder=folder, name="").values()
        said = plausible(record.get("duration")) if len(recordings) == 1 else 0.0
        for recording in recordings:
            seconds = said
            if not said:
                path, start = recording, 0.0
                if isinstance(recording, Excerpt):
                    path, start = recording.source, recording.start
                assert isinstance(path, Path)
                with open(path, "rb") as file:
                    seconds = max(0.0, recording_seconds(file) - start)
            yield Member(sample=sample, key="", extension=RECORDING, seconds=seconds)
    except (InputError, OSError):
        return


def _recordings(record: dict[str, Any], *, folder: Path, name: str) -> dict[str, Recording]:
    if KEY in record:
        return {str(record[KEY]): manifest_recording(record, folder=folder, name=name)}
    return {
        recording: _inside(folder, recording, kind="recording", name=name)
        for recording in media_names(record, "audio")
    }


def media_names(record: dict[str, Any], kind: str) -> list[str]:
    """Paths of the media of one kind that a record names, each once, in order."""
    listed = record.get(f"{kind}s", record.get(kind))
    names = listed if isinstance(listed, list) else [listed]
    dialogues = record.get("dialogues", [record.get("messages")])
    for dialogue in dialogues if isinstance(dialogues, list) else []:
        for message in dialogue if isinstance(dialogue, list) else []:
            content = message.get("content") if isinstance(message, dict) else None
            for part in content if isinstance(content, list) else []:
                if isinstance(part, dict) and part.get("type") == kind:
                    names = [*names, part.get(kind)]
    return list(dict.fromkeys(n for n in names if isinstance(n, str)))


def _inside(folder: Path, medium: str, *, kind: str, name: str) -> Path:
    """The path of a medium; an InputError if it leads out of the folder."""
    relative = PurePosixPath(medium)
    if relative.is_absolute() or ".." in relative.parts or "\0" in medium:
        raise InputError(name, f"{kind} {medium!r} must be a path inside {folder}")
    path = folder / relative
    if not path.is_file():
        raise InputError(name, f"{kind} {medium}: no such file in {folder}")
    return path
