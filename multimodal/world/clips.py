"""A clip as data: which things are where, when, and how they look, and which split that falls into.

In each clip one event happens: a thing *moves*; one thing comes after another (*order*); a thing
changes its colour (*recolour*) or its size (*resize*); one appears a number of times (*times*); two
*pass* each other. An event has alternatives (left or right, this one first or that one), and the
frames of a clip taken without their order are the same, or nearly, for all of them: only who sees
what comes before what can tell. The hash of event, things and alternative decides the split.

Time runs from 0, the first frame, to 1, the last.
"""

import hashlib
import random
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from multimodal.world.scenes import COLOURS, SHAPES, SIZES, THINGS, Item, Split

Event = Literal["move", "order", "recolour", "resize", "times", "pass"]
EVENTS: tuple[Event, ...] = ("move", "order", "recolour", "resize", "times", "pass")
DIRECTIONS = ("left", "right", "up", "down")
MOST_TIMES = 3
SLOTS = 8
"""Parts of a clip in which a thing that comes and goes is there or not; each holds one of eight
frames that are spread over the clip."""
SHOWN_SLOTS = 4
"""Parts in which it is there, however often it comes."""
MOST_DRAWS = 10_000
LANES = (0.28, 0.72)
"""Where two things go past each other, across their way."""
EXTREMES = {"small": (0.17, 0.20), "big": (0.40, 0.44)}
"""Edges between which a thing grows or shrinks."""


@dataclass(frozen=True, kw_only=True)
class Track:
    """One thing through a clip."""

    kind: str
    """A key of THINGS or one of SHAPES."""
    colours: tuple[str | None, ...]
    """One after another for equally long; of a shape, and None for a thing."""
    size: str
    start: tuple[float, float, float]
    """Centre from the left and from the top, and edge, as shares of the picture's, at 0."""
    end: tuple[float, float, float]
    """The same at 1; between them all three change evenly."""
    angle: float
    shown: tuple[tuple[float, float], ...] = ((0.0, 1.0),)
    """When it is there: from a time up to, and not at, another; 1 is within."""

    def at(self, time: float) -> Item | None:
        """The thing at a time; None if it is not there."""
        if not any(first <= time < last or time == last == 1 for first, last in self.shown):
            return None
        x, y, edge = (a + (b - a) * time for a, b in zip(self.start, self.end, strict=True))
        colour = self.colours[min(int(time * len(self.colours)), len(self.colours) - 1)]
        return Item(
            kind=self.kind, colour=colour, size=self.size, x=x, y=y, edge=edge, angle=self.angle
        )


@dataclass(frozen=True, kw_only=True)
class ClipScene:
    """All that a clip shows."""

    event: Event
    alternative: str
    """What happens of what could: a direction, a number, how a thing changes."""
    tracks: tuple[Track, ...]
    """The thing that the event is about, or comes first, or starts left or on top, first."""
    ground: int
    """Seed of the ground that the things stand on."""

    def at(self, time: float) -> list[Item]:
        """The things that are there at a time."""
        found = [track.at(time) for track in self.tracks]
        return [item for item in found if item is not None]

    @property
    def split(self) -> Split:
        """The split of its combination: 80 % train, 5 % validation, 15 % test."""
        looks = " ".join(
            f"{'/'.join(str(c) for c in track.colours)} {track.kind}" for track in self.tracks
        )
        combination = f"{self.event} {self.alternative} {looks}"
        percentile = int.from_bytes(hashlib.sha256(combination.encode()).digest()[:4]) % 100
        return "train" if percentile < 80 else "validation" if percentile < 85 else "test"


def sample_clip(
    rng: random.Random, *, split: Split, event: Event | None = None, shapes_only: bool = False
) -> ClipScene:
    """Draw a clip of a split.

    Args:
        rng: where chance comes from.
        split: combinations of other splits are drawn again.
        event: what happens; drawn by default.
        shapes_only: leave things out, which need an emoji set to be drawn.

    Raises:
        ValueError: a split without any combination of the event, as a small world may have.
    """
    for _ in range(MOST_DRAWS):
        what = rng.choice(EVENTS) if event is None else event
        alternative, tracks = _EVENTS[what](rng, shapes_only)
        clip = ClipScene(
            event=what,
            alternative=alternative,
            tracks=tuple(tracks),
            ground=rng.getrandbits(32),
        )
        if clip.split == split:
            return clip
    raise ValueError(f"no combination of {event or 'any event'} falls into the split {split}")


def _move(rng: random.Random, shapes_only: bool) -> tuple[str, list[Track]]:
    """One thing goes its way; now and then another stands beside it."""
    direction = rng.choice(DIRECTIONS)
    kind, colour = _look(rng, shapes_only)
    has_other = rng.random() < 0.4
    lane = rng.choice(LANES) if has_other else rng.uniform(0.3, 0.7)
    mover = _along(rng, kind, colour, direction=direction, lane=lane)
    if not has_other:
        return direction, [mover]
    other, other_colour = _another(rng, kind, shapes_only)
    place = (rng.uniform(0.3, 0.7), sum(LANES) - lane)
    x, y = place if direction in ("left", "right") else place[::-1]
    return direction, [mover, _still(rng, other, (other_colour,), at=(x, y))]


def _order(rng: random.Random, shapes_only: bool) -> tuple[str, list[Track]]:
    """One thing is there for the first half, another for the second."""
    kind, colour = _look(rng, shapes_only)
    other, other_colour = _another(rng, kind, shapes_only)
    first = _still(rng, kind, (colour,), shown=((0.0, 0.5),))
    return "then", [first, _still(rng, other, (other_colour,), shown=((0.5, 1.0),))]


def _recolour(rng: random.Random, shapes_only: bool) -> tuple[str, list[Track]]:
    """A shape has one colour for the first half, and another for the second."""
    return "turns", [_still(rng, rng.choice(SHAPES), tuple(rng.sample(list(COLOURS), 2)))]


def _resize(rng: random.Random, shapes_only: bool) -> tuple[str, list[Track]]:
    """A thing grows or shrinks all the time."""
    change = rng.choice(("grows", "shrinks"))
    kind, colour = _look(rng, shapes_only)
    small, big = (rng.uniform(*EXTREMES[size]) for size in ("small", "big"))
    x, y = (rng.uniform(0.3, 0.7) for _ in range(2))
    edges = (small, big) if change == "grows" else (big, small)
    return change, [
        Track(
            kind=kind,
            colours=(colour,),
            size="small" if change == "grows" else "big",
            start=(x, y, edges[0]),
            end=(x, y, edges[1]),
            angle=rng.uniform(-15, 15),
        )
    ]


def _times(rng: random.Random, shapes_only: bool) -> tuple[str, list[Track]]:
    """A thing appears one to three times, and is there for half of the time in all."""
    number = rng.randint(1, MOST_TIMES)
    kind, colour = _look(rng, shapes_only)
    runs = _parts(rng, SHOWN_SLOTS, number)
    # Between two runs stands at least one empty slot; the rest goes anywhere.
    gaps = [0, *[1] * (number - 1), 0]
    for _ in range(SLOTS - SHOWN_SLOTS - (number - 1)):
        gaps[rng.randrange(len(gaps))] += 1
    shown, slot = [], 0
    for gap, run in zip(gaps, runs, strict=False):
        first = slot + gap
        slot = first + run
        shown.append((_edge_of(first), _edge_of(slot)))
    return str(number), [_still(rng, kind, (colour,), shown=tuple(shown))]


def _pass(rng: random.Random, shapes_only: bool) -> tuple[str, list[Track]]:
    """Two things start at opposite ends and go past each other."""
    across = rng.random() < 0.5
    kind, colour = _look(rng, shapes_only)
    other, other_colour = _another(rng, kind, shapes_only)
    lanes = rng.sample(LANES, 2)
    ways = ("right", "left") if across else ("down", "up")
    tracks = [
        _along(rng, k, c, direction=way, lane=lane, size="small")
        for (k, c), way, lane in zip(
            ((kind, colour), (other, other_colour)), ways, lanes, strict=True
        )
    ]
    return "across" if across else "upright", tracks


_EVENTS = {
    "move": _move,
    "order": _order,
    "recolour": _recolour,
    "resize": _resize,
    "times": _times,
    "pass": _pass,
}


def _along(
    rng: random.Random,
    kind: str,
    colour: str | None,
    *,
    direction: str,
    lane: float,
    size: str = "",
) -> Track:
    """A thing that goes from one end to the other, as far from the middle at both."""
    size = size or rng.choice(list(SIZES))
    edge = rng.uniform(*SIZES[size])
    near = 0.52 * edge + rng.uniform(0.0, 0.08)
    ends = (near, 1 - near) if direction in ("right", "down") else (1 - near, near)
    points = [(end, lane) if direction in ("left", "right") else (lane, end) for end in ends]
    return Track(
        kind=kind,
        colours=(colour,),
        size=size,
        start=(*points[0], edge),
        end=(*points[1], edge),
        angle=rng.uniform(-15, 15),
    )


def _still(
    rng: random.Random,
    kind: str,
    colours: tuple[str | None, ...],
    *,
    at: tuple[float, float] | None = None,
    shown: tuple[tuple[float, float], ...] = ((0.0, 1.0),),
) -> Track:
    size = rng.choice(list(SIZES)) if at is None else "small"
    edge = rng.uniform(*SIZES[size])
    x, y = at or (rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.7))
    return Track(
        kind=kind,
        colours=colours,
        size=size,
        start=(x, y, edge),
        end=(x, y, edge),
        angle=rng.uniform(-15, 15),
        shown=shown,
    )


def _look(rng: random.Random, shapes_only: bool) -> tuple[str, str | None]:
    if shapes_only or rng.random() < 0.5:
        return rng.choice(SHAPES), rng.choice(list(COLOURS))
    return rng.choice(list(THINGS)), None


def _another(rng: random.Random, kind: str, shapes_only: bool) -> tuple[str, str | None]:
    """A look of another kind."""
    while True:
        other = _look(rng, shapes_only)
        if other[0] != kind:
            return other


def _parts(rng: random.Random, total: int, number: int) -> list[int]:
    """A random way to write ``total`` as a sum of ``number`` positive integers."""
    cuts = sorted(rng.sample(range(1, total), number - 1))
    return [last - first for first, last in pairwise([0, *cuts, total])]


def _edge_of(slot: int) -> float:
    """Time between two slots; the first and the last one are cut in half by the clip's ends."""
    return min(max((slot - 0.5) / (SLOTS - 1), 0.0), 1.0)
