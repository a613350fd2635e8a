import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from speech.normalization.written import MAX_CHARACTERS, clean, is_word, split


def test_letters_digits_and_the_rest():
    tokens = split("It's 5:30pm, नमस्ते №7!")
    assert [token.text for token in tokens] == [
        *("It", "'", "s", "5", ":", "30", "pm", ",", "नमस्ते", "№", "7", "!")
    ]
    assert [token.kind for token in tokens[:5]] == [
        *("letters", "symbol", "letters", "digits", "symbol")
    ]


@given(st.text())
def test_nothing_but_white_space_is_lost(text):
    text = clean(text)
    tokens = split(text)
    assert "".join(token.text for token in tokens) == text.replace(" ", "")
    for token in tokens:
        assert text[token.start : token.end] == token.text
        assert 0 < len(token.text) <= MAX_CHARACTERS


@given(st.text())
def test_clean_leaves_single_spaces_and_nothing_invisible(text):
    cleaned = clean(text)
    assert clean(cleaned) == cleaned
    assert "  " not in cleaned and cleaned == cleaned.strip()
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs") for c in cleaned)


def test_long_runs_are_cut():
    assert [len(token.text) for token in split("7" * 1200)] == [512, 512, 176]


def test_words():
    assert is_word("don't") and is_word("नमस्ते") and is_word("Ärger")
    assert not any(map(is_word, ("", "'tis", "x1", "a b", "...")))
