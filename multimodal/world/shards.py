"""The world as training data: WebDataset shards of pictures, and JSONL of language alone.

Everything is a function of (what is made, split, seed): the same call writes the same bytes.
"""

import io
import json
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

from language.tokenizer import load_tokenizer
from multimodal.world.hearing import write_hearing
from multimodal.world.rendering import draw, strangers
from multimodal.world.scenes import OPPOSITE, SHAPES, Scene, Split, sample_scene, sample_strangers
from multimodal.world.texts import (
    CAPTION_PROMPTS,
    NUMBERS,
    Message,
    ask,
    caption,
    dialogue,
    examination,
    near_misses,
    questions,
    repetition,
    small_talk,
)

Content = Literal["captions", "dialogues", "strangers", "language", "hearing"]
CONTENTS: tuple[Content, ...] = get_args(Content)
SHARD_SIZE = 5000
NUM_NEAR_MISSES = 3
_NAMES = ("kind", "colour", "other_kind", "other_colour")
"""Labels of regions that take a word for the thing."""
EDGES = (112, 144, 144, 200)
"""Edges in pixels that pictures are drawn with; the processor fits them to a tile."""


def write(
    content: Content,
    directory: Path,
    *,
    split: Split,
    number: int,
    seed: int = 0,
    shapes_only: bool = False,
) -> list[Path]:
    """Write samples of one kind.

    Args:
        content: pictures with captions and near misses; pictures with dialogues; pictures of
            things without a word, for grounding; language; or what stands in for recordings, in
            tokens of the tokenizer in the same directory.
        directory: made if it is not there.
        split: what the scenes are drawn from.
        number: samples.
        seed: of everything random.
        shapes_only: leave out the things that need the emoji set.

    Returns:
        The files: shards of pictures, or one ``.jsonl``.

    Raises:
        InputError: there is no tokenizer, which ``hearing`` needs.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if content == "hearing":
        tokenizer = load_tokenizer(directory / "tokenizer")
        return [write_hearing(directory, tokenizer, split=split, number=number, seed=seed)]
    rng = random.Random(f"{content} {split} {seed}")
    if content == "language":
        file = directory / f"language-{split}.jsonl"
        rows = (language_sample(rng, split=split, shapes_only=shapes_only) for _ in range(number))
        with file.open("w") as out:
            out.writelines(json.dumps(row) + "\n" for row in rows)
        return [file]
    files = []
    for start in range(0, number, SHARD_SIZE):
        file = directory / f"{content}-{split}-{start // SHARD_SIZE:05d}.tar"
        with tarfile.open(file, "w") as archive:
            for index in range(start, min(start + SHARD_SIZE, number)):
                for name, data in _picture_sample(content, rng, split, shapes_only):
                    member = tarfile.TarInfo(f"{index:07d}.{name}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
        files.append(file)
    return files


def _picture_sample(
    content: Content, rng: random.Random, split: Split, shapes_only: bool
) -> Iterator[tuple[str, bytes]]:
    """Members of a sample, by the end of their names."""
    if content == "strangers":
        scene = sample_strangers(rng, SHAPES if shapes_only else strangers())
        yield "jpg", _jpeg(scene, rng)
        yield "json", json.dumps({"regions": regions(scene, named=False)}).encode()
        return
    scene = sample_scene(rng, split=split, shapes_only=shapes_only)
    if content == "captions":
        wrong = near_misses(scene, rng, number=NUM_NEAR_MISSES)
        yield "jpg", _jpeg(scene, rng)
        record = {"text": caption(scene), "negatives": wrong, "regions": regions(scene)}
        yield "json", json.dumps(record).encode()
        return
    if rng.random() < 0.1:
        other = sample_scene(rng, split=split, shapes_only=shapes_only)
        messages = dialogue(scene, rng, turns=2, picture="0")
        messages += dialogue(other, rng, turns=2, picture="1")
        yield "0.jpg", _jpeg(scene, rng)
        yield "1.jpg", _jpeg(other, rng)
        yield "json", json.dumps({"messages": messages}).encode()
        return
    yield "jpg", _jpeg(scene, rng)
    yield "json", json.dumps({"dialogues": dialogues_about(scene, rng)}).encode()


def regions(scene: Scene, *, named: bool = True) -> list[dict[str, Any]]:
    """Each thing's box and what can be said of it: its own look, and how it stands to the rest.

    Things that have no word (``named`` is false) have no kind and no colour either.
    """
    found = []
    for index, item in enumerate(scene.items):
        half = 0.45 * item.edge
        labels = {"kind": item.kind, "colour": item.colour or "none", "size": item.size}
        labels |= {"count": NUMBERS[1 if scene.is_pair else len(scene.items)], "relation": "none"}
        if scene.is_pair:
            other = scene.items[1 - index]
            labels |= {
                "relation": scene.relation if index == 0 else OPPOSITE[scene.relation],
                "other_kind": other.kind,
                "other_colour": other.colour or "none",
                "other_size": other.size,
            }
        if not named:
            labels = {name: value for name, value in labels.items() if name not in _NAMES}
        box = [item.x - half, item.y - half, item.x + half, item.y + half]
        found.append({"box": [round(value, 4) for value in box], "labels": labels})
    return found


def dialogues_about(scene: Scene, rng: random.Random) -> list[list[Message]]:
    """Dialogues about one picture: separate questions, or now and then one of several turns."""
    if rng.random() < 0.2:
        return [dialogue(scene, rng, turns=3)]
    asked = [(question.text, question.answer) for question in questions(scene, rng)[:3]]
    asked.append((rng.choice(CAPTION_PROMPTS), caption(scene)))
    return [ask(text, answer, pictures=[""]) for text, answer in asked]


def language_sample(
    rng: random.Random, *, split: Split, shapes_only: bool = False
) -> dict[str, Any]:
    """Language for the core: what is said of scenes, from a written description or from none.

    Where nothing describes the scene, the answer cannot be known: the core learns there how
    captions and answers go, and only that.
    """
    scene = sample_scene(rng, split=split, shapes_only=shapes_only)
    chance = rng.random()
    if chance < 0.03:
        return {"text": caption(scene)}
    if chance < 0.06:
        return {"messages": small_talk(rng)}
    if chance < 0.12:
        return {"messages": repetition(rng)}
    if chance < 0.20:
        prompt = f"{caption(scene)} {rng.choice(CAPTION_PROMPTS)}"
        return {"messages": ask(prompt, caption(scene))}
    if scene.is_pair and (messages := examination(scene, rng)):
        return {"messages": messages}
    messages = dialogue(scene, rng, turns=rng.randint(1, 4), picture=None)
    if chance < 0.26:
        messages = dialogue(scene, rng, turns=rng.randint(1, 3), picture="")
        content = messages[0]["content"]
        assert isinstance(content, list), "the first turn shows the picture"
        messages[0]["content"] = content[1:]
    return {"messages": messages}


def _jpeg(scene: Scene, rng: random.Random) -> bytes:
    buffer = io.BytesIO()
    draw(scene, edge=rng.choice(EDGES)).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()
