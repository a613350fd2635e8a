"""Answers that are heard: the speaker that ships, and speech beside an answer that still comes."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from multimodal.locations import TINY
from speech.speaker import Speaker, WavFile, load_speaker

SHIPPED = TINY / "speaker"
"""The speaker that ships with the package."""


def open_speaker(
    directory: str | Path | None = None, *, beside: Path | None = None, voice: str | None = None
) -> Speaker:
    """A directory's speaker; or else that of a model; or else the one that ships.

    Args:
        directory: of a speaker.
        beside: a model's directory, which may have a ``speaker`` of its own.
        voice: of the synthesizer; the speaker's own by default.

    Raises:
        InputError: what is wrong with which file, or the extra ``speak`` is not installed.
    """
    if directory is None and beside is not None and (beside / "speaker").is_dir():
        directory = beside / "speaker"
    return load_speaker(SHIPPED if directory is None else directory, voice=voice)


def spoken_along(pieces: Iterable[str], speaker: Speaker, file: str | Path) -> Iterator[str]:
    """The pieces of an answer, each of which is spoken as it passes by, into a WAV file.

    Raises:
        InputError: the file cannot be written.
    """
    with WavFile(file, rate=speaker.synthesizer.rate) as out:
        speech = speaker.begin()
        for piece in pieces:
            yield piece
            for phrase in speech.push(piece):
                out.write(phrase.samples)
        for phrase in speech.finish():
            out.write(phrase.samples)
