"""Training states on disk: whole or not at all, and known to be whole.

A state is a folder ``checkpoints/step-N`` of files and a ``manifest.json`` that gives the size and
SHA-256 of each. The files are written into ``step-N.tmp`` and flushed to the disk, the manifest
after them, and only then the folder gets its name: a crash at any moment leaves what is not
finished with a name that nobody reads. Older states are removed after that, so that one whole state
is always there. Whoever resumes takes the newest whose files are what their manifest says.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from language.directories import flush
from language.errors import InputError

FOLDER = "checkpoints"
"""Where the states of a run lie, under its directory."""
MANIFEST = "manifest.json"
_UNFINISHED, _REPLACED = ".tmp", ".replaced"
_MAX_MANIFEST_BYTES = 1 << 20
_UNKNOWN = -1

Write = Callable[[BinaryIO], object]


def write_state(directory: Path, files: Mapping[str, Write]) -> None:
    """Write a state whole.

    Args:
        directory: the state's, ``.../step-N``; one that is there already steps aside.
        files: what writes each file, by its name.

    Raises:
        InputError: the disk is full or refuses; the states that are there stay as they are.
    """
    try:
        begin_state(directory)
        finish_state(directory, {name: add_file(directory, name, f) for name, f in files.items()})
    except (OSError, RuntimeError) as error:  # torch.save raises the latter on a full disk
        raise given_up(directory, error) from error


def begin_state(directory: Path) -> None:
    """Make place for the files of the state ``directory``."""
    unfinished = directory.with_name(directory.name + _UNFINISHED)
    shutil.rmtree(unfinished, ignore_errors=True)  # what a crash has left
    unfinished.mkdir(parents=True)


def add_file(directory: Path, name: str, write: Write) -> dict[str, Any]:
    """Write a file of a state that is begun; gives what :func:`finish_state` wants of it."""
    return _write(directory.with_name(directory.name + _UNFINISHED) / name, write)


def finish_state(directory: Path, facts: Mapping[str, Mapping[str, Any]]) -> None:
    """Give a state its name, now that all its files are written.

    Args:
        directory: the state's, ``.../step-N``; one that is there already steps aside.
        facts: what :func:`add_file` gave, by the names of all files.
    """
    unfinished = directory.with_name(directory.name + _UNFINISHED)
    number = 1 + max((_number(state) for state in _states(directory.parent)), default=0)
    manifest = json.dumps({"number": number, "files": facts}).encode()
    _write(unfinished / MANIFEST, lambda file: file.write(manifest))
    flush(unfinished)
    if directory.exists():  # of a run that was begun anew in the same folder
        replaced = directory.with_name(directory.name + _REPLACED)  # a state still, till pruned
        shutil.rmtree(replaced, ignore_errors=True)
        os.replace(directory, replaced)
    os.replace(unfinished, directory)
    flush(directory.parent)


def given_up(directory: Path, error: object) -> InputError:
    """Remove a state that could not be finished, and say so."""
    shutil.rmtree(directory.with_name(directory.name + _UNFINISHED), ignore_errors=True)
    fault = f"this state could not be written ({error}); those before it are untouched"
    return InputError(directory, fault)


def check_state(directory: Path) -> None:
    """Make sure that a state is complete and holds the bytes that were written.

    Raises:
        InputError: what is wrong with it.
    """
    for name, fact in _manifest(directory)["files"].items():
        file = directory / Path(name).name
        try:
            size = file.stat().st_size
            if size != fact["bytes"]:
                raise InputError(file, f"{size:,} bytes, where {fact['bytes']:,} were written")
            with file.open("rb") as opened:
                found = hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError as error:
            raise InputError(file, f"unreadable ({error.strerror})") from None
        if found != fact["sha256"]:
            raise InputError(file, "damaged: its bytes are not those that were written")


def newest_state(run: Path, *, skipped: Callable[[InputError], None] | None = None) -> Path | None:
    """The latest good state of a run; None if it has none.

    Args:
        run: directory of the run.
        skipped: told what is wrong with each later state that is not good, and with each of
            which it cannot be told when it was written.
    """
    states = sorted(_states(run / FOLDER), key=_number, reverse=True)
    for state in sorted(states, key=lambda state: _number(state) != _UNKNOWN):  # those first
        try:
            check_state(state)
        except InputError as error:
            if skipped is not None:
                skipped(error)
        else:
            return state
    return None


def prune_states(folder: Path, *, keep: int, for_good: Callable[[int], bool]) -> None:
    """Remove all but the newest states.

    Args:
        folder: of the states.
        keep: how many stay.
        for_good: whether the state of a step stays, however old.
    """
    for state in sorted(_states(folder), key=_number, reverse=True)[keep:]:
        step = state.name.removeprefix("step-")
        if not (step.isdecimal() and for_good(int(step))):
            shutil.rmtree(state)


def _states(folder: Path) -> Iterator[Path]:
    """Folders that claim to be whole."""
    for state in folder.glob("step-*"):
        if state.is_dir() and state.suffix != _UNFINISHED:
            yield state


def _number(state: Path) -> int:
    """States are numbered as they were written, which need not be the order of their steps."""
    try:
        return int(_manifest(state)["number"])
    except InputError:
        return _UNKNOWN


def _manifest(directory: Path) -> dict[str, Any]:
    file = directory / MANIFEST
    try:
        with file.open("rb") as opened:
            data = json.loads(opened.read(_MAX_MANIFEST_BYTES))
        int(data["number"])
        for name, fact in data["files"].items():
            if not (isinstance(name, str) and isinstance(fact["sha256"], str)):
                raise TypeError
            int(fact["bytes"])
    except OSError as error:
        fault = f"no whole state: {MANIFEST} ({error.strerror})"
        raise InputError(directory, fault if directory.exists() else "no such state") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InputError(file, "damaged: no manifest of a state") from None
    return data


def _write(path: Path, write: Write) -> dict[str, Any]:
    """Write a file to the disk itself; its size and hash."""
    with path.open("wb") as file:
        hashed = _Hashed(file)
        write(hashed)  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())
    return {"bytes": hashed.size, "sha256": hashed.digest.hexdigest()}


class _Hashed:
    """A file that is written once from its start to its end, and hashed on the way."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.size, self.digest = file, 0, hashlib.sha256()

    def write(self, data: Any) -> int:
        """Append ``data``."""
        view = memoryview(data).cast("B")
        self.file.write(view)
        self.digest.update(view)
        self.size += len(view)
        return len(view)

    def flush(self) -> None:
        """Hand on what waits in memory."""
        self.file.flush()
