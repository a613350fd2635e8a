"""What was said in a recording, as text and with times: the result of transcribing it."""

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class TranscriptSegment:
    """What was said in one stretch of the recording."""

    start: float
    """In seconds of the recording."""
    end: float
    text: str

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end < math.inf:
            raise ValueError(f"a segment must end after it starts: {self.start} to {self.end} s")


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """What was said in a recording; nothing, if nobody spoke."""

    text: str
    """All of it."""
    segments: tuple[TranscriptSegment, ...] = ()
    """In the order of their times."""
    language: str | None = None
    """Spoken in the recording; None if it is not known."""
    duration: float = 0.0
    """Of the recording, in seconds."""
    remarks: tuple[str, ...] = ()
    """What the reader should know, such as a repetition that was cut; a sentence each."""

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON's types; segments are numbered, times in seconds."""
        return {
            "text": self.text,
            "segments": [
                {"id": number, "start": segment.start, "end": segment.end, "text": segment.text}
                for number, segment in enumerate(self.segments)
            ],
            "language": self.language,
            "duration": self.duration,
            "remarks": list(self.remarks),
        }
