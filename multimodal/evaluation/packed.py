"""Recordings in tar archives, as sets are published: read one after the other, never unpacked.

A compressed archive has no way to its middle. So samples are taken in the archive's own order, and
reading them in that order is one pass; whoever wants an earlier file starts again at the beginning.
"""

import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from language.errors import InputError

MAX_BYTES = 1 << 28
"""No recording of a published set is larger."""
_FAULTS = (tarfile.TarError, OSError, EOFError, zlib.error)

Wanted = TypeVar("Wanted")


@dataclass(frozen=True)
class Packed:
    """A file of an archive."""

    archive: Path
    name: str
    """In the archive, folders included."""

    def __str__(self) -> str:
        return f"{self.archive}/{self.name}"

    def read(self) -> bytes:
        """What it holds.

        Raises:
            InputError: the archive is broken, or has no such file.
        """
        try:
            found = _Reader.at(self.archive).read(self.name)
            if found is None:
                found = _Reader.at(self.archive, anew=True).read(self.name)
        except _FAULTS as error:
            _Reader.last = None
            raise _broken(self.archive, error) from None
        if found is None:
            raise InputError(str(self), "no such file in the archive")
        return found


def find_packed(
    archives: Sequence[Path], wanted: dict[str, Wanted]
) -> Iterator[tuple[Wanted, Packed]]:
    """Files of archives, in their order, with what is known of each.

    Args:
        archives: that are searched.
        wanted: by a file's name without its folder and ending; it is emptied.

    Raises:
        InputError: an archive is broken, or a file is missing.
    """
    for archive in archives:
        for _, member in _members(archive):
            if (key := PurePosixPath(member.name).stem) in wanted:
                yield wanted.pop(key), Packed(archive, member.name)
    if wanted:
        raise InputError(f"{archives[-1]}/{next(iter(wanted))}", "missing: half of the set?")


def packed_texts(archive: Path, *, ending: str) -> Iterator[tuple[Packed, str]]:
    """Files of an archive whose names end so, with what they say.

    Raises:
        InputError: the archive is broken, or one is no text.
    """
    for opened, member in _members(archive):
        if member.name.endswith(ending):
            file = Packed(archive, member.name)
            try:
                yield file, _content(file, opened, member).decode()
            except UnicodeDecodeError as error:
                raise InputError(str(file), f"not a text ({error.reason})") from None
            except _FAULTS as error:
                raise _broken(archive, error) from None


def _members(archive: Path) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """The files of an archive, each of which may be read when it comes."""
    try:
        with tarfile.open(archive, "r|*") as opened:
            for member in opened:
                if member.isfile():
                    yield opened, member
    except _FAULTS as error:
        raise _broken(archive, error) from None


def _content(named: Packed, opened: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.size > MAX_BYTES:
        raise InputError(str(named), f"has {member.size:,} bytes")
    content = opened.extractfile(member)
    assert content is not None
    return content.read()


class _Reader:
    """An archive that is open, somewhere in its middle."""

    last: "_Reader | None" = None
    """The one that was used last, where the next file probably is."""

    def __init__(self, archive: Path) -> None:
        self.archive = archive
        self._tar = tarfile.open(archive, "r|*")  # noqa: SIM115

    @classmethod
    def at(cls, archive: Path, *, anew: bool = False) -> "_Reader":
        """A reader of an archive: the last one, or one that is at the beginning."""
        if anew or cls.last is None or cls.last.archive != archive:
            if cls.last is not None:
                cls.last._tar.close()
            cls.last = None
            cls.last = cls(archive)
        return cls.last

    def read(self, name: str) -> bytes | None:
        """A file that comes later; None if there is none."""
        while (member := self._tar.next()) is not None:
            self._tar.members = []  # type: ignore[attr-defined]  # else they grow with each file
            if member.name == name and member.isfile():
                return _content(Packed(self.archive, name), self._tar, member)
        _Reader.last = None
        self._tar.close()
        return None


def _broken(archive: Path, error: BaseException) -> InputError:
    return InputError(archive, f"not a whole tar archive ({error or type(error).__name__})")
