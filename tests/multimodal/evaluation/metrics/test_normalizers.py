"""Normalisers: what they make alike, and that ours takes no script apart."""

import unicodedata
from importlib.metadata import version

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodal.evaluation.metrics.normalizers import NORMALIZERS, keep_marks, normalizer

GREETINGS = {
    "hi": "नमस्ते दुनिया",
    "bn": "ওহে বিশ্ব",
    "ta": "வணக்கம் உலகம்",
    "th": "สวัสดีชาวโลก",
    "my": "မင်္ဂလာပါ",
}
"""In scripts whose vowel signs are combining marks."""


@pytest.mark.parametrize("greeting", GREETINGS.values(), ids=GREETINGS)
def test_vowel_signs_are_kept_by_ours_and_lost_by_whispers(greeting: str) -> None:
    words = greeting.split()
    assert keep_marks(greeting).split() == [unicodedata.normalize("NFKC", word) for word in words]
    ruined = normalizer("whisper-basic").apply(greeting)
    assert not any(unicodedata.category(letter).startswith("M") for letter in ruined)
    assert len(ruined.split()) > len(words)


def test_hindi_by_whispers_normaliser() -> None:
    assert normalizer("whisper-basic").apply("दुनिया") == "द न य"
    assert normalizer("marks-kept").apply("दुनिया।") == "दुनिया"
    # words that differ in a vowel sign alone are the same to Whisper's
    for name, same in (("whisper-basic", True), ("marks-kept", False)):
        apply = normalizer(name).apply
        assert (apply("दिन") == apply("दीन")) is same


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Hello,  World!", "hello world"),
        ("a\nb\tc\u3000d\xa0e", "a b c d e"),
        ("it's 5€", "it s 5"),
        ("ＡＢＣ １２３", "abc 123"),
        ("ﬁn", "fin"),
        ("x™", "xtm"),  # in capitals only after NFKC
        ("cafe\u0301 İ", "café i\u0307"),
        ("می\u200cخواهم", "میخواهم"),
        ("क्\u200dष", "क्ष"),
        ("wow ❤\ufe0f😀!", "wow"),
        ("\u200e\u0645\u200f", "م"),
        ("你好，世界。", "你好 世界"),
        ("snake_case", "snake case"),
        (" … ", ""),
    ],
)
def test_ours_by_hand(text: str, kept: str) -> None:
    assert keep_marks(text) == kept


@given(st.text())
def test_ours_keeps_letters_marks_and_digits_alone(text: str) -> None:
    kept = keep_marks(text)
    categories = {unicodedata.category(letter)[0] for letter in kept.replace(" ", "")}
    assert categories <= {"L", "M", "N", "C"}
    assert kept == " ".join(kept.split())
    assert keep_marks(f"«{text}»") == kept


def test_whispers_english() -> None:
    apply = normalizer("whisper-english").apply
    assert apply("Um, I've twenty-five colours!") == apply("I have 25 colors")
    assert apply("Mr. Smith won't") == "mister smith will not"


def test_none_changes_nothing() -> None:
    assert normalizer("none").apply(" A, b\n") == " A, b\n"


def test_signatures_name_what_results_depend_on() -> None:
    signatures = {name: normalizer(name).signature for name in NORMALIZERS}
    installed = version("whisper-normalizer")
    assert signatures == {
        "whisper-english": f"whisper-english|whisper-normalizer:{installed}",
        "whisper-basic": f"whisper-basic|whisper-normalizer:{installed}",
        "marks-kept": f"marks-kept|version:1|unicode:{unicodedata.unidata_version}",
        "none": "none|version:1",
    }
    assert {name: normalizer(name).name for name in NORMALIZERS} == {n: n for n in NORMALIZERS}


def test_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="no normalizer 'whisper'; there are whisper-english, "):
        normalizer("whisper")
