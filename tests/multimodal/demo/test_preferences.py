"""Ratings are kept blind, and counted for the model that they are about."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from language.errors import InputError
from multimodal.demo.preferences import POINTS, Rating, keep, kept, placed, tally


def rating(points: int, *, left: str = "a", right: str = "b") -> Rating:
    return Rating(question="?", left=left, right=right, left_answer="", right_answer="",
                  points=points)  # fmt: skip


def test_seven_points_from_left_to_right():
    assert sorted(POINTS.values()) == [-3, -2, -1, 0, 1, 2, 3]
    assert rating(3).for_model("b") == 3 == -rating(3).for_model("a")
    assert rating(-2, left="b", right="a").for_model("b") == 2


def test_either_stands_left_half_of_the_time():
    rng = random.Random(0)
    lefts = [placed("a", "b", rng=rng)[0] for _ in range(1000)]
    assert 430 < lefts.count("a") < 570
    assert all(sorted(placed("a", "b", rng=rng)) == ["a", "b"] for _ in range(9))


@given(points=st.lists(st.integers(-3, 3), min_size=1, max_size=30), turned=st.booleans())
def test_what_one_wins_the_other_loses(points, turned):
    sides = {"left": "b", "right": "a"} if turned else {}
    ratings = [rating(each, **sides) for each in points]
    ours, theirs = tally(ratings, "a"), tally(ratings, "b")
    assert ours.wins == theirs.losses and ours.ties == theirs.ties
    assert ours.rate == pytest.approx(1 - theirs.rate)
    assert ours.wins + ours.ties + ours.losses == pytest.approx(1)
    assert ours.low - 1e-9 <= ours.rate <= ours.high + 1e-9


def test_ratings_are_lines_of_a_file(tmp_path):
    file = tmp_path / "folder" / "ratings.jsonl"
    assert kept(file) == []
    keep(rating(2), file)
    keep(rating(-1), file)
    assert [each.points for each in kept(file)] == [2, -1] and kept(file)[0].time
    file.write_text(file.read_text() + '{"question": 1}\n')
    with pytest.raises(InputError, match="line 3: no rating"):
        kept(file)
    with pytest.raises(ValueError, match="no ratings yet"):
        tally([], "a")
