"""The figures of what is heard: errors counted as they should be, intervals that hold the value."""

import numpy as np
import pytest

from multimodal.world.speech_evaluation import (
    Row,
    _by,
    error_rate,
    markdown,
    share,
    word_errors,
    words,
)


def edit_distance(a: list[str], b: list[str]) -> int:
    """By the table (Wagner and Fischer 1974)."""
    table = np.zeros((len(a) + 1, len(b) + 1), dtype=int)
    table[:, 0], table[0] = range(len(a) + 1), range(len(b) + 1)
    for i, one in enumerate(a, start=1):
        for j, other in enumerate(b, start=1):
            table[i, j] = min(
                table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (one != other)
            )
    return int(table[-1, -1])


def test_words_are_counted_as_by_the_table():
    rng = np.random.default_rng(0)
    for _ in range(200):
        said = list(rng.choice(["a", "b", "c"], size=rng.integers(1, 7)))
        heard = list(rng.choice(["a", "b", "c"], size=rng.integers(0, 7)))
        errors, number = word_errors(" ".join(said), " ".join(heard))
        assert (errors, number) == (edit_distance(said, heard), len(said))


def test_case_and_marks_do_not_count():
    assert words("¿Dónde está el Pájaro?") == "dónde está el pájaro"
    assert word_errors("Where is it?", "where is it") == (0, 3)


def test_rates_are_over_words_and_lie_in_their_interval():
    row = error_rate("x", [(1, 10), (0, 5), (2, 5), (0, 20)])
    assert row.value == pytest.approx(3 / 40)
    assert row.low <= row.value <= row.high
    clean = error_rate("x", [(0, 4)] * 5)
    assert (clean.value, clean.low, clean.high) == (0, 0, 0)


def test_groups_and_all():
    rows = _by("seen", [(1, 2), (0, 2), (1, 4)], ["b", "a", "b"])
    assert [(row.what, row.number) for row in rows] == [("seen, a", 1), ("seen, b", 2),
                                                        ("seen, all", 3)]  # fmt: skip
    assert rows[-1].value == pytest.approx(2 / 8)


def test_the_table_reads():
    text = markdown({"rates": [Row(what="all", number=3, value=0.25, low=0.1, high=0.4)]})
    assert "| all | 3 | 25.0% | 10.0% to 40.0% |" in text
    assert share("x", [True, False]).value == 0.5
