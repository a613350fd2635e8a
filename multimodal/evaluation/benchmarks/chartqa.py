"""ChartQA: questions about charts (Masry et al., arXiv 2203.10244)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from multimodal.evaluation.benchmark import Benchmark, Dialogue, Outcome, Sample, Settings
from multimodal.evaluation.metrics.conclusion import conclusion
from multimodal.evaluation.metrics.relaxed import relaxed_match
from multimodal.evaluation.published import field_of, find, media_file, read_records
from multimodal.media import turn

LAYOUT = "test/test_human.json and test/test_augmented.json beside test/png/*.png"
PROMPT = "{question}\nAnswer the question with a single word or number."
REASONING = (
    '{question}\nThink step by step. Then end with a line that says "Final answer:" and the '
    "answer, a single word or number."
)


def read(directory: Path, settings: Settings) -> Iterator[Sample]:
    """Questions of a split, those that people wrote first."""
    split, prompt = settings.split or BENCHMARK.split, BENCHMARK.under(settings).prompt
    for part in ("human", "augmented"):
        file = find(
            directory, [f"{split}/{split}_{part}.json", f"{split}_{part}.json"], looked_for=LAYOUT
        )
        for number, record in enumerate(read_records(file)):
            question = field_of(record, "query", str, where=file)
            picture = media_file(file.parent / "png", field_of(record, "imgname", str, where=file))
            yield Sample(
                key=f"{part}-{number}",
                request=Dialogue(
                    messages=turn(picture, prompt.format(question=question), watches=False)
                ),
                references=field_of(record, "label", str, where=file),
                groups={"questions": part},
                about=question,
            )


def score(references: Any, raw: str, settings: Settings) -> Outcome:
    """Right, or off by no more than 5 percent."""
    answer = conclusion(raw) if settings.reason else raw.strip().removesuffix(".")
    return Outcome(sums=(float(relaxed_match(answer, gold=references)), 1.0), answer=answer)


BENCHMARK = Benchmark(
    name="chartqa",
    title="ChartQA",
    kind="image",
    source="Masry et al., arXiv 2203.10244",
    split="test",
    layout=LAYOUT,
    prompt=PROMPT,
    metric="relaxed accuracy, %, higher is better",
    normalizer="a last period dropped, case ignored",
    paper={"8b": 78.7, "70b": 83.2, "405b": 85.8},
    note="the paper lets the model reason first, as --reason does; here it answers at once",
    max_new_tokens=32,
    takes=("split", "reason"),
    read=read,
    score=score,
    variants={
        "reason": {
            "prompt": REASONING,
            "normalizer": "the end of the answer, case ignored",
            "note": "the model reasons first, as in the paper; the words that ask for it are ours",
            "max_new_tokens": 1024,
        }
    },
)
