"""TVQA: multiple choice about scenes of television series, with subtitles (Lei et al., arXiv
1809.01696).
"""

from collections.abc import Iterator
from pathlib import Path

from language.errors import InputError
from multimodal.evaluation import choices
from multimodal.evaluation.benchmark import Benchmark, Sample, Settings
from multimodal.evaluation.published import field_of, find, read_lines
from multimodal.evaluation.watched import asked, clip

LAYOUT = (
    "tvqa_val.jsonl and tvqa_preprocessed_subtitles.jsonl beside videos/CLIP.mp4, or the folders "
    "of frames CLIP/*.jpg in frames_hq/SHOW_frames"
)
PROMPT = (
    "Subtitles: {subtitles}\n{question}\n{options}\n"
    "Answer with the option's letter from the given choices directly."
)
_SHOWS = {"Grey's Anatomy": "grey", "How I Met You Mother": "met", "Friends": "friends",
          "The Big Bang Theory": "bbt", "House M.D.": "house", "Castle": "castle"}  # fmt: skip


def read(directory: Path, settings: Settings) -> Iterator[Sample]:
    """Questions of a split."""
    split = settings.split or BENCHMARK.split
    file = find(directory, [f"tvqa_{split}.jsonl", f"*/tvqa_{split}.jsonl"], looked_for=LAYOUT)
    subtitles = _subtitles(
        find(
            directory,
            ["tvqa_preprocessed_subtitles.jsonl", "*/tvqa_preprocessed_subtitles.jsonl"],
            looked_for=LAYOUT,
        )
    )
    for _, record in read_lines(file):
        name = field_of(record, "vid_name", str, where=file)
        if name not in subtitles:
            raise InputError(file, f"{name} has no subtitles")
        show = _SHOWS.get(str(record.get("show_name")), "")
        options = [field_of(record, f"a{number}", str, where=file) for number in range(5)]
        right = field_of(record, "answer_idx", int, where=file)
        if not 0 <= right < len(options):
            raise InputError(file, f"{name}: the right answer is none of the options")
        question = field_of(record, "q", str, where=file)
        text = PROMPT.replace("{subtitles}", subtitles[name])
        yield Sample(
            key=str(field_of(record, "qid", int, where=file)),
            request=asked(
                clip(directory, [name, f"{show}_frames/{name}"]),
                choices.asked(question, options, prompt=text),
            ),
            references={"options": options, "right": right},
            groups={"show": str(record.get("show_name", ""))},
            about=question,
        )


def _subtitles(file: Path) -> dict[str, str]:
    """What is said in each clip; braces would be taken for places to fill."""
    said = {}
    for _, record in read_lines(file):
        lines = field_of(record, "sub", list, where=file)
        texts = (field_of(line, "text", str, where=file) for line in lines)
        text = " ".join(" ".join(texts).split())
        said[field_of(record, "vid_name", str, where=file)] = text.translate({123: "(", 125: ")"})
    return said


BENCHMARK = Benchmark(
    name="tvqa",
    title="TVQA",
    kind="video",
    source="Lei et al., arXiv 1809.01696; clips and frames on request from the authors",
    split="val",
    version=2,
    layout=LAYOUT,
    prompt=PROMPT,
    metric="accuracy, %, higher is better",
    normalizer="letter or text of an option",
    paper={"8b": 82.5, "70b": 87.9},
    max_new_tokens=16,
    read=read,
    score=choices.score,
)
