"""TextVQA: questions about text in photographs (Singh et al., arXiv 1904.08920)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from multimodal.evaluation.benchmark import Benchmark, Dialogue, Outcome, Sample, Settings
from multimodal.evaluation.metrics.vqa import normalize_textvqa, textvqa_accuracy
from multimodal.evaluation.published import (
    field_of,
    find,
    find_folder,
    media_file,
    read_json,
    texts,
)
from multimodal.media import turn

LAYOUT = (
    "TextVQA_0.5.1_val.json beside train_images/*.jpg (or train_val_images/train_images); with "
    "--ocr TextVQA_Rosetta_OCR_v0.2_val.json, too"
)
PROMPT = "{question}\nAnswer the question using a single word or phrase."
OCR = (
    "{question}\nReference OCR token: {tokens}\nAnswer the question using a single word or phrase."
)


def read(directory: Path, settings: Settings) -> Iterator[Sample]:
    """Questions of a split."""
    split = settings.split or BENCHMARK.split
    file = find(directory, [f"TextVQA_0.*_{split}.json"], looked_for=LAYOUT)
    pictures = find_folder(
        directory, ["train_images", "train_val_images/train_images"], looked_for=LAYOUT
    )
    tokens = _tokens(directory, split) if settings.ocr else {}
    for record in field_of(read_json(file), "data", list, where=file):
        question = field_of(record, "question", str, where=file)
        name = field_of(record, "image_id", str, where=file)
        asked = PROMPT.format(question=question)
        if settings.ocr:
            asked = OCR.format(question=question, tokens=", ".join(tokens.get(name, ())))
        yield Sample(
            key=str(field_of(record, "question_id", int, where=file)),
            request=Dialogue(
                messages=turn(media_file(pictures, f"{name}.jpg"), asked, watches=False)
            ),
            references=texts(field_of(record, "answers", list, where=file), where=file),
            about=question,
        )


def _tokens(directory: Path, split: str) -> dict[str, list[str]]:
    """What the set's own text recognition read in each picture."""
    file = find(directory, [f"TextVQA_Rosetta_OCR_*_{split}.json"], looked_for=LAYOUT)
    return {
        field_of(record, "image_id", str, where=file): texts(
            field_of(record, "ocr_tokens", list, where=file), where=file
        )
        for record in field_of(read_json(file), "data", list, where=file)
    }


def score(references: Any, raw: str, settings: Settings) -> Outcome:
    """Agreement with the people who were asked."""
    accuracy = textvqa_accuracy(raw, references=references)
    return Outcome(sums=(accuracy, 1.0), answer=normalize_textvqa(raw))


BENCHMARK = Benchmark(
    name="textvqa",
    title="TextVQA",
    kind="image",
    source="Singh et al., arXiv 1904.08920; files of textvqa.org",
    split="val",
    layout=LAYOUT,
    prompt=PROMPT,
    metric="VQA accuracy, %, higher is better",
    normalizer="VQA challenge server, lower case first",
    paper={"8b": 78.2, "70b": 83.4, "405b": 84.8},
    note="--ocr puts recognized words into the prompt, which moves scores by ten points and more",
    max_new_tokens=16,
    takes=("split", "ocr"),
    read=read,
    score=score,
    variants={"ocr": {"prompt": OCR}},
)
