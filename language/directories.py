"""Checkpoint directories that are written whole or not at all.

Everything is written into a directory beside the target, flushed, and put in the target's place by
renaming. A crash at any moment leaves the previous checkpoint whole: under its own name or, between
the two renames, under the name where :func:`whole` finds it.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from language.errors import InputError

COMPANIONS = (
    "tokenizer*",
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.*",
    "*preprocessor_config.json",
    "processor_config.json",
)
"""Small files beside the weights: tokenizer, chat template, sampling defaults, picture sizes."""
WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "config.json", "adapter.json")


@contextmanager
def written_whole(directory: Path) -> Iterator[Path]:
    """A directory to write into, which takes the place of ``directory`` at the end of the block.

    Raises:
        InputError: ``directory`` is a file, or holds something that isn't part of a checkpoint and
            that would be lost.
    """
    directory = directory.resolve()
    previous, partial = _beside(directory, "previous"), _beside(directory, "partial")
    if previous.exists() and not directory.exists():
        previous.rename(directory)
    if directory.exists():
        _check_replaceable(directory)
    for left_over in (previous, partial):
        if left_over.exists():
            shutil.rmtree(left_over)
    partial.mkdir(parents=True)
    try:
        yield partial
        for path in (*partial.rglob("*"), partial):
            flush(path)
        if directory.exists():
            directory.rename(previous)
        partial.rename(directory)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    flush(directory.parent)
    shutil.rmtree(previous, ignore_errors=True)


def whole(directory: Path) -> Path:
    """Where the checkpoint of this name lies: after a crash in a save, under its reserve name.

    Raises:
        InputError: there is no such directory.
    """
    try:
        previous = _beside(directory.resolve(), "previous")
        if not directory.exists() and previous.exists():
            return previous
        if not directory.exists():
            raise InputError(directory, "no such directory")
        if not directory.is_dir():
            raise InputError(directory, "not a directory")
        os.listdir(directory)
    except OSError as error:
        raise InputError(directory, f"cannot be read ({error.strerror})") from None
    return directory


def copy_companions(source: Path, target: Path) -> None:
    """Copy the small files beside the weights that ``target`` doesn't have yet."""
    for path in sorted(source.iterdir()):
        known = any(fnmatch(path.name, pattern) for pattern in COMPANIONS)
        if known and path.is_file() and not (target / path.name).exists():
            shutil.copyfile(path, target / path.name)


def _check_replaceable(directory: Path) -> None:
    if not directory.is_dir():
        raise InputError(directory, "a file stands where the checkpoint's directory should")
    for path in directory.iterdir():
        if not any(fnmatch(path.name, pattern) for pattern in WEIGHTS + COMPANIONS):
            raise InputError(
                directory,
                f"holds {path.name}, which isn't part of a checkpoint: choose another name",
            )


def _beside(directory: Path, suffix: str) -> Path:
    return directory.with_name(f".{directory.name}.{suffix}")


def flush(path: Path) -> None:
    """Make a file's bytes, or the names in a folder, last on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
