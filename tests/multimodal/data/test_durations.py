"""Batches by duration against brute force: nothing lost, nothing too large, found from any step."""

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.data.durations import DurationPlan
from multimodal.data.order import Mixture, uniform


class Durations:
    """Seconds of 0.1 .. longest by source and index, some rows of several recordings."""

    def __init__(self, *, longest=20.0, most=1, varies=False):
        self.longest, self.most, self.varies = longest, most, varies
        self.asked = 0

    def __call__(self, source, index, draw):
        self.asked += 1
        by_chance = uniform(draw) if self.varies else 0.0
        number = 1 + int(uniform(source, index, 1) * self.most)
        return number, 0.1 + (uniform(source, index) * 0.9 + by_chance * 0.1) * self.longest


def plan_of(duration, *, sizes=(100,), seed=1, seconds=160.0, once=False, **changes):
    return DurationPlan(
        mixture=Mixture(sizes=tuple(sizes), seed=seed, shuffle=not once),
        max_batch_seconds=seconds,
        duration=duration,
        once=once,
        **{"multiple": 4, "window": 32} | changes,
    )


def sizes_of(plan, samples):
    """Recordings and seconds of the rows of a batch, as the loader would meet them."""
    draws = plan.mixture.draws(samples[:, 0]).tolist()
    return [
        plan.duration(source, index, draw)
        for (_, source, index), draw in zip(samples.tolist(), draws, strict=True)
    ]


def padded(sizes):
    return sum(number for number, _ in sizes) * max(seconds for _, seconds in sizes)


plans = st.builds(
    plan_of,
    st.builds(Durations, longest=st.floats(1, 39), most=st.just(1), varies=st.booleans()),
    sizes=st.lists(st.integers(1, 90), min_size=1, max_size=3),
    seed=st.integers(0, 99),
    multiple=st.sampled_from([1, 2, 4]),
    window=st.integers(1, 70),
    max_batch_size=st.sampled_from([None, 4, 9]),
)


@given(plan=plans)
@settings(max_examples=25, deadline=None)
def test_each_window_of_batches_is_the_stream(plan):
    """Every sample once, whatever the durations; sorting and shuffling stay in the window."""
    end, position = 0, 0
    for window in range(3):
        found = []
        while len(found) < plan.window:
            found += plan.batch(end)[:, 0].tolist()
            end += 1
        assert sorted(found) == list(range(position, position + plan.window))
        position += plan.window
        assert plan.place(end - 1)["window"] == window
    everything = np.concatenate([plan.batch(step) for step in range(end)])
    assert np.array_equal(
        everything[np.argsort(everything[:, 0]), 1:],
        np.stack(plan.mixture.locate(np.arange(position)), axis=1),
    )


@given(plan=plans, num_ranks=st.sampled_from([1, 2, 4]))
@settings(max_examples=25, deadline=None)
def test_no_rank_holds_more_than_its_share(plan, num_ranks):
    for step in range(20):
        samples = plan.batch(step)
        assert len(samples) % plan.multiple == 0
        assert len(samples) <= (plan.max_batch_size or np.inf)
        if plan.multiple % num_ranks:
            continue
        parts = [samples[rank::num_ranks] for rank in range(num_ranks)]
        assert len({len(part) for part in parts}) == 1
        for part in parts:
            assert padded(sizes_of(plan, part)) <= plan.max_batch_seconds / num_ranks


@given(
    most=st.integers(2, 4),
    longest=st.floats(1, 12),
    window=st.integers(1, 70),
    seed=st.integers(0, 999),
)
@settings(max_examples=20, deadline=None)
def test_rows_of_several_recordings(most, longest, window, seed):
    plan = plan_of(Durations(most=most, longest=longest), window=window, seed=seed, seconds=192.0)
    for step in range(20):
        for rank in range(2):
            part = sizes_of(plan, plan.batch(step)[rank::2])
            assert padded(part) <= 192.0 / 2


@given(plan=plans, steps=st.lists(st.integers(0, 30), min_size=4, max_size=4))
@settings(max_examples=12, deadline=None)
def test_steps_can_be_asked_for_in_any_order(plan, steps):
    other = pickle.loads(pickle.dumps(plan))
    wanted = [plan.batch(step) for step in range(31)]
    for step in steps:
        assert np.array_equal(other.batch(step), wanted[step])


@given(plan=plans, step=st.integers(0, 40))
@settings(max_examples=20, deadline=None)
def test_a_state_leads_to_the_same_batches(plan, step):
    """Without looking at any window before: only durations of two windows are asked for."""
    wanted = [plan.batch(number) for number in range(step, step + 3)]
    state = plan.place(step)
    resumed = pickle.loads(pickle.dumps(plan))
    resumed._starts, resumed._windows, resumed._latest = [0], [0], None
    resumed.go_on(state)
    resumed.duration.asked = 0
    assert np.array_equal(resumed.batch(step), wanted[0])
    assert resumed.duration.asked <= plan.window
    for number, batch in enumerate(wanted):
        assert np.array_equal(resumed.batch(step + number), batch)
    assert np.array_equal(resumed.batch(0), plan.batch(0))  # and back again


@given(
    size=st.integers(1, 150),
    window=st.integers(1, 60),
    multiple=st.sampled_from([1, 2, 4]),
)
@settings(max_examples=30, deadline=None)
def test_validation_reads_each_sample_once(size, window, multiple):
    plan = plan_of(Durations(), sizes=(size,), window=window, multiple=multiple, once=True)
    batches = [plan.batch(step) for step in range(plan.batches_per_epoch)]
    assert sorted(np.concatenate(batches)[:, 0]) == list(range(size))
    for batch in batches:
        assert padded(sizes_of(plan, batch[:: plan.multiple])) <= 160.0 / plan.multiple


def test_batches_are_as_full_as_they_can_be():
    """One group of rows more would be too much, except for the last batch of a window."""
    plan = plan_of(Durations(), sizes=(4000,), window=4000)
    steps = plan.batches_per_epoch
    batches = sorted((sizes_of(plan, plan.batch(step)) for step in range(steps)), reverse=True)
    for batch in batches[:-1]:
        longest = max(seconds for _, seconds in batch)
        assert (len(batch) + plan.multiple) * longest > plan.max_batch_seconds
    spans = [(min(batch), max(batch)) for batch in batches]
    assert all(low >= high for (low, _), (_, high) in itertools.pairwise(spans))  # like lengths
    real = sum(seconds for batch in batches for _, seconds in batch)
    assert real / sum(map(padded, batches)) > 0.98
    order = [max(sizes_of(plan, plan.batch(step))) for step in range(steps)]
    assert order != sorted(order) and order != sorted(order, reverse=True)


def test_seed_and_window_change_the_order():
    first = [plan_of(Durations(), seed=1).batch(step).tolist() for step in range(8)]
    assert first != [plan_of(Durations(), seed=2).batch(step).tolist() for step in range(8)]


def test_an_epoch_is_about_one_pass():
    plan = plan_of(Durations(), sizes=(1000,), window=256)
    steps = plan.batches_per_epoch
    count = sum(len(plan.batch(step)) for step in range(steps))
    assert 900 < count < 1100


def test_a_row_too_long_for_a_batch_counts_as_the_longest():
    """The task refuses it; its batch stays as small."""

    def duration(source, index, draw):
        return (3, 30.0) if index % 5 == 0 else (1, 2.0)

    plan = plan_of(duration)
    assert plan.row_seconds == 40.0
    for step in range(20):
        samples = plan.batch(step)
        sound = samples[samples[:, 2] % 5 > 0]
        assert len(samples) * (2.0 if len(sound) == len(samples) else 40.0) <= 160.0


def test_substitutes_never_make_a_batch_larger():
    plan = plan_of(Durations(most=2, longest=18.0, varies=True), sizes=(50, 60), seconds=200.0)
    counts = []
    for step in range(8):
        samples = plan.batch(step)
        sizes = sizes_of(plan, samples)
        for row, (position, source, _) in enumerate(samples.tolist()):
            found = list(itertools.islice(plan.substitutes(step, position), 3))
            counts.append(len(found))
            draw = int(plan.mixture.draws(np.array([position]))[0])
            for other, index in set(found):
                assert other == source
                changed = [*sizes[:row], plan.duration(other, index, draw), *sizes[row + 1 :]]
                assert padded(changed) <= max(padded(sizes), 200.0)
    assert np.mean([count > 0 for count in counts]) > 0.9
    again = pickle.loads(pickle.dumps(plan))
    some = [list(itertools.islice(p.substitutes(3, 40), 5)) for p in (plan, again)]
    assert some[0] == some[1]


@pytest.mark.parametrize(
    "settings, fault",
    [
        ({"seconds": 0.0}, "max_batch_seconds must be more than 0"),
        ({"multiple": 0}, "multiple must be more than 0"),
        ({"window": -1}, "window must be more than 0"),
        ({"max_batch_size": 3}, "max_batch_size=3 must be 4 or more"),
    ],
)
def test_wrong_settings_are_named(settings, fault):
    with pytest.raises(ValueError, match=fault):
        plan_of(Durations(), **settings)
