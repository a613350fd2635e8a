"""A folder of recordings becomes measured texts; what is broken is named."""

import json
import math

import numpy as np
import pytest
import soundfile

from language.errors import InputError
from speech.prosody.corpus import MeasuredText, main, read_measured, words_in

pytest.importorskip("parselmouth")
RATE = 16_000


def write(folder, key, *, text="Oh, ah!", phones="oʊ 0.1 0.4\n\nɑː 0.5 0.9\ns 0.9 1.0\n"):
    """Two tones, of 120 Hz and of 200 Hz at half the amplitude, and silence at the end."""
    times = np.arange(RATE) / RATE
    first, second = (times >= 0.1) & (times < 0.4), (times >= 0.5) & (times < 0.9)
    sound = 0.4 * np.sin(2 * np.pi * 120 * times) * first
    sound += 0.2 * np.sin(2 * np.pi * 200 * times) * second
    soundfile.write(folder / f"{key}.wav", sound, RATE, subtype="FLOAT")
    (folder / f"{key}.txt").write_text(text)
    (folder / f"{key}.phones").write_text(phones)


def test_tones_are_measured_as_they_were_made(tmp_path):
    write(tmp_path, "a")
    (tmp_path / "a.json").write_text('{"speaker": 2}')
    assert main([str(tmp_path), str(tmp_path / "out.jsonl")]) == 0
    (found,) = read_measured(tmp_path / "out.jsonl")
    assert [word.text for word in found.words] == ["Oh", "ah"]
    assert [phone.word for phone in found.phones] == [0, 1, 1]
    assert (found.speaker, found.style, found.text) == (2, 0, "Oh, ah!")
    measures = found.targets().numpy()
    assert np.exp(measures[:, 0]) == pytest.approx([0.3, 0.4, 0.1], abs=1e-3)
    assert np.exp(measures[:2, 1]) == pytest.approx([120, 200], rel=0.01)
    assert math.isnan(measures[2, 1])  # silence has no pitch, and not the pitch 0
    assert np.exp(measures[:2, 2]) == pytest.approx([0.4**2 / 2, 0.2**2 / 2], rel=0.02)


def test_one_broken_recording_does_not_stop_the_others(tmp_path, capsys):
    write(tmp_path, "a")
    write(tmp_path, "long", phones="oʊ 0.1 0.4\n\nɑː 0.5 3.0\n")
    write(tmp_path, "words", text="Oh.")
    write(tmp_path, "labels")
    (tmp_path / "labels.json").write_text('{"speaker": "Ann"}')
    write(tmp_path, "alone")
    (tmp_path / "alone.phones").unlink()
    write(tmp_path, "sound")
    (tmp_path / "sound.wav").write_bytes(b"RIFF")
    assert main([str(tmp_path), str(tmp_path / "out.jsonl")]) == 2
    assert [each.name for each in read_measured(tmp_path / "out.jsonl")] == ["a"]
    faults = capsys.readouterr().err.splitlines()
    assert len(faults) == 5
    for line, (name, fault) in zip(
        faults,
        (
            ("alone.wav", "neither"),
            ("labels.json", "speaker"),
            ("long.phones", "until 3 s"),
            ("sound.wav", "cannot be read"),
            ("words.phones", "2 words, words.txt has 1"),
        ),
        strict=True,
    ):
        assert name in line and fault in line


def test_an_empty_folder_is_said(tmp_path, capsys):
    assert main([str(tmp_path), str(tmp_path / "out.jsonl")]) == 2
    assert "no .wav or .flac" in capsys.readouterr().err


def test_words_know_their_marks_and_where_they_end():
    text = '"I\'m well-read," said Ann (quietly). Are you?'
    found = [
        (word.text, text[: word.end][-2:], word.after, word.is_quoted) for word in words_in(text)
    ]
    assert found == [
        ("I'm", "'m", "", True),
        ("well-read", "d,", ",", True),
        ("said", "id", "", False),
        ("Ann", "nn", "", False),
        ("quietly", "ly", ".", False),
        ("Are", "re", "", False),
        ("you", "u?", "?", False),
    ]


def test_lines_go_both_ways(tmp_path):
    write(tmp_path, "a", text='"Oh," ah!')
    main([str(tmp_path), str(tmp_path / "out.jsonl")])
    (found,) = read_measured(tmp_path / "out.jsonl")
    again = MeasuredText.of_line(found.line(), source="memory")
    assert again.line() == found.line() and again.words == found.words


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"measures": []}, "3 phones and 0 measures"),
        ({"phones": [["a", 0, 5], ["a", 0, 5], ["a", 0, 6]]}, "in order"),
        ({"phones": None}, "not a measured text"),
        ({"words": 3}, "not a measured text"),
    ],
)
def test_broken_lines_are_named(tmp_path, change, fault):
    write(tmp_path, "a")
    main([str(tmp_path), str(tmp_path / "out.jsonl")])
    record = json.loads((tmp_path / "out.jsonl").read_text()) | change
    (tmp_path / "out.jsonl").write_text(f"\n{json.dumps(record)}\n")
    with pytest.raises(InputError, match=f"out.jsonl:2: .*{fault}"):
        [*read_measured(tmp_path / "out.jsonl")]
