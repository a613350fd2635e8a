"""lmms-eval's messages as ours: a medium is named by its kind, and stands under "url" there."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from language.errors import InputError
from multimodal.media import kind_of
from multimodal.processor import Message

AUDIO_ENDINGS = (".wav", ".mp3", ".flac", ".ogg", ".m4a")
"""Of files that are recordings, for lmms-eval's `doc_to_visual`."""


def messages_of(theirs: Sequence[Mapping[str, Any]], *, sound: bool) -> list[Message]:
    """A dialog as `Processor.encode` takes it.

    Args:
        theirs: each with a role and a list of parts.
        sound: whether clips are heard, too.

    Raises:
        InputError: a part asks for what we do not do.
    """
    return [
        {
            "role": message["role"],
            "content": [part_of(part, sound=sound) for part in message["content"]],
        }
        for message in theirs
    ]


def part_of(theirs: Mapping[str, Any], *, sound: bool) -> dict[str, Any]:
    """One part of a message; see :func:`messages_of`.

    A recording as `datasets` decodes it is one whatever its part says: lmms-eval 0.7.3 calls those
    of `doc_to_visual` clips.
    """
    kind = theirs["type"]
    if kind == "text":
        return {"type": "text", "text": theirs["text"]}
    medium = theirs["url"]
    if isinstance(medium, Mapping):
        if "array" not in medium:
            raise InputError("request", f"a medium that is a mapping of {', '.join(medium)}")
        return {"type": "audio", "audio": (medium["array"], medium["sampling_rate"])}
    if kind != "video":
        return {"type": kind, kind: medium}
    for name in ("start_time", "end_time"):
        if theirs.get(name) is not None:
            raise InputError(str(medium), f"{name}: clips are watched from beginning to end")
    return {"type": kind, kind: medium, "sound": sound}


def shown(visual: Any) -> dict[str, Any]:
    """What a task's `doc_to_visual` gives, as a part; a path is known by its ending."""
    if isinstance(visual, str) and Path(visual).suffix.lower() in AUDIO_ENDINGS:
        return {"type": "audio", "url": visual}
    kind = "audio" if isinstance(visual, Mapping) else kind_of(visual, watches=True)
    return {"type": kind, "url": visual}
