"""A sample as it lies in a source: media still undecoded, and a record that says what is said.

The record is ``{"text": ...}`` (or img2dataset's ``"caption"``): a caption, for pre-training, or
the transcript of a recording (`multimodal.data.transcripts`); or ``{"messages": [...]}``: a
dialogue; or ``{"dialogues": [[...], ...]}``: several about the same media, which are encoded once
for all. In messages ``{"type": "image"}`` is the sample's picture, or the next one where it has
several; ``{"type": "image", "image": NAME}`` is the one so called. ``video`` stands for clips and
``audio`` for recordings in the same way; ``{"type": "video", "sound": true}`` is heard, too.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from language.errors import InputError
from multimodal.data.recordings import Recording

PARTS = {"image": "picture", "video": "clip", "audio": "recording"}
"""What the parts of a message that stand for media stand for."""
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
    clips: dict[str, bytes | Path] = field(default_factory=dict)
    """Files of the clips by name, in order."""
    recordings: dict[str, Recording] = field(default_factory=dict)
    """Recordings by name, in order."""
    draw: int = 0
    """What a task draws by chance it draws from this number, another one in each pass."""


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How large a sample is, known from the index."""

    pictures: tuple[tuple[int, int], ...]
    """Width and height of each, 0 if unknown."""
    num_characters: int
    num_clips: int = 0
    seconds: tuple[float, ...] = ()
    """Duration of each recording, 0 if unknown."""


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
    """The dialogues of a sample, its media put in their places.

    Raises:
        InputError: they are no lists of messages, or name a medium that is not there, or leave
            all media out.
    """
    record = sample.record
    found = record["dialogues"] if "dialogues" in record else [record.get("messages")]
    if not isinstance(found, list) or not found:
        raise InputError(sample.name, "dialogues must be a list of lists of messages")
    placed = [_place_media(dialogue, sample) for dialogue in found]
    for word, files, part, verb in (
        ("picture", sample.pictures, "image", "shows"),
        ("clip", sample.clips, "video", "shows"),
        ("recording", sample.recordings, "audio", "plays"),
    ):
        if files and not any(map(_shows_medium, placed)):
            raise InputError(
                sample.name,
                f'no message {verb} the {word}: put {{"type": "{part}"}} where it stands',
            )
    return placed


def _shows_medium(dialogue: Dialogue) -> bool:
    return any(
        part.get("type") in PARTS
        for message in dialogue
        if isinstance(message.get("content"), list)
        for part in message["content"]
    )


def _place_media(dialogue: Any, sample: Sample) -> Dialogue:
    if not isinstance(dialogue, list) or not dialogue:
        raise InputError(sample.name, "messages must be a list of {role, content}, not empty")
    media = {
        "image": _Media("picture", sample.pictures, name=sample.name),
        "video": _Media("clip", sample.clips, name=sample.name),
        "audio": _Media("recording", sample.recordings, name=sample.name),
    }
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
                kind = part.get("type")
                if kind in PARTS:
                    part = {**part, kind: media[kind].find(part.get(kind))}
                parts.append(part)
            message = {**message, "content": parts}
        placed.append(message)
    return placed


class _Media:
    """The pictures, clips or recordings of a sample, while a dialogue takes them one by one."""

    def __init__(self, word: str, files: Mapping[str, Any], *, name: str) -> None:
        self.word, self.files, self.name = word, files, name
        self.unnamed: Iterator[Any] = iter(files.values())

    def find(self, key: Any) -> Any:
        """The one so called; without a name the only one, or the next."""
        if key is not None:
            if isinstance(key, str) and key in self.files:
                return self.files[key]
            raise InputError(self.name, f"no {self.word} {key!r} in this sample")
        if len(self.files) == 1:
            return next(iter(self.files.values()))
        medium = next(self.unnamed, None)
        if medium is None:
            part = next(part for part, word in PARTS.items() if word == self.word)
            raise InputError(self.name, f"more {part} parts than {self.word}s ({len(self.files)})")
        return medium
