"""The tiny model's own world as a benchmark: held-out pictures, clips and recordings, made anew.

Nothing is read from a disk: scenes, clips and sentences of the test split are drawn from a seed.
What each medium is measured by, with more controls, stands in `multimodal.world`.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

from language.errors import InputError
from multimodal.assistant import Assistant

NUMBERS = {"pictures": 300, "clips": 150, "recordings": 200}
"""How many are drawn of each by default."""
SEED = 0


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table."""

    medium: str
    what: str
    number: int
    value: float
    """Share of right answers; of word errors, their share of the words."""
    low: float
    """Lower end of the 95 % interval."""
    high: float


def evaluate_world(assistant: Assistant, *, number: int, as_json: bool) -> int:
    """Print what a model can do in the world, by medium; gives the exit status.

    Args:
        assistant: the model.
        number: pictures, clips and recordings each; 0 takes the default numbers.
        as_json: print one JSON object instead of a table.

    Raises:
        InputError: what the world is made with is not installed.
    """
    rows = [
        row
        for medium, default in NUMBERS.items()
        for row in _rows(assistant, medium, number or default)
    ]
    if as_json:
        print(json.dumps({"seed": SEED, "rows": [asdict(row) for row in rows]}))
        return 0
    print("| medium | what | asked | | 95 % interval |\n|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row.medium} | {row.what} | {row.number} | {row.value:.1%} "
            f"| {row.low:.1%} to {row.high:.1%} |"
        )
    return 0


def _rows(assistant: Assistant, medium: str, number: int) -> list[Row]:
    """What is found about a medium; nothing if the model does not know it."""
    config = assistant.model.config
    try:
        if medium == "pictures" and config.image_encoder is not None:
            from multimodal.world.evaluation import evaluate

            scores = evaluate(assistant, number=number, seed=SEED, shapes_only=False)
            return [_row(medium, f"{each.kind}, right", each) for each in scores]
        if medium == "clips" and config.video_aggregator is not None:
            from multimodal.world.video_evaluation import evaluate as watch

            frames = {True: "several frames", False: "one frame"}
            return [
                _row(medium, f"{each.kind} ({frames[each.several]}), right", each)
                for each in watch(assistant, number=number, seed=SEED)
            ]
        if medium == "recordings" and config.speech_encoder is not None:
            from multimodal.world.speech_evaluation import evaluate as hear

            tables = hear(assistant, number=number, seed=SEED)
            return [
                Row(medium=medium, what=f"{title}: {each.what}", number=each.number,
                    value=each.value, low=each.low, high=each.high)
                for title in list(tables)[:2]  # errors and translations; the others are controls
                for each in tables[title]
            ]  # fmt: skip
    except ImportError as error:
        raise InputError(
            "world", f"{error.name} is not installed: pip install 'openherd[world,speak]'"
        ) from None
    return []


def _row(medium: str, what: str, score: Any) -> Row:
    """A line of pictures' or of clips' scores."""
    return Row(
        medium=medium,
        what=what,
        number=score.number,
        value=score.right,
        low=score.low,
        high=score.high,
    )
