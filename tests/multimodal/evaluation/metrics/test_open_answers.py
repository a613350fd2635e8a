"""MMMU's open questions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodal.evaluation.metrics.open_answers import open_answer_matches, parse_open_answer


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("Paris.", {"paris"}),
        ("The answer is 12.", {12.0}),
        ("The result is about 1,234.5 m", {"about 1,234.5 m", 1234.0, 234.5}),
        ("x = 3\ny = 4", {4.0}),  # an equation counts in the last line only
        ("so x = 3\nwhich is wrong", {"x = 3", "wrong", 3.0}),
        # capitals are gone before sentences would be parted at them, so it is one line
        ("It is red. So we see it is blue", {"blue"}),
        # numbers' parts, too, as the published expressions have it
        ("or 1.5e-3 or .25 or -7", {"or 1.5e-3 or .25 or -7", 0.0, 1.0, -3.0, 0.25, -7.0}),
        ("3.14159", {3.14}),
        ("it is x", {" x", "x "}),
        ("the answer is :", {"the answer is :"}),  # a mark alone is no conclusion
        ("12,000,000", {12000000.0, 0.0}),
        ("", {""}),
    ],
)
def test_what_is_said(answer: str, said: set[str | float]) -> None:
    assert parse_open_answer(answer) == said


@pytest.mark.parametrize(
    ("answer", "golds", "right"),
    [
        ("The capital is Paris.", ["Paris"], True),
        ("It is not red", ["red"], True),  # part of what is said
        ("It is red", ["not red"], False),
        ("So it has 24 legs", ["24"], True),
        ("So it has 24.004 legs", ["24"], True),  # two decimals
        ("So it has 24.01 legs", ["24"], False),
        ("So it has 1,000 legs", ["1000"], True),
        ("So it has 124 legs", ["24"], False),
        ("twenty-four", ["24", "twenty"], True),
        ("The answer is xyz", ["x"], False),
        ("The answer is x or y", ["y"], True),
        ("no", [], False),
    ],
)
def test_whether_it_is_right(answer: str, golds: list[str], right: bool) -> None:
    assert open_answer_matches(answer, golds=golds) is right


@given(st.integers(-(10**6), 10**6), st.booleans())
def test_a_number_is_understood_however_it_is_written(number: int, grouped: bool) -> None:
    written = f"{number:,}" if grouped else str(number)
    assert open_answer_matches(f"Thus the answer is {written}", golds=[str(number)])
    assert not open_answer_matches(f"Thus the answer is {written}", golds=[str(number + 1)])
