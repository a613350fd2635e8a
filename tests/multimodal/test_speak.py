"""`openherd speak` and `ask --speak`: sound in a file, and every bad input in one line."""

import io
import json
import sys

import pytest
import soundfile
from PIL import Image

from multimodal.cli import main
from multimodal.speaking import open_speaker, spoken_along
from multimodal.world.train_speaker import join
from tests.multimodal.random_speaker import random_parts


@pytest.fixture(scope="session")
def speaker_directory(tmp_path_factory):
    """A speaker of random weights."""
    folder = tmp_path_factory.mktemp("speaker")
    join(folder / "speaker", **random_parts(folder))
    return folder / "speaker"


def speak(directory, *words):
    return main(["speak", *map(str, words), "--speaker", str(directory)])


def test_sound_in_a_file(speaker_directory, tmp_path, capsys):
    assert speak(speaker_directory, "We saw it, and left.", "-o", tmp_path / "out.wav") == 0
    said = capsys.readouterr().out
    assert said.split() and "\n" in said
    sound, rate = soundfile.read(tmp_path / "out.wav")
    assert len(sound) > rate / 2 and abs(sound).max() > 0.01


def test_json_says_what_was_read_how(speaker_directory, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("We saw it.\nAnd then?"))
    assert speak(speaker_directory, "-", "--json", "-o", tmp_path / "out.wav") == 0
    found = json.loads(capsys.readouterr().out)
    read = soundfile.info(tmp_path / "out.wav")
    assert found["seconds"] == pytest.approx(read.frames / read.samplerate, abs=0.01)
    assert 0 < found["first_sound_seconds"] and found["real_time_factor"] > 0
    assert "".join(span["written"] for span in found["spans"]).startswith("Wesaw")


def test_a_plot(speaker_directory, tmp_path):
    assert speak(speaker_directory, "We saw it.", "--plot", tmp_path / "out.png") == 0
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.width > 100


@pytest.mark.parametrize(
    "text",
    ["🙂 fine", "Москва 日本", "9" * 300, "flibbertigibbet", "a\x00b\x1b[0m", "1/0 $ 25:99"],
)
def test_odd_texts_are_read(speaker_directory, tmp_path, capfd, text):
    assert speak(speaker_directory, text, "-o", tmp_path / "out.wav") == 0
    assert soundfile.info(tmp_path / "out.wav").frames > 1000
    out, error = capfd.readouterr()
    assert out.strip() and "Traceback" not in error


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["", "-o", "kept.wav"], "nothing that could be said"),
        ([" \n\t", "-o", "kept.wav"], "nothing that could be said"),
        (["x " * 600_000], "longer than 65,536 characters"),
        (["hello", "-o", "out.mp3"], "writes WAV"),
        (["hello", "--plot", "out.jpg"], "writes PNG"),
        (["hello", "-o", "nowhere/out.wav"], "folder does not exist"),
        (["hello", "--voice", "en-us+nobody"], "no such voice"),
        (["hello", "--voice", "xx"], "xx"),
    ],
)
def test_bad_input_is_one_line(speaker_directory, tmp_path, monkeypatch, capfd, words, fault):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kept.wav").write_bytes(b"mine")
    assert speak(speaker_directory, *words) == 2
    error = capfd.readouterr().err
    assert fault in error and error.count("\n") == 1
    assert (tmp_path / "kept.wav").read_bytes() == b"mine"


def test_without_the_extra(speaker_directory, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    assert speak(speaker_directory, "hello") == 2
    assert "pip install openherd[speak]" in capfd.readouterr().err


def test_directories_that_are_no_speaker(tmp_path, capfd):
    assert speak(tmp_path, "hello") == 2
    assert "config.json" in capfd.readouterr().err


def test_pieces_pass_by_while_they_are_spoken(speaker_directory, tmp_path):
    speaker = open_speaker(speaker_directory)
    pieces = ["We ", "saw it, ", "and left", "."]
    assert list(spoken_along(pieces, speaker, tmp_path / "out.wav")) == pieces
    along, _ = soundfile.read(tmp_path / "out.wav", dtype="float32")
    whole = speaker.speak("".join(pieces))
    assert len(along) == pytest.approx(len(whole), rel=0.01)
    assert open_speaker(beside=speaker_directory.parent).synthesizer.voice == "en-us"


def test_an_answer_is_spoken(speaker_directory, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("multimodal.speaking.SHIPPED", speaker_directory)
    Image.new("RGB", (64, 64), "red").save(tmp_path / "photo.png")
    target = tmp_path / "answer.wav"
    words = ["ask", str(tmp_path / "photo.png"), "What is this?", "--device", "cpu"]
    assert main([*words, "--speak", str(target)]) == 0
    assert capsys.readouterr().out.strip()
    assert soundfile.info(target).frames > 0
    before = target.read_bytes()
    (tmp_path / "broken.png").write_bytes(b"no picture")
    broken = ["ask", str(tmp_path / "broken.png"), "What is this?", "--device", "cpu"]
    assert main([*broken, "--speak", str(target)]) == 2
    assert target.read_bytes() == before
    capsys.readouterr()
    for bad, fault in (("answer.mp3", "writes WAV"), ("nowhere/a.wav", "folder does not exist")):
        assert main([*words, "--speak", str(tmp_path / bad)]) == 2
        assert fault in capsys.readouterr().err
