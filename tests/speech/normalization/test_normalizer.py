"""Text into speech: nothing is dropped, whatever comes and however badly a tagger is trained."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from language.errors import InputError
from speech.normalization.checkpoint import load_tagger, save_tagger
from speech.normalization.normalizer import Normalizer, SpanReader, joined
from speech.normalization.rules import CONTINUE, language
from speech.normalization.written import clean, split

ENGLISH = language("en")
HARD = [
    "",
    " \n\t ",
    "🙂 👩‍👩‍👧 ™",
    "Москва 日本 नमस्ते ٣٤",
    "\x00\x07\x1b[0m\u202eevil\ufeff",
    "9" * 300,
    "flibbertigibbet qxzw",
    "\ud800 half",
    "1/0 0/0 13/45/2024 25:99 $ % 1,2,3",
]


@pytest.fixture(scope="module")
def normalizer(new_tagger, embeddings):
    return Normalizer(new_tagger(look_ahead=2, sees=True), ENGLISH, embeddings)


def said_by(labels, text):
    """What is said when the tagger is sure of ``labels``."""
    scores = torch.full((len(labels), len(ENGLISH.labels)), -1.0)
    for row, label in zip(scores, labels, strict=True):
        row[ENGLISH.labels.index(label)] = 1.0
    reader = SpanReader(ENGLISH, ENGLISH.labels)
    return [*reader.push(split(text), scores, text), *reader.finish()]


def test_labels_become_speech():
    spans = said_by(["title", CONTINUE, "plain", "plain", "digits", "silent"], "Dr. Lee has 1234.")
    assert joined(spans) == "Doctor Lee has one two three four."
    assert [(span.written, span.start) for span in spans] == [
        *(("Dr.", 0), ("Lee", 4), ("has", 8), ("1234", 12), (".", 16))
    ]


def test_a_rule_that_refuses_is_replaced_with_a_remark():
    (span,) = said_by(["year"], "0123")
    assert span.said == "one hundred and twenty three" or span.said == "zero one two three"
    assert "read as" in span.remark and "is no year" in span.remark
    (span,) = said_by(["silent", CONTINUE], "7x")
    assert "seven" in span.said


def test_marks_that_a_span_cannot_take_in_are_left_out_of_it():
    spans = said_by(["digits", CONTINUE, "plain"], "47: so")
    assert [(span.written, span.said) for span in spans] == [
        *(("47", "four seven"), (":", ""), ("so", "so"))
    ]
    (span,) = said_by(["digits", CONTINUE], "47½")
    assert "half" in span.said and "read as" in span.remark


def test_a_text_that_begins_by_going_on_begins_a_span():
    assert joined(said_by([CONTINUE, CONTINUE], "ab 12")) != ""


@pytest.mark.parametrize("text", HARD)
def test_whatever_comes_is_read(normalizer, text):
    spans = normalizer.spans(text)
    cleaned = clean(text)
    assert "".join(span.written for span in spans).replace(" ", "") == cleaned.replace(" ", "")
    for span in spans:
        assert cleaned[span.start : span.start + len(span.written)] == span.written
        if any(character.isalnum() for character in span.written):
            assert span.said


@settings(max_examples=40, deadline=None)
@given(text=st.text(max_size=60), cuts=st.lists(st.integers(0, 60), max_size=8))
def test_pieces_are_read_as_the_whole(normalizer, text, cuts):
    stream, spans, start = normalizer.stream(), [], 0
    for cut in [*sorted(cuts), len(text)]:
        spans += stream.push(text[start:cut])
        start = max(start, cut)
    assert [*spans, *stream.finish()] == normalizer.spans(text)


def test_what_is_said_early_stays(normalizer):
    stream = normalizer.stream()
    early = stream.push("We met in 1984 at the old mill and then ")
    assert early
    assert (
        normalizer.spans("We met in 1984 at the old mill and then 55 XX $3")[: len(early)] == early
    )


def test_a_long_text_is_not_held(normalizer):
    stream = normalizer.stream()
    for number in range(400):
        stream.push(f"{number} cats, 5:30 ")
    held = stream._tagging
    assert len(held._owners) == len(held._states) < 4 * normalizer.tagger.config.memory
    assert held._waiting.shape[1] <= normalizer.tagger.config.look_ahead
    assert len(stream._reader._text) < 100 and len(stream._waiting) < 100


def test_whole_texts_are_bounded_without_a_look_ahead(new_tagger):
    normalizer = Normalizer(new_tagger(look_ahead=None, sees=False), ENGLISH)
    assert normalizer.spans("a 1")
    with pytest.raises(InputError, match="longer than"):
        normalizer.spans("a " * 5000)


def test_embeddings_must_be_those_of_the_tagger(new_tagger, embeddings):
    with pytest.raises(ValueError, match="embeddings"):
        Normalizer(new_tagger(look_ahead=1, sees=True), ENGLISH)
    with pytest.raises(ValueError, match="embeddings"):
        Normalizer(new_tagger(look_ahead=1, sees=False), ENGLISH, embeddings)


def test_a_saved_tagger_says_the_same(tmp_path, new_tagger, embeddings):
    tagger = new_tagger(look_ahead=3, sees=True)
    save_tagger(tagger, tmp_path / "tagger", language_code="en")
    loaded, rules = load_tagger(tmp_path / "tagger")
    text = "Dr. Lee paid $3.50 on 1/2."
    assert rules is ENGLISH or rules.code == "en"
    assert Normalizer(loaded, rules, embeddings).spans(text) == Normalizer(
        tagger, ENGLISH, embeddings
    ).spans(text)


def test_broken_directories(tmp_path, new_tagger):
    with pytest.raises(InputError, match="config.json"):
        load_tagger(tmp_path)
    target = tmp_path / "tagger"
    save_tagger(new_tagger(look_ahead=3, sees=False), target, language_code="en")
    config = target / "config.json"
    whole = config.read_text()
    for old, new, fault in (
        ('"language": "en"', '"language": "xx"', "no rules"),
        ('"plain"', '"nonsense"', "no rule"),
        ("openherd-text", "other-text", "no tagger"),
        ('"look_ahead": 3', '"look_ahead": -3', "look_ahead"),
        ('"dim": 16', '"dim": 32', "characters.weight|words.weight|end"),
    ):
        assert old in whole
        config.write_text(whole.replace(old, new, 1))
        with pytest.raises(InputError, match=fault):
            load_tagger(target)
