"""One order whatever the layout, resumed exactly; broken samples counted, too many fatal."""

import itertools
import logging
import pickle

import numpy as np
import pytest
import torch

from language.errors import InputError
from language.tokenizer import train_bpe
from multimodal.batch import IGNORED
from multimodal.data.batching import BatchPlan
from multimodal.data.faults import FaultBudget
from multimodal.data.loader import Batches, Loader
from multimodal.data.order import Mixture
from multimodal.data.shards import ShardSource
from multimodal.data.tasks import PictureTask
from multimodal.processor import Processor
from tests.multimodal.data.sample_files import captioned, write_shard

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

TOKENIZER = train_bpe(["picture number 0 1 2 3 4 5 6 7 8 9"] * 3, num_merged=20)


@pytest.fixture
def task(config):
    return PictureTask(Processor(TOKENIZER, config, max_tokens=60))


@pytest.fixture
def sources(tmp_path, cache):
    """Two sources, of 14 and 9 samples, with pictures of one to four tiles."""

    def sample(number):
        return captioned(number, width=16 * (1 + number % 4), height=16)

    found = []
    for name, numbers in (("a", range(14)), ("b", range(100, 109))):
        path = tmp_path / f"{name}.tar"
        write_shard(path, {str(number): sample(number) for number in numbers})
        found.append(ShardSource(str(path), cache=cache))
    return found


def loader(sources, task, *, rank=0, num_ranks=1, weights=None, once=False, **settings):
    plan = BatchPlan(
        mixture=Mixture(sizes=tuple(map(len, sources)), weights=weights, seed=3, shuffle=not once),
        batch_size=4,
        cost=Cost(sources, task),
        window=3,
        once=once,
    )
    budget = settings.pop("budget", FaultBudget())
    batches = Batches(plan, sources, task, rank=rank, num_ranks=num_ranks)
    return Loader(batches, budget=budget, **settings)


class Cost:
    def __init__(self, sources, task):
        self.sources, self.task = sources, task

    def __call__(self, source, index):
        return self.task.cost(self.sources[source].extent(index))


def captions(batch):
    return [
        TOKENIZER.decode(row[row != TOKENIZER.pad_id].tolist(), skip_special=True)
        for row in batch.tokens
    ]


def same(one, other):
    assert torch.equal(one.tokens, other.tokens)
    assert torch.equal(one.targets, other.targets)
    assert torch.equal(one.images.tiles, other.images.tiles)
    assert torch.equal(one.visible, other.visible)


def epochs(loader, number):
    return [batch for _ in range(number) for batch in loader]


@pytest.mark.parametrize("num_workers, start_method", [(1, "fork"), (3, "fork"), (1, "spawn")])
def test_workers_change_nothing(sources, task, num_workers, start_method):
    wanted = epochs(loader(sources, task), 3)
    found = epochs(loader(sources, task, num_workers=num_workers, start_method=start_method), 3)
    assert len(wanted) == len(found) == 3 * 5
    for one, other in zip(wanted, found, strict=True):
        same(one, other)


@pytest.mark.parametrize("num_ranks", [2, 4])
def test_ranks_share_each_global_batch(sources, task, num_ranks):
    whole = epochs(loader(sources, task, weights=(1.0, 2.0)), 3)
    parts = [
        epochs(loader(sources, task, weights=(1.0, 2.0), rank=rank, num_ranks=num_ranks), 3)
        for rank in range(num_ranks)
    ]
    for step, batch in enumerate(whole):
        mine = [captions(part[step]) for part in parts]
        assert [len(rows) for rows in mine] == [4 // num_ranks] * num_ranks
        assert list(itertools.chain(*zip(*mine, strict=True))) == captions(batch)


def test_without_weights_every_sample_is_seen_alike(sources, task):
    """23 samples in batches of 4: after 23 batches each was seen 4 times."""
    stream = loader(sources, task)
    batches = itertools.chain.from_iterable(itertools.repeat(stream))
    seen = [text for batch in itertools.islice(batches, 23) for text in captions(batch)]
    assert {seen.count(text) for text in seen} == {4} and len(set(seen)) == 23


@pytest.mark.parametrize("num_workers", [0, 2])
def test_resumes_at_each_step_with_the_next_batch(sources, task, num_workers):
    """Though workers had read ahead when the state was taken."""
    stream = loader(sources, task, num_workers=num_workers)
    states, batches = [stream.state_dict()], []
    for _ in range(2):
        for batch in stream:
            batches.append(batch)
            states.append(pickle.loads(pickle.dumps(stream.state_dict())))
    assert all(isinstance(value, int) for state in states for value in state.values())
    for step, state in enumerate(states[:-1]):
        resumed = loader(sources, task)
        resumed.load_state_dict(state)
        same(next(iter(resumed)), batches[step])


def test_resumes_at_another_number_of_ranks(sources, task):
    whole = epochs(loader(sources, task), 2)
    first = loader(sources, task, rank=1, num_ranks=2)
    for _ in itertools.islice(first, 3):
        pass
    resumed = loader(sources, task)
    resumed.load_state_dict(first.state_dict())
    same(next(iter(resumed)), whole[3])


def test_a_resumed_run_of_other_data_is_warned_of(sources, task, caplog):
    one = loader(sources, task)
    other = loader(sources[:1], task)
    other.load_state_dict(one.state_dict())
    assert "num_samples=23, now it is 14" in caplog.text


def test_batches_hold_pictures_of_like_size(sources, task):
    stream = loader(sources, task)
    epochs(stream, 4)
    sorted_padding = stream.metrics()
    assert stream.metrics().keys() == {"data/broken", "data/too_long"}  # counted anew
    stream = loader(sources, task)
    stream.batches.plan.window = 1
    epochs(stream, 4)
    plain_padding = stream.metrics()
    assert 0 <= sorted_padding["data/padded_tiles"] < 0.6 * plain_padding["data/padded_tiles"]


def test_padding_is_measured_right(sources, task):
    stream = loader(sources, task)
    batches = epochs(stream, 2)
    tokens = sum(int(batch.lengths.sum()) for batch in batches)
    tiles, room = 0, 0
    for batch in batches:
        counts = batch.images.arrangements.prod(dim=1)  # a picture a row
        tiles, room = tiles + int(counts.sum()), room + 4 * int(counts.max())
    found = stream.metrics()
    assert found["data/padded_tokens"] == 1 - tokens / sum(b.tokens.numel() for b in batches)
    assert found["data/padded_tiles"] == 1 - tiles / room


@pytest.mark.parametrize("num_ranks", [1, 3, 4])
def test_validation_counts_each_sample_once(sources, task, num_ranks):
    seen, steps = [], set()
    for rank in range(num_ranks):
        stream = loader(sources[:1], task, once=True, rank=rank, num_ranks=num_ranks)
        for _ in range(2):
            batches = list(stream)  # again from the beginning
            steps.add(len(batches))
        for batch in batches:
            learned = (batch.targets != IGNORED).any(dim=1)
            seen += [text for text, row in zip(captions(batch), learned, strict=True) if row]
    assert sorted(seen) == sorted(f"picture number {i}" for i in range(14))
    assert steps == {4}


@pytest.fixture
def faulty(tmp_path, cache):
    """Of 30 samples three are broken and two too long."""
    samples = {str(i): captioned(i) for i in range(30)}
    samples["3"]["jpg"] = b"no picture"
    samples["8"]["jpg"] = samples["8"]["jpg"][:-300]
    del samples["20"]["jpg"]
    for key in ("11", "25"):
        samples[key]["json"]["caption"] = samples[key]["txt"] = "?!" * 60
    write_shard(tmp_path / "faulty.tar", samples)
    return [ShardSource(str(tmp_path / "faulty.tar"), cache=cache)]


def test_broken_samples_are_named_counted_and_replaced(faulty, task, caplog):
    caplog.set_level(logging.WARNING)
    stream = loader(faulty, task, budget=FaultBudget(max_share=0.5), num_workers=2)
    batches = [batch for _ in range(15) for batch in stream]  # 14 passes of 30 samples
    assert all(len(batch.tokens) == 4 for batch in batches)
    assert stream.budget.num_broken >= 42 and stream.budget.num_too_long >= 28
    assert stream.budget.seen == 420 + stream.budget.num_broken + stream.budget.num_too_long
    for key, fault in (("3", "not a JPEG"), ("8", "broken or truncated"), ("20", "no picture")):
        lines = [line for line in caplog.messages if f"faulty.tar: sample {key}: " in line]
        assert len(lines) >= 14 and all(fault in line and "\n" not in line for line in lines)
    assert sum("dropped, too long" in line for line in caplog.messages) == 5
    ranks = [
        epochs(loader(faulty, task, budget=FaultBudget(max_share=0.5), rank=rank, num_ranks=2), 2)
        for rank in range(2)
    ]
    for step, batch in enumerate(batches[:14]):
        assert captions(ranks[0][step]) == captions(batch)[::2]
        assert captions(ranks[1][step]) == captions(batch)[1::2]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_too_many_broken_samples_stop_the_run(faulty, task, num_workers):
    stream = loader(faulty, task, num_workers=num_workers)
    with pytest.raises(InputError, match=r"3 of \d+ samples are broken.*max_broken_share=0.01"):
        epochs(stream, 30)
    allowed = loader(faulty, task, budget=FaultBudget(max_share=0.2))
    epochs(allowed, 30)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_nothing_but_broken_samples(tmp_path, cache, task, num_workers):
    for parts, fault in (
        ({"jpg": b"x", "txt": "words"}, "3 of 3 samples are broken"),
        (captioned(1) | {"json": {"text": "?!" * 60}}, "100 samples in a row are unusable"),
    ):
        path = write_shard(tmp_path / "bad.tar", {str(i): parts for i in range(9)})
        source = ShardSource(str(path), cache=cache)
        with pytest.raises(InputError, match=fault) as caught:
            next(iter(loader([source], task, num_workers=num_workers)))
        assert "\n" not in str(caught.value)


def test_a_state_costs_nothing_to_go_on_from(task):
    """Billions of samples on, the first batch is found without walking there."""

    class Endless:
        name = "endless"

        def __len__(self):
            return 10**10

        def extent(self, index):
            raise AssertionError("a window of one batch needs no sizes")

        def read(self, index):
            raise InputError(str(index), "asked for")

    plan = BatchPlan(
        mixture=Mixture(sizes=(10**10,), seed=1), batch_size=2, cost=Cost([], task), window=1
    )
    batches = Batches(plan, [Endless()], task, rank=0, num_ranks=1)
    stream = Loader(batches, budget=FaultBudget())
    stream.load_state_dict(stream.state_dict() | {"step": 3 * 10**9 + 1})
    with pytest.raises(InputError, match="asked for"):
        next(iter(stream))
    assert np.array_equal(plan.batch(3 * 10**9 + 1)[:, 0], [6 * 10**9 + 2, 6 * 10**9 + 3])
