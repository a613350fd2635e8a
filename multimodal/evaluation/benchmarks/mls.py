"""Multilingual LibriSpeech: read books in eight languages (Pratap et al., arXiv 2012.03411)."""

from collections.abc import Iterator
from pathlib import Path

from language.errors import InputError
from multimodal.evaluation.benchmark import Benchmark, Sample, Settings
from multimodal.evaluation.published import find_folder, media_file, text_lines
from multimodal.evaluation.spoken import ERROR_RATE, NORMALIZER, error_rate, transcribed

LANGUAGES = {"en": "english", "de": "german", "nl": "dutch", "fr": "french", "es": "spanish",
             "it": "italian", "pt": "portuguese", "pl": "polish"}  # fmt: skip
LAYOUT = (
    "mls_LANGUAGE/test/transcripts.txt beside audio/SPEAKER/BOOK/*.flac (or .opus), "
    "as OpenSLR 94 has them"
)


def read(directory: Path, settings: Settings) -> Iterator[Sample]:
    """Utterances of a split, in the order of the transcripts."""
    code, split = settings.language or "en", settings.split or BENCHMARK.split
    if code not in LANGUAGES:
        raise InputError("--language", f"{code!r} is none of {', '.join(LANGUAGES)}")
    name = f"mls_{LANGUAGES[code]}"
    names = [f"{name}/{split}", f"{name}_opus/{split}", split]
    top = find_folder(directory, names, looked_for=LAYOUT)
    file = top / "transcripts.txt"
    if not file.is_file():
        raise InputError(top, f"not this set: looked for {LAYOUT}")
    for number, line in text_lines(file):
        key, _, text = line.partition("\t")
        places = key.split("_")
        if len(places) != 3 or not text.strip():
            raise InputError(
                file, f"line {number}: not SPEAKER_BOOK_NUMBER, a tab and a transcript"
            )
        speaker, book, _ = places
        recording = media_file(
            top / "audio", f"{speaker}/{book}/{key}", endings=(".flac", ".opus", ".wav")
        )
        yield transcribed(key, recording, text=text.strip(), language=code)


BENCHMARK = Benchmark(
    name="mls",
    title="Multilingual LibriSpeech",
    kind="speech",
    source="Pratap et al., arXiv 2012.03411; OpenSLR 94",
    split="test",
    layout=LAYOUT,
    prompt="",
    metric=ERROR_RATE,
    lower_is_better=True,
    normalizer=NORMALIZER,
    paper={"8b": 4.9, "70b": 4.4},
    note="the paper's figures are of English, --language en, which is the default",
    max_new_tokens=256,
    takes=("split", "language"),
    read=read,
    score=error_rate,
)
