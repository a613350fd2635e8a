"""Recordings in shards and beside JSONL: their durations without decoding, and their places."""

import io
import json
import pickle

import numpy as np
import pytest

from language.errors import InputError
from multimodal.data.jsonl import JsonlSource
from multimodal.data.recordings import Slice, recording_seconds
from multimodal.data.samples import caption, dialogues
from multimodal.data.shards import ShardSource
from tests.multimodal.data.recording_files import bad_recordings, encoded, noise
from tests.multimodal.data.sample_files import picture_bytes, write_shard

KINDS = ("FLAC", "WAV", "MP3", "OGG", "OPUS", "M4A")


def shard(tmp_path, cache, **samples):
    return ShardSource(str(write_shard(tmp_path / "a.tar", samples)), cache=cache)


def audio(name=None):
    return {"type": "audio"} | ({} if name is None else {"audio": name})


def user(*parts):
    return {"role": "user", "content": list(parts)}


def placed(dialogue, kind="audio"):
    return [part[kind] for m in dialogue for part in m["content"] if part["type"] == kind]


def test_a_slice_is_a_file():
    data = np.random.default_rng(0).bytes(1000)
    part, wanted = Slice(io.BytesIO(data), offset=100, size=300), io.BytesIO(data[100:400])
    for place, whence, count in ((0, 0, 10), (5, 1, 7), (-3, 2, 9), (290, 0, 50), (400, 0, 5)):
        assert part.seek(place, whence) == wanted.seek(place, whence) == part.tell()
        assert part.read(count) == wanted.read(count)
    part.seek(0)
    assert part.read() == data[100:400]


@pytest.mark.parametrize("kind", KINDS)
def test_durations_stand_in_the_index(tmp_path, cache, kind):
    """In the middle of a shard, whatever stands before and behind."""
    recording = encoded(noise(1.37), kind)
    parts = {kind.lower(): recording, "json": {"text": "words"}}
    source = shard(tmp_path, cache, a=parts, b={"txt": "none"}, c=parts)
    for index in (0, 2):
        assert source.extent(index).seconds == pytest.approx((1.37,), abs=0.1)
        assert source.read(index).recordings == {"": recording}
    assert source.extent(1).seconds == ()
    if kind in ("FLAC", "WAV", "OGG", "OPUS"):
        assert source.extent(0).seconds == pytest.approx((1.37,), abs=1e-4)


def test_only_headers_are_read():

    class Counting(io.BytesIO):
        count = 0

        def read(self, size=-1):
            data = super().read(size)
            Counting.count += len(data)
            return data

    for kind in ("FLAC", "WAV"):
        data = encoded(noise(10.0), kind)
        Counting.count = 0
        file = Counting(b"x" * 1000 + data)
        assert recording_seconds(Slice(file, offset=1000, size=len(data))) == 10
        assert Counting.count < 20_000 < len(data)


def test_what_the_record_says_comes_first(tmp_path, cache):
    """Whether it stands before its recording or behind, and only if it can be true."""
    data = encoded(noise(0.5))
    said = {"text": "x", "duration": 7.5}
    source = shard(
        tmp_path,
        cache,
        a={"flac": data, "json": said},
        b={"json": said, "flac": data},
        c={"flac": data, "json": said | {"duration": float("inf")}},
        d={"flac": data, "json": said | {"duration": -1}},
        e={"flac": data, "json": said | {"duration": "7"}},
        f={"0.flac": data, "1.flac": data, "json": said},
    )
    found = [source.extent(i).seconds for i in range(6)]
    assert found == [(7.5,), (7.5,), (0.5,), (0.5,), (0.5,), (0.5, 0.5)]


def test_unusable_recordings_last_nothing_and_open_nothing_else(tmp_path, cache, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parts = {key: {"wav": data, "txt": "words"} for key, data in bad_recordings().items() if data}
    source = shard(tmp_path, cache, **parts)
    found = {key: source.extent(i).seconds[0] for i, key in enumerate(parts)}
    assert found["text"] == found["playlist"] == found["silent"] == 0
    assert all(0 <= seconds <= 2 for seconds in found.values())


def test_recordings_are_put_in_their_places(tmp_path, cache):
    one, two = encoded(noise(0.1, seed=1)), encoded(noise(0.1, seed=2))
    picture = picture_bytes(2, 2)
    talk = [user(audio(), {"type": "text", "text": "?"}, audio())]
    named = [user(audio("1"), audio("0"))]
    mixed = [user({"type": "image"}, audio())]
    source = shard(
        tmp_path,
        cache,
        alone={"flac": one, "json": {"messages": [user(audio())] * 2}},
        both={"0.flac": one, "1.flac": two, "json": {"dialogues": [talk, named]}},
        mixed={"jpg": picture, "flac": two, "json": {"messages": mixed}},
    )
    assert [placed(d) for d in dialogues(source.read(0))] == [[one, one]]
    assert [placed(d) for d in dialogues(source.read(1))] == [[one, two], [two, one]]
    (dialogue,) = dialogues(source.read(2))
    assert placed(dialogue) == [two] and placed(dialogue, "image") == [picture]
    extent = source.extent(2)
    assert extent.pictures == ((2, 2),) and extent.seconds == (0.1,)


@pytest.mark.parametrize(
    "message, fault",
    [
        ({"role": "user", "content": "hi"}, "no message plays the recording"),
        (user(audio("3")), "no recording '3'"),
        (user(audio(["0"])), "no recording"),
        (user({"type": "image"}), "more image parts than pictures"),
    ],
)
def test_malformed_dialogues_are_named(tmp_path, cache, message, fault):
    source = shard(
        tmp_path, cache, bad={"flac": encoded(noise(0.1)), "json": {"messages": [message]}}
    )
    with pytest.raises(InputError, match=fault) as caught:
        dialogues(source.read(0))
    assert "sample bad: " in str(caught.value)


def test_recordings_beside_jsonl(tmp_path, cache):
    (tmp_path / "wavs").mkdir()
    for number in range(2):
        data = encoded(noise(0.1 + number, seed=number), "WAV")
        (tmp_path / "wavs" / f"{number}.wav").write_bytes(data)
    (tmp_path / "0.jpg").write_bytes(picture_bytes(3, 4))
    a, b = "wavs/0.wav", "wavs/1.wav"
    records = [
        {"messages": [user(audio(), audio())], "audios": [a, b]},
        {"messages": [user(audio(b)), user(audio(a))]},
        {"audio": b, "image": "0.jpg", "text": " words "},
        {"audio": b, "text": "words", "duration": 0.75},
        {"audio": "../secret.wav", "text": "words"},
        {"audio": "wavs/9.wav", "text": "words"},
        {"audio": {"path": a}, "text": "words"},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
    source = pickle.loads(pickle.dumps(JsonlSource(str(tmp_path / "a.jsonl"), cache=cache)))
    found = [source.extent(i).seconds for i in range(7)]
    assert found == [(0.1, 1.1), (1.1, 0.1), (1.1,), (0.75,), (), (), ()]
    paths = [tmp_path / a, tmp_path / b]
    assert placed(dialogues(source.read(0))[0]) == paths
    assert placed(dialogues(source.read(1))[0]) == paths[::-1]
    sample = source.read(2)
    assert caption(sample) == "words" and list(sample.recordings.values()) == [tmp_path / b]
    assert list(sample.pictures) == ["0.jpg"] and source.extent(2).pictures == ((3, 4),)
    for index, fault in ((4, "recording '../secret.wav' must be a path inside"), (5, "no such")):
        with pytest.raises(InputError, match=fault):
            source.read(index)
    assert source.read(6).recordings == {}
