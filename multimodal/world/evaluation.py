"""The tiny model on pictures of combinations that it has never seen.

`python -m multimodal.world.evaluation` draws held-out scenes, asks every kind of question, and
prints for each kind the share of answers that are right to the last letter with a 95 % interval
(Wilson), and beside it the same questions about written captions, which tells what the core alone
can do, and three controls: the pictures shuffled, no picture, and the score of somebody who knows
the things in view and guesses the rest.
"""

import argparse
import io
import json
import math
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from language.errors import InputError
from multimodal.assistant import Assistant, load
from multimodal.batch import IGNORED, Batch
from multimodal.model import MultimodalLlama
from multimodal.world.rendering import draw
from multimodal.world.scenes import Scene, sample_scene
from multimodal.world.texts import CAPTION_PROMPTS, Question, ask, caption, questions

_EDGE = 224
_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Score:
    """How one kind of question went."""

    kind: str
    number: int
    right: float
    """Share of answers that are right."""
    low: float
    """Lower end of the 95 % interval."""
    high: float
    written: float
    """The same with each picture's caption written before the question in its place."""
    shuffled: float
    """The same with each picture given to another's questions."""
    blind: float
    """The same without pictures."""
    guessing: float
    """Expected share for a guess between the answers that the things in view allow."""


def evaluate(assistant: Assistant, *, number: int, seed: int, shapes_only: bool) -> list[Score]:
    """Ask about held-out scenes.

    Args:
        assistant: the model.
        number: scenes.
        seed: of the scenes and of what is asked.
        shapes_only: leave out things, which need the emoji set.
    """
    rng = random.Random(f"evaluation {seed}")
    scenes = [sample_scene(rng, split="test", shapes_only=shapes_only) for _ in range(number)]
    asked = [(index, question) for index in range(number) for question in _ask(scenes[index], rng)]
    pictures = [_png(scene) for scene in scenes]
    others = _derangement(number, rng)
    right = _answers(assistant, asked, lambda index: pictures[index])
    shuffled = _answers(assistant, asked, lambda index: pictures[others[index]])
    blind = _answers(assistant, asked, lambda index: None)
    told = [(index, _told(scenes[index], question)) for index, question in asked]
    written = _answers(assistant, told, lambda index: None)
    rows: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for (_, question), *answers in zip(asked, right, written, shuffled, blind, strict=True):
        rows[question.kind].append((*answers, 1 / len(question.choices)))
    return [_score(kind, rows[kind]) for kind in sorted(rows)]


def wilson(right: int, number: int, *, z: float = 1.96) -> tuple[float, float]:
    """Interval of a share (Wilson 1927): it stays within 0 and 1 and holds near the ends."""
    share = right / number
    middle = share + z**2 / (2 * number)
    spread = z * math.sqrt(share * (1 - share) / number + z**2 / (4 * number**2))
    scale = 1 + z**2 / number
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def table(scores: Sequence[Score]) -> str:
    """The scores as Markdown."""
    lines = [
        "| kind | asked | right | 95 % interval | written | shuffled | no picture | guessing |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for score in scores:
        shares = (score.written, score.shuffled, score.blind, score.guessing)
        lines.append(
            f"| {score.kind} | {score.number} | {score.right:.1%} "
            f"| {score.low:.1%} to {score.high:.1%} | "
            + " | ".join(f"{share:.1%}" for share in shares)
            + " |"
        )
    return "\n".join(lines)


def _score(kind: str, rows: list[tuple[float, ...]]) -> Score:
    right, written, shuffled, blind, guessing = (sum(column) for column in zip(*rows, strict=True))
    low, high = wilson(int(right), len(rows))
    return Score(
        kind=kind,
        number=len(rows),
        right=right / len(rows),
        low=low,
        high=high,
        written=written / len(rows),
        shuffled=shuffled / len(rows),
        blind=blind / len(rows),
        guessing=guessing / len(rows),
    )


def _ask(scene: Scene, rng: random.Random) -> list[Question]:
    """Every kind of question, and the wish for a caption, which nobody guesses."""
    said = caption(scene)
    wish = Question(kind="caption", text=CAPTION_PROMPTS[0], answer=said, choices=(said,) * 1000)
    return [*questions(scene, rng), wish]


def _told(scene: Scene, question: Question) -> Question:
    """The question with the scene's caption before it."""
    return replace(question, text=f"{caption(scene)} {question.text}")


@torch.inference_mode()
def _answers(
    assistant: Assistant,
    asked: list[tuple[int, Question]],
    picture_of: Callable[[int], bytes | None],
) -> list[bool]:
    """Whether greedy decoding gives each answer, which one pass over question and answer tells."""
    processor, right = assistant.processor, []
    for start in range(0, len(asked), _BATCH):
        rows = []
        for index, question in asked[start : start + _BATCH]:
            messages: list[dict[str, Any]] = list(ask(question.text, question.answer))
            picture = picture_of(index)
            if picture is not None:
                image = {"type": "image", "image": picture}
                messages[0] = {**messages[0], "content": [image, *messages[0]["content"]]}
            rows.append(processor.encode(messages))
        batch = processor.collate(rows).to(assistant.model.language.embedding.weight.device)
        right += right_answers(assistant.model, batch)
    return right


def right_answers(model: MultimodalLlama, batch: Batch) -> list[bool]:
    """Of each row, whether every token of its answer is the likeliest after those before it.

    Just then greedy decoding gives that answer, its end included.
    """
    assert batch.targets is not None, "rows for training have targets"
    likeliest = model(batch).argmax(dim=-1)
    return ((likeliest == batch.targets) | (batch.targets == IGNORED)).all(dim=1).tolist()


def _png(scene: Scene) -> bytes:
    buffer = io.BytesIO()
    draw(scene, edge=_EDGE).save(buffer, "PNG")
    return buffer.getvalue()


def _derangement(number: int, rng: random.Random) -> list[int]:
    """Another picture for each: all moved along by the same random distance."""
    if number < 2:
        raise InputError("--number", "shuffling pictures takes two or more")
    shift = rng.randrange(1, number)
    return [(index + shift) % number for index in range(number)]


def main() -> None:
    """Read the command line, evaluate and print."""
    parser = argparse.ArgumentParser(
        prog="python -m multimodal.world.evaluation", description=__doc__
    )
    parser.add_argument("--model", default="tiny", help="directory of a model")
    parser.add_argument("--core", help="directory of the core that an adapter alone belongs to")
    parser.add_argument("--number", type=int, default=1000, help="held-out pictures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shapes-only", action="store_true", help="no things, no emoji set")
    parser.add_argument("--json", type=Path, help="file to write the scores to")
    options = parser.parse_args()
    try:
        scores = evaluate(
            load(options.model, core=options.core),
            number=options.number,
            seed=options.seed,
            shapes_only=options.shapes_only,
        )
    except InputError as error:
        parser.error(str(error))
    if options.json:
        options.json.write_text(json.dumps([asdict(score) for score in scores], indent=1) + "\n")
    print(table(scores))


if __name__ == "__main__":
    main()
