r"""Transcripts as files that players and editors read: txt, json, srt, vtt and tsv.

The files have the form that Whisper's command writes, so that what reads those reads these. Two
things differ for the sake of players: a segment without text has no cue, since an empty line ends
a cue, and WebVTT's `&`, `<` and `>` are escaped.
"""

import json
from collections.abc import Callable, Iterator

from multimodal.transcript import Transcript


def render(transcript: Transcript, form: str) -> str:
    """A transcript as the text of a file; one without segments gives a valid file too.

    Args:
        transcript: what to write.
        form: one of ``FORMATS``.

    Raises:
        ValueError: there is no such form.
    """
    if form not in FORMATS:
        raise ValueError(f"no form of transcripts: {form!r}; there are {', '.join(FORMATS)}")
    return FORMATS[form](transcript)


def _txt(transcript: Transcript) -> str:
    """A line a segment."""
    return "".join(f"{text}\n" for _, _, text in _cues(transcript))


def _json(transcript: Transcript) -> str:
    """Everything that is known, times in seconds."""
    return json.dumps(transcript.to_json(), ensure_ascii=False, indent=2) + "\n"


def _srt(transcript: Transcript) -> str:
    """Numbered cues; an arrow in the text would be read as a line of times."""
    return "".join(
        f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{text.replace('-->', '->')}\n\n"
        for number, (start, end, text) in enumerate(_cues(transcript), start=1)
    )


def _vtt(transcript: Transcript) -> str:
    """Cues behind a header; hours are left out where there are none."""
    cues = ["WEBVTT\n\n"]
    for start, end, text in _cues(transcript):
        for sign, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
            text = text.replace(sign, name)
        times = f"{_clock(start, '.')} --> {_clock(end, '.')}"
        cues.append(f"{times}\n{text}\n\n")
    return "".join(cues)


def _tsv(transcript: Transcript) -> str:
    """A table with times in whole milliseconds."""
    rows = [f"{start}\t{end}\t{text}\n" for start, end, text in _cues(transcript)]
    return "start\tend\ttext\n" + "".join(rows)


def _cues(transcript: Transcript) -> Iterator[tuple[int, int, str]]:
    """Start, end (in milliseconds) and text on one line, of each segment that has a text.

    Rounding keeps order: segments that do not overlap have cues that do not.
    """
    for segment in transcript.segments:
        if text := " ".join(segment.text.split()):
            yield round(segment.start * 1000), round(segment.end * 1000), text


def _clock(milliseconds: int, mark: str) -> str:
    """Hours, minutes, seconds and, behind a ``mark``, milliseconds."""
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    clock = f"{minutes:02}:{seconds:02}{mark}{milliseconds:03}"
    return f"{hours:02}:{clock}" if hours or mark == "," else clock


FORMATS: dict[str, Callable[[Transcript], str]] = {
    "txt": _txt,
    "json": _json,
    "srt": _srt,
    "vtt": _vtt,
    "tsv": _tsv,
}
"""Names of the forms, which are the files' suffixes too, and what writes each."""
