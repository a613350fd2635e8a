import pytest
from hypothesis import given
from hypothesis import strategies as st

from language.errors import InputError
from speech.normalization.data import (
    LabelledText,
    inferred,
    read_tsv,
    spoken,
    words_of,
)
from speech.normalization.rules import CONTINUE, language
from speech.normalization.written import split

ENGLISH = language("en")
SENTENCES = [
    ("My PIN is 1234.", "My PIN is one two three four."),
    ("She paid $3.50 on 1/2.", "She paid three dollars and fifty cents on January second."),
    ("She ate 1/2.", "She ate one half."),
    ("Dr. Lee, 12 Elm Dr.", "Doctor Lee, twelve Elm Drive"),
    ("Henry IV read chapter IV.", "Henry the fourth red chapter four."),
    ("Isn't it 5:30 pm?", "Isn't it five thirty P M?"),
]


@pytest.mark.parametrize(("written", "said"), SENTENCES)
def test_inferred_labels_say_what_was_said(written, said):
    labels = inferred(written, said, ENGLISH)
    assert labels is not None and len(labels) == len(split(written))
    assert words_of(spoken(LabelledText(written, labels), ENGLISH)) == words_of(said)


def test_what_no_rule_explains():
    assert inferred("My PIN is 1234.", "My PIN is five", ENGLISH) is None


@given(st.lists(st.sampled_from(["7", "a", "St.", "12", ",", "5-3"]), min_size=1, max_size=12))
def test_search_ends(parts):
    text = " ".join(parts)
    assert inferred(text, "no such words at all", ENGLISH) is None


def test_files_with_labels_and_without(tmp_path):
    file = tmp_path / "own.tsv"
    given_labels = "plain plain plain digits silent"
    file.write_text(
        f"My PIN is 1234.\tMy PIN is one two three four\t{given_labels}\n"
        "\n"
        "It  rained in 1984.\tIt rained in nineteen eighty four.\n"
    )
    first, second = read_tsv(file, ENGLISH)
    assert first.labels == tuple(given_labels.split())
    assert second == LabelledText(
        "It rained in 1984.", ("plain", "plain", "plain", "year", "silent")
    )
    assert [span.rule for span in second.spans][3] == "year"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("only written", "a tab"),
        ("\tsaid", "want what is written"),
        ("a 1\ta two", "no rules"),
        ("a 1\ta one\tplain", "1 labels for 2 tokens"),
        ("a 1\ta one\tplain nonsense", "no rule 'nonsense'"),
        ("a 1\ta one\tplain year", "is no year"),
        ("a 1\ta two\tplain cardinal", "by its labels"),
        ("x" * 70000 + "\ty", "longer than"),
    ],
)
def test_bad_lines_are_named(tmp_path, line, fault):
    file = tmp_path / "own.tsv"
    file.write_text("a\ta\n" + line + "\n")
    with pytest.raises(InputError, match=f"own.tsv: line 2.*{fault}"):
        list(read_tsv(file, ENGLISH))


def test_files_that_are_no_text(tmp_path):
    file = tmp_path / "own.tsv"
    with pytest.raises(InputError, match="unreadable"):
        list(read_tsv(file, ENGLISH))
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="unreadable"):
        list(read_tsv(file, ENGLISH))


def test_a_span_that_continues_nothing_is_a_span():
    spans = LabelledText("12 x", (CONTINUE, "plain")).spans
    assert [(span.start, span.end) for span in spans] == [(0, 2), (3, 4)]
