"""A scene as data: which things stand where, and which split its combination belongs to.

A picture shows a *group* of one to four equal things, or a *pair* of two different ones that stand
clearly beside or above each other. What is combined with what (thing, colour, size and number; or
thing with thing) is the scene's *combination*. Its hash decides the split, so that no combination
of the test split is ever seen in training, wherever and however it is drawn.
"""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

THINGS = {
    "apple": "red-apple",
    "ball": "soccer-ball",
    "banana": "banana",
    "boat": "sailboat",
    "car": "automobile",
    "cat": "cat-face",
    "cup": "hot-beverage",
    "dog": "dog-face",
    "fish": "tropical-fish",
    "flower": "tulip",
    "house": "house",
    "tree": "deciduous-tree",
}
"""Everyday things, and the icon that draws each."""
SHAPES = ("circle", "star")
COLOURS = {
    "red": (222, 44, 44),
    "green": (38, 160, 68),
    "blue": (42, 92, 226),
    "yellow": (248, 208, 32),
    "purple": (146, 60, 190),
    "black": (34, 34, 38),
}
"""Colours that shapes come in; things have their own."""
SIZES = {"small": (0.21, 0.25), "big": (0.36, 0.40)}
"""Edge of a thing as a share of the picture's."""
MOST_THINGS = 4
RELATIONS = ("left of", "right of", "above", "below")
OPPOSITE = dict(zip(RELATIONS, ("right of", "left of", "below", "above"), strict=True))


@dataclass(frozen=True, kw_only=True)
class Item:
    """One thing in a picture."""

    kind: str
    """A key of THINGS, one of SHAPES or the icon of a stranger."""
    colour: str | None
    """Of a shape; None for a thing."""
    size: str
    x: float
    """Centre, from the left, as a share of the picture's width."""
    y: float
    """Centre, from the top, as a share of the picture's height."""
    edge: float
    """Edge as a share of the picture's."""
    angle: float
    """Turn in degrees, anticlockwise."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """All that a picture shows."""

    items: tuple[Item, ...]
    """Of a group in reading order; of a pair the left or upper one first."""
    ground: int
    """Seed of the ground that the things stand on."""

    @property
    def is_pair(self) -> bool:
        """Whether two different things stand beside or above each other."""
        return len({item.kind for item in self.items}) == 2

    @property
    def relation(self) -> str:
        """How the first thing of a pair stands to the second."""
        first, second = self.items
        return "left of" if abs(first.x - second.x) > abs(first.y - second.y) else "above"

    @property
    def split(self) -> Split:
        """The split that the scene's combination falls into."""
        looks = [(item.kind, item.colour, item.size) for item in self.items]
        return split_of(looks)


Look = tuple[str, str | None, str]
"""Kind, colour and size."""


def split_of(looks: list[Look]) -> Split:
    """The split of what is combined with what: 80 % train, 5 % validation, 15 % test.

    Args:
        looks: of a pair's two things, whose sizes do not count, or of a group's equal ones.
    """
    if len({kind for kind, _, _ in looks}) == 2:
        combination = " + ".join(sorted(f"{colour or ''} {kind}" for kind, colour, _ in looks))
    else:
        kind, colour, size = looks[0]
        combination = f"{len(looks)} {size} {colour or ''} {kind}"
    percentile = int.from_bytes(hashlib.sha256(combination.encode()).digest()[:4]) % 100
    return "train" if percentile < 80 else "validation" if percentile < 85 else "test"


def sample_scene(rng: random.Random, *, split: Split, shapes_only: bool = False) -> Scene:
    """Draw a scene of a split; half are groups and half pairs.

    Args:
        rng: where chance comes from.
        split: combinations of other splits are drawn again.
        shapes_only: leave things out, which need an emoji set to be drawn.
    """
    is_pair = rng.random() < 0.5
    while True:
        if is_pair:
            looks = [_look(rng, shapes_only), _look(rng, shapes_only)]
            if looks[0][0] == looks[1][0]:
                continue
        else:
            looks = [_look(rng, shapes_only)] * rng.randint(1, MOST_THINGS)
        if split_of(looks) != split:
            continue
        items = _pair(rng, looks) if is_pair else _group(rng, looks)
        if items is not None:
            return Scene(items=tuple(items), ground=rng.getrandbits(32))


def sample_strangers(rng: random.Random, kinds: Sequence[str]) -> Scene:
    """Draw a scene of things that the world has no word for; three in four are groups.

    Whoever counts them cannot go by what they are, which the few combinations of named things
    would allow.
    """
    while True:
        if rng.random() < 0.25:
            looks = [_stranger(rng, kind) for kind in rng.sample(kinds, 2)]
            items = _pair(rng, looks)
        else:
            look = _stranger(rng, rng.choice(kinds))
            items = _group(rng, [look] * rng.randint(1, MOST_THINGS))
        if items is not None:
            return Scene(items=tuple(items), ground=rng.getrandbits(32))


def _group(rng: random.Random, looks: Sequence[Look]) -> list[Item] | None:
    items: list[Item] = []
    for _ in range(30 * len(looks)):
        item = _place(rng, looks[0])
        if all(_apart(item, other) for other in items):
            items.append(item)
        if len(items) == len(looks):
            return sorted(items, key=lambda item: (item.y, item.x))
    return None


def _pair(rng: random.Random, looks: Sequence[Look]) -> list[Item] | None:
    items = [_place(rng, look) for look in looks]
    across, down = abs(items[0].x - items[1].x), abs(items[0].y - items[1].y)
    if not _apart(*items) or max(across, down) < 1.5 * min(across, down):
        return None
    return sorted(items, key=lambda item: item.x if across > down else item.y)


def _look(rng: random.Random, shapes_only: bool) -> Look:
    kind = _kind(rng, shapes_only)
    return kind, _colour(rng, kind), rng.choice(list(SIZES))


def _stranger(rng: random.Random, kind: str) -> Look:
    return kind, _colour(rng, kind), rng.choice(list(SIZES))


def _kind(rng: random.Random, shapes_only: bool) -> str:
    shape = shapes_only or rng.random() < 0.5
    return rng.choice(SHAPES) if shape else rng.choice(list(THINGS))


def _colour(rng: random.Random, kind: str) -> str | None:
    return rng.choice(list(COLOURS)) if kind in SHAPES else None


def _place(rng: random.Random, look: Look) -> Item:
    """An item of a kind, colour and size, anywhere inside the picture."""
    kind, colour, size = look
    edge = rng.uniform(*SIZES[size])
    margin = 0.52 * edge
    return Item(
        kind=kind,
        colour=colour,
        size=size,
        x=rng.uniform(margin, 1 - margin),
        y=rng.uniform(margin, 1 - margin),
        edge=edge,
        angle=rng.uniform(-15, 15),
    )


def _apart(first: Item, second: Item) -> bool:
    distance = ((first.x - second.x) ** 2 + (first.y - second.y) ** 2) ** 0.5
    return distance > 0.6 * (first.edge + second.edge)
