"""FLEURS: the same sentences read in 102 languages (Conneau et al., arXiv 2205.12446).

Written down in their language, or translated into English, whose sentences of the same number are
the references.
"""

from collections.abc import Iterator
from pathlib import Path

from language.errors import InputError
from multimodal.evaluation.benchmark import Benchmark, Sample, Settings
from multimodal.evaluation.metrics.bleu import bleu_of_statistics
from multimodal.evaluation.published import find, media_file, read_table
from multimodal.evaluation.spoken import (
    ERROR_RATE,
    NORMALIZER,
    error_rate,
    transcribed,
    translated,
    translation,
)

LAYOUT = "data/LANGUAGE/test.tsv beside data/LANGUAGE/audio/test/*.wav (or audio/test.tar.gz)"
COLUMNS = ("id", "file", "raw", "text", "letters", "samples", "gender")
ENGLISH = "en_us"


def read(directory: Path, settings: Settings) -> Iterator[Sample]:
    """Utterances of one language."""
    code = settings.language or ENGLISH
    for key, recording, row in _rows(directory, code, settings.split or BENCHMARK.split):
        yield transcribed(key, recording, text=row["raw"], language=code)


def read_pairs(directory: Path, settings: Settings) -> Iterator[Sample]:
    """Utterances of one language with their sentences in English."""
    code, split = settings.language, settings.split or TRANSLATION.split
    if not code:
        raise InputError("--language", "say which language is translated, as fr_fr")
    english = {row["id"]: row["raw"] for row in _table(directory, ENGLISH, split)}
    for key, recording, row in _rows(directory, code, split):
        if row["id"] in english:
            text = english[row["id"]]
            yield translated(key, recording, text=text, language=code, to="en")


def _table(directory: Path, code: str, split: str) -> Iterator[dict[str, str]]:
    names = [f"data/{code}/{split}.tsv", f"{code}/{split}.tsv"]
    file = find(directory, names, looked_for=LAYOUT.replace("LANGUAGE", code))
    yield from read_table(file, columns=COLUMNS[:3], names=COLUMNS, delimiter="\t", quoted=False)


def _rows(directory: Path, code: str, split: str) -> Iterator[tuple[str, Path, dict[str, str]]]:
    top = directory / "data" / code
    top = top if top.is_dir() else directory / code
    folder = top / "audio" / split
    archive = folder.with_suffix(".tar.gz")
    if not folder.is_dir() and archive.is_file():
        raise InputError(
            archive, f"packed still: tar xzf it in {archive.parent}, which makes {folder.name}/"
        )
    for row in _table(directory, code, split):
        yield row["file"].removesuffix(".wav"), media_file(folder, row["file"]), row


BENCHMARK = Benchmark(
    name="fleurs",
    title="FLEURS",
    kind="speech",
    source="Conneau et al., arXiv 2205.12446",
    split="test",
    layout=LAYOUT,
    prompt="",
    metric=ERROR_RATE,
    lower_is_better=True,
    normalizer=NORMALIZER,
    paper={"8b": 9.6, "70b": 8.2},
    note="the paper's figures are means over 34 languages; this is one, --language en_us",
    max_new_tokens=256,
    takes=("split", "language"),
    read=read,
    score=error_rate,
)
TRANSLATION = Benchmark(
    name="fleurs_translation",
    title="FLEURS to English",
    kind="speech",
    source="Conneau et al., arXiv 2205.12446",
    split="test",
    layout=f"{LAYOUT}, of LANGUAGE and of {ENGLISH}",
    prompt="",
    metric="BLEU, higher is better",
    normalizer="none: sacrebleu, 13a, case counts",
    paper={"8b": 29.5, "70b": 33.7},
    note="the paper's figures are means over 33 languages; this is one, --language fr_fr",
    max_new_tokens=256,
    takes=("split", "language"),
    read=read_pairs,
    score=translation,
    total=bleu_of_statistics,
)
