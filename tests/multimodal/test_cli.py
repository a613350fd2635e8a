"""The command's manners: what goes where, which status, and what happens when it is cut short.

A stand-in answers here, so that each case takes milliseconds; `test_assistant.py` has the real one.
"""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import multimodal.assistant
from multimodal.cli import main
from vision.pictures import open_picture


class StandIn:
    """Answers with the picture's size and the question, in two pieces."""

    def __init__(self) -> None:
        self.settings: dict = {}
        self.dialogues: list = []

    def configure(self, **settings):
        self.settings = settings

    def stream_caption(self, picture, **_):
        size = open_picture(picture).size
        yield "A picture "
        yield f"of {size[0]} x {size[1]}."

    def stream_answer(self, picture, question, *, sound=False):
        open_picture(picture)
        yield f"{question} "
        yield "Yes."

    def look(self, picture, question):
        return "Looked.", open_picture(picture)

    def stream(self, messages):
        self.dialogues.append(messages)
        yield f"turn {sum(m['role'] == 'user' for m in messages)}"


@pytest.fixture
def stand_in(monkeypatch) -> StandIn:
    assistant = StandIn()
    monkeypatch.setattr(multimodal.assistant, "load", lambda *_, **__: assistant)
    return assistant


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch) -> Path:
    """The current folder: two pictures, one of them in a sub-folder, and a broken one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "more").mkdir()
    Image.new("RGB", (8, 6)).save("a.png")
    Image.new("RGB", (5, 4)).save("more/b.jpg")
    Path("bad.webp").write_text("these are words")
    return tmp_path


def test_one_picture_is_answered_without_its_name(stand_in, capsys):
    assert main(["caption", "a.png"]) == 0
    assert capsys.readouterr() == ("A picture of 8 x 6.\n", "")


def test_several_are_answered_with_names_and_bad_ones_cost_a_line(stand_in, capsys):
    assert main(["caption", "a.png", "bad.webp", "none.png", "more"]) == 2
    out, err = capsys.readouterr()
    assert out.splitlines() == ["a.png: A picture of 8 x 6.", "more/b.jpg: A picture of 5 x 4."]
    assert err.splitlines() == [
        "openherd: bad.webp: not a JPEG, PNG, WebP or GIF picture",
        "openherd: none.png: no such file",
    ]


def test_json_lines(stand_in, capsys):
    assert main(["ask", "a.png", "bad.webp", "Sí?", "--json"]) == 2
    out, err = capsys.readouterr()
    assert [json.loads(line) for line in out.splitlines()] == [
        {"file": "a.png", "question": "Sí?", "answer": "Sí? Yes."}
    ]
    assert len(err.splitlines()) == 1


def test_pieces_are_shown_as_they_come(stand_in, monkeypatch):
    shown = []

    class Watched(io.StringIO):
        def flush(self):
            shown.append(self.getvalue())

    monkeypatch.setattr(sys, "stdout", Watched())
    assert main(["caption", "a.png"]) == 0
    assert "A picture " in shown and shown[-1] == "A picture of 8 x 6.\n"


def test_options_reach_the_model(stand_in):
    words = ["caption", "a.png", "--temperature", "0.5", "--max_new_tokens=7", "--seed", "3"]
    assert main(words) == 0
    assert stand_in.settings == {"temperature": 0.5, "max_new_tokens": 7, "seed": 3}


def test_attention_is_written(stand_in, capsys):
    assert main(["ask", "a.png", "Where?", "--attention", "map.png"]) == 0
    assert capsys.readouterr().out == "Looked.\n"
    assert Image.open("map.png").size == (8, 6)


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["captoin", "a.png"], "did you mean 'caption'?"),
        (["caption"], "media"),
        (["ask", "a.png"], "question"),
        (["caption", "a.png", "--dtype", "int8"], "dtype"),
        (["caption", "a.png", "--nope"], "--nope"),
        (["caption", "a.png", "--temperature", "hot"], "temperature"),
        (["ask", "a.png", "more/b.jpg", "q", "--attention", "map.png"], "single file"),
        (["ask", "a.png", "q", "--attention", "map.jpg"], ".png"),
        (["ask", "a.png", "q", "--attention", "map.png", "--with-sound"], "has no sound"),
        (["ask", "a.png", "q", "--attention", "gone/map.png"], "folder does not exist"),
    ],
)
def test_bad_usage_is_one_line(stand_in, capsys, words, fault):
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and fault in err


def test_ctrl_c(stand_in, monkeypatch, capsys):
    def stopped(picture, **_):
        yield "A "
        raise KeyboardInterrupt

    monkeypatch.setattr(stand_in, "stream_caption", stopped)
    assert main(["caption", "a.png"]) == 130
    assert capsys.readouterr().err == ""


def test_internal_fault(stand_in, monkeypatch, capsys):
    monkeypatch.setattr(stand_in, "stream_caption", lambda picture, **_: iter([1 // 0]))
    assert main(["caption", "a.png"]) == 1
    err = capsys.readouterr().err.splitlines()
    assert "ZeroDivisionError" in err[-2] and "internal fault" in err[-1]


def test_a_reader_that_goes_away(folder):
    """`openherd ... | head -1` ends without a word on stderr."""
    code = """
import sys, multimodal.cli as cli
class Module:
    def main(words):
        for number in range(100_000):
            print("line", number, flush=True)
        return 0
cli.importlib.import_module = lambda name: Module
sys.exit(cli.main(["caption", "a.png"]))
"""
    running = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert running.stdout.readline() == "line 0\n"
    running.stdout.close()
    assert running.wait(timeout=60) == 141
    assert running.stderr.read() == ""


def chat(monkeypatch, lines: str, *words: str) -> int:
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    return main(["chat", *words])


def test_chat_tells_the_whole_dialogue_each_turn(stand_in, monkeypatch, capsys):
    lines = "first\n\n/image more/b.jpg\nsecond\n/new\nthird\n/quit\nnever\n"
    assert chat(monkeypatch, lines, "a.png", "--system", "Be brief.") == 0
    assert capsys.readouterr().out.splitlines() == ["turn 1", "turn 2", "turn 1"]
    first, second, third = stand_in.dialogues
    assert [m["role"] for m in second] == ["system", "user", "assistant", "user"]
    assert second[:2] == first and second[2]["content"] == "turn 1"
    sizes = [p["image"].size for m in second[1::2] for p in m["content"] if p["type"] == "image"]
    assert sizes == [(8, 6), (5, 4)]
    assert third[0]["content"] == "Be brief." and len(third[1]["content"]) == 1


def test_chat_goes_on_after_a_bad_picture(stand_in, monkeypatch, capsys):
    assert chat(monkeypatch, "/image bad.webp\nhello\n", "--json") == 2
    out, err = capsys.readouterr()
    assert json.loads(out) == {"answer": "turn 1"}
    assert err == "openherd: bad.webp: not a JPEG, PNG, WebP or GIF picture\n"
