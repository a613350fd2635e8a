"""Phones of words, and what is known of them."""

import sys

import pytest

from language.errors import InputError
from speech.normalization.normalizer import Spoken
from speech.prosody.phones import EspeakLexicon, FileLexicon, PhoneInput, Word, words_of


def words(*texts):
    return [Word(text, 10 * number) for number, text in enumerate(texts)]


def test_espeak_says_phones_word_by_word():
    pytest.importorskip("espeakng_loader")
    phones = EspeakLexicon().phones(words("the", "yellow", "car"), first_word=4)
    said = {n: "".join(p.symbol for p in phones if p.word == n) for n in (4, 5, 6)}
    assert said == {4: "ðə", 5: "jɛloʊ", 6: "kɑːɹ"}
    assert [p.stress for p in phones if p.symbol in ("ɛ", "ɑːɹ", "ə", "oʊ")] == [0, 2, 0, 2]
    assert [p.word for p in phones] == sorted(p.word for p in phones)


def test_a_missing_extra_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(InputError, match="openherd\\[speak\\]"):
        EspeakLexicon().phones(words("car"))


def test_a_lexicon_of_ones_own(tmp_path):
    file = tmp_path / "lexicon.txt"
    file.write_text("Car k ˈɑː\n\nred ɹ ˈɛ d\n")
    lexicon = FileLexicon.read(file)
    found = lexicon.phones(words("red", "car"), first_word=2)
    assert [(p.symbol, p.stress, p.word) for p in found] == [
        *(("ɹ", 0, 2), ("ɛ", 2, 2), ("d", 0, 2), ("k", 0, 3), ("ɑː", 2, 3))
    ]
    with pytest.raises(InputError, match="blue"):
        lexicon.phones(words("blue"))
    other = FileLexicon(["blue b l uː"])
    assert len(FileLexicon.read(file, otherwise=other).phones(words("blue", "red"))) == 6
    file.write_text("car k a\nred\n")
    with pytest.raises(InputError, match="lexicon.txt: line 2.*red"):
        FileLexicon.read(file)
    with pytest.raises(InputError, match="none.txt"):
        FileLexicon.read(tmp_path / "none.txt")


def test_features_tell_class_stress_place_kind_and_mark():
    lexicon = FileLexicon(["the ð ə", "car k ˈɑː ɹ"])
    spoken = [Word("the", 3), Word("car", 8, "?", is_quoted=True)]
    flags = PhoneInput.of(lexicon.phones(spoken), spoken).flags
    assert flags[:, 2].tolist() == [0, 0, 0, 1, 0]  # primary stress
    assert flags[:, 3].tolist() == [0, 1, 0, 1, 0]  # vowel
    assert flags[:, 4:8].argmax(dim=1).tolist() == [2, 1, 2, 0, 1]  # begin, end; neither within
    assert flags[:, 8].tolist() == [1, 1, 0, 0, 0]  # function word
    assert flags[:, 9:15].sum(dim=1).tolist() == [0, 0, 1, 1, 1]
    assert flags[2:, 9 + ",.?!;:".index("?")].eq(1).all()
    assert flags[:, -1].tolist() == [0, 0, 1, 1, 1]


def test_a_part_of_the_words_gives_the_features_of_the_whole():
    lexicon = FileLexicon(["the ð ə", "car k ˈɑː ɹ"])
    spoken = [Word("the", 3), Word("car", 8, ",")]
    whole = PhoneInput.of(lexicon.phones(spoken), spoken)
    second = lexicon.phones(spoken[1:], first_word=1)
    part = PhoneInput.of(second, spoken[1:], first_word=1)
    assert part.flags.equal(whole.flags[2:]) and part.codes.equal(whole.codes[2:])


def test_words_of_normalized_spans_keep_their_marks_and_ends():
    said = [('"', ""), ("No", "no"), (",", ""), ('"', ""), ("12", "twelve thousand"), (".", "")]
    starts = (0, 1, 3, 4, 6, 8)
    spans = [Spoken(w, start, s, "plain") for (w, s), start in zip(said, starts, strict=True)]
    found, is_quoted = words_of(spans)
    assert [(w.text, w.end, w.after, w.is_quoted) for w in found] == [
        *(("no", 4, ",", True), ("twelve", 8, "", False), ("thousand", 9, ".", False))
    ]
    assert not is_quoted
