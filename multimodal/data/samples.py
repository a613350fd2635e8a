"""A sample as it lies in a source: pictures still undecoded, and a record that says what is said.

The record is ``{"text": ...}`` (or img2dataset's ``"caption"``): a caption, for pre-training; or
``{"messages": [...]}``: a dialogue; or ``{"dialogues": [[...], ...]}``: several about the same
pictures, which are encoded once for all. In messages ``{"type": "image"}`` is the sample's picture,
or the next one where it has several; ``{"type": "image", "image": NAME}`` is the one so called.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from language.errors import InputError

Message = dict[str, Any]
Dialogue = list[Message]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What a source reads."""

    name: str
    """Where it is, for whoever has to repair it: ``FILE: sample KEY``."""
    record: dict[str, Any]
    pictures: dict[str, bytes | Path]
    """Files of the pictures by name, in order."""


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How large a sample is, known from the index."""

    pictures: tuple[tuple[int, int], ...]
    """Width and height of each, 0 if unknown."""
    num_characters: int


class Source(Protocol):
    """A finite, random-access list of samples."""

    name: str

    def __len__(self) -> int: ...

    def extent(self, index: int) -> Extent:
        """Size of a sample, without reading it."""

    def read(self, index: int) -> Any:
        """Read what the task encodes; an InputError, which names the sample, if it is unusable."""


def parse_record(data: bytes | str, *, name: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InputError: it is none.
    """
    try:
        record = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(name, f"broken JSON ({error})") from None
    if not isinstance(record, dict):
        raise InputError(name, f"the JSON is a {type(record).__name__}, want an object")
    return record


def caption(sample: Sample) -> str | None:
    """The text of a captioned sample; None for one that holds dialogues.

    Raises:
        InputError: there is neither.
    """
    if "messages" in sample.record or "dialogues" in sample.record:
        return None
    text = sample.record.get("text", sample.record.get("caption"))
    if not isinstance(text, str) or not text.strip():
        raise InputError(sample.name, "no text")
    return text.strip()


def dialogues(sample: Sample) -> list[Dialogue]:
    """The dialogues of a sample, its pictures put in their places.

    Raises:
        InputError: they are no lists of messages, or name a picture that is not there, or leave
            all pictures out.
    """
    record = sample.record
    found = record["dialogues"] if "dialogues" in record else [record.get("messages")]
    if not isinstance(found, list) or not found:
        raise InputError(sample.name, "dialogues must be a list of lists of messages")
    placed = [_place_pictures(dialogue, sample) for dialogue in found]
    if sample.pictures and not any(_shows_picture(dialogue) for dialogue in placed):
        raise InputError(
            sample.name, 'no message shows the picture: put {"type": "image"} where it stands'
        )
    return placed


def _shows_picture(dialogue: Dialogue) -> bool:
    return any(
        part.get("type") == "image"
        for message in dialogue
        if isinstance(message.get("content"), list)
        for part in message["content"]
    )


def _place_pictures(dialogue: Any, sample: Sample) -> Dialogue:
    if not isinstance(dialogue, list) or not dialogue:
        raise InputError(sample.name, "messages must be a list of {role, content}, not empty")
    unnamed = iter(sample.pictures.values())
    placed = []
    for message in dialogue:
        if not isinstance(message, dict):
            raise InputError(sample.name, "each message must be an object {role, content}")
        content = message.get("content")
        if isinstance(content, list):
            parts = []
            for part in content:
                if not isinstance(part, dict):
                    raise InputError(sample.name, "each part of a content must be an object")
                if part.get("type") == "image":
                    part = {"type": "image", "image": _picture(part.get("image"), sample, unnamed)}
                parts.append(part)
            message = {**message, "content": parts}
        placed.append(message)
    return placed


def _picture(name: Any, sample: Sample, unnamed: Any) -> bytes | Path:
    if name is not None:
        if isinstance(name, str) and name in sample.pictures:
            return sample.pictures[name]
        raise InputError(sample.name, f"no picture {name!r} in this sample")
    if len(sample.pictures) == 1:
        return next(iter(sample.pictures.values()))
    picture = next(unnamed, None)
    if picture is None:
        raise InputError(sample.name, f"more image parts than pictures ({len(sample.pictures)})")
    return picture
