"""Texts that pass as they are, texts that are mended, texts that are refused."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from video.curation.text import TextRules, clean_text

RULES = TextRules()


@pytest.mark.parametrize(
    "text",
    [
        "A dog runs after a ball in the park.",
        "Zwei Mädchen füttern Enten am Weiher; es ist Frühling!",
        "L'été, on mange dehors: c'est l'heure du goûter.",
        "He won 3-2 in 2019, at 5 p.m., by 1.5 seconds.",
        "Две собаки бегут по берегу моря.",
        "Πώς φτιάχνουμε ψωμί στο σπίτι.",
        "犬が公園でボールを追いかけています。",
        "नदी के किनारे दो बच्चे खेल रहे हैं।",
        'She said "wait" - and waited (for an hour).',
        "Mr. O'Neill's boat isn't red & white.",
    ],
)
def test_sentences_of_all_scripts_pass_bit_for_bit(text):
    cleaned, verdict = clean_text(unicodedata.normalize("NFC", text), RULES)
    assert cleaned == unicodedata.normalize("NFC", text) and verdict.passed
    assert verdict.score == 1.0 and verdict.reason == ""


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("A cat sleeps.\nSubscribe to my channel!", "A cat sleeps."),
        ("A <b>cat</b> sleeps &amp; snores.", "A cat sleeps & snores."),
        ("A cat sleeps https://example.org/x?y=1 in the sun", "A cat sleeps in the sun"),
        ("A cat sleeps in the sun #cat #funny @someone", "A cat sleeps in the sun"),
        ("A cat \U0001f408 sleeps \U0001f634\U0001f634 in the sun", "A cat sleeps in the sun"),
        ("Making bread\n0:00 Intro\n01:30 Dough\n1:02:03 Oven", "Making bread"),
        ("IMG_2034.MP4 A cat sleeps in the sun", "A cat sleeps in the sun"),
        ("Write to cats@example.org about cats", "Write to about cats"),
        ("A cat\x00 sleeps\u200b in\tthe  sun", "A cat sleeps in the sun"),
        ("A cat sleeps in the sun. Click the link in the description!", "A cat sleeps in the sun."),
    ],
)
def test_what_says_nothing_is_taken_out(text, left):
    cleaned, verdict = clean_text(text, RULES)
    assert cleaned == left and verdict.passed


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "characters are left"),
        ("hi", "characters are left"),
        ("https://example.org/only/an/address", "characters are left"),
        ("#a #b #c #d", "characters are left"),
        ("1234 5678 90 1234 5678", "letters"),
        ("YOU WILL NEVER BELIEVE WHAT HAPPENED NEXT", "capitals"),
        ("very very very very good cat", "four times"),
        ("The cat sleeps!!!!!!!!", "over and over"),
        ("Sooooooooo funny this cat", "over and over"),
        ("word " * 3000, "more than"),
        ("Subscribe to us. Like and subscribe!", "characters are left"),
    ],
)
def test_what_is_left_may_be_too_little_or_too_loud(text, fault):
    _, verdict = clean_text(text, RULES)
    assert not verdict.passed and fault in verdict.reason


@given(st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_text_is_cleaned(text):
    """What is clean has no control character and is no longer than allowed."""
    cleaned, verdict = clean_text(text, RULES)
    assert len(cleaned) <= 4 * RULES.max_characters
    assert not any(unicodedata.category(sign) in ("Cc", "Cs") for sign in cleaned)
    assert verdict.passed == (verdict.reason == "") and 0 <= verdict.score <= 1


def test_bounds_are_the_configs():
    strict = TextRules(min_words=10)
    assert not clean_text("A dog runs after a ball.", strict)[1].passed
    loose = TextRules(max_capitals=1.0)
    assert clean_text("A DOG RUNS AFTER A BALL", loose)[1].passed
    for wrong in ({"min_letters": 2}, {"min_characters": 9, "max_characters": 8}):
        with pytest.raises(ValueError, match="text"):
            TextRules(**wrong)
