"""What is known of a source without reading it: members, places, sizes, in one small array.

A source is indexed once. The array is kept in a cache folder under a name made of the file's path,
size and time of change, so that a changed file never meets an old index, and is memory-mapped by
every worker.
"""

import hashlib
import io
import os
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vision.pictures import FORMATS

VERSION = 3
"""Part of the name of cached indexes: raised when the array's meaning changes."""

HEADER_BYTES = 2**16
"""How much of a picture is read for its width and height."""

FAULTS = (
    "",
    "is a link or a special file",
    "has a name that leaves its folder",
    "is larger than allowed",
    "stands twice in the sample",
    "is cut off",
)
"""Why a member is not read, by its number in the index."""


class Member(NamedTuple):
    """One file of a sample."""

    sample: int
    """Number of the sample in its source; members of a sample follow one another."""
    key: str
    """What the members of a sample share in their names."""
    extension: str
    """The rest of the name: ``jpg``, ``0.png``, ``json``."""
    offset: int = 0
    size: int = 0
    width: int = 0
    """Pixels of a picture, 0 if unknown."""
    height: int = 0
    num_characters: int = 0
    """Length of the text of a record."""
    seconds: float = 0.0
    """Duration of a recording, 0 if unknown."""
    fault: int = 0
    """Number in FAULTS."""


Members = NDArray[np.void]
"""Members of a whole source as a structured array, field by field those of `Member`."""


class Index:
    """Members of a source, grouped by sample."""

    def __init__(self, members: Members) -> None:
        """Group an array whose field ``sample`` rises."""
        self.members = members
        samples = np.asarray(members["sample"])
        self._starts = np.flatnonzero(np.diff(samples, prepend=-1, append=samples[-1:] + 1))
        if not len(samples):
            self._starts = np.zeros(1, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, sample: int) -> list[Member]:
        rows = self.members[self._starts[sample] : self._starts[sample + 1]].tolist()
        return [
            Member(number, key.decode(), extension.decode(), *facts)
            for number, key, extension, *facts in rows
        ]


def as_array(members: Iterable[Member]) -> Members:
    """The members as a structured array."""
    rows: list[tuple[Any, ...]] = [
        (number, key.encode(), extension.encode(), *facts)
        for number, key, extension, *facts in members
    ]
    widths = [max((len(row[column]) for row in rows), default=1) for column in (1, 2)]
    kinds = ("i8", f"S{widths[0]}", f"S{widths[1]}", "i8", "i8", "i4", "i4", "i4", "f8", "u1")
    return np.array(rows, dtype=list(zip(Member._fields, kinds, strict=True)))


def cached_index(
    path: Path, build: Callable[[Path], Iterable[Member]], *, cache: Path, variant: str = ""
) -> Index:
    """The index of a file, from the cache folder if the file has not changed since.

    Args:
        path: the file.
        build: reads the members of the file; called when there is no index yet.
        cache: folder for indexes.
        variant: whatever else the index depends on.
    """
    stored = cache / f"{cache_name(path, variant=variant)}.npy"
    try:
        return Index(np.load(stored, mmap_mode="r", allow_pickle=False))
    except (FileNotFoundError, EOFError, ValueError):  # not there yet, or cut by a crash
        array = as_array(build(path))
        write_array(stored, array)
        return Index(array)


def cache_name(path: Path, *, variant: str = "") -> str:
    """A name that changes when the file does."""
    status = path.stat()
    facts = (VERSION, str(path.resolve()), status.st_size, status.st_mtime_ns, variant)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array so that other processes see the whole of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    with open(partial, "wb") as file:
        np.save(file, array, allow_pickle=False)
    os.replace(partial, path)


def picture_size(header: bytes) -> tuple[int, int]:
    """Width and height from the first bytes of a picture, (0, 0) if they do not tell."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(header), formats=FORMATS) as picture:
                return picture.size
    except Exception:  # Pillow's parsers raise nearly anything on hostile bytes
        return 0, 0
