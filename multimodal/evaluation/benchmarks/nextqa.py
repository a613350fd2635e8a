"""NExT-QA: why and what next in clips, asked openly and as multiple choice (Xiao et al., arXiv
2105.08276).
"""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from language.errors import InputError
from multimodal.evaluation import choices
from multimodal.evaluation.benchmark import Benchmark, Outcome, Sample, Settings
from multimodal.evaluation.metrics.wordnet import WordNet
from multimodal.evaluation.metrics.wups import next_qa_score
from multimodal.evaluation.published import find, read_json, read_table
from multimodal.evaluation.watched import asked, clip

OPEN_LAYOUT = "test.csv of the open questions and map_vid_vidorID.json beside NExTVideo/*/*.mp4"
CHOICE_LAYOUT = "test.csv with a0 to a4, and map_vid_vidorID.json beside NExTVideo/*/*.mp4"
PROMPT = "{question}\nAnswer the question using a short phrase."
KINDS = {"C": "causal", "T": "temporal", "D": "descriptive"}


def read_open(directory: Path, settings: Settings) -> Iterator[Sample]:
    """Open questions of a split."""
    if not settings.wordnet:
        raise InputError("--wordnet", "name the folder of the dictionary, as /usr/share/wordnet")
    _wordnet(settings.wordnet)
    for key, film, row in _rows(directory, settings, "oe", OPEN_LAYOUT, ("answer",)):
        question = _question(row["question"])
        references = [row["answer"]]
        if extra := row.get("additional_ref_answer"):
            references.append(extra)
        yield Sample(
            key=key,
            request=asked(film, PROMPT.format(question=question)),
            references={"answers": references, "kind": row["type"]},
            groups={"questions": KINDS.get(row["type"][:1], row["type"])},
            about=question,
        )


def read_choice(directory: Path, settings: Settings) -> Iterator[Sample]:
    """Multiple-choice questions of a split."""
    columns = ("answer", *(f"a{number}" for number in range(5)))
    for key, film, row in _rows(directory, settings, "mc", CHOICE_LAYOUT, columns):
        options, question = [row[f"a{number}"] for number in range(5)], _question(row["question"])
        if row["answer"] not in ("0", "1", "2", "3", "4"):
            raise InputError(directory, f"{key}: the answer {row['answer']!r:.20} is no option")
        yield Sample(
            key=key,
            request=asked(film, choices.asked(question, options)),
            references={"options": options, "right": int(row["answer"])},
            groups={"questions": KINDS.get(row["type"][:1], row["type"])},
            about=question,
        )


def _rows(
    directory: Path, settings: Settings, kind: str, layout: str, columns: tuple[str, ...]
) -> Iterator[tuple[str, Path, dict[str, str]]]:
    split = settings.split or BENCHMARK.split
    names = [f"{start}{split}.csv" for start in (f"nextqa_{kind}/", f"{kind}/", "nextqa/", "")]
    file = find(directory, names, looked_for=layout)
    places = [name.replace(f"{split}.csv", "map_vid_vidorID.json") for name in names]
    known = read_json(find(directory, places, looked_for=layout))
    for row in read_table(file, columns=("video", "question", "qid", "type", *columns)):
        name = row["video"]
        place = str(known.get(name, name)) if isinstance(known, dict) else name
        film = clip(directory, [place, place.rpartition("/")[2], name])
        yield f"{name}-{row['qid']}", film, row


def _question(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith("?") else "?")


def score_open(references: Any, raw: str, settings: Settings) -> Outcome:
    """Likeness of the answer's words to the nearest reference's."""
    value = next_qa_score(
        raw,
        references=references["answers"],
        question_type=references["kind"],
        wordnet=_wordnet(settings.wordnet),
    )
    return Outcome(sums=(value, 1.0), answer=raw.strip())


@functools.cache
def _wordnet(folder: str) -> WordNet:
    return WordNet(Path(folder))


BENCHMARK = Benchmark(
    name="nextqa",
    title="NExT-QA, open questions",
    kind="video",
    source="Xiao et al., arXiv 2105.08276",
    split="test",
    version=2,
    layout=OPEN_LAYOUT,
    prompt=PROMPT,
    metric="WUPS at 0, %, higher is better",
    normalizer="lemmas, stop words dropped; yes, no and counts word for word",
    paper={"8b": 27.3, "70b": 30.3},
    max_new_tokens=32,
    takes=("split", "wordnet"),
    read=read_open,
    score=score_open,
)
CHOICES = Benchmark(
    name="nextqa_mc",
    title="NExT-QA, multiple choice",
    kind="video",
    source="Xiao et al., arXiv 2105.08276",
    split="test",
    version=2,
    layout=CHOICE_LAYOUT,
    prompt=choices.PROMPT,
    metric="accuracy, %, higher is better",
    normalizer="letter or text of an option",
    note="the paper's figures for NExT-QA are of the open questions: see nextqa",
    max_new_tokens=16,
    read=read_choice,
    score=choices.score,
)
