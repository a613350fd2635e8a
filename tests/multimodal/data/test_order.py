"""The order against brute force: every shuffle a permutation, every mixture at its weights."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.data.batching import BatchPlan
from multimodal.data.order import Mixture, hashed, permuted, uniform


@given(size=st.integers(1, 3000), seed=st.integers(0, 2**63))
@settings(max_examples=60, deadline=None)
def test_a_shuffle_is_a_permutation(size, seed):
    found = permuted(np.arange(size), size=size, keys=hashed(seed))
    assert sorted(found.tolist()) == list(range(size))


def test_a_shuffle_is_uniform():
    """Each value at each place about equally often, and each order of three about equally often."""
    draws = permuted(
        np.tile(np.arange(5), 20_000), size=5, keys=np.repeat(hashed(np.arange(20_000)), 5)
    )
    draws = draws.reshape(20_000, 5)
    for place in range(5):
        counts = np.bincount(draws[:, place], minlength=5)
        assert abs(counts - 4_000).max() < 300  # 5 deviations
    orders = Counter(tuple(np.argsort(row[:3])) for row in draws)
    assert len(orders) == 6 and max(abs(n - 20_000 / 6) for n in orders.values()) < 270


def test_neighbours_do_not_stay_neighbours():
    found = permuted(np.arange(100_000), size=100_000, keys=hashed(1))
    assert (np.diff(found) == 1).sum() < 12  # one expected
    assert abs(np.corrcoef(np.arange(100_000), found)[0, 1]) < 0.02


@given(
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=4),
    seed=st.integers(0, 2**31),
    passes=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_without_weights_a_pass_visits_each_sample_once(sizes, seed, passes):
    mixture = Mixture(sizes=tuple(sizes), seed=seed)
    total = sum(sizes)
    for number in range(passes):
        found = mixture.locate(np.arange(number * total, (number + 1) * total))
        everything = {(s, i) for s, size in enumerate(sizes) for i in range(size)}
        assert len(set(zip(*map(np.ndarray.tolist, found), strict=True))) == total
        assert set(zip(*map(np.ndarray.tolist, found), strict=True)) == everything


@given(
    weights=st.lists(st.floats(0.01, 10), min_size=2, max_size=5),
    num_positions=st.integers(1, 2000),
)
@settings(max_examples=60, deadline=None)
def test_any_prefix_follows_the_weights(weights, num_positions):
    mixture = Mixture(sizes=(7,) * len(weights), weights=tuple(weights))
    sources, _ = mixture.locate(np.arange(num_positions))
    counts = np.bincount(sources, minlength=len(weights))
    wanted = np.array(weights) / sum(weights) * num_positions
    assert abs(counts - wanted).max() < len(weights) + 0.01


@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=3),
    weights=st.lists(st.floats(0.1, 5), min_size=3, max_size=3),
    seed=st.integers(0, 999),
)
@settings(max_examples=40, deadline=None)
def test_each_source_runs_through_whole_passes(sizes, weights, seed):
    """Read in order: a source's samples come as permutations, one after another, all different."""
    mixture = Mixture(sizes=tuple(sizes), weights=tuple(weights[: len(sizes)]), seed=seed)
    sources, indices = mixture.locate(np.arange(300))
    for source, size in enumerate(sizes):
        seen = indices[sources == source]
        for start in range(0, len(seen) - size + 1, size):
            assert sorted(seen[start : start + size]) == list(range(size))


def test_positions_can_be_asked_for_in_any_order():
    mixture = Mixture(sizes=(10, 1000), weights=(0.3, 0.7), seed=5)
    whole = mixture.locate(np.arange(500))
    some = np.array([499, 0, 250, 250])
    for all_of_it, part in zip(whole, mixture.locate(some), strict=True):
        assert (all_of_it[some] == part).all()


def test_seed_and_pass_change_the_order():
    first = Mixture(sizes=(1000,), seed=1).locate(np.arange(2000))[1]
    other = Mixture(sizes=(1000,), seed=2).locate(np.arange(1000))[1]
    assert (first[:1000] != other).mean() > 0.9
    assert (first[:1000] != first[1000:]).mean() > 0.9


@given(numbers=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_one_hash_alone_is_the_same(numbers):
    assert uniform(*numbers) == int(hashed(*numbers)) // 2**11 / 2**53


def test_draws_differ_by_position_and_seed():
    draws = [Mixture(sizes=(9,), seed=seed).draws(np.arange(10_000)) for seed in (1, 2)]
    assert len(set(np.concatenate(draws).tolist())) == 20_000
    shares = np.array([uniform(draw) for draw in draws[0].tolist()])
    assert abs(np.histogram(shares, bins=10, range=(0, 1))[0] - 1000).max() < 160


def test_very_many_samples_cost_nothing():
    mixture = Mixture(sizes=(10**9, 3 * 10**9), seed=1)
    sources, indices = mixture.locate(np.arange(3 * 10**9, 3 * 10**9 + 5))
    assert (indices < np.array(mixture.sizes)[sources]).all()


@pytest.mark.parametrize("weights", [(1.0,), (1.0, 0.0), (1.0, -1.0)])
def test_bad_weights_are_named(weights):
    with pytest.raises(ValueError, match="weight"):
        Mixture(sizes=(3, 4), weights=weights)


def cost(source, index):
    return float(hashed(source, index) % np.uint64(7))


@given(
    size=st.integers(1, 200),
    batch_size=st.integers(1, 9),
    window=st.integers(1, 7),
    seed=st.integers(0, 99),
)
@settings(max_examples=80, deadline=None)
def test_an_epoch_of_batches_is_the_stream(size, batch_size, window, seed):
    """Sorting and shuffling move samples inside their window alone."""
    mixture = Mixture(sizes=(size,), seed=seed)
    plan = BatchPlan(mixture=mixture, batch_size=batch_size, cost=cost, window=window)
    steps = plan.batches_per_epoch
    assert steps == max(1, size // batch_size)
    for epoch in range(2):
        batches = [plan.batch(epoch * steps + step)[:, 0] for step in range(steps)]
        assert all(len(batch) == batch_size for batch in batches)
        for start in range(0, steps, window):
            chunk = np.concatenate(batches[start : start + window])
            first = (epoch * steps + start) * batch_size
            assert sorted(chunk) == list(range(first, first + len(chunk)))


def test_batches_of_a_window_do_not_overlap_in_cost():
    mixture = Mixture(sizes=(256,), seed=3)
    plan = BatchPlan(mixture=mixture, batch_size=8, cost=cost, window=16)
    for start in (0, 16):
        spans = []
        for step in range(start, start + 16):
            costs = [
                cost(*pair) for pair in zip(*mixture.locate(plan.batch(step)[:, 0]), strict=True)
            ]
            spans.append((min(costs), max(costs)))
        assert spans != sorted(spans)  # shuffled
        spans.sort()
        assert all(a[1] <= b[0] for a, b in zip(spans, spans[1:], strict=False))


@given(size=st.integers(1, 50), batch_size=st.integers(1, 9), window=st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_validation_reads_each_sample_once(size, batch_size, window):
    plan = BatchPlan(
        mixture=Mixture(sizes=(size,), shuffle=False),
        batch_size=batch_size,
        cost=cost,
        window=window,
        once=True,
    )
    batches = [plan.batch(step)[:, 0] for step in range(plan.batches_per_epoch)]
    assert sorted(np.concatenate(batches)) == list(range(size))
    assert all(len(batch) == batch_size for batch in batches[:-1])
