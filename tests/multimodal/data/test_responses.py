"""Spoken dialogues made of transcribed recordings: the core's answers beside the same sound."""

import io
import json
import tarfile

import numpy as np
import pytest
import soundfile

from language.errors import InputError
from multimodal.cli import main
from multimodal.data.jsonl import JsonlSource
from multimodal.data.responses import respond
from multimodal.data.samples import dialogues
from multimodal.data.shards import ShardSource
from tests.multimodal.speaking import RATE, sound, write_speaking

RECORDS = [
    {"text": "one two", "lang": "en"},
    {"text": "three " * 80, "lang": "en"},
    {"lang": "en"},
    {"text": "What is the cup?", "lang": "en", "speaker": 7},
]


def loud(texts):
    return [f"{text.upper()}!" for text in texts]


@pytest.fixture
def manifest(tmp_path):
    folder = tmp_path / "talk"
    folder.mkdir()
    lines = []
    for index, record in enumerate(RECORDS):
        soundfile.write(folder / f"{index}.wav", sound(0.5, seed=index)[0], RATE)
        lines.append(json.dumps({**record, "audio_filepath": f"{index}.wav", "duration": 0.5}))
    (folder / "talk.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "talk.jsonl"


@pytest.fixture
def shard(tmp_path):
    file = tmp_path / "talk.tar"
    with tarfile.open(file, "w") as archive:
        for index, record in enumerate(RECORDS):
            buffer = io.BytesIO()
            soundfile.write(buffer, sound(0.5, seed=index)[0], RATE, format="FLAC")
            for name, data in (("flac", buffer.getvalue()), ("json", json.dumps(record).encode())):
                member = tarfile.TarInfo(f"{index:03d}.{name}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return file


@pytest.mark.parametrize("kind", ["manifest", "shard"])
def test_answers_stand_beside_the_same_sound(tmp_path, request, kind):
    source = request.getfixturevalue(kind)
    target = tmp_path / "out" / source.name
    assert respond(source, target, loud, max_words=60) == (2, 2)
    reader = JsonlSource if kind == "manifest" else ShardSource
    written = reader(str(target), cache=tmp_path / "cache")
    origin = reader(str(source), cache=tmp_path / "cache")
    for index, (before, answer) in enumerate(((0, "ONE TWO!"), (3, "WHAT IS THE CUP?!"))):
        sample = written.read(index)
        ((user, assistant),) = dialogues(sample)
        assert assistant["content"] == answer
        (part,) = user["content"]
        original = next(iter(origin.read(before).recordings.values()))
        if kind == "shard":
            assert part["audio"] == original
        else:
            assert part["audio"].source.samefile(original.source)
    assert written.read(1).record["speaker"] == 7


def test_nothing_to_answer(tmp_path):
    (tmp_path / "none.jsonl").write_text(json.dumps({"lang": "en"}) + "\n")
    with pytest.raises(InputError, match="transcript"):
        respond(tmp_path / "none.jsonl", tmp_path / "out.jsonl", loud, max_words=9)
    assert not (tmp_path / "out.jsonl").exists()
    (tmp_path / "broken.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(InputError, match=r"broken\.tar"):
        respond(tmp_path / "broken.tar", tmp_path / "out.tar", loud, max_words=9)
    with pytest.raises(InputError, match="ending"):
        respond(tmp_path / "x.csv", tmp_path / "out.csv", loud, max_words=9)


def test_the_command_asks_the_core(tmp_path, manifest, capsys):
    model = write_speaking(tmp_path / "model")
    words = ["respond", str(manifest), "--out", str(tmp_path / "made"), "--model", str(model)]
    assert main([*words, "--max_new_tokens", "4"]) == 0
    assert "2 dialogues" in capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / "made" / "talk.jsonl").open()]
    assert [line["text"] for line in lines] == ["one two", "What is the cup?"]
    assert np.all([line["messages"][1]["content"] for line in lines])
    assert main([*words, "--max_new_tokens", "4"]) == 2
    assert "overwrite" in capsys.readouterr().err
