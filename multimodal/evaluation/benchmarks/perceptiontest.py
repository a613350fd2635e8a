"""Perception Test: multiple choice about filmed scenes (Patraucean et al., arXiv 2305.13786)."""

from collections.abc import Iterator
from pathlib import Path

from language.errors import InputError
from multimodal.evaluation import choices
from multimodal.evaluation.benchmark import Benchmark, Sample, Settings
from multimodal.evaluation.published import field_of, find, read_json, texts
from multimodal.evaluation.watched import asked, clip

LAYOUT = "mc_question_valid.json (or all_valid.json) beside videos/video_*.mp4"


def read(directory: Path, settings: Settings) -> Iterator[Sample]:
    """Questions of a split, clip by clip."""
    split = settings.split or BENCHMARK.split
    names = [f"mc_question_{split}.json", f"all_{split}.json", f"*/mc_question_{split}.json"]
    file = find(directory, names, looked_for=LAYOUT)
    films = read_json(file)
    if not isinstance(films, dict):
        raise InputError(file, "not an object of clips by name")
    for name, film in films.items():
        for record in field_of(film, "mc_question", list, where=file):
            options = texts(field_of(record, "options", list, where=file), where=file)
            right = field_of(record, "answer_id", int, where=file)
            if not 0 <= right < len(options):
                raise InputError(file, f"{name}: the right answer is none of the options")
            question = field_of(record, "question", str, where=file)
            yield Sample(
                key=f"{name}-{field_of(record, 'id', (int, str), where=file)}",
                request=asked(clip(directory, [name]), choices.asked(question, options)),
                references={"options": options, "right": right},
                groups={
                    each: str(record[each]) for each in ("area", "reasoning") if each in record
                },
                about=question,
            )


BENCHMARK = Benchmark(
    name="perceptiontest",
    title="Perception Test, multiple choice",
    kind="video",
    source="Patraucean et al., arXiv 2305.13786",
    split="valid",
    version=2,
    layout=LAYOUT,
    prompt=choices.PROMPT,
    metric="accuracy, %, higher is better",
    normalizer="letter or text of an option",
    paper={"8b": 53.8, "70b": 60.8},
    note="the paper's figures are of the test split, whose answers are not published",
    max_new_tokens=16,
    read=read,
    score=choices.score,
)
