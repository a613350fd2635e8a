"""FLEURS: the same sentences read in 102 languages (Conneau et al., arXiv 2205.12446).

Written down in their language, or translated into English, whose sentences of the same number are
the references. In one run of one language, or of all that the paper's models know, whose mean it is
then, as in the paper's tables.
"""

from collections.abc import Iterator
from pathlib import Path

from language.errors import InputError
from multimodal.evaluation.benchmark import Benchmark, Sample, Settings
from multimodal.evaluation.metrics.bleu import bleu_of_statistics
from multimodal.evaluation.packed import find_packed
from multimodal.evaluation.published import find, folder, media_file, read_table
from multimodal.evaluation.spoken import (
    ERROR_RATE,
    NORMALIZER,
    Recording,
    error_rate,
    plain_code,
    transcribed,
    translated,
    translation,
)
from multimodal.languages import LANGUAGES

LAYOUT = "data/LANGUAGE/test.tsv beside data/LANGUAGE/audio/test/*.wav or audio/test.tar.gz"
COLUMNS = ("id", "file", "raw", "text", "letters", "samples", "gender")
ENGLISH = "en_us"
EVERY = "all"
"""In place of a language: each of the paper's 34 that is in the folder."""


def read(directory: Path, settings: Settings) -> Iterator[Sample]:
    """Utterances, language by language."""
    split = settings.split or BENCHMARK.split
    for code in _languages(directory, settings.language or ENGLISH, split):
        for key, recording, row in _rows(directory, code, split):
            yield transcribed(
                f"{code}/{key}" if settings.language == EVERY else key,
                recording,
                text=row["raw"],
                language=code,
                groups={"language": code},
            )


def read_pairs(directory: Path, settings: Settings) -> Iterator[Sample]:
    """Utterances with their sentences in English, language by language."""
    split = settings.split or TRANSLATION.split
    if not settings.language:
        raise InputError("--language", "say which language is translated, as fr_fr, or all")
    english = {row["id"]: row["raw"] for row in _table(directory, ENGLISH, split)}
    for code in _languages(directory, settings.language, split):
        if settings.language == EVERY and code == ENGLISH:
            continue
        for key, recording, row in _rows(directory, code, split):
            if row["id"] in english:
                yield translated(
                    f"{code}/{key}" if settings.language == EVERY else key,
                    recording,
                    text=english[row["id"]],
                    language=code,
                    to="en",
                    groups={"language": code},
                )


def _languages(directory: Path, language: str, split: str) -> list[str]:
    """Codes of the languages that are meant, as the set has them."""
    if language != EVERY:
        return [language]
    top = folder(directory, looked_for=LAYOUT)
    top = top / "data" if (top / "data").is_dir() else top
    there = sorted(file.parent.name for file in top.glob(f"*/{split}.tsv"))
    known = [code for code in there if plain_code(code) in LANGUAGES]
    if not known:
        raise InputError(directory, f"not this set: looked for {LAYOUT}")
    return known


def _table(directory: Path, code: str, split: str) -> Iterator[dict[str, str]]:
    names = [f"data/{code}/{split}.tsv", f"{code}/{split}.tsv"]
    file = find(directory, names, looked_for=LAYOUT.replace("LANGUAGE", code))
    yield from read_table(file, columns=COLUMNS[:3], names=COLUMNS, delimiter="\t", quoted=False)


def _rows(
    directory: Path, code: str, split: str
) -> Iterator[tuple[str, Recording, dict[str, str]]]:
    """Names, recordings and rows: of a folder in the table's order, of an archive in its own."""
    top = directory / "data" / code
    top = top if top.is_dir() else directory / code
    unpacked = top / "audio" / split
    archive = unpacked.with_suffix(".tar.gz")
    rows = {row["file"].removesuffix(".wav"): row for row in _table(directory, code, split)}
    if unpacked.is_dir() or not archive.is_file():
        for key, row in rows.items():
            yield key, media_file(unpacked, row["file"]), row
    else:
        for row, packed in find_packed([archive], rows):
            yield row["file"].removesuffix(".wav"), packed, row


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
    note="the paper's figures are means over 34 languages, --language all; by default it is en_us",
    max_new_tokens=256,
    takes=("split", "language"),
    read=read,
    score=error_rate,
    mean_over="language",
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
    note="the paper's figures are means over 33 languages, --language all; or one, as fr_fr",
    max_new_tokens=256,
    takes=("split", "language"),
    read=read_pairs,
    score=translation,
    total=bleu_of_statistics,
    mean_over="language",
)
