"""A strict index of a WebDataset shard: which bytes of the tar are which sample.

A sample is the run of members whose names agree up to the first dot of the file name. Only regular
files with a picture's or a record's extension are listed; everything else beside them (``.pkl``,
``.cls``, ...) is passed over and never read. Links, absolute names, names with ``..``, files beyond
bounds and doubles are listed with their fault, so that the sample is named and counted when its
turn comes. Headers are read once, in one pass; nothing is ever unpacked to disk.
"""

import json
import logging
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from webdataset.tariterators import base_plus_ext

from language.errors import InputError
from multimodal.data.index import FAULTS, HEADER_BYTES, Member, picture_size

PICTURES = ("jpg", "jpeg", "png", "webp")
RECORDS = ("json", "txt")

MAX_PICTURE_BYTES = 2**26
MAX_RECORD_BYTES = 2**23
MAX_NAME_BYTES = 1024

log = logging.getLogger(__name__)


def is_picture(extension: str) -> bool:
    """Whether a member with this extension (``jpg``, ``0.png``) is a picture."""
    return extension.rpartition(".")[2] in PICTURES


def tar_members(path: Path) -> Iterator[Member]:
    """Read the headers of a shard.

    Raises:
        InputError: it is no plain tar file.
    """
    try:
        # "r:" takes no compression: a compressed shard cannot be read at random.
        with tarfile.open(path, "r:") as archive, open(path, "rb") as file:
            yield from _members(archive, file, path=path)
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
        if not is_picture(extension) and extension not in RECORDS:
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
    if info.size > (MAX_PICTURE_BYTES if is_picture(extension) else MAX_RECORD_BYTES):
        return "is larger than allowed"
    if extension in seen:
        return "stands twice in the sample"
    return "is cut off" if info.offset_data + info.size > file_size else ""


def _printable(name: str) -> str:
    return name.encode("utf-8", "replace")[:MAX_NAME_BYTES].decode("utf-8", "ignore")


def _facts(file: IO[bytes], info: tarfile.TarInfo, *, extension: str) -> dict[str, int]:
    """Size of a picture or length of a text, as far as a glance tells."""
    file.seek(info.offset_data)
    if is_picture(extension):
        # WebP's reader wants all of the file.
        num_bytes = info.size if extension.endswith("webp") else min(info.size, HEADER_BYTES)
        width, height = picture_size(file.read(num_bytes))
        return {"width": width, "height": height}
    return {"num_characters": num_characters(file.read(info.size), extension=extension)}


def num_characters(data: bytes, *, extension: str) -> int:
    """About how long a record's text is; of a JSON record the text alone counts."""
    if extension == "txt":
        return len(data)
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        return 0
    if not isinstance(record, dict):
        return 0
    for key in ("dialogues", "messages", "text", "caption"):
        if key in record:
            return len(str(record[key]))
    return 0
