"""MMMU: college questions with pictures, from 30 subjects (Yue et al., arXiv 2311.16502)."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from language.errors import InputError
from multimodal.evaluation import choices
from multimodal.evaluation.benchmark import Benchmark, Dialogue, Outcome, Sample, Settings
from multimodal.evaluation.metrics.conclusion import conclusion
from multimodal.evaluation.metrics.multiple_choice import choice_letter, mmmu_choice
from multimodal.evaluation.metrics.open_answers import open_answer_matches
from multimodal.evaluation.published import field_of, folder, read_parquet, texts
from multimodal.processor import Message

LAYOUT = "SUBJECT/validation-*.parquet, as the hub has them"
PROMPT = (
    "{question}\n{options}\nAnswer with the option's letter from the given choices directly. "
    "| {question}\nAnswer the question using a single word or phrase."
)
REASONING = (
    '{question}\n{options}\nThink step by step. Then end with a line that says "Final answer:" and '
    "the option's letter. "
    '| {question}\nThink step by step. Then end with a line that says "Final answer:" and the '
    "answer, a single word, number or phrase."
)
_PICTURE = re.compile(r"<image (\d)>")


def read(directory: Path, settings: Settings) -> Iterator[Sample]:
    """Questions of a split, subject by subject."""
    split, prompt = settings.split or BENCHMARK.split, BENCHMARK.under(settings).prompt
    of_choice, open_ended = (part.strip() for part in prompt.split("|"))
    folder(directory, looked_for=LAYOUT)
    files = sorted(directory.glob(f"*/{split}-*.parquet"))
    if not files:
        raise InputError(directory, f"not this set: looked for {LAYOUT}")
    for file in files:
        for record in read_parquet(file):
            kind = field_of(record, "question_type", str, where=file)
            question = field_of(record, "question", str, where=file)
            options = _list(field_of(record, "options", str, where=file), where=file)
            answer = field_of(record, "answer", str, where=file)
            is_choice = kind == "multiple-choice"
            asked = of_choice if is_choice else open_ended
            text = choices.asked(question, options, prompt=asked)
            references: Any = texts(_list(answer, where=file), where=file)
            if is_choice:
                if answer not in ascii_uppercase[: len(options)]:
                    raise InputError(file, f"the answer {answer!r:.20} is none of the options")
                references = {"options": options, "right": ascii_uppercase.index(answer)}
            yield Sample(
                key=field_of(record, "id", str, where=file),
                request=Dialogue(messages=_messages(text, record, where=file)),
                references=references,
                groups={
                    "subject": file.parent.name,
                    "questions": "choice" if is_choice else "open",
                },
                about=question,
            )


def _messages(text: str, record: Any, *, where: Path) -> list[Message]:
    """The text with each picture in the place where it is named."""
    content: list[Message] = []
    for number, piece in enumerate(_PICTURE.split(text)):
        if number % 2 == 0:
            content += [{"type": "text", "text": piece}] if piece.strip() else []
            continue
        picture = record.get(f"image_{piece}")
        if not isinstance(picture, dict) or not isinstance(picture.get("bytes"), bytes):
            raise InputError(where, f"{record['id']} lacks its picture {piece}")
        content.append({"type": "image", "image": picture["bytes"]})
    return [{"role": "user", "content": content}]


def _list(text: str, *, where: Path) -> list[str]:
    """A list that is written as Python writes it; any other text is its only entry."""
    if not text.startswith("["):
        return [text]
    try:
        return texts(ast.literal_eval(text), where=where)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        raise InputError(where, f"{text!r:.60} is no list") from None


def score(references: Any, raw: str, settings: Settings) -> Outcome:
    """Whether the right option is named, or an open answer is right."""
    answer = conclusion(raw) if settings.reason else raw
    if isinstance(references, dict):
        options = references["options"]
        letter = choice_letter(answer, options=options) if settings.reason else None
        letter = letter or mmmu_choice(answer, options=options)
        is_right = letter == ascii_uppercase[references["right"]]
        return Outcome(sums=(float(is_right), 1.0), answer=letter or "")
    is_right = open_answer_matches(answer, golds=references)
    return Outcome(sums=(float(is_right), 1.0), answer=answer.strip())


BENCHMARK = Benchmark(
    name="mmmu",
    title="MMMU",
    kind="image",
    source="Yue et al., arXiv 2311.16502; Parquet files of the hub",
    split="validation",
    layout=LAYOUT,
    prompt=PROMPT,
    metric="accuracy, %, higher is better",
    normalizer="MMMU's own parser; what it cannot read is wrong, and not guessed",
    paper={"8b": 49.6, "70b": 60.6, "405b": 64.5},
    note="the paper lets the model reason first, as --reason does; here it answers at once",
    max_new_tokens=32,
    takes=("split", "reason"),
    read=read,
    score=score,
    variants={
        "reason": {
            "prompt": REASONING,
            "normalizer": "the end of the answer by MMMU's own parser, without guesses",
            "note": "the model reasons first, as in the paper; the words that ask for it are ours",
            "max_new_tokens": 1024,
        }
    },
)
