"""DocVQA: questions about scanned documents (Mathew et al., arXiv 2007.00398)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from multimodal.evaluation.benchmark import Benchmark, Dialogue, Outcome, Sample, Settings
from multimodal.evaluation.metrics.anls import anls
from multimodal.evaluation.published import field_of, find, media_file, read_json, texts
from multimodal.media import turn

LAYOUT = "val_v1.0*.json beside documents/*.png, as the challenge's site publishes them"
PROMPT = "{question}\nAnswer the question using a single word or phrase."


def read(directory: Path, settings: Settings) -> Iterator[Sample]:
    """Questions of a split."""
    split = settings.split or BENCHMARK.split
    file = find(directory, [f"{split}_v1.0*.json"], looked_for=LAYOUT)
    for record in field_of(read_json(file), "data", list, where=file):
        question = field_of(record, "question", str, where=file)
        number = field_of(record, "questionId", int, where=file)
        picture = media_file(directory, field_of(record, "image", str, where=file))
        yield Sample(
            key=str(number),
            request=Dialogue(
                messages=turn(picture, PROMPT.format(question=question), watches=False)
            ),
            references=texts(field_of(record, "answers", (list, str), where=file), where=file),
            about=question,
        )


def score(references: Any, raw: str, settings: Settings) -> Outcome:
    """Similarity to the nearest of the answers."""
    return Outcome(sums=(anls(raw, references=references), 1.0), answer=raw.strip())


BENCHMARK = Benchmark(
    name="docvqa",
    title="DocVQA",
    kind="image",
    source="Mathew et al., arXiv 2007.00398; files of the RRC challenge, task 1",
    split="val",
    layout=LAYOUT,
    prompt=PROMPT,
    metric="ANLS, %, higher is better",
    normalizer="lower case, white space collapsed",
    paper={"8b": 84.4, "70b": 92.2, "405b": 92.6},
    note="the paper's figures are of the test split, whose answers are not published",
    max_new_tokens=64,
    read=read,
    score=score,
)
