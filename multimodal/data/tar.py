"""A strict index of a WebDataset shard: which bytes of the tar are which sample.

A sample is the run of members whose names agree up to the first dot of the file name. Only regular
files with the extension of a picture, a clip, a recording or a record are listed; everything else
beside them (``.pkl``, ``.cls``, ...) is passed over and never read. Links, absolute names, names
with ``..``, files beyond bounds and doubles are listed with their fault, so that the sample is
named and counted when its turn comes. Headers are read once, in one pass; nothing is ever unpacked
to disk.
"""

import json
import logging
import tarfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import IO, Any

from webdataset.tariterators import base_plus_ext

from language.errors import InputError
from multimodal.data.index import FAULTS, HEADER_BYTES, Member, picture_size
from multimodal.data.recordings import RECORDINGS, Slice, plausible, recording_seconds

PICTURES = ("jpg", "jpeg", "png", "webp")
CLIPS = ("mp4", "webm", "mkv")
RECORDS = ("json", "txt")

MAX_PICTURE_BYTES = 2**26
MAX_RECORDING_BYTES = 2**28
MAX_CLIP_BYTES = 2**29
MAX_RECORD_BYTES = 2**23
MAX_NAME_BYTES = 1024

log = logging.getLogger(__name__)


def is_picture(extension: str) -> bool:
    """Whether a member with this extension (``jpg``, ``0.png``) is a picture."""
    return extension.rpartition(".")[2] in PICTURES


def is_recording(extension: str) -> bool:
    """Whether a member with this extension (``flac``, ``0.wav``) is a recording."""
    return extension.rpartition(".")[2] in RECORDINGS


def is_clip(extension: str) -> bool:
    """Whether a member with this extension (``mp4``, ``0.webm``) is a clip."""
    return extension.rpartition(".")[2] in CLIPS


def tar_members(path: Path) -> Iterator[Member]:
    """Read the headers of a shard.

    Raises:
        InputError: it is no plain tar file.
    """
    try:
        # "r:" takes no compression: a compressed shard cannot be read at random.
        with tarfile.open(path, "r:") as archive, open(path, "rb") as file:
            yield from _timed(file, _members(archive, file, path=path))
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror or error})") from None
    except tarfile.TarError as error:
        raise InputError(path, f"not a plain, uncompressed tar file ({error})") from None


def _members(archive: tarfile.TarFile, file: IO[bytes], *, path: Path) -> Iterator[Member]:
    file_size = path.stat().st_size
    sample, previous, seen = -1, None, set[str]()
    while (info := _next(archive, path=path)) is not None:
        if info.size < 0:
            log.warning("%s: a member of negative size; the samples before it are used", path)
            return
        archive.members = []  # type: ignore[attr-defined]  # or tarfile keeps every header
        key, extension = base_plus_ext(info.name)
        if info.isdir() or key is None or (info.name.startswith("__") and "/" not in info.name):
            continue
        extension = extension.lower()
        if _max_bytes(extension) is None:
            continue
        if key != previous:
            sample, previous, seen = sample + 1, key, set()
        fault = FAULTS.index(_fault(info, extension=extension, seen=seen, file_size=file_size))
        seen.add(extension)
        facts: dict[str, Any] = {} if fault else _facts(file, info, extension=extension)
        yield Member(
            sample=sample,
            key=_printable(key),
            extension=_printable(extension),
            offset=info.offset_data,
            size=info.size,
            fault=fault,
            **facts,
        )


def _next(archive: tarfile.TarFile, *, path: Path) -> tarfile.TarInfo | None:
    try:
        return archive.next()
    except (tarfile.TarError, ValueError, KeyError) as error:
        log.warning("%s: %s; the samples before that are used", path, error)
        return None


def _fault(info: tarfile.TarInfo, *, extension: str, seen: set[str], file_size: int) -> str:
    name = PurePosixPath(info.name)
    if not info.isreg() or info.issparse():
        return "is a link or a special file"
    if name.is_absolute() or ".." in name.parts or len(info.name) > MAX_NAME_BYTES:
        return "has a name that leaves its folder"
    if info.size > (_max_bytes(extension) or 0):
        return "is larger than allowed"
    if extension in seen:
        return "stands twice in the sample"
    return "is cut off" if info.offset_data + info.size > file_size else ""


def _max_bytes(extension: str) -> int | None:
    """Largest size of a member that may be read; None if it belongs to no sample."""
    if is_picture(extension):
        return MAX_PICTURE_BYTES
    if is_recording(extension):
        return MAX_RECORDING_BYTES
    if is_clip(extension):
        return MAX_CLIP_BYTES
    return MAX_RECORD_BYTES if extension in RECORDS else None


def _timed(file: IO[bytes], members: Iterator[Member]) -> Iterator[Member]:
    """Add how long recordings last: what the sample's record says, or else their own headers."""
    for _, group in groupby(members, key=lambda member: member.sample):
        sample = list(group)
        is_alone = sum(is_recording(m.extension) for m in sample) == 1
        said = max(m.seconds for m in sample) if is_alone else 0.0
        for member in sample:
            if is_recording(member.extension) and not member.fault:
                part = Slice(file, offset=member.offset, size=member.size)
                member = member._replace(seconds=said or recording_seconds(part))
            yield member


def _printable(name: str) -> str:
    return name.encode("utf-8", "replace")[:MAX_NAME_BYTES].decode("utf-8", "ignore")


def _facts(file: IO[bytes], info: tarfile.TarInfo, *, extension: str) -> dict[str, Any]:
    """Size of a picture, or length of a text and of what is said, as far as a glance tells."""
    if is_recording(extension) or is_clip(extension):
        return {}
    file.seek(info.offset_data)
    if is_picture(extension):
        # WebP's reader wants all of the file.
        num_bytes = info.size if extension.endswith("webp") else min(info.size, HEADER_BYTES)
        width, height = picture_size(file.read(num_bytes))
        return {"width": width, "height": height}
    data = file.read(info.size)
    if extension == "txt":
        return {"num_characters": len(data)}
    record = glance(data)
    return {
        "num_characters": num_characters(record),
        "seconds": plausible(record.get("duration")),
    }


def glance(data: bytes) -> dict[str, Any]:
    """A JSON record; an empty one where it is broken."""
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def num_characters(record: dict[str, Any]) -> int:
    """About how long a record's text is."""
    for key in ("dialogues", "messages", "text", "caption"):
        if key in record:
            return len(str(record[key]))
    return 0
