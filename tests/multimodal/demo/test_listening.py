"""Listening pairs: both sides sound, nobody sees whose they are, and ratings come back."""

import base64
import html
import io
import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from language.errors import InputError
from multimodal.demo.listening import main, page
from multimodal.demo.preferences import Rating, keep, kept

TEXTS = ["We saw <it> & left.", "Was it late?", "No.", "Yes, it was."]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


class Tone:
    """Says every text as so many samples of one value."""

    synthesizer = SimpleNamespace(rate=8000)

    def __init__(self, value):
        self.value = value

    def speak(self, text):
        return np.full(100 * len(text), self.value, np.float32)


@pytest.fixture
def speakers():
    return {"with": Tone(0.25), "without": Tone(-0.25)}


def test_both_sides_sound_and_the_order_is_drawn(speakers):
    written = page(TEXTS, speakers, seed=3)
    pairs = json.loads(re.search(r"const pairs = (\[.*?\]);\n", written)[1])
    urls = re.findall(r'src="data:audio/flac;base64,([^"]+)"', written)
    assert [pair["question"] for pair in pairs] == TEXTS and len(urls) == 2 * len(TEXTS)
    for number, pair in enumerate(pairs):
        for side, url in zip(("left", "right"), urls[2 * number :], strict=False):
            sound, rate = soundfile.read(io.BytesIO(base64.b64decode(url)))
            assert rate == 8000 and len(sound) == 100 * len(TEXTS[number])
            assert (sound[0] > 0) == (pair[side] == "with")
    assert {pair["left"] for pair in pairs} == {"with", "without"}
    assert html.escape(TEXTS[0]) in written and "<it>" not in written
    seen = re.sub(r"<script>.*</script>", "", written, flags=re.S)
    assert "without" not in seen


def test_two_are_compared(speakers):
    with pytest.raises(InputError, match="want two"):
        page(TEXTS, {"with": speakers["with"]})


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["nowhere.txt"], "no such file"),
        (["texts.txt", "--speakers", "a", "b"], "NAME=DIRECTORY"),
        (["texts.txt", "--speakers", "a=none", "b=none"], "none"),
        (["--tally", "broken.jsonl"], "line 1"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, words, fault):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text("No.\n")
    (tmp_path / "broken.jsonl").write_text("{\n")
    with pytest.raises(SystemExit) as exit:
        main(words)
    assert exit.value.code == 2
    error = capsys.readouterr().err
    assert fault in error and error.count("\n") == 1


def test_ratings_are_counted(tmp_path, capsys):
    file = tmp_path / "ratings.jsonl"
    for left, points in (("with", -2), ("without", 3), ("with", 0)):
        right = "without" if left == "with" else "with"
        keep(
            Rating(
                question="?", left=left, right=right, left_answer="", right_answer="", points=points
            ),
            file,
        )
    main(["--tally", str(file)])
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("with: preferred 66.7%, tie 33.3%; rate 83.3%")
    assert said[1].startswith("without: preferred 0.0%, tie 33.3%; rate 16.7%")


@pytest.mark.browser
def test_in_a_browser(speakers, tmp_path):
    if CHROMIUM is None:
        pytest.skip("no Chromium: Debian's is in the package chromium")
    from playwright.sync_api import sync_playwright

    file = tmp_path / "pairs.html"
    file.write_text(page(TEXTS, speakers, seed=3), encoding="utf-8")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        view = browser.new_page()
        outside: list[str] = []
        view.on("request", lambda r: outside.append(r.url)
                if not r.url.startswith(("file:", "data:", "blob:")) else None)  # fmt: skip
        view.goto(file.as_uri())
        assert view.locator("audio").count() == 2 * len(TEXTS)
        groups = view.get_by_role("group")
        groups.nth(0).get_by_label("left is much better").check()
        groups.nth(2).get_by_label("right is slightly better").focus()
        view.keyboard.press("Space")
        with view.expect_download() as download:
            view.get_by_role("button", name="Save the ratings").click()
        download.value.save_as(tmp_path / "ratings.jsonl")
        assert view.locator("#state").inner_text() == f"2 of {len(TEXTS)} rated"
        browser.close()
    assert outside == []
    ratings = kept(tmp_path / "ratings.jsonl")
    assert [(rating.question, rating.points) for rating in ratings] == [
        (TEXTS[0], -3),
        (TEXTS[2], 1),
    ]
