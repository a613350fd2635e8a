"""CoVoST 2: translation of Common Voice's sentences (Wang et al., arXiv 2007.10310)."""

from collections.abc import Iterator
from pathlib import Path

from multimodal.evaluation.benchmark import Benchmark, Sample, Settings
from multimodal.evaluation.metrics.bleu import bleu_of_statistics
from multimodal.evaluation.published import find, find_folder, media_file, read_table
from multimodal.evaluation.spoken import translated, translation

LAYOUT = "covost_v2.FROM_TO.test.tsv beside clips/*.mp3 of Common Voice 4 in the language FROM"


def read(directory: Path, settings: Settings) -> Iterator[Sample]:
    """Sentences of a split from one language to another."""
    code, to = settings.language or "fr", settings.to or "en"
    split = settings.split or BENCHMARK.split
    pair = f"{code}_{to}"
    looked_for = LAYOUT.replace("FROM_TO", pair).replace("FROM", code)
    patterns = [f"{start}covost_v2.{pair}.{split}.tsv" for start in ("", f"{code}/", "*/")]
    file = find(directory, patterns, looked_for=looked_for)
    clips = find_folder(directory, ["clips", f"{code}/clips", "cv/clips"], looked_for=looked_for)
    columns = ("path", "translation", "split")
    for row in read_table(file, columns=columns, delimiter="\t", quoted=False):
        name = row["path"].removesuffix(".mp3")
        yield translated(
            name,
            media_file(clips, name, endings=(".mp3", ".wav", ".flac")),
            text=row["translation"].strip('"'),
            language=code,
            to=to,
        )


BENCHMARK = Benchmark(
    name="covost2",
    title="CoVoST 2",
    kind="speech",
    source="Wang et al., arXiv 2007.10310",
    split="test",
    layout=LAYOUT,
    prompt="",
    metric="BLEU, higher is better",
    normalizer="none: sacrebleu, 13a (characters where words are not spaced), case counts",
    paper={"8b": 34.4, "70b": 38.8},
    note="the paper's figures are means over 15 languages into English; this is one pair, fr to en",
    max_new_tokens=256,
    takes=("split", "language", "to"),
    read=read,
    score=translation,
    total=bleu_of_statistics,
)
