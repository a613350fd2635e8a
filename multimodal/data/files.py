"""Which files a path in a config stands for: braces, globs, folders, and copies of remote ones."""

import glob
import hashlib
import os
import posixpath
from collections.abc import Iterator
from pathlib import Path

import braceexpand
import fsspec

from language.errors import InputError


def default_cache() -> Path:
    """Folder for indexes and copies of remote files: $OPENHERD_CACHE, or in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("OPENHERD_CACHE") or Path(home) / "openherd")


def find_files(path: str, *, cache: Path, suffixes: tuple[str, ...] = (".tar",)) -> list[Path]:
    """Local files that a path means, in order.

    Args:
        path: a file, a folder, or many by braces (``{00000..00099}.tar``) and globs (``*.tar``);
            local or any URL that fsspec opens (``s3://``, ``https://``). ``pipe:`` is not one.
        cache: folder for copies of remote files.
        suffixes: of the files that count in a folder.

    Raises:
        InputError: there are none, or one is missing.
    """
    files: list[Path] = []
    for name in braceexpand.braceexpand(path):
        if "://" in name:
            files += _remote_files(name, cache=cache, suffixes=suffixes)
        else:
            files += _local_files(name, suffixes=suffixes)
    return files


def _local_files(name: str, *, suffixes: tuple[str, ...]) -> Iterator[Path]:
    if glob.has_magic(name) and not os.path.exists(name):
        found = [Path(match) for match in sorted(glob.glob(name))]
    elif os.path.isdir(name):
        found = sorted(p for p in Path(name).iterdir() if p.suffix.lower() in suffixes)
    else:
        found = [Path(name)]
    if not found:
        raise InputError(name, f"no files there ({', '.join(suffixes)})")
    for path in found:
        if not path.exists():
            raise InputError(path, "no such file")
        if not path.is_file():
            raise InputError(path, "not a regular file")
        yield path


def _remote_files(name: str, *, cache: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    try:
        system, place = fsspec.url_to_fs(name)
        if glob.has_magic(place):
            places = sorted(system.glob(place))
        elif system.isdir(place):
            places = sorted(p for p in system.ls(place, detail=False) if p.endswith(suffixes))
        else:
            places = [place]
        if not places:
            raise InputError(name, f"no files there ({', '.join(suffixes)})")
        for place in places:
            yield _local_copy(system, place, cache=cache)
    except InputError:
        raise
    except Exception as error:  # each of fsspec's backends has its own
        raise InputError(name, f"cannot be read ({error})") from None


def _local_copy(system: fsspec.AbstractFileSystem, place: str, *, cache: Path) -> Path:
    """Copy a remote file into the cache once for each version of it."""
    facts = repr((system.unstrip_protocol(place), sorted(system.info(place).items(), key=str)))
    folder = cache / "files" / hashlib.sha256(facts.encode()).hexdigest()[:32]
    copy = folder / posixpath.basename(place)
    if not copy.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f"{os.getpid()}.partial"
        system.get_file(place, str(partial))
        os.replace(partial, copy)
    return copy
