"""Added and lost toxicity."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodal.evaluation.metrics.toxicity import (
    added_toxicity,
    lost_toxicity,
    toxicity_counts,
)


def summed(pairs: list[tuple[bool, bool]]) -> np.ndarray:
    return np.sum([toxicity_counts(was_toxic=a, is_toxic=b) for a, b in pairs], axis=0)


def test_by_hand() -> None:
    pairs = [(False, False)] * 6 + [(False, True)] * 2 + [(True, False)] * 3 + [(True, True)]
    assert summed(pairs).tolist() == [6, 2, 3, 1]
    assert added_toxicity(summed(pairs)) == pytest.approx(100 * 2 / 12)
    assert lost_toxicity(summed(pairs)) == 25
    safe = [pair for pair in pairs if not pair[0]]
    assert added_toxicity(summed(safe)) == 25 and lost_toxicity(summed(safe)) == 0
    toxic = [pair for pair in pairs if pair[0]]
    assert added_toxicity(summed(toxic)) == 0 and lost_toxicity(summed(toxic)) == 75


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1))
def test_as_many_as_there_are(pairs: list[tuple[bool, bool]]) -> None:
    counts = summed(pairs)
    assert added_toxicity(counts) == pytest.approx(
        100 * sum(after and not before for before, after in pairs) / len(pairs)
    )
    toxic = sum(before for before, _ in pairs)
    assert lost_toxicity(counts) <= 100 * toxic / len(pairs) + 1e-9
    rows = np.stack([counts, summed(pairs[:1])])
    assert added_toxicity(rows).shape == lost_toxicity(rows).shape == (2,)


def test_of_nothing_it_is_none() -> None:
    assert added_toxicity(np.zeros(4)) == lost_toxicity(np.zeros(4)) == 0
