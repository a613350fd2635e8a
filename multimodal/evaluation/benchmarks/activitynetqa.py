"""ActivityNet-QA: open questions about filmed activities (Yu et al., arXiv 1906.02467)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from language.errors import InputError
from multimodal.evaluation.benchmark import Benchmark, Outcome, Sample, Settings
from multimodal.evaluation.metrics.vqa import normalize_vqav2
from multimodal.evaluation.published import field_of, find, read_records
from multimodal.evaluation.watched import asked, clip

LAYOUT = "test_q.json and test_a.json beside videos/v_NAME.mp4 (or .mkv, .webm)"
PROMPT = "{question}\nAnswer the question using a single word or phrase."
KINDS = ("motion", "spatial relation", "temporal relation", "yes or no", "color", "object",
         "location", "number", "other")  # fmt: skip


def read(directory: Path, settings: Settings) -> Iterator[Sample]:
    """Questions of a split."""
    split = settings.split or BENCHMARK.split
    asked_file = find(directory, [f"{split}_q.json", f"*/{split}_q.json"], looked_for=LAYOUT)
    file = find(directory, [f"{split}_a.json", f"*/{split}_a.json"], looked_for=LAYOUT)
    answers = {}
    for record in read_records(file):
        kind = field_of(record, "type", (int, str), where=file)
        answer = str(field_of(record, "answer", (str, int), where=file))
        answers[field_of(record, "question_id", str, where=file)] = answer, int(kind)
    for record in read_records(asked_file):
        number = field_of(record, "question_id", str, where=asked_file)
        if number not in answers:
            raise InputError(file, f"lacks the answer to {number}")
        answer, kind = answers[number]
        question = field_of(record, "question", str, where=asked_file)
        name = field_of(record, "video_name", str, where=asked_file)
        whole = question[:1].upper() + question[1:] + ("" if question.endswith("?") else "?")
        yield Sample(
            key=number,
            request=asked(clip(directory, [f"v_{name}", name]), PROMPT.format(question=whole)),
            references=answer,
            groups={"questions": KINDS[kind] if 0 <= kind < len(KINDS) else "other"},
            about=whole,
        )


def score(references: Any, raw: str, settings: Settings) -> Outcome:
    """Whether the answer is the reference, word for word."""
    answer = normalize_vqav2(raw).removesuffix(".")
    return Outcome(sums=(float(answer == normalize_vqav2(references)), 1.0), answer=answer)


BENCHMARK = Benchmark(
    name="activitynetqa",
    title="ActivityNet-QA",
    kind="video",
    source="Yu et al., arXiv 1906.02467",
    split="test",
    layout=LAYOUT,
    prompt=PROMPT,
    metric="accuracy word for word, %, higher is better",
    normalizer="VQA challenge server",
    paper={"8b": 52.7, "70b": 56.3},
    note="no judge: the paper lets GPT-3.5 judge, which gives higher figures that do not compare",
    max_new_tokens=16,
    read=read,
    score=score,
)
