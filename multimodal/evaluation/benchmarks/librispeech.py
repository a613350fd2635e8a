"""LibriSpeech: read English (Panayotov et al., ICASSP 2015)."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from language.errors import InputError
from multimodal.evaluation.benchmark import Benchmark, Sample, Settings
from multimodal.evaluation.packed import find_packed, packed_texts
from multimodal.evaluation.published import find_folder, folder, media_file, text_lines
from multimodal.evaluation.spoken import ERROR_RATE, NORMALIZER, error_rate, transcribed

LAYOUT = (
    "LibriSpeech/test-other/SPEAKER/CHAPTER/*.flac beside *.trans.txt, or test-other.tar.gz, as "
    "OpenSLR 12 has them"
)
TRANSCRIPTS = ".trans.txt"


def read(directory: Path, settings: Settings) -> Iterator[Sample]:
    """Utterances of a split: of folders chapter by chapter, of an archive in its own order."""
    split = settings.split or BENCHMARK.split
    archive = folder(directory, looked_for=LAYOUT) / f"{split}.tar.gz"
    if archive.is_file():
        lines = (
            (number, line, str(file))
            for file, text in packed_texts(archive, ending=TRANSCRIPTS)
            for number, line in enumerate(text.splitlines(), start=1)
        )
        texts = {name: (name, text) for name, text in _transcripts(lines)}
        for (name, text), packed in find_packed([archive], texts):
            yield transcribed(name, packed, text=text, language="en")
        return
    top = find_folder(directory, [f"LibriSpeech/{split}", split], looked_for=LAYOUT)
    files = sorted(top.glob(f"*/*/*{TRANSCRIPTS}"))
    if not files:
        raise InputError(top, f"not this set: looked for {LAYOUT}")
    for file in files:
        for name, text in _transcripts((*line, str(file)) for line in text_lines(file)):
            recording = media_file(file.parent, name, endings=(".flac", ".wav"))
            yield transcribed(name, recording, text=text, language="en")


def _transcripts(lines: Iterable[tuple[int, str, str]]) -> Iterator[tuple[str, str]]:
    """Names and texts, of lines with their numbers and files."""
    for number, line, file in lines:
        name, _, text = line.partition(" ")
        if not text.strip():
            raise InputError(file, f"line {number}: no transcript")
        yield name, text.strip()


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
