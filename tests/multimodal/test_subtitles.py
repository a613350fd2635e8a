"""Subtitles, read back by small parsers of their own."""

import csv
import html
import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodal.subtitles import FORMATS, render
from multimodal.transcript import Transcript, TranscriptSegment

Cue = tuple[float, float, str]


def seconds(clock: str, mark: str) -> float:
    found = re.fullmatch(rf"(?:(\d\d+):)?([0-5]\d):([0-5]\d){re.escape(mark)}(\d\d\d)", clock)
    assert found, clock
    hours, minutes, whole, thousandths = (int(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + whole + thousandths / 1000


def read_srt(text: str) -> list[Cue]:
    cues = []
    for number, block in enumerate(text.split("\n\n")[:-1], start=1):
        index, times, *lines = block.split("\n")
        assert int(index) == number and len(lines) == 1
        assert times.count("-->") == 1 and "-->" not in lines[0]
        start, end = times.split(" --> ")
        assert len(start) == len(end) == 12 or len(end) > 12, "hours are always there"
        cues.append((seconds(start, ","), seconds(end, ","), lines[0]))
    return cues


def read_vtt(text: str) -> list[Cue]:
    header, *blocks = text.split("\n\n")
    assert header == "WEBVTT"
    cues = []
    for block in blocks[:-1]:
        times, line = block.split("\n")
        assert not re.search(r"<|-->|&(?!amp;|lt;|gt;)", line)
        start, end = times.split(" --> ")
        cues.append((seconds(start, "."), seconds(end, "."), html.unescape(line)))
    return cues


def read_tsv(text: str) -> list[Cue]:
    header, *rows = csv.reader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE)
    assert header == ["start", "end", "text"]
    return [(int(start) / 1000, int(end) / 1000, line) for start, end, line in rows]


texts = st.text(st.sampled_from("ab  \n\t&<>-é中\"';") | st.characters(codec="utf-8"), max_size=20)
texts |= st.sampled_from(["a --> b", "-->", "1\n\n00:00:01,000 --> 00:00:02,000\nx", "&amp; <i>"])


@st.composite
def transcripts(draw: st.DrawFn) -> Transcript:
    """Segments that touch or lie apart, from any start."""
    place, segments = draw(st.floats(0, 400_000)), []
    for text in draw(st.lists(texts, max_size=6)):
        start = place + draw(st.just(0.0) | st.floats(0, 100))
        place = start + draw(st.floats(0, 30) | st.floats(0, 0.002))
        segments.append(TranscriptSegment(start=start, end=place, text=text))
    return Transcript(text=draw(texts), segments=tuple(segments), language="en", duration=place)


@given(transcripts())
def test_read_back(transcript: Transcript) -> None:
    said = [(s.start, s.end, " ".join(s.text.split())) for s in transcript.segments]
    said = [cue for cue in said if cue[2]]
    srt = read_srt(render(transcript, "srt"))
    for cues in (srt, read_vtt(render(transcript, "vtt")), read_tsv(render(transcript, "tsv"))):
        assert len(cues) == len(said)
        for (start, end, _), (true_start, true_end, _) in zip(cues, said, strict=True):
            assert max(abs(start - true_start), abs(end - true_end)) <= 0.0005 + 1e-9
            assert start <= end
        assert all(before[1] <= after[0] for before, after in zip(cues, cues[1:], strict=False))
        lines = [text.replace("-->", "->") if cues is srt else text for _, _, text in said]
        assert [text for _, _, text in cues] == lines
    assert render(transcript, "txt") == "".join(f"{text}\n" for _, _, text in said)
    assert json.loads(render(transcript, "json")) == {
        "text": transcript.text,
        "segments": [
            {"id": number, "start": s.start, "end": s.end, "text": s.text}
            for number, s in enumerate(transcript.segments)
        ],
        "language": "en",
        "duration": transcript.duration,
        "remarks": [],
    }


def test_forms_as_whisper_writes_them() -> None:
    segments = (
        TranscriptSegment(start=0.0, end=1.5, text=" Good morning."),
        TranscriptSegment(start=59.9996, end=3661.0014, text="Tom & Ann\tleft."),
    )
    transcript = Transcript(
        text="Good morning. Tom & Ann\tleft.", segments=segments, language=None, duration=4000.0
    )
    assert render(transcript, "srt") == (
        "1\n00:00:00,000 --> 00:00:01,500\nGood morning.\n\n"
        "2\n00:01:00,000 --> 01:01:01,001\nTom & Ann left.\n\n"
    )
    assert render(transcript, "vtt") == (
        "WEBVTT\n\n00:00.000 --> 00:01.500\nGood morning.\n\n"
        "01:00.000 --> 01:01:01.001\nTom &amp; Ann left.\n\n"
    )
    assert render(transcript, "tsv") == (
        "start\tend\ttext\n0\t1500\tGood morning.\n60000\t3661001\tTom & Ann left.\n"
    )
    assert render(transcript, "txt") == "Good morning.\nTom & Ann left.\n"
    assert json.loads(render(transcript, "json"))["language"] is None


def test_nobody_spoke() -> None:
    transcript = Transcript(text="", duration=3.0, remarks=("No speech was found.",))
    files = {form: render(transcript, form) for form in FORMATS}
    content = json.loads(files.pop("json"))
    assert content["segments"] == [] and content["remarks"] == ["No speech was found."]
    assert files == {"txt": "", "srt": "", "vtt": "WEBVTT\n\n", "tsv": "start\tend\ttext\n"}


def test_refused() -> None:
    with pytest.raises(ValueError, match="no form of transcripts: 'doc'; there are txt, json"):
        render(Transcript(text=""), "doc")
    for start, end in ((-1.0, 2.0), (2.0, 1.0), (0.0, float("nan")), (0.0, float("inf"))):
        with pytest.raises(ValueError, match="a segment must end after it starts"):
            TranscriptSegment(start=start, end=end, text="")
