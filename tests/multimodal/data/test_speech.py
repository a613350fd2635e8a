"""Recordings become rows: which task, what is cropped, who is refused; and batches of them."""

import itertools
import logging
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from language.errors import InputError
from language.tokenizer import train_bpe
from multimodal.batch import IGNORED
from multimodal.data.durations import DurationPlan
from multimodal.data.faults import FaultBudget
from multimodal.data.jsonl import JsonlSource
from multimodal.data.loader import Batches, Loader
from multimodal.data.order import Mixture
from multimodal.data.samples import Sample
from multimodal.data.shards import ShardSource
from multimodal.data.speech import SpeechPretrainingTask, SpeechTask
from multimodal.data.speech_module import _Duration
from multimodal.processor import Processor, TooLongError
from speech.adapter import SpeechAdapterConfig
from speech.augmentation import change_speed
from speech.conformer import ConformerConfig
from speech.encoder import SpeechEncoderConfig
from tests.multimodal.data.recording_files import (
    RATE,
    bad_recordings,
    encoded,
    noise,
    same,
    spoken,
    write_manifest,
)
from tests.multimodal.data.sample_files import picture_bytes, write_shard

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

TOKENIZER = train_bpe(
    ["recording number 0 1 2 3 4 5 6 7 8 9 Repeat after me in English"] * 3, num_merged=20
)


@pytest.fixture
def processor(config):
    conformer = ConformerConfig(dim=16, num_layers=1, num_heads=2, ffn_dim=24)
    hearing = replace(
        config,
        speech_encoder=SpeechEncoderConfig(conformer=conformer),
        speech_adapter=SpeechAdapterConfig(
            input_dim=16, output_dim=config.language.dim, dim=16, ffn_dim=24, num_heads=2
        ),
        max_seconds=5.0,
    )
    return Processor(TOKENIZER, hearing, max_tokens=400)


def sample(record, *recordings, draw=0, pictures=()):
    return Sample(
        name="somewhere: sample 1",
        record=record,
        pictures={str(i): p for i, p in enumerate(pictures)},
        recordings={str(i): r for i, r in enumerate(recordings)},
        draw=draw,
    )


def learned(row):
    return TOKENIZER.decode(row.targets[row.targets != IGNORED].tolist(), skip_special=True)


def read(row):
    return TOKENIZER.decode(row.tokens.tolist(), skip_special=True)


SOUND = noise(1.0)
FILE = encoded(SOUND)
RECORD = {"text": "hello", "lang": "en", "translations": {"de": "hallo", "es": "hola"}}


def test_a_transcript_is_repeated_after(processor):
    row = SpeechTask(processor, translate=0.0).encode(sample(RECORD, FILE))
    assert learned(row) == "hello"
    assert "system" in read(row) and "Repeat after me in English:" in read(row)
    (recording,) = row.recordings
    assert same(recording, SOUND)
    assert row.spoken.sum() == processor.num_positions(len(SOUND))
    assert (row.targets[row.spoken] == IGNORED)[:-1].all()


@pytest.mark.parametrize(
    "weights",
    [
        {"transcribe": 1.0, "translate": 1.0, "identify": 0.0},
        {"transcribe": 2.0, "translate": 1.0, "identify": 1.0},
        {"transcribe": 0.0, "translate": 0.0, "identify": 0.5},
    ],
)
def test_tasks_are_drawn_by_their_weights(processor, weights):
    """Translations share their weight; which one it is depends on the draw alone."""
    task = SpeechTask(processor, **weights)
    draws = Mixture(sizes=(1,), seed=1).draws(np.arange(600)).tolist()
    found = [task._request(sample(RECORD, FILE, draw=draw)) for draw in draws]
    assert found == [task._request(sample(RECORD, FILE, draw=draw)) for draw in draws]
    wanted = {
        ("Repeat after me in English:", "hello"): weights["transcribe"],
        ("Translate the following sentence into German:", "hallo"): weights["translate"] / 2,
        ("Translate the following sentence into Spanish:", "hola"): weights["translate"] / 2,
        ("Name the language that is spoken:", "English"): weights["identify"],
    }
    counts = Counter(found)
    assert set(counts) <= set(wanted)
    for request, weight in wanted.items():
        assert counts[request] / 600 == pytest.approx(weight / sum(wanted.values()), abs=0.08)


def test_a_dialogue_is_used_as_it_is(processor):
    audio = {"type": "audio"}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "1"}, audio, {"type": "image"}]},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": [audio]},
        {"role": "assistant", "content": "3"},
    ]
    other = encoded(noise(0.5, seed=1))
    pictures = (picture_bytes(4, 4),)
    row = SpeechTask(processor).encode(
        sample({"messages": messages}, FILE, other, pictures=pictures)
    )
    assert len(row.images) == 1 and learned(row) == "23" and "Repeat" not in read(row)
    assert [len(recording) for recording in row.recordings] == [16_000, 8_000]
    twice = [
        [{"role": "user", "content": [audio]}, {"role": "assistant", "content": t}] for t in "ab"
    ]
    rows = [
        SpeechTask(processor).encode(sample({"dialogues": twice}, FILE, draw=draw))
        for draw in range(20)
    ]
    assert {learned(row) for row in rows} == {"a", "b"}
    text = [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]
    row = SpeechTask(processor).encode(sample({"messages": text}))
    assert row.recordings == () and learned(row) == "2"


def test_speeds_are_drawn_and_never_make_a_recording_too_long(processor):
    task = SpeechTask(processor, speeds=(0.9, 1.0, 1.1))
    lengths = Counter()
    for draw in range(60):
        (recording,) = task.encode(sample(RECORD, FILE, draw=draw)).recordings
        lengths[len(recording)] += 1
        number, seconds = task.duration(extent_of(1.0), draw)
        assert (number, seconds) == (1, pytest.approx(len(recording) / RATE, abs=2 / RATE))
        speed = {17_778: 0.9, 16_000: 1.0, 14_546: 1.1}[len(recording)]
        assert torch.equal(recording, change_speed(torch.from_numpy(SOUND), speed))
    assert min(lengths.values()) > 8
    whole = encoded(noise(4.9))
    found = {len(task.encode(sample(RECORD, whole, draw=d)).recordings[0]) for d in range(20)}
    assert found == {round(4.9 * RATE), -(-round(4.9 * RATE) * 10 // 11)}


def extent_of(*seconds, characters=0):
    return type("Extent", (), {"seconds": seconds, "num_characters": characters})()


def test_what_rows_last(processor):
    task = SpeechTask(processor)
    assert task.duration(extent_of(1.0, 3.0), 0) == (2, 3.0)
    assert task.duration(extent_of(0.0), 0) == (1, 5.0)  # unknown: as long as may be
    assert task.duration(extent_of(70.0), 0) == (1, 5.0)
    assert task.duration(extent_of(characters=100), 0) == (1, 2.0)
    assert task.cost(extent_of(1.0, 3.0)) == 6.0
    task = SpeechPretrainingTask(max_seconds=7.0)
    assert [task.duration(extent_of(s), 0)[1] for s in (3.0, 0.0, 70.0)] == [3.0, 7.0, 7.0]


@pytest.mark.parametrize(
    "record, number, fault",
    [
        (RECORD, 0, "no recordings beside a transcript"),
        (RECORD, 2, "2 recordings beside a transcript"),
        ({"lang": "en"}, 1, "nothing to learn"),
        ({"text": "hello"}, 1, "the record has no lang"),
        ({"text": "hello", "lang": "xx"}, 1, "'xx': unknown"),
        (RECORD | {"duration": 0.5}, 1, "lasts 1.00 s, its record says 0.5 s"),
        ({"messages": [{"role": "user", "content": [{"type": "audio"}] * 2}]}, 1, "more than once"),
        ({"messages": [{"role": "nobody", "content": [{"type": "audio"}]}]}, 1, "role"),
    ],
)
def test_unusable_records_are_named(processor, record, number, fault):
    with pytest.raises(InputError, match=fault) as caught:
        SpeechTask(processor).encode(sample(record, *[FILE] * number))
    assert str(caught.value).startswith("somewhere: sample 1: ")


@pytest.mark.parametrize("weights", [{"transcribe": 0, "translate": 0}, {"identify": -1}])
def test_wrong_weights_are_named(processor, weights):
    with pytest.raises(ValueError, match="weights of tasks"):
        SpeechTask(processor, **weights)


def test_too_long_recordings_are_refused_not_cut(processor):
    task = SpeechTask(processor)
    with pytest.raises(TooLongError, match=r"sample 1: lasts 5.5 s, at most 5 s fit"):
        task.encode(sample(RECORD, encoded(noise(5.5))))
    task.encode(sample(RECORD, encoded(noise(5.0))))
    audio = {"role": "user", "content": [{"type": "audio"}] * 2}
    talk = {"messages": [audio, {"role": "assistant", "content": "1"}]}
    files = [encoded(noise(1.0)), encoded(noise(3.0))]
    task.encode(sample(talk, *files))
    with pytest.raises(TooLongError, match=r"takes 6.0 s, 2 x 3.0 s; at most 4 s fit"):
        SpeechTask(processor, max_row_seconds=4.0).encode(sample(talk, *files))


def place_of(part, whole):
    """Where a part stands in the whole, found by its first samples."""
    near = (whole.unfold(0, 16, 1) - part[:16]).abs().amax(1) < 1e-6
    (start,) = torch.nonzero(near)[:, 0].tolist()
    assert (whole[start : start + len(part)] - part).abs().max() < 1e-6
    return start


@pytest.mark.parametrize("kind", ["FLAC", "WAV", "OGG", "MP3"])
def test_crops_are_slices_that_the_draw_decides(kind):
    sound = noise(3.0)
    file = encoded(sound, kind)
    whole = SpeechPretrainingTask().encode(sample({"text": "all"}, file))
    assert whole.text == "all"
    task, starts = SpeechPretrainingTask(max_seconds=0.5), set()
    for draw in range(8):
        row = task.encode(sample({"text": "all"}, file, draw=draw))
        assert len(row.waveform) == 8000 and row.text is None
        assert torch.equal(row.waveform, task.encode(sample({}, file, draw=draw)).waveform)
        starts.add(place_of(row.waveform, whole.waveform))
    assert len(starts) == 8 and max(starts) - min(starts) > 12_000


def test_a_crop_of_an_utterance_stays_inside_it(tmp_path, cache):
    (tmp_path / "talk.wav").write_bytes(encoded(noise(4.0), "WAV"))
    path = write_manifest(
        tmp_path / "a.json", {"audio_filepath": "talk.wav", "offset": 1.0, "duration": 1.5}
    )
    source, task = JsonlSource(str(path), cache=cache), SpeechPretrainingTask(max_seconds=0.5)
    utterance = torch.from_numpy(noise(4.0)[RATE : RATE * 5 // 2])
    for draw in range(8):
        place_of(task.encode(replace(source.read(0), draw=draw)).waveform, utterance)


def test_a_batch_of_waveforms():
    task = SpeechPretrainingTask()
    rows = [task.encode(sample({"text": t} if t else {}, FILE)) for t in ("a", "", "b")]
    assert task.collate(rows).texts is None
    batch = task.collate([rows[0], replace(rows[2], waveform=rows[2].waveform[:100])])
    assert batch.texts == ["a", "b"] and batch.lengths.tolist() == [16_000, 100]
    assert same(batch.waveforms[0], SOUND) and not batch.waveforms[1, 100:].any()
    assert task.without_loss(rows[0]) is rows[0]


def test_pretraining_wants_sound_alone():
    for record in ({}, {"text": 3}, {"text": "a", "lang": "xx"}):
        row = SpeechPretrainingTask().encode(sample(record, FILE))
        assert same(row.waveform, SOUND) and row.text is None
    with pytest.raises(InputError, match="sample 1: no recording"):
        SpeechPretrainingTask().encode(sample({"text": "a"}))


# Loading.


@pytest.fixture
def sources(tmp_path, cache):
    """Two sources, of 30 and 17 recordings of 0.2 to 2 s."""
    found = []
    for name, numbers in (("a", range(30)), ("b", range(100, 117))):
        samples = {
            str(n): spoken(n, seconds=0.2 + 1.8 * (n * 7 % 30) / 30, kind="wav") for n in numbers
        }
        path = write_shard(tmp_path / f"{name}.tar", samples)
        found.append(ShardSource(str(path), cache=cache))
    return found


def loader(sources, task, *, rank=0, num_ranks=1, once=False, seconds=16.0, **settings):
    plan = DurationPlan(
        mixture=Mixture(sizes=tuple(map(len, sources)), seed=3, shuffle=not once),
        max_batch_seconds=seconds,
        duration=_Duration(sources, task),
        multiple=4,
        window=24,
        once=once,
    )
    budget = settings.pop("budget", FaultBudget(max_share=0.9))
    batches = Batches(plan, sources, task, rank=rank, num_ranks=num_ranks)
    return Loader(batches, budget=budget, **settings)


def taken(stream, number):
    return list(itertools.islice(itertools.chain.from_iterable(itertools.repeat(stream)), number))


def equal(one, other):
    return torch.equal(one.waveforms, other.waveforms) and one.texts == other.texts


@pytest.mark.parametrize("num_workers", [1, 3])
def test_workers_change_nothing(sources, num_workers):
    task = SpeechPretrainingTask(max_seconds=1.5)  # some are cropped
    wanted = taken(loader(sources, task), 12)
    found = taken(loader(sources, task, num_workers=num_workers, start_method="fork"), 12)
    assert all(map(equal, wanted, found))
    assert any(batch.texts is None for batch in wanted)


def test_ranks_share_each_global_batch(sources):
    task = SpeechPretrainingTask(max_seconds=2.0)
    whole = taken(loader(sources, task), 12)
    for num_ranks in (2, 4):
        parts = [
            taken(loader(sources, task, rank=rank, num_ranks=num_ranks), 12)
            for rank in range(num_ranks)
        ]
        for batch, *mine in zip(whole, *parts, strict=True):
            mixed = itertools.chain.from_iterable(zip(*(part.texts for part in mine), strict=True))
            assert list(mixed) == batch.texts
            assert all(part.waveforms.numel() <= 16.0 * RATE / num_ranks for part in mine)


def test_resumes_at_each_step(sources, caplog):
    task = SpeechPretrainingTask(max_seconds=2.0)
    stream = loader(sources, task, num_workers=2)
    states, batches = [stream.state_dict()], []
    for batch in itertools.islice(itertools.chain.from_iterable(itertools.repeat(stream)), 16):
        batches.append(batch)
        states.append(stream.state_dict())
    assert states[-1]["window"] > 2
    for step in range(0, 16, 3):
        resumed = loader(sources, task)
        resumed.load_state_dict(states[step])
        assert resumed.state_dict() == states[step]
        assert equal(next(iter(resumed)), batches[step])
    assert not caplog.messages
    other = loader(sources, task, seconds=20.0)
    other.load_state_dict(states[3])
    assert "max_batch_seconds=16.0, now it is 20.0" in caplog.text


def test_padding_is_measured(sources):
    task = SpeechPretrainingTask(max_seconds=2.0)
    stream = loader(sources, task)
    batches = taken(stream, 8)
    real = sum(int(batch.lengths.sum()) for batch in batches)
    found = stream.metrics()
    assert found["data/padded_seconds"] == 1 - real / sum(b.waveforms.numel() for b in batches)
    assert found["data/padded_seconds"] < 0.2


@pytest.mark.parametrize("num_ranks", [1, 4])
def test_validation_counts_each_sample_once(sources, processor, num_ranks):
    task, seen, steps = SpeechTask(processor), [], set()
    for rank in range(num_ranks):
        stream = loader(sources[1:], task, once=True, rank=rank, num_ranks=num_ranks, seconds=24.0)
        batches = list(stream)
        assert all(len(stream) == len(batches) for _ in range(2))
        steps.add(len(batches))
        for batch in batches:
            for row in batch.targets:
                if (row != IGNORED).any():
                    seen.append(TOKENIZER.decode(row[row != IGNORED].tolist(), skip_special=True))
    assert sorted(seen) == sorted(f"recording number {n}" for n in range(100, 117))
    assert len(steps) == 1


def test_broken_recordings_are_named_counted_and_replaced(tmp_path, cache, caplog):
    caplog.set_level(logging.WARNING)
    samples = {str(n): spoken(n, seconds=0.5 + n / 20) for n in range(24)}
    bad = bad_recordings()
    for key, data in bad.items():
        kind = "flac" if "flac" in key else "wav"
        samples[key.replace(" ", "-")] = {kind: data, "json": {"text": "never", "lang": "en"}}
    source = ShardSource(str(write_shard(tmp_path / "a.tar", samples)), cache=cache)
    stream = loader([source], SpeechPretrainingTask(max_seconds=2.0), num_workers=1)
    batches = taken(stream, 16)
    assert all(batch.waveforms.numel() <= 16.0 * RATE for batch in batches)
    assert all("never" not in batch.texts for batch in batches)
    assert stream.budget.num_broken >= len(bad)
    for key, fault in {
        "empty": "empty file",
        "text": "no recording that can be decoded",
        "playlist": "no recording that can be decoded",
        "cut": "truncated",
        "cut-flac": "broken or truncated|truncated",
        "silent": "no sound",
        "nan": "not finite",
    }.items():
        lines = [line for line in caplog.messages if f"a.tar: sample {key}: " in line]
        assert lines and all("\n" not in line for line in lines)
        assert any(word in lines[0] for word in fault.split("|")), lines[0]


def test_too_long_recordings_are_counted_and_replaced(tmp_path, cache, processor, caplog):
    samples = {str(n): spoken(n, seconds=0.5) for n in range(10)}
    samples |= {f"long{n}": spoken(n, seconds=6.0) for n in range(3)}
    source = ShardSource(str(write_shard(tmp_path / "a.tar", samples)), cache=cache)
    stream = loader([source], SpeechTask(processor), seconds=24.0)
    batches = taken(stream, 10)
    assert stream.budget.num_too_long >= 3 and stream.budget.num_broken == 0
    assert stream.metrics()["data/too_long"] == stream.budget.num_too_long
    assert "a.tar: sample long0: lasts 6.0 s, at most 5 s fit" in caplog.text
    for batch in batches:
        assert batch.recordings.waveforms.numel() <= 24.0 * RATE
        assert batch.recordings.waveforms.shape[1] == 8000


def test_a_batch_may_lose_a_row(tmp_path, cache):
    """Where no recording is short enough to take the place of a broken one."""
    samples = {str(n): spoken(n, seconds=1.0) for n in range(5)}
    samples |= {f"bad{n}": {"wav": b"words", "json": {"duration": 1.0}} for n in range(3)}
    source = ShardSource(str(write_shard(tmp_path / "a.tar", samples)), cache=cache)
    stream = loader([source], SpeechPretrainingTask(max_seconds=2.0), seconds=8.0)
    stream.batches.plan.substitutes = lambda step, position: iter(())
    (batch,) = taken(stream, 1)  # all eight samples in one batch
    assert sorted(batch.texts) == [f"recording number {n}" for n in range(5)]
    assert stream.budget.num_broken == 3 and stream.budget.seen == 8
    task = SpeechPretrainingTask(max_seconds=0.5)
    task.encode = lambda sample: SpeechPretrainingTask().encode(replace(sample, recordings={}))
    stream = loader([source], task, seconds=8.0)
    stream.batches.plan.substitutes = lambda step, position: iter(())
    batch, report = stream.batches[0]
    assert batch is None and "no other is as short" in str(report.failure)


def test_nothing_but_broken_recordings(tmp_path, cache):
    samples = {str(n): {"wav": b"words" * 9, "json": {"text": "a"}} for n in range(9)}
    source = ShardSource(str(write_shard(tmp_path / "a.tar", samples)), cache=cache)
    stream = loader([source], SpeechPretrainingTask(max_seconds=2.0), budget=FaultBudget())
    with pytest.raises(InputError, match="samples are broken"):
        next(iter(stream))
