"""Lines of speech manifests as NeMo's and Lhotse's tools write them, read as they are.

    {"audio_filepath": "wavs/1.flac", "offset": 12.5, "duration": 3.2, "text": "...", "lang": "en"}

A line is told from other JSONL by its ``audio_filepath``, which is absolute or relative to the
manifest's folder. ``offset`` and ``duration`` in seconds cut an utterance out of a longer file.
What is said stands in the same keys as in other records (`multimodal.data.transcripts`).
"""

from pathlib import Path
from typing import Any

from language.errors import InputError
from multimodal.data.recordings import MAX_SECONDS, Excerpt

KEY = "audio_filepath"


def manifest_recording(record: dict[str, Any], *, folder: Path, name: str) -> Excerpt:
    """The recording that a line is about.

    Args:
        record: the line, which has the key ``audio_filepath``.
        folder: where the manifest lies.
        name: of the line, for messages.

    Raises:
        InputError: there is no such file, or offset or duration is no number of seconds.
    """
    file = record[KEY]
    if not isinstance(file, str) or not file or "\0" in file:
        raise InputError(name, f"{KEY} must be a path")
    path = folder / Path(file).expanduser()
    if not path.is_file():
        raise InputError(name, f"{KEY} {file}: no such file")
    offset, duration = record.get("offset") or 0.0, record.get("duration")
    if not _is_seconds(offset):
        raise InputError(name, f"offset must be seconds, not {offset!r}")
    if duration is not None and not (_is_seconds(duration) and duration > 0):
        raise InputError(name, f"duration must be seconds, more than none, not {duration!r}")
    return Excerpt(source=path, start=float(offset), duration=duration and float(duration))


def _is_seconds(value: Any) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and 0 <= value < MAX_SECONDS  # NaN is not either
    )
