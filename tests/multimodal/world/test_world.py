"""Scenes, pictures and texts of the world, held against what their data says."""

import json
import random
import re
from itertools import combinations

import pytest

from multimodal.world import rendering
from multimodal.world.rendering import draw
from multimodal.world.scenes import COLOURS, SHAPES, SPLITS, THINGS, Scene, sample_scene
from multimodal.world.texts import (
    NUMBERS,
    QUESTION_KINDS,
    caption,
    dialogue,
    near_misses,
    questions,
    small_talk,
)


def scenes(number: int, *, split: str = "train", seed: int = 0, shapes_only: bool = False):
    rng = random.Random(seed)
    return [sample_scene(rng, split=split, shapes_only=shapes_only) for _ in range(number)]


def facts(scene: Scene) -> tuple:
    """What is combined in a scene, computed apart from the code under test."""
    kinds = {item.kind for item in scene.items}
    if len(kinds) == 2:
        return tuple(sorted((item.kind, str(item.colour)) for item in scene.items))
    item = scene.items[0]
    return (len(scene.items), item.kind, item.colour, item.size)


def test_splits_share_no_combination():
    seen = {split: {facts(scene) for scene in scenes(1500, split=split)} for split in SPLITS}
    for first, second in combinations(SPLITS, 2):
        assert not seen[first] & seen[second]
    assert len(seen["test"]) > 50


def test_things_stand_inside_and_apart():
    for scene in scenes(500):
        for item in scene.items:
            assert item.edge / 2 <= item.x <= 1 - item.edge / 2
            assert item.edge / 2 <= item.y <= 1 - item.edge / 2
        for a, b in combinations(scene.items, 2):
            assert max(abs(a.x - b.x), abs(a.y - b.y)) > 0.4 * (a.edge + b.edge)


def parse(text: str) -> tuple[list[tuple[int, str, str | None, str]], str | None]:
    """Read a caption back: (number, size, colour, kind) of its things, and their relation."""
    relation = next((r for r in ("left of", "above") if f" {r} " in text), None)
    parts = text.removesuffix(".").split(f" {relation} ") if relation else [text.removesuffix(".")]
    read = []
    for part in parts:
        number, size, *rest = part.lower().split()
        colour = rest[0] if len(rest) == 2 else None
        kind = rest[-1] if number == "a" or rest[-1] == "fish" else rest[-1].removesuffix("s")
        read.append((1 if number == "a" else NUMBERS.index(number), size, colour, kind))
    return read, relation


def test_captions_say_what_stands_there():
    for scene in scenes(500):
        read, relation = parse(caption(scene))
        first = scene.items[0]
        if relation is None:
            assert read == [(len(scene.items), first.size, first.colour, first.kind)]
            continue
        assert read == [(1, item.size, item.colour, item.kind) for item in scene.items]
        second = scene.items[1]
        if relation == "left of":
            assert second.x - first.x > abs(second.y - first.y)
        else:
            assert second.y - first.y > abs(second.x - first.x)


OFFSETS = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}


def stands(first, second, relation: str) -> bool:
    across, down = OFFSETS[relation]
    dx, dy = first.x - second.x, first.y - second.y
    return across * dx > abs(dy) if across else down * dy > abs(dx)


def test_relations_are_where_things_stand():
    rng = random.Random(1)
    checked = set()
    for scene in scenes(600):
        by_kind = {item.kind: item for item in scene.items}
        for question in questions(scene, rng):
            assert question.kind in QUESTION_KINDS
            assert question.answer in question.choices
            text, answer = question.text, question.answer.removesuffix(".")
            if match := re.fullmatch(r"Where is the (\w+)\?", text):
                relation, other = re.fullmatch(r"(.+) the (\w+)", answer.lower()).groups()
                assert stands(by_kind[match[1]], by_kind[other], relation)
            elif match := re.fullmatch(r"What is (?:to the )?(left|right|above|below)\?", text):
                side = match[1] + " of" if match[1] in ("left", "right") else match[1]
                there = [
                    item.kind
                    for item in scene.items
                    if any(item is not o and stands(item, o, side) for o in scene.items)
                ]
                assert answer.split()[-1] == there[0]
            else:
                continue
            checked.add(text.split()[0])
    assert checked == {"Where", "What"}


def test_counts_colours_and_sizes_are_right():
    rng = random.Random(2)
    for scene in scenes(400):
        kinds = [item.kind for item in scene.items]
        for question in questions(scene, rng):
            answer = question.answer.removesuffix(".").lower()
            words = re.findall(r"\w+", question.text.lower())
            named = [w for w in words if w in (*THINGS, *SHAPES)]
            named += [w[:-1] for w in words if w[:-1] in (*THINGS, *SHAPES)]
            if question.kind == "count":
                assert NUMBERS.index(answer) == kinds.count(named[0])
            elif question.kind in ("colour", "size"):
                item = next(item for item in scene.items if item.kind == named[0])
                assert answer == getattr(item, question.kind)


def test_near_misses_are_wrong_and_distinct():
    rng = random.Random(3)
    for scene in scenes(200):
        wrong = near_misses(scene, rng, number=3)
        assert len({caption(scene), *wrong}) == 4
        for text in wrong:
            assert parse(text) != parse(caption(scene))


def test_shapes_have_their_colour_where_they_stand():
    for scene in scenes(60, shapes_only=True):
        picture = draw(scene, edge=120)
        assert picture.size == (120, 120) and picture.mode == "RGB"
        for item in scene.items:
            pixel = picture.getpixel((int(item.x * 120), int(item.y * 120)))
            assert item.colour is not None
            assert max(abs(a - b) for a, b in zip(pixel, COLOURS[item.colour], strict=True)) < 12


def test_the_same_scene_draws_the_same_picture():
    (scene,) = scenes(1, shapes_only=True)
    assert draw(scene, edge=90).tobytes() == draw(scene, edge=90).tobytes()


def test_things_are_drawn_from_the_icon_set(tmp_path, monkeypatch):
    pytest.importorskip("resvg_py")
    body = '<rect x="20" y="20" width="60" height="60" fill="#ff00ff"/>'
    icons = {"icons": {icon: {"body": body} for icon in THINGS.values()}}
    (tmp_path / "icons.json").write_text(json.dumps(icons))
    monkeypatch.setenv("OPENHERD_EMOJI", str(tmp_path))
    rendering.emoji.cache_clear()
    rendering._icons.cache_clear()
    try:
        drawn = [s for s in scenes(40) if all(item.colour is None for item in s.items)]
        assert drawn
        for scene in drawn:
            item = scene.items[0]
            picture = draw(scene, edge=150)
            assert picture.getpixel((int(item.x * 150), int(item.y * 150))) == (255, 0, 255)
    finally:
        rendering.emoji.cache_clear()
        rendering._icons.cache_clear()


def test_dialogues_alternate_and_show_the_picture_once():
    rng = random.Random(4)
    for scene in scenes(100):
        messages = dialogue(scene, rng, turns=3)
        assert [m["role"] for m in messages] == ["user", "assistant"] * (len(messages) // 2)
        shown = [
            part
            for message in messages
            if isinstance(message["content"], list)
            for part in message["content"]
            if part["type"] == "image"
        ]
        assert shown == [{"type": "image"}]
        assert messages[0]["content"][0] == {"type": "image"}
    assert all("image" not in json.dumps(small_talk(rng)) for _ in range(20))
