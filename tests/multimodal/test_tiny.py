"""The model that ships: it sees what it says, fits the promised size, and needs no network."""

import json
from pathlib import Path

import pytest

from multimodal.assistant import Assistant, load
from multimodal.locations import TINY

SAMPLES = TINY / "samples"
SCENES = json.loads((SAMPLES / "scenes.json").read_text())
MOST_BYTES = 20_000_000


@pytest.fixture(scope="module")
def assistant() -> Assistant:
    return load("tiny", device="cpu")


def share_right(assistant: Assistant, *, shift: int) -> float:
    """Share of captions and answers that are right, each picture ``shift`` places along."""
    names, right = list(SCENES), []
    for index, name in enumerate(names):
        shown = str(SAMPLES / names[(index + shift) % len(names)])
        right.append(assistant.caption(shown) == SCENES[name]["caption"])
        for question, answer in SCENES[name]["questions"].items():
            right.append(assistant.ask(shown, question) == answer)
    return sum(right) / len(right)


def test_says_what_pictures_that_it_never_saw_show(assistant):
    assert share_right(assistant, shift=0) > 0.85


def test_answers_from_the_picture_and_not_from_the_question(assistant):
    assert share_right(assistant, shift=1) < 0.5


def test_a_dialogue_over_two_pictures(assistant):
    """The second question is about the second picture."""
    first, second = list(SCENES)[:2]
    messages = []
    said = []
    for name in (first, second):
        picture = {"type": "image", "image": str(SAMPLES / name)}
        question, _ = next(iter(SCENES[name]["questions"].items()))
        messages.append({"role": "user", "content": [picture, {"type": "text", "text": question}]})
        said.append("".join(assistant.stream(messages)))
        messages.append({"role": "assistant", "content": said[-1]})
    assert said == [next(iter(SCENES[name]["questions"].values())) for name in (first, second)]


def test_is_small():
    files = [path for path in Path(TINY).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MOST_BYTES
