"""Spoken sentences as shards: the same bytes for the same seed, and nothing leaks across splits."""

import io
import json
import random
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from multimodal.world.sentences import LANGUAGES, Sentence
from multimodal.world.utterances import (
    UTTERANCE_SPLITS,
    sample_no_speech,
    sample_utterance,
    write_utterances,
)
from multimodal.world.voices import ACCENTS, voices

pytest.importorskip("espeakng_loader")


def contents(file: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(file) as archive:
        members = [(member, archive.extractfile(member)) for member in archive]
        return [(member.name, data.read()) for member, data in members if data is not None]


def test_workers_write_the_same_bytes(tmp_path):
    settings = {"split": "train", "number": 10, "seed": 3, "shard_size": 4}
    alone = write_utterances(tmp_path / "a", workers=0, **settings)
    together = write_utterances(tmp_path / "b", workers=2, **settings)
    names = [f"speech-train-0000{shard}.tar" for shard in range(3)]
    assert [file.name for file in alone] == [file.name for file in together] == names
    assert [file.read_bytes() for file in alone] == [file.read_bytes() for file in together]
    members = [name for file in alone for name, _ in contents(file)]
    assert members == [f"{key:07d}.{end}" for key in range(10) for end in ("flac", "json")]
    other = write_utterances(tmp_path / "c", workers=0, **{**settings, "seed": 4})
    assert {file.read_bytes() for file in other}.isdisjoint(file.read_bytes() for file in alone)


def test_a_recording_and_its_record_agree(tmp_path):
    (file,) = write_utterances(tmp_path, split="validation", number=12)
    read = contents(file)
    for (_, sound), (_, text) in zip(read[::2], read[1::2], strict=True):
        record, info = json.loads(text), soundfile.info(io.BytesIO(sound))
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        assert record["duration"] == pytest.approx(info.duration, abs=1e-3)
        others = {name for code, name in LANGUAGES.items() if code != record["lang"]}
        assert record["text"] and set(record["translations"]) == others
        assert record["voice"] in {voice.name for voice in voices(record["lang"], "train")}


@pytest.mark.parametrize("split", UTTERANCE_SPLITS)
def test_sentences_and_voices_are_of_their_split(split):
    rng = random.Random(0)
    sentences, speakers = {
        "train": ("train", "train"),
        "validation": ("validation", "train"),
        "test-seen": ("test", "train"),
        "test-unseen": ("test", "test"),
    }[split]
    heard = set()
    for _ in range(40):
        waveform, record = sample_utterance(rng, split=split)
        english = {**record["translations"], LANGUAGES[record["lang"]]: record["text"]}["English"]
        assert Sentence(text={"en": english}).split == sentences
        assert record["voice"] in {voice.name for voice in voices(record["lang"], speakers)}
        assert waveform.dtype == np.float32 and 0.05 < np.abs(waveform).max() < 1
        assert 0.7 < record["duration"] < 8
        heard.add(record["lang"])
    assert heard == set(ACCENTS)


def test_a_given_voice_speaks():
    (voice, *_) = voices("de", "test")
    _, record = sample_utterance(random.Random(1), split="test-unseen", voice=voice)
    assert (record["voice"], record["lang"]) == (voice.name, "de")


def test_a_share_of_training_is_no_speech(tmp_path):
    (file,) = write_utterances(tmp_path, split="train", number=120)
    records = [json.loads(data) for name, data in contents(file) if name.endswith("json")]
    empty = [record for record in records if record.get("no_speech")]
    assert 1 <= len(empty) <= 15
    assert all(record["text"] == "" for record in empty)
    assert all(record["text"] for record in records if record not in empty)


def test_recordings_without_speech_stay_in_range():
    rng = random.Random(0)
    drawn = [sample_no_speech(rng) for _ in range(60)]
    assert any(not waveform.any() for waveform, _ in drawn), "digital silence is among them"
    for waveform, record in drawn:
        assert waveform.dtype == np.float32 and np.abs(waveform).max() < 1
        assert record.keys() == {"no_speech", "kind", "text", "duration"}
        assert record["no_speech"] is True and record["text"] == ""
        assert record["kind"] in ("silence", "noise", "tone", "music")
        assert record["duration"] == pytest.approx(len(waveform) / 16000, abs=1e-3)
