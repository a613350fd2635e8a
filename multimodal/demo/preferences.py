"""Human comparison of two models: side by side, blind, on seven points (paper section 5.3).

Which model stands left is drawn anew for each question and written down with the rating, so that a
rating says which model it is for only after it is given.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np

from language.errors import InputError
from multimodal.evaluation.intervals import interval

POINTS = {
    "left is much better": -3,
    "left is better": -2,
    "left is slightly better": -1,
    "about the same": 0,
    "right is slightly better": 1,
    "right is better": 2,
    "right is much better": 3,
}
"""What is chosen from, and how far it leans to the right."""

Side = Literal["left", "right"]


@dataclass(frozen=True, kw_only=True)
class Rating:
    """What somebody thought of two answers to one question."""

    question: str
    left: str
    """Name of the model that answered on the left."""
    right: str
    left_answer: str
    right_answer: str
    points: int
    """-3 left is much better, to 3 right is much better."""
    time: str = ""
    """When, in UTC."""

    def for_model(self, name: str) -> int:
        """Points in favour of a model, -3 to 3."""
        return self.points if self.right == name else -self.points


def placed(first: str, second: str, *, rng: random.Random) -> tuple[str, str]:
    """Which of two models stands left, and which right."""
    return (first, second) if rng.random() < 0.5 else (second, first)


def keep(rating: Rating, file: Path) -> None:
    """Add a rating to a file of JSON lines."""
    stamped = {**asdict(rating), "time": datetime.now(UTC).isoformat(timespec="seconds")}
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as opened:
        opened.write(json.dumps(stamped, ensure_ascii=False) + "\n")


def kept(file: Path) -> list[Rating]:
    """The ratings of a file; none if there is no file.

    Raises:
        InputError: a line is no rating.
    """
    if not file.exists():
        return []
    found = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            found.append(Rating(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise InputError(file, f"line {number}: no rating ({error})") from None
    return found


@dataclass(frozen=True, kw_only=True)
class Tally:
    """How often one model was preferred to another."""

    number: int
    wins: float
    """Share of ratings that preferred it."""
    ties: float
    losses: float
    rate: float
    """Wins, and half of the ties: 0.5 is as good as the other."""
    low: float
    """Lower end of the 95 % interval of the rate."""
    high: float


def tally(ratings: Sequence[Rating], name: str) -> Tally:
    """Count ratings of a model against another.

    Raises:
        ValueError: there are none.
    """
    points = np.array([rating.for_model(name) for rating in ratings], dtype=float)
    if not len(points):
        raise ValueError("there are no ratings yet")
    scores = (np.sign(points) + 1) / 2
    sums = np.stack([scores, np.ones(len(scores))], axis=1)
    low, high = interval(sums, lambda sums: sums[..., 0] / sums[..., 1], most=1.0)
    return Tally(
        number=len(points),
        wins=float((points > 0).mean()),
        ties=float((points == 0).mean()),
        losses=float((points < 0).mean()),
        rate=float(scores.mean()),
        low=low,
        high=high,
    )
