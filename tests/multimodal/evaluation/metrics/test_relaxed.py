"""Relaxed accuracy: vectors by hand, and the tolerance as exact fractions."""

from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from multimodal.evaluation.metrics.relaxed import relaxed_match


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [
        ("105", "100", True),
        ("95", "100", True),
        ("105.1", "100", False),
        ("-95", "-100", True),
        ("95", "-100", False),
        ("1e2", "100", True),
        ("5%", "0.05", True),
        ("5%", "5", False),
        ("5", "5%", False),
        ("5.2%", "5%", True),
        # a gold answer of 0 is text
        ("0", "0", True),
        ("0.0", "0", False),
        ("0.001", "0", False),
        # and so is what does not parse
        ("1,000", "1000", False),
        ("1,000", "1,000", True),
        ("$5", "5", False),
        ("5 million", "5", False),
        ("%", "%", True),
        ("Yes", "yes", True),
        ("yes.", "yes", False),
        (" yes", "yes", False),
        ("blue", "12", False),
        ("", "", True),
        ("nan", "5", False),
    ],
)
def test_by_hand(answer: str, gold: str, right: bool) -> None:
    assert relaxed_match(answer, gold=gold) is right


cents = st.integers(-2000, 2000)


@given(cents, cents.filter(bool))
def test_numbers_within_five_percent(answer: int, gold: int) -> None:
    off = Fraction(abs(answer - gold), abs(gold))
    assume(off != Fraction(1, 20))  # where floating point decides
    assert relaxed_match(f"{answer / 100}", gold=f"{gold / 100}") is (off < Fraction(1, 20))
