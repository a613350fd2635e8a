"""VQAv2: open questions about photographs (Goyal et al., arXiv 1612.00837)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from language.errors import InputError
from multimodal.evaluation.benchmark import Benchmark, Dialogue, Outcome, Sample, Settings
from multimodal.evaluation.metrics.vqa import normalize_vqav2, vqav2_accuracy
from multimodal.evaluation.published import field_of, find, media_file, read_json
from multimodal.media import turn

LAYOUT = (
    "v2_OpenEnded_mscoco_val2014_questions.json and v2_mscoco_val2014_annotations.json beside "
    "val2014/COCO_val2014_*.jpg"
)
PROMPT = "{question}\nAnswer the question using a single word or phrase."


def read(directory: Path, settings: Settings) -> Iterator[Sample]:
    """Questions of a split."""
    split = settings.split or BENCHMARK.split
    asked = find(directory, [f"*OpenEnded_mscoco_{split}_questions.json"], looked_for=LAYOUT)
    given = find(directory, [f"*mscoco_{split}_annotations.json"], looked_for=LAYOUT)
    answers: dict[int, tuple[list[str], str]] = {}
    for record in field_of(read_json(given), "annotations", list, where=given):
        texts = [
            field_of(each, "answer", str, where=given)
            for each in field_of(record, "answers", list, where=given)
        ]
        number = field_of(record, "question_id", int, where=given)
        answers[number] = texts, field_of(record, "answer_type", str, where=given)
    for record in field_of(read_json(asked), "questions", list, where=asked):
        number = field_of(record, "question_id", int, where=asked)
        if number not in answers:
            raise InputError(given, f"lacks the answers to question {number}")
        question = field_of(record, "question", str, where=asked)
        picture = field_of(record, "image_id", int, where=asked)
        file = media_file(directory, f"{split}/COCO_{split}_{picture:012d}.jpg")
        references, kind = answers[number]
        yield Sample(
            key=str(number),
            request=Dialogue(messages=turn(file, PROMPT.format(question=question), watches=False)),
            references=references,
            groups={"answers": kind},
            about=question,
        )


def score(references: Any, raw: str, settings: Settings) -> Outcome:
    """Agreement with the people who were asked."""
    accuracy = vqav2_accuracy(raw, references=references)
    return Outcome(sums=(accuracy, 1.0), answer=normalize_vqav2(raw))


BENCHMARK = Benchmark(
    name="vqav2",
    title="VQAv2",
    kind="image",
    source="Goyal et al., arXiv 1612.00837; files of visualqa.org",
    split="val2014",
    layout=LAYOUT,
    prompt=PROMPT,
    metric="VQA accuracy, %, higher is better",
    normalizer="VQA challenge server",
    paper={"8b": 78.0, "70b": 79.1, "405b": 80.2},
    note="the paper's figures are of test-dev, whose answers are not published",
    max_new_tokens=16,
    read=read,
    score=score,
)
