"""The controls of the evaluation of clips, and that its marks are those of real answers."""

import random

import pytest
import torch

from language.errors import InputError
from multimodal.assistant import load
from multimodal.batch import Clips
from multimodal.media import Watched
from multimodal.world.clip_shards import evaluation_clips
from multimodal.world.video_evaluation import ClipScore, _answers, mean_of_frames, table


def known_clips(lengths: list[int]) -> Clips:
    features = torch.randn(sum(lengths), 3, 5, generator=torch.Generator().manual_seed(0))
    number = len(lengths)
    return Clips(
        tiles=torch.empty(0, 3, 8, 8),
        arrangements=torch.ones(number, 2, dtype=torch.long),
        lengths=torch.tensor(lengths),
        rows=torch.arange(number),
        features=features,
        known=torch.ones(number, dtype=torch.bool),
    )


def test_every_frame_becomes_the_mean_of_its_clip():
    clips = known_clips([4, 2, 1])
    mean = mean_of_frames(clips).features
    start = 0
    for length in (4, 2, 1):
        for frame in range(start, start + length):
            torch.testing.assert_close(mean[frame], clips.features[start : start + length].mean(0))
        start += length


def test_marks_are_those_of_real_answers():
    """An answer counts as right just where `ask` gives it."""
    assistant = load("tiny", device="cpu")
    drawn = evaluation_clips("test", number=4, seed=5, shapes_only=True)
    asked = [(clip, question) for clip, questions, _ in drawn for question in questions]
    random.Random(0).shuffle(asked)
    marks, *controls = _answers(assistant, asked)
    said = [assistant.ask(Watched(clip), question.text) for clip, question in asked]
    assert marks == [s == question.answer for s, (_, question) in zip(said, asked, strict=True)]
    assert sum(marks) > sum(controls[-1])  # with the clips than without


def test_exchanging_takes_two_clips():
    assistant = load("tiny", device="cpu")
    ((clip, questions, _),) = evaluation_clips("test", number=1, seed=5, shapes_only=True)
    with pytest.raises(InputError, match="two or more"):
        _answers(assistant, [(clip, question) for question in questions])


def test_the_table_shows_every_share():
    score = ClipScore(
        kind="move",
        several=True,
        number=8,
        right=0.5,
        low=0.2,
        high=0.8,
        disordered=0.11,
        mean=0.22,
        exchanged=0.33,
        blind=0.44,
        guessing=0.25,
    )
    line = table([score]).splitlines()[-1]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == ["move", "several", "8", "50.0%", "20.0% to 80.0%", "11.0%", "22.0%", "33.0%",
                     "44.0%", "25.0%"]  # fmt: skip
