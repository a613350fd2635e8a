"""ActivityNet-QA: open questions about filmed activities (Yu et al., arXiv 1906.02467)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from language.errors import InputError
from multimodal.evaluation.benchmark import (
    Benchmark,
    Further,
    Judging,
    Outcome,
    Sample,
    Settings,
)
from multimodal.evaluation.metrics.verdict import MOST, read_verdict
from multimodal.evaluation.metrics.vqa import normalize_vqav2
from multimodal.evaluation.published import field_of, find, read_records
from multimodal.evaluation.watched import asked, clip

LAYOUT = "test_q.json and test_a.json beside videos/v_NAME.mp4 (or .mkv, .webm)"
PROMPT = "{question}\nAnswer the question using a single word or phrase."
INSTRUCTIONS = (
    "You check answers to questions about videos. You are given a question, its correct answer, "
    "and an answer that was predicted. Decide whether the predicted answer means the same as the "
    "correct one. What counts is the meaning, not the wording: synonyms and paraphrases match."
)
JUDGED = (
    "Question: {question}\nCorrect answer: {correct}\nPredicted answer: {answer}\n\n"
    "Say yes or no, and give a score: an integer from 0 to 5, where 5 is a full match in meaning. "
    "Reply with nothing but a Python dictionary with the keys 'pred', which is 'yes' or 'no', and "
    "'score', such as {{'pred': 'yes', 'score': 4}}."
)
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


def asked_of_judge(about: str, references: Any, raw: str) -> str:
    """Question, correct answer, and the answer as it was given."""
    return JUDGED.format(question=about, correct=references, answer=raw.strip())


def score_verdict(references: Any, verdict: Any) -> Outcome | None:
    """Whether the answer is right, 1, and its score of 0 to 5."""
    found = read_verdict(verdict)
    if found is None:
        return None
    sums = (float(found.is_right), 1.0, float(found.score))
    return Outcome(sums=sums, answer=f"{'right' if found.is_right else 'wrong'}, {found.score}")


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
    note="no judge: the paper lets GPT-3.5 judge, which gives higher figures that do not compare; "
    "--judge names one",
    max_new_tokens=16,
    read=read,
    score=score,
    judging=Judging(
        option="judge",
        instructions=INSTRUCTIONS,
        prompt=JUDGED,
        asked=asked_of_judge,
        verdict=str,
        score=score_verdict,
        unread=Outcome(sums=(0.0, 1.0, 0.0), answer=""),
    ),
    variants={
        "judge": {
            "metric": "accuracy by a judge, %, higher is better",
            "normalizer": "none: the judge is given what was said",
            "note": "judged by the protocol of Video-ChatGPT (Maaz et al., arXiv 2306.05424) in "
            "words of ours; another judge than the paper's, GPT-3.5, gives other figures",
            "further": (
                Further(
                    name="judge's mean score, 0 to 5, higher is better",
                    total=lambda sums: sums[..., 2] / np.maximum(sums[..., 1], 1),
                    most=MOST,
                ),
            ),
        }
    },
)
