"""LibriSpeech: read English (Panayotov et al., ICASSP 2015)."""

from collections.abc import Iterator
from pathlib import Path

from language.errors import InputError
from multimodal.evaluation.benchmark import Benchmark, Sample, Settings
from multimodal.evaluation.published import find_folder, media_file, text_lines
from multimodal.evaluation.spoken import ERROR_RATE, NORMALIZER, error_rate, transcribed

LAYOUT = "LibriSpeech/test-other/SPEAKER/CHAPTER/*.flac beside *.trans.txt, as OpenSLR 12 has them"


def read(directory: Path, settings: Settings) -> Iterator[Sample]:
    """Utterances of a split, chapter by chapter."""
    split = settings.split or BENCHMARK.split
    top = find_folder(directory, [f"LibriSpeech/{split}", split], looked_for=LAYOUT)
    transcripts = sorted(top.glob("*/*/*.trans.txt"))
    if not transcripts:
        raise InputError(top, f"not this set: looked for {LAYOUT}")
    for file in transcripts:
        for number, line in text_lines(file):
            name, _, text = line.partition(" ")
            if not text.strip():
                raise InputError(file, f"line {number}: no transcript")
            recording = media_file(file.parent, name, endings=(".flac", ".wav"))
            yield transcribed(name, recording, text=text.strip(), language="en")


BENCHMARK = Benchmark(
    name="librispeech",
    title="LibriSpeech",
    kind="speech",
    source="Panayotov et al., ICASSP 2015; OpenSLR 12",
    split="test-other",
    layout=LAYOUT,
    prompt="",
    metric=ERROR_RATE,
    lower_is_better=True,
    normalizer=NORMALIZER,
    paper={"8b": 3.4, "70b": 3.1},
    max_new_tokens=256,
    read=read,
    score=error_rate,
)
