"""Intervals hold what they should, and paired tests find differences that are there."""

import numpy as np
import pytest

from multimodal.evaluation.benchmark import share
from multimodal.evaluation.intervals import interval, paired
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
