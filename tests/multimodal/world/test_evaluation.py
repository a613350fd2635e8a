"""The evaluation of the world, held against the answers that a user would get."""

import io
import random

import pytest

from multimodal.assistant import Assistant, load
from multimodal.world.evaluation import _answers, evaluate
from multimodal.world.rendering import draw
from multimodal.world.scenes import sample_scene
from multimodal.world.texts import QUESTION_KINDS, questions


@pytest.fixture(scope="module")
def assistant() -> Assistant:
    return load("tiny", device="cpu")


def test_one_pass_tells_what_greedy_decoding_says(assistant):
    rng = random.Random(3)
    asked, pictures = [], []
    for index in range(8):
        scene = sample_scene(rng, split="test", shapes_only=True)
        buffer = io.BytesIO()
        draw(scene, edge=96).save(buffer, "PNG")
        pictures.append(buffer.getvalue())
        asked += [(index, question) for question in questions(scene, rng)]
    for shift in (0, 1):  # answers that are right, and many that are wrong
        shown = pictures[shift:] + pictures[:shift]
        said = [assistant.ask(shown[index], question.text) for index, question in asked]
        right = [text == question.answer for text, (_, question) in zip(said, asked, strict=True)]
        assert _answers(assistant, asked, shown.__getitem__) == right
        assert any(right) and (shift == 0 or not all(right))


def test_the_shipped_model_sees(assistant):
    """Right with its pictures; without them, or with others, no better than those who guess."""
    scores = evaluate(assistant, number=24, seed=5, shapes_only=True)
    assert {score.kind for score in scores} == {"caption", *QUESTION_KINDS}
    total = sum(score.number for score in scores)
    means = {
        part: sum(getattr(score, part) * score.number for score in scores) / total
        for part in ("right", "written", "shuffled", "blind")
    }
    assert means["right"] > 0.85 and means["written"] > 0.85
    assert means["shuffled"] < 0.5 and means["blind"] < 0.5
