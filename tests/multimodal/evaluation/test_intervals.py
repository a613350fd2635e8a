"""Intervals hold what they should, and paired tests find differences that are there."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.evaluation.benchmark import share
from multimodal.evaluation.intervals import interval, paired, value
from multimodal.evaluation.metrics.bleu import bleu_of_statistics, corpus_bleu, sentence_statistics


def sums(right: np.ndarray) -> np.ndarray:
    return np.stack([right, np.ones_like(right)], axis=1)


def test_the_interval_of_a_mean_is_the_normal_one():
    rng = np.random.default_rng(1)
    right = (rng.random(800) < 0.7).astype(float)
    low, high = interval(sums(right), share)
    error = 100 * right.std() / np.sqrt(len(right))
    assert low == pytest.approx(100 * right.mean() - 1.96 * error, abs=0.5)
    assert high == pytest.approx(100 * right.mean() + 1.96 * error, abs=0.5)
    assert (low, high) == interval(sums(right), share)  # the same every time
    assert interval(sums(right), share, level=0.5)[0] > low


def test_nineteen_of_twenty_intervals_hold_the_truth():
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(200):
        lengths = rng.integers(5, 30, 120)
        errors = rng.binomial(lengths, 0.1)
        low, high = interval(np.stack([errors, lengths], axis=1).astype(float), share)
        held += low <= 10 <= high
    assert 179 <= held <= 199  # of 190, by more than three standard deviations of a binomial


def test_what_is_hard_for_both_cancels_out():
    """Two models differ on 30 of 500 samples, and their own intervals overlap."""
    rng = np.random.default_rng(3)
    first = (rng.random(500) < 0.5).astype(float)
    second = first.copy()
    second[np.flatnonzero(first == 0)[:30]] = 1
    found, low, high, p = paired(sums(first), sums(second), share)
    assert found == pytest.approx(6.0) and low < 6 < high and low > 0 and p < 0.01
    assert interval(sums(first), share)[1] > interval(sums(second), share)[0]
    back = paired(sums(second), sums(first), share)
    assert back == pytest.approx((-found, -high, -low, p))


def test_no_difference_is_seldom_found():
    rng = np.random.default_rng(4)
    found = sum(
        paired(
            sums((rng.random(150) < 0.6).astype(float)),
            sums((rng.random(150) < 0.6).astype(float)),
            share,
        )[3] < 0.05
        for _ in range(200)
    )  # fmt: skip
    assert 1 <= found <= 21  # of 10


def test_bleu_of_added_up_sentences_is_that_of_the_corpus():
    said = ["the cat sat on a mat", "no", "green ideas sleep very well today", "it is 5 o'clock"]
    true = ["the cat sat on the mat", "yes", "green ideas sleep well today", "it's 5 o'clock"]
    rows = np.array(
        [
            sentence_statistics(a, reference=b, language="en")
            for a, b in zip(said, true, strict=True)
        ]
    )
    whole = corpus_bleu(said, references=true, language="en").score
    assert float(bleu_of_statistics(rows.sum(axis=0))) == pytest.approx(whole)
    assert bleu_of_statistics(np.stack([rows.sum(axis=0), rows[0]])).shape == (2,)
    low, high = interval(rows, bleu_of_statistics)
    assert low < whole < high


@pytest.mark.parametrize(
    ("right", "number", "low", "high"),
    [  # tables of the binomial's exact limits
        (10, 10, 69.15, 100),
        (0, 10, 0, 30.85),
        (1, 1, 2.5, 100),
        (1, 10, 0.25, 44.50),
        (5, 20, 8.66, 49.10),
        (100, 100, 96.38, 100),
        (3000, 3000, 99.877, 100),
    ],
)
def test_right_and_wrong_have_the_exact_interval(right, number, low, high):
    scores = np.arange(number) < right
    found = interval(sums(scores.astype(float)), share)
    assert found == pytest.approx((low, high), abs=0.006)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 25), st.floats(0.0, 1.0), st.sampled_from([0.5, 0.9, 0.95]))
def test_the_truth_is_held_as_often_as_is_said(number, truth, level):
    """Over all numbers of right answers that may come up, each with its probability."""
    held = 0.0
    for right in range(number + 1):
        scores = (np.arange(number) < right).astype(float)
        low, high = interval(sums(scores), share, level=level)
        if low - 1e-9 <= 100 * truth <= high + 1e-9:
            held += math.comb(number, right) * truth**right * (1 - truth) ** (number - right)
    assert held >= level - 1e-9


def near_the_edge(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Forty samples of which few are unlike the others, and the true figure of their kind."""
    if kind == "right":
        return sums((rng.random(40) < 0.985).astype(float)), 98.5
    if kind == "likeness":  # one in fifty is between a half and alike
        odd = rng.random(40) < 0.02
        return sums(np.where(odd, rng.uniform(0.5, 1, 40), 1.0)), 99.5
    lengths = rng.integers(5, 20, 40)  # a word in a thousand is misheard
    errors = rng.binomial(lengths, 0.001)
    return np.stack([errors, lengths], axis=1).astype(float), 0.1


@pytest.mark.parametrize("kind", ["right", "likeness", "errors"])
def test_intervals_near_the_edge_hold_the_truth(kind):
    """Draws alone would have no width in most of these sets, and miss the truth in all of those."""
    rng = np.random.default_rng(5)
    held = flat = 0
    for _ in range(400):
        rows, truth = near_the_edge(kind, rng)
        low, high = interval(rows, share)
        held += low <= truth <= high
        flat += np.ptp(rows[:, 0] / rows[:, 1]) == 0
        assert high > low
    assert flat > 150
    assert held >= 370  # of 380, less more than two standard deviations


def test_samples_that_are_all_alike_leave_room():
    """Of forty, 0.025^(1/40) at least are as they are: 91.2 %."""
    seen = 100 * 0.025 ** (1 / 40)
    assert interval(sums(np.ones(40)), share) == pytest.approx((seen, 100))
    perfect = np.tile([0.0, 9.0], (40, 1))
    assert interval(perfect, share) == pytest.approx((0, 100 - seen))
    halves = interval(sums(np.full(40, 0.5)), share)
    assert halves == pytest.approx((seen / 2, seen / 2 + 100 - seen))
    assert interval(sums(np.full(40, 0.5)), share, most=50)[1] < 51


def test_a_mean_over_strata_weighs_them_alike_and_draws_from_each():
    rng = np.random.default_rng(6)
    strata = np.repeat([0, 1, 2], [400, 50, 50])
    rows = sums(rng.normal(np.array([1.0, 5.0, 9.0])[strata], 0.5))
    means = [rows[strata == n, 0].mean() for n in range(3)]
    assert value(rows, share, strata=strata) == pytest.approx(100 * np.mean(means))
    assert value(rows, share) == pytest.approx(100 * rows[:, 0].mean())
    low, high = interval(rows, share, strata=strata)
    # no draw has more of a stratum than there is: only the spread within them counts
    error = 100 * 0.5 * np.sqrt(1 / 400 + 2 / 50) / 3
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.2)
    moved = rows + np.array([1.0, 0.0]) * (strata == 1)[:, None]
    found, *_, p = paired(rows, moved, share, strata=strata)
    assert found == pytest.approx(100 / 3) and p < 0.01


@pytest.mark.parametrize(("number", "is_sure"), [(1, False), (5, False), (6, True), (50, True)])
def test_a_difference_on_all_samples_needs_six_of_them(number, is_sure):
    """As the sign test has it: 2 * 0.5^6 < 0.05; and the interval agrees."""
    found, low, high, p = paired(sums(np.zeros(number)), sums(np.ones(number)), share)
    assert found == 100 and (p < 0.05) == is_sure == (low > 0) and high == 100
    found, low, high, p = paired(sums(np.ones(number)), sums(np.ones(number)), share)
    assert found == 0 and p == 1 and low == -high < 0
