"""The tiny model on clips of combinations that it has never seen.

`python -m multimodal.world.video_evaluation` draws held-out clips, encodes them as files of many
kinds, asks every kind of question, and prints for each kind the share of answers that are right to
the last letter with a 95 % interval (Wilson). Kinds that need several frames stand apart from those
that one frame answers. Beside each stand controls: the frames in random order, every frame replaced
by the mean of all, another clip's frames, no clip at all, and the score of somebody who knows the
things in view and guesses the rest.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from language.errors import InputError
from multimodal.assistant import Assistant, load
from multimodal.batch import Clips
from multimodal.processor import Message
from multimodal.training.video import disordered, exchanged_clips
from multimodal.world.clip_shards import evaluation_clips
from multimodal.world.evaluation import right_answers, wilson
from multimodal.world.texts import Question

_BATCH = 16
CONTROLS = ("disordered", "mean", "exchanged", "blind")


@dataclass(frozen=True, kw_only=True)
class ClipScore:
    """How one kind of question went."""

    kind: str
    several: bool
    """Whether one frame cannot answer it."""
    number: int
    right: float
    """Share of answers that are right."""
    low: float
    """Lower end of the 95 % interval."""
    high: float
    disordered: float
    """The same with the frames of each clip in random order."""
    mean: float
    """The same with each frame replaced by the mean of all, so that there is nothing to merge."""
    exchanged: float
    """The same with each clip given to another's questions."""
    blind: float
    """The same without clips."""
    guessing: float
    """Expected share for a guess between the answers that the things in view allow."""


def evaluate(assistant: Assistant, *, number: int, seed: int) -> list[ClipScore]:
    """Ask about held-out clips.

    Args:
        assistant: the model.
        number: clips.
        seed: of the clips and of what is asked.
    """
    rows: dict[tuple[bool, str], list[tuple[float, ...]]] = defaultdict(list)
    drawn = evaluation_clips("test", number=number, seed=seed)
    for asked in _batches(drawn):
        answers = _answers(assistant, asked)
        for (_, question), *marks in zip(asked, *answers, strict=True):
            several = question.frames == "several"
            rows[several, question.kind].append((*marks, 1 / len(question.choices)))
    scores = [_score(kind, several, rows[several, kind]) for several, kind in sorted(rows)]
    for several in (False, True):
        of_all = [row for key in rows if key[0] == several for row in rows[key]]
        scores.append(_score("all", several, of_all))
    return sorted(scores, key=lambda score: (score.several, score.kind == "all", score.kind))


def table(scores: Sequence[ClipScore]) -> str:
    """The scores as Markdown."""
    lines = [
        "| kind | frames | asked | right | 95 % interval | disordered | mean of frames "
        "| another clip | no clip | guessing |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for score in scores:
        shares = [getattr(score, name) for name in (*CONTROLS, "guessing")]
        lines.append(
            f"| {score.kind} | {'several' if score.several else 'one'} | {score.number} "
            f"| {score.right:.1%} | {score.low:.1%} to {score.high:.1%} | "
            + " | ".join(f"{share:.1%}" for share in shares)
            + " |"
        )
    return "\n".join(lines)


def mean_of_frames(clips: Clips) -> Clips:
    """The same clips with every frame replaced by the mean of all frames of its clip.

    Args:
        clips: with their features.
    """
    assert clips.features is not None
    averaged = []
    parts = clips.features.split(clips.tiles_per_clip.tolist())
    for part, length in zip(parts, clips.lengths.tolist(), strict=True):
        frames = part.unflatten(0, (length, -1))
        averaged.append(frames.mean(dim=0, keepdim=True).expand_as(frames).flatten(0, 1))
    return replace(clips, features=torch.cat(averaged))


def _batches(
    drawn: Iterator[tuple[bytes, list[Question], str]],
) -> Iterator[list[tuple[bytes, Question]]]:
    while some := list(islice(drawn, _BATCH)):
        yield [(clip, question) for clip, questions, _ in some for question in questions]


@torch.inference_mode()
def _answers(assistant: Assistant, asked: list[tuple[bytes, Question]]) -> list[list[bool]]:
    """Whether greedy decoding gives each answer: with the clip, and under each control."""
    processor, model = assistant.processor, assistant.model
    watcher = processor.watcher
    if watcher is None:
        raise InputError("--model", "has no video parts")
    cut = {id(clip): watcher(clip) for clip in {id(clip): clip for clip, _ in asked}.values()}
    rows = []
    for clip, question in asked:
        shown: dict[str, Any] = {"type": "video", "video": cut[id(clip)]}
        said = {"type": "text", "text": question.text}
        messages: list[Message] = [
            {"role": "user", "content": [shown, said]},
            {"role": "assistant", "content": question.answer},
        ]
        rows.append(processor.encode(messages))
    features = _features(assistant, [cut[key] for key in cut])
    by_clip = dict(zip(cut, features, strict=True))
    known = [
        replace(
            row,
            clips=tuple(
                replace(c, pixels=c.pixels[:0], features=by_clip[id(clip)]) for c in row.clips
            ),
        )
        for row, (clip, _) in zip(rows, asked, strict=True)
    ]
    batch = processor.collate(known).to(model.language.embedding.weight.device)
    assert batch.clips is not None
    shift = _another(asked)
    variants = [
        batch,
        replace(batch, clips=disordered(batch.clips)),
        replace(batch, clips=mean_of_frames(batch.clips)),
        replace(batch, clips=_rolled(batch.clips, shift)),
        replace(batch, clips=None, visible_clips=None),
    ]
    return [right_answers(model, variant) for variant in variants]


def _features(assistant: Assistant, clips: list[Any]) -> list[torch.Tensor]:
    """Image features of each clip's frames."""
    device = assistant.model.language.embedding.weight.device
    made = []
    for clip in clips:
        arrangement = torch.tensor([clip.arrangement])
        alone = Clips(
            tiles=clip.pixels,
            arrangements=arrangement,
            lengths=torch.tensor([len(clip.times)]),
            rows=torch.zeros(1, dtype=torch.long),
        )
        made.append(assistant.model.frame_features(alone.to(device)).cpu())
    return made


def _another(asked: list[tuple[bytes, Question]]) -> int:
    """Questions to move on, so that each meets another clip: more than any clip has."""
    counts: dict[int, int] = defaultdict(int)
    for clip, _ in asked:
        counts[id(clip)] += 1
    if len(counts) < 2:
        raise InputError("--number", "exchanging clips takes two or more")
    return max(counts.values())


def _rolled(clips: Clips, shift: int) -> Clips:
    for _ in range(shift):
        clips = exchanged_clips(clips)
    return clips


def _score(kind: str, several: bool, rows: list[tuple[float, ...]]) -> ClipScore:
    right, *controls, guessing = (sum(column) for column in zip(*rows, strict=True))
    low, high = wilson(int(right), len(rows))
    shares = {name: total / len(rows) for name, total in zip(CONTROLS, controls, strict=True)}
    return ClipScore(
        kind=kind,
        several=several,
        number=len(rows),
        right=right / len(rows),
        low=low,
        high=high,
        guessing=guessing / len(rows),
        **shares,
    )


def main() -> None:
    """Read the command line, evaluate and print."""
    parser = argparse.ArgumentParser(
        prog="python -m multimodal.world.video_evaluation", description=__doc__
    )
    parser.add_argument("--model", default="tiny", help="directory of a model")
    parser.add_argument("--core", help="directory of the model that video parts alone belong to")
    parser.add_argument("--number", type=int, default=500, help="held-out clips")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file to write the scores to")
    options = parser.parse_args()
    try:
        assistant = load(options.model, core=options.core)
        scores = evaluate(assistant, number=options.number, seed=options.seed)
    except InputError as error:
        parser.error(str(error))
    if options.json:
        options.json.write_text(json.dumps([asdict(score) for score in scores], indent=1) + "\n")
    print(table(scores))


if __name__ == "__main__":
    main()
