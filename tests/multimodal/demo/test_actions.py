"""The page's buttons do what the assistant does."""

import json
from pathlib import Path

import gradio as gr
import numpy as np
import pytest

from multimodal import load
from multimodal.cli import main
from multimodal.demo.actions import Actions
from multimodal.demo.looking import look_by_word
from multimodal.demo.page import build
from multimodal.locations import TINY

SAMPLES = TINY / "samples"
PICTURE = str(SAMPLES / "01.png")
TALK = str(SAMPLES / "recordings" / "04.flac")


@pytest.fixture(scope="module")
def assistant():
    return load("tiny", device="cpu")


@pytest.fixture
def actions(assistant, tmp_path):
    return Actions(assistant, name="tiny", other=assistant, other_name="again",
                   ratings=tmp_path / "ratings.jsonl", seed=0)  # fmt: skip


def test_a_picture_is_captioned_and_asked_about_in_one_dialogue(actions, assistant):
    turns = actions.caption(PICTURE, [])
    assert turns[-1] == {"role": "assistant", "content": assistant.caption(PICTURE)}
    turns, emptied = actions.ask(PICTURE, "What is below?", turns)
    image = {"type": "image", "image": PICTURE}
    first = {"role": "user", "content": [image, {"type": "text", "text": turns[0]["content"]}]}
    assert turns[-1]["content"] == "".join(assistant.stream([first, *turns[1:-1]]))
    assert emptied == "" and [turn["role"] for turn in turns] == ["user", "assistant"] * 2
    as_parts = [{**t, "content": [{"type": "text", "text": t["content"]}]} for t in turns[:2]]
    assert actions.ask(PICTURE, "What is below?", as_parts)[0][-1] == turns[-1]


def test_each_word_has_its_picture(actions, assistant):
    turns, _ = actions.ask(PICTURE, "What is below?", [])
    drawn = actions.words(PICTURE, turns)
    assert " ".join(word for _, word in drawn) == turns[-1]["content"]
    pixels = [np.asarray(image) for image, _ in drawn]
    assert len(drawn) > 1 and not np.array_equal(pixels[0], pixels[-1])
    words = look_by_word(assistant, PICTURE, "What is below?")
    assert [word for word, _ in words] == [word for _, word in drawn]


def test_clips_and_recordings(actions, assistant):
    clip = str(next((SAMPLES / "clips").glob("*.mp4")))
    answer, sheet = actions.watch(clip, "What comes last?", False)
    assert answer == assistant.ask(clip, "What comes last?") and sheet.width > 100
    text, rows, file = actions.transcribe(TALK, "English")
    true = assistant.transcribe(TALK, language="English")
    assert text == true.text and rows[0][2] == true.segments[0].text
    assert "-->" in Path(file).read_text() and Path(file).suffix == ".srt"
    assert actions.transcribe(TALK, "find out")[0] == assistant.transcribe(TALK).text
    assert actions.translate(TALK, "German")[0] == assistant.translate(TALK, to="German").text


def test_two_models_are_rated_blind(actions):
    left, right, unrated, asked = actions.ask_both(PICTURE, "What is below?")
    assert left and right and unrated is None
    assert {asked["left"], asked["right"]} == {"tiny", "again"}
    shown, rating, gone = actions.rate(asked, "right is better")
    assert rating is None and gone is None  # a second press keeps nothing
    assert asked["left"] in shown and "1 ratings" in shown
    (line,) = actions.ratings.read_text().splitlines()
    assert json.loads(line)["points"] == 2
    with pytest.raises(gr.Error, match="Ask both"):
        actions.rate(None, "right is better")
    with pytest.raises(gr.Error, match="Ask both"):
        actions.rate(asked, None)


def test_what_is_missing_or_bad_is_told_on_the_page(actions, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    for act, fault in (
        (lambda: actions.ask(PICTURE, "  ", []), "Type a question"),
        (lambda: actions.words(PICTURE, []), "Ask about a picture first"),
        (lambda: actions.watch(None, "What?", False), "Choose a clip"),
        (lambda: actions.transcribe(None, "English"), "Choose or record"),
        (lambda: actions.caption(str(broken), []), "broken.png"),
    ):
        with pytest.raises(gr.Error, match=fault):
            act()


def test_the_page_has_a_tab_for_what_the_model_knows(actions, assistant):
    def tabs(page) -> list[str]:
        return [b.label for b in page.blocks.values() if isinstance(b, gr.Tab)]

    assert tabs(build(actions)) == ["Picture", "Clip", "Recording", "Compare"]
    assert tabs(build(Actions(assistant, name="tiny"))) == ["Picture", "Clip", "Recording"]
    assert "6.2 million weights; knows pictures, clips, recordings" in actions.about()


def test_bad_usage_is_one_line(tmp_path, capsys):
    ratings = tmp_path / "ratings.jsonl"
    ratings.write_text("no rating\n")
    for words, fault in (
        (["--port", "0"], "--port: must be between"),
        (["--ratings", str(ratings), "--against", "tiny"], "line 1: no rating"),
    ):
        assert main(["demo", *words]) == 2
        said = capsys.readouterr().err
        assert fault in said and said.count("\n") == 1
