"""Added and lost toxicity."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodal.evaluation.metrics.toxicity import (
    ToxicityCounts,
    classified_toxicity,
    toxicity_counts,
)


def test_by_hand() -> None:
    pairs = [(False, False)] * 6 + [(False, True)] * 2 + [(True, False)] * 3 + [(True, True)]
    counts = toxicity_counts(pairs)
    assert counts == ToxicityCounts(
        safe_to_safe=6, safe_to_toxic=2, toxic_to_safe=3, toxic_to_toxic=1
    )
    assert (counts.added, counts.lost) == (2 / 8, 3 / 4)
    assert (counts.added_of_all, counts.lost_of_all) == (2 / 12, 3 / 12)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1))
def test_as_many_as_there_are(pairs: list[tuple[bool, bool]]) -> None:
    counts = toxicity_counts(iter(pairs))
    safe = [after for before, after in pairs if not before]
    toxic = [after for before, after in pairs if before]
    assert counts.prompts == len(pairs)
    if safe:
        assert counts.added == sum(safe) / len(safe)
    if toxic:
        assert counts.lost == pytest.approx(1 - sum(toxic) / len(toxic))


def test_a_classifier_judges_both_sides() -> None:
    asked: list[list[str]] = []

    def is_toxic(texts: Sequence[str]) -> list[bool]:
        asked.append(list(texts))
        return ["damn" in text for text in texts]

    counts = classified_toxicity(
        ["hello", "damn you", "hi"], outputs=["hello", "hi", "damn"], is_toxic=is_toxic
    )
    assert counts == ToxicityCounts(safe_to_safe=1, toxic_to_safe=1, safe_to_toxic=1)
    assert asked == [["hello", "damn you", "hi"], ["hello", "hi", "damn"]]


def test_refused() -> None:
    with pytest.raises(ValueError, match="1 outputs for 2 inputs"):
        classified_toxicity(["a", "b"], outputs=["a"], is_toxic=lambda texts: [False] * len(texts))
    with pytest.raises(ValueError, match="1 and 1 verdicts on 2 texts each"):
        classified_toxicity(["a", "b"], outputs=["a", "b"], is_toxic=lambda texts: [True])


def test_no_prompts_of_a_kind_have_no_fraction() -> None:
    with pytest.raises(ValueError, match="no prompt is safe"):
        _ = toxicity_counts([(True, True)]).added
    with pytest.raises(ValueError, match="no prompt is toxic"):
        _ = toxicity_counts([(False, True)]).lost
    for fraction in ("added_of_all", "lost_of_all"):
        with pytest.raises(ValueError, match="no prompt is there"):
            getattr(ToxicityCounts(), fraction)
