"""VoxPopuli: speeches in the European Parliament (Wang et al., arXiv 2101.00390)."""

from collections.abc import Iterator
from pathlib import Path

from multimodal.evaluation.benchmark import Benchmark, Sample, Settings
from multimodal.evaluation.packed import find_packed
from multimodal.evaluation.published import find, media_file, read_table
from multimodal.evaluation.spoken import ERROR_RATE, NORMALIZER, error_rate, transcribed

LAYOUT = (
    "transcribed_data/LANGUAGE/asr_test.tsv beside YEAR/*.ogg, as the set's own scripts make them, "
    "or data/LANGUAGE/asr_test.tsv beside test/*.wav or test/*.tar.gz, as on the hub"
)


def read(directory: Path, settings: Settings) -> Iterator[Sample]:
    """Utterances of a split: of folders in the table's order, of archives in theirs."""
    code, split = settings.language or "en", settings.split or BENCHMARK.split
    names = [f"{start}{code}/asr_{split}.tsv" for start in ("transcribed_data/", "data/", "")]
    file = find(directory, names, looked_for=LAYOUT)
    columns = ("id", "raw_text", "normalized_text")
    table = read_table(file, columns=columns, delimiter="\t", quoted=False)
    texts = {row["id"]: row["raw_text"] or row["normalized_text"] for row in table}
    here, archives = file.parent / split, sorted((file.parent / split).glob("*.tar*"))
    if archives:
        pairs = {key: (key, text) for key, text in texts.items()}
        for (key, text), packed in find_packed(archives, pairs):
            yield transcribed(key, packed, text=text, language=code)
        return
    for key, text in texts.items():
        year = file.parent / key[:4]  # a session's name begins with its date
        top = year if year.is_dir() else here
        recording = media_file(top, key, endings=(".ogg", ".wav", ".flac"))
        yield transcribed(key, recording, text=text, language=code)


BENCHMARK = Benchmark(
    name="voxpopuli",
    title="VoxPopuli",
    kind="speech",
    source="Wang et al., arXiv 2101.00390",
    split="test",
    layout=LAYOUT,
    prompt="",
    metric=ERROR_RATE,
    lower_is_better=True,
    normalizer=NORMALIZER,
    paper={"8b": 6.2, "70b": 5.7},
    note="the paper's figures are of English, --language en, which is the default",
    max_new_tokens=256,
    takes=("split", "language"),
    read=read,
    score=error_rate,
)
