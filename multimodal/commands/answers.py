"""One answer a picture: streamed to a reader or as JSON lines; a bad picture costs its own line."""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from language.errors import InputError
from multimodal.cli import complain
from vision.pictures import find_pictures


def answer_each(
    paths: Iterable[str],
    answer: Callable[[str], Iterator[str]],
    *,
    as_json: bool,
    key: str,
    fields: dict[str, Any] | None = None,
) -> int:
    """Print the answer about every picture and return the exit status.

    Args:
        paths: pictures and folders of pictures.
        answer: yields the pieces of the answer about one picture.
        as_json: print an object a line instead of text.
        key: what the object calls the answer.
        fields: what else every object holds.
    """
    files, num_bad = _expand(paths)
    with_names = len(files) + num_bad > 1
    for file in files:
        try:
            if as_json:
                text = "".join(answer(file))
                print(json.dumps({"file": file, **(fields or {}), key: text}, ensure_ascii=False))
                continue
            pieces = answer(file)
            first = next(pieces, "")  # a bad picture is known before its name is printed
            print(f"{file}: " if with_names else "", first, sep="", end="", flush=True)
            for piece in pieces:
                print(piece, end="", flush=True)
            print(flush=True)
        except InputError as error:
            complain(str(error))
            num_bad += 1
    return 2 if num_bad else 0


def _expand(paths: Iterable[str]) -> tuple[list[str], int]:
    """List the files behind paths and folders, and count the folders without any."""
    files: list[str] = []
    num_bad = 0
    for path in paths:
        try:
            files += [str(file) for file in find_pictures(path)]
        except InputError as error:
            complain(str(error))
            num_bad += 1
    return files, num_bad
