"""ANLS against edit distances by recursion."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodal.evaluation.metrics.anls import anls


def distance(first: str, second: str) -> int:
    @cache
    def between(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        swap = between(i - 1, j - 1) + (first[i - 1] != second[j - 1])
        return min(swap, between(i - 1, j) + 1, between(i, j - 1) + 1)

    return between(len(first), len(second))


@pytest.mark.parametrize(
    ("answer", "references", "expected"),
    [
        ("Invoice 42", ["invoice  42\n"], 1),
        ("invoice", ["involve", "invoices"], 1 - 1 / 8),
        ("abcd", ["abxy"], 0.5),  # exactly the threshold is kept
        ("abcd", ["axyz"], 0),
        ("abcdefghijk", ["abcdeuvwxyz"], 0),  # 5 / 11, just below
        ("", ["a"], 0),
        ("", ["  "], 1),
        ("yes", ["no", "maybe"], 0),
    ],
)
def test_by_hand(answer: str, references: list[str], expected: float) -> None:
    assert anls(answer, references=references) == pytest.approx(expected)


letters = st.text("aAb ", max_size=7)


@given(letters, st.lists(letters, min_size=1, max_size=3))
def test_the_best_reference_counts(answer: str, references: list[str]) -> None:
    scores = []
    for reference in references:
        one, other = (" ".join(text.lower().split()) for text in (answer, reference))
        longer = max(len(one), len(other))
        edits = distance(one, other)
        scores.append(0.0 if 2 * edits > longer else 1 - edits / longer if longer else 1.0)
    assert anls(answer, references=references) == pytest.approx(max(scores))


def test_no_references_are_refused() -> None:
    with pytest.raises(ValueError, match="needs references"):
        anls("a", references=[])
