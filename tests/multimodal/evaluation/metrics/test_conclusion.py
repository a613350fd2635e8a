"""The end of a chain of thought."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodal.evaluation.metrics.conclusion import conclusion


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("First, 3 + 4 is 7.\nFinal answer: 7", "7"),
        ("The answer is A. No, wait.\nFinal answer: **B**.", "B"),
        ("**Final Answer:** 38%", "38%"),
        ("FINAL ANSWER:\n\n  Spain.\n", "Spain"),
        ("so the answer is: 1,234.5", "1,234.5"),
        ("Answer: \\boxed{C}", "C"),
        ("Final answer: $\\boxed{3.5}$", "3.5"),
        ('The *answer*: "blue"', "blue"),
        ("One.\nTwo.\n7\n", "7"),  # no such words
        ("Answer: B\nI am sure.", "B"),
        ("It grows, so the answer is", "It grows, so the answer is"),  # cut off
        ("The answers are many", "The answers are many"),
        ("(B) ink", "(B) ink"),
        ("So the **answer** is B", "B"),
        ("The answer island", "The answer island"),
        ("7", "7"),
        ("Answer: .5.", ".5"),
        ("Answer: -3", "-3"),
        ("...", ""),
        ("", ""),
    ],
)
def test_by_hand(text: str, expected: str) -> None:
    assert conclusion(text) == expected


@given(st.text(max_size=60), st.text(alphabet="abcXYZ0123456789%", min_size=1, max_size=9))
def test_whatever_was_thought_before(thought: str, answer: str) -> None:
    assert conclusion(f"{thought}\nFinal answer: {answer}") == answer
    assert "\n" not in conclusion(thought)
