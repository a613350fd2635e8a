"""AI2D: multiple choice about school-book diagrams (Kembhavi et al., arXiv 1603.07396)."""

from collections.abc import Iterator
from pathlib import Path

from language.errors import InputError
from multimodal.evaluation import choices
from multimodal.evaluation.benchmark import Benchmark, Dialogue, Sample, Settings
from multimodal.evaluation.published import (
    field_of,
    find,
    find_folder,
    media_file,
    read_json,
    text_lines,
    texts,
)
from multimodal.media import turn

LAYOUT = "questions/*.json, images/ and abc_images/, and ai2d_test_ids.csv"


def read(directory: Path, settings: Settings) -> Iterator[Sample]:
    """Questions about the diagrams of the test list."""
    wanted = _test_ids(
        find(directory, ["ai2d_test_ids.csv", "*/ai2d_test_ids.csv"], looked_for=LAYOUT)
    )
    questions = find_folder(directory, ["questions", "ai2d/questions"], looked_for=LAYOUT)
    for number in wanted:
        file = questions / f"{number}.png.json"
        if not file.is_file():
            raise InputError(file, "missing, though the test list names it: half of the set?")
        for question, record in field_of(read_json(file), "questions", dict, where=file).items():
            options = texts(field_of(record, "answerTexts", list, where=file), where=file)
            right = field_of(record, "correctAnswer", int, where=file)
            if not 0 <= right < len(options):
                raise InputError(
                    file, f"the right answer to {question!r:.60} is none of its options"
                )
            # Where options are letters, the diagram has these in place of its words.
            is_lettered = field_of(record, "abcLabel", bool, where=file)
            folder = questions.parent / ("abc_images" if is_lettered else "images")
            asked = choices.asked(question, options)
            yield Sample(
                key=field_of(record, "questionId", str, where=file),
                request=Dialogue(
                    messages=turn(media_file(folder, f"{number}.png"), asked, watches=False)
                ),
                references={"options": options, "right": right},
                groups={"diagram": "letters" if is_lettered else "words"},
                about=question,
            )


def _test_ids(file: Path) -> list[str]:
    """Numbers of the diagrams, one a line."""
    return [line.split(",")[0].strip() for _, line in text_lines(file)]


BENCHMARK = Benchmark(
    name="ai2d",
    title="AI2D",
    kind="image",
    source="Kembhavi et al., arXiv 1603.07396",
    split="test",
    version=2,
    layout=LAYOUT,
    prompt=choices.PROMPT,
    metric="accuracy, %, higher is better",
    normalizer="letter or text of an option",
    paper={"8b": 84.4, "70b": 93.0, "405b": 94.1},
    note="diagrams as published: copies with masked labels give other figures",
    max_new_tokens=16,
    takes=(),
    read=read,
    score=choices.score,
)
