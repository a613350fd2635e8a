"""VQA accuracy against leaving answers out one by one, and the normalisation's quirks."""

from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodal.evaluation.metrics.vqa import (
    normalize_textvqa,
    normalize_vqav2,
    textvqa_accuracy,
    vqa_accuracy,
    vqav2_accuracy,
)


def brute_force(answer: str, references: list[str]) -> float:
    turns = []
    for left_out in range(len(references)):
        others = references[:left_out] + references[left_out + 1 :]
        turns.append(min(1, sum(other == answer for other in others) / 3))
    return fmean(turns)


def test_accuracy_by_matches_among_ten() -> None:
    for matches, accuracy in enumerate((0, 0.3, 0.6, 0.9, 1, 1, 1, 1, 1, 1, 1)):
        references = ["cat"] * matches + ["dog"] * (10 - matches)
        assert vqa_accuracy("cat", references=references) == accuracy


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=14))
def test_accuracy_is_leaving_out_each_reference_in_turn(references: list[str]) -> None:
    assert vqa_accuracy("a", references=references) == pytest.approx(brute_force("a", references))


def test_few_references_cannot_earn_all() -> None:
    assert [vqa_accuracy("a", references=["a"] * n) for n in (1, 2, 3, 4)] == [0, 1 / 3, 2 / 3, 1]


def test_no_references_are_refused() -> None:
    for accuracy in (vqa_accuracy, textvqa_accuracy, vqav2_accuracy):
        with pytest.raises(ValueError, match="needs references"):
            accuracy("a", references=[])


NORMALIZED = [
    # answer, by TextVQA's normalisation, by VQAv2's
    ("The Two  Cats", "2 cats", "2 cats"),
    ("none", "0", "0"),
    ("eleven", "eleven", "eleven"),
    ("a an the", "", ""),
    (" yes\n", "yes", "yes"),
    ("a\tb\nc", "b c", "b c"),
    # full stops go unless a digit follows, also behind a digit; at most 32 of them
    ("U.S.A.", "usa", "usa"),
    ("3.5", "3.5", "3.5"),
    ("5.", "5", "5"),
    (".5", ".5", ".5"),
    ("x" + "." * 34, "x..", "x.."),
    # a mark becomes a space, but nothing where it stands beside one
    ("red/blue", "red blue", "red blue"),
    ("red/ blue", "red blue", "red blue"),
    ("red/ or black/white", "red or blackwhite", "red or blackwhite"),
    ("red /blue black/white", "red blue blackwhite", "red blue blackwhite"),
    ("well-known", "well known", "well known"),
    ("a-b - c", "ab c", "ab c"),
    ("(stop)", "stop", "stop"),
    ("12:30", "12:30", "12:30"),
    ("$5", "$5", "$5"),
    # a comma between digits makes every mark vanish; TextVQA has dropped commas before
    ("1,000", "1000", "1000"),
    ("1,000 red/blue", "1000 red blue", "1000 redblue"),
    ("red,blue", "redblue", "red blue"),
    ("red, blue", "red blue", "red blue"),
    ("what?no", "whatno", "what no"),
    # the possessive is split by TextVQA alone
    ("men's", "men 's", "men's"),
    # apostrophes come back, the wrong way round in one word
    ("dont", "don't", "don't"),
    ("Shouldnt've", "shouldn't've", "shouldn't've"),
    ("shouldn'tve", "shouldn't've", "shouldn't've"),
    ("she'dve", "she'd've", "she'd've"),
    ("yall'd've", "y'all'd've", "y'all'd've"),
    ("somebody'd", "somebodyd", "somebodyd"),
    ("weve oclock twas maam", "we've o'clock 'twas ma'am", "we've o'clock 'twas ma'am"),
    # words that have a meaning of their own without apostrophe stay
    ("wed shed well its lets were id ill", "wed shed well its lets were id ill", None),
    # an article is dropped only as a word, and before apostrophes are put back
    ("an theme a", "theme", "theme"),
]


@pytest.mark.parametrize(("answer", "textvqa", "vqav2"), NORMALIZED)
def test_normalisation(answer: str, textvqa: str, vqav2: str | None) -> None:
    assert normalize_textvqa(answer) == textvqa
    assert normalize_vqav2(answer) == (textvqa if vqav2 is None else vqav2)


def test_textvqa_normalises_both_sides() -> None:
    references = ["the Coca-Cola"] * 2 + ["coca cola."] + ["pepsi"] * 7
    assert textvqa_accuracy("Coca Cola", references=references) == 0.9
    assert textvqa_accuracy("men's", references=["Men's"] * 10) == 1


def test_vqav2_normalises_both_sides_if_people_disagree() -> None:
    references = ["two"] * 3 + ["2"] + ["three"] * 6
    assert vqav2_accuracy("The Two", references=references) == 1
    assert vqav2_accuracy("men's", references=["men's"] * 9 + ["women's"]) == 1
    assert vqav2_accuracy("red blue", references=["red,blue"] * 5 + ["green"] * 5) == 1
    assert textvqa_accuracy("red blue", references=["red,blue"] * 5 + ["green"] * 5) == 0


def test_vqav2_leaves_references_that_agree() -> None:
    assert vqav2_accuracy("Yes.", references=["yes"] * 10) == 1
    assert vqav2_accuracy("two", references=["two"] * 10) == 0
    assert vqav2_accuracy("two", references=["two"] * 9 + ["three"]) == 1
    # which is found out after line breaks and spaces around are gone
    assert vqav2_accuracy("two", references=["two"] * 9 + ["two\n"]) == 0
