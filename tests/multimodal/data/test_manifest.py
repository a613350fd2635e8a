"""Speech manifests as they are: every utterance is exactly its slice of the file."""

import numpy as np
import pytest

from language.errors import InputError
from multimodal.data.jsonl import JsonlSource
from multimodal.data.speech import SpeechPretrainingTask
from multimodal.data.transcripts import Transcript, transcript
from tests.multimodal.data.recording_files import RATE, encoded, noise, same, write_manifest


@pytest.fixture
def talk(tmp_path):
    """A long file in a folder beside the manifest."""
    (tmp_path / "set" / "wavs").mkdir(parents=True)
    samples = noise(9.0)
    (tmp_path / "set" / "wavs" / "talk.flac").write_bytes(encoded(samples))
    return samples


def source_of(tmp_path, cache, *lines):
    path = write_manifest(tmp_path / "set" / "manifest.json", *lines)
    return JsonlSource(str(path), cache=cache)


def line(**keys):
    return {"audio_filepath": "wavs/talk.flac", "text": "words"} | keys


def test_utterances_are_exact_slices(tmp_path, cache, talk):
    absolute = str(tmp_path / "set" / "wavs" / "talk.flac")
    lines = [
        line(offset=start, duration=duration, audio_filepath=path)
        for start, duration in ((0, 1), (1.25, 0.5), (3.0001, 2.37), (8.5, 0.5), (0.033, 0.0501))
        for path in ("wavs/talk.flac", absolute, "../set/wavs/talk.flac")
    ]
    source = source_of(tmp_path, cache, *lines, line(), line(offset=7.5, duration=None))
    task = SpeechPretrainingTask()
    for index, record in enumerate(lines):
        first = round(record["offset"] * RATE)
        stop = round((record["offset"] + record["duration"]) * RATE)
        assert same(task.encode(source.read(index)).waveform, talk[first:stop])
        assert source.extent(index).seconds == (record["duration"],)
    assert same(task.encode(source.read(len(lines))).waveform, talk)
    assert same(task.encode(source.read(len(lines) + 1)).waveform, talk[round(7.5 * RATE) :])
    assert source.extent(len(lines)).seconds == (9.0,)
    assert source.extent(len(lines) + 1).seconds == (1.5,)


def test_another_rate_is_the_slice_of_the_whole(tmp_path, cache, talk):
    """Resampled, an utterance is what it is in the resampled file."""
    samples = np.stack([talk[:72_000], talk[72_000:]], axis=1)
    (tmp_path / "set" / "wavs" / "talk.flac").write_bytes(encoded(samples, rate=44_100))
    source = source_of(tmp_path, cache, line(), line(offset=0.7, duration=0.6))
    whole, part = (SpeechPretrainingTask().encode(source.read(i)).waveform for i in range(2))
    assert len(part) == 9600
    assert same(part, whole[11_200:20_800].numpy())


@pytest.mark.parametrize(
    "keys, fault",
    [
        ({"audio_filepath": "wavs/9.flac"}, "wavs/9.flac: no such file"),
        ({"audio_filepath": "wavs"}, "no such file"),
        ({"audio_filepath": 7}, "must be a path"),
        ({"audio_filepath": "a\0b"}, "must be a path"),
        ({"offset": -1, "duration": 1}, "offset must be seconds, not -1"),
        ({"offset": "1", "duration": 1}, "offset must be seconds"),
        ({"offset": float("nan"), "duration": 1}, "offset must be seconds"),
        ({"duration": 0}, "duration must be seconds"),
        ({"duration": float("inf")}, "duration must be seconds"),
        ({"duration": True}, "duration must be seconds"),
        ({"offset": 8.0, "duration": 3.0}, "ends at 9.00 s"),
        ({"offset": 12.0, "duration": 3.0}, "ends "),
    ],
)
def test_bad_lines_are_named(tmp_path, cache, talk, keys, fault):
    source = source_of(tmp_path, cache, line(), line(**keys))
    source.extent(1)
    with pytest.raises(InputError, match=fault) as caught:
        SpeechPretrainingTask().encode(source.read(1))
    assert "manifest.json: line 2" in str(caught.value) and "\n" not in str(caught.value)
    SpeechPretrainingTask().encode(source.read(0))


EN, DE = "English", "German"


@pytest.mark.parametrize(
    "record, wanted",
    [
        ({"text": " hello ", "lang": "en"}, Transcript(text="hello", language=EN)),
        ({"text": "hello", "language": "english"}, Transcript(text="hello", language=EN)),
        ({"text": "hello"}, Transcript(text="hello")),
        ({}, Transcript()),
        ({"text": "  "}, Transcript()),
        ({"lang": "de-AT"}, Transcript(language=DE)),
        (
            {"text": "hello", "lang": "en", "translations": {"de": "hallo", "Spanish": "hola"}},
            Transcript(text="hello", language=EN, translations={DE: "hallo", "Spanish": "hola"}),
        ),
        (  # canary, recognition
            {"source_lang": "en", "target_lang": "en", "answer": "hello", "pnc": "yes"},
            Transcript(text="hello", language=EN),
        ),
        (
            {"source_lang": "en", "target_lang": "en", "text": "hello", "answer": "na"},
            Transcript(text="hello", language=EN),
        ),
        (  # canary, translation
            {"source_lang": "en", "target_lang": "de", "text": "hallo", "answer": "na"},
            Transcript(language=EN, translations={DE: "hallo"}),
        ),
        (
            {"source_lang": "en", "target_lang": "de", "text": "hallo", "answer": "hallo"},
            Transcript(language=EN, translations={DE: "hallo"}),
        ),
        (
            {"source_lang": "en", "target_lang": "de", "text": "hello", "answer": "hallo"},
            Transcript(text="hello", language=EN, translations={DE: "hallo"}),
        ),
        (
            {"lang": "en", "text": "hello", "target_lang": "de", "translation": "hallo"},
            Transcript(text="hello", language=EN, translations={DE: "hallo"}),
        ),
        (  # nothing to read is no error: pre-training wants sound alone
            {"source_lang": "en", "target_lang": "de", "answer": "na"},
            Transcript(language=EN),
        ),
    ],
)
def test_records_in_use(record, wanted):
    assert transcript(record, name="x") == wanted


def test_a_language_for_records_that_name_none():
    assert transcript({"text": "a"}, name="x", language="de").language == DE
    assert transcript({"text": "a", "lang": "en"}, name="x", language="de").language == EN


@pytest.mark.parametrize(
    "record, fault",
    [
        ({"text": 3}, "text: must be a text"),
        ({"lang": 3}, "lang: must be the name or the code"),
        ({"lang": "xx"}, "language 'xx': unknown"),
        ({"translations": ["a"]}, "translations: must be an object"),
        ({"translations": {"de": 3}}, "de: must be a text"),
        ({"translations": {"Elvish": "a"}}, "language 'Elvish': unknown"),
        ({"translation": "a"}, "Give target_lang"),
    ],
)
def test_bad_records_are_named(record, fault):
    with pytest.raises(InputError, match=fault) as caught:
        transcript(record, name="sample 7")
    assert str(caught.value).startswith("sample 7: ")
