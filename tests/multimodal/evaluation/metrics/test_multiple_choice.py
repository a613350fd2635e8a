"""Letters read out of answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodal.evaluation.metrics.multiple_choice import choice_letter, mmmu_choice

ANIMALS = ("a cat", "a dog", "a bird", "a fish")


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        (" b ", "B"),
        ("(c)", "C"),
        ("**D**.", "D"),
        ("_d_", "D"),
        ("B. a dog", "B"),
        ("B) a dog", "B"),
        ("B: it barks", "B"),
        ("[C] flies", "C"),
        ("A dog.", "B"),  # the text, though it begins with a letter
        ("a bird", "C"),
        ("A cat sits there", None),
        ("The answer is D", "D"),
        ("Answer: (B) because A. is not one", "B"),
        ("answer: A. No, the answer is C", "C"),
        ("The answer is a dog", None),
        ("The answer is B's", None),
        ("It is B. Or C.", "B"),  # the first
        ("It is made of DNA.", None),  # no capital at a word's end
        ("the U.S.A. won", None),
        ("E", None),  # there are four
        ("E. a cow, not D.", "D"),
        ("", None),
        ("?", None),
    ],
)
def test_choice_letter(answer: str, letter: str | None) -> None:
    assert choice_letter(answer, options=ANIMALS) == letter


def test_options_that_are_letters_or_alike() -> None:
    assert choice_letter("A", options=("B", "A")) == "A", "the letter, not the text"
    assert choice_letter("Vitamin B.", options=("Vitamin D", "Vitamin C", "vitamin b")) == "C"
    assert choice_letter("same", options=("same", "Same.")) is None


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        ("B.", "B"),
        ("B\n", "B"),
        ("'B'!", "B"),
        ("(A) or (C)", "C"),  # the last
        ("(C), rather than (A), so B ", "A"),  # brackets before bare letters
        ("A dog is not a bird, so B", "B"),  # the article is a letter, too
        ("B is right, A is not", "A"),
        ("B is right: DNA is not", "B"),  # a bare one before a word's end
        ("DNA is there", "A"),
        ("not A. but\nB.\nSo", "B"),
        ("b", None),  # no lower case
        ("E", None),
        ("a dog", None),  # text needs more than five words
        ("has to be a dog", None),
        ("it has to be a dog", "B"),
        ("it is either a DOG or a FISH here", "D"),
        ("it is either a fish or a dog here", "B"),
        ("", None),
    ],
)
def test_mmmu_choice(answer: str, letter: str | None) -> None:
    assert mmmu_choice(answer, options=("a cat", "a dog", "a bird", "a fish")) == letter


def test_an_empty_option_is_not_named_by_every_answer() -> None:
    assert mmmu_choice("it has to be something else here", options=("", "a dog")) is None


@given(st.text(), st.integers(1, 26))
def test_a_letter_of_the_options_or_none(answer: str, count: int) -> None:
    options = [f"option {number}" for number in range(count)]
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:count]
    for parse in (choice_letter, mmmu_choice):
        letter = parse(answer, options=options)
        assert letter is None or letter in letters
        assert parse(answer, options=options) == letter, "nothing is random"


@given(st.sampled_from("ABCD"), st.sampled_from(["{}", "({})", "{}.", " {}\n", "Answer: {}"]))
def test_both_read_an_answer_that_is_a_letter(letter: str, form: str) -> None:
    for parse in (choice_letter, mmmu_choice):
        assert parse(form.format(letter), options=ANIMALS) == letter


def test_numbers_of_options_without_letters_are_refused() -> None:
    for parse in (choice_letter, mmmu_choice):
        for count in (0, 27):
            with pytest.raises(ValueError, match=f"1 to 26 options, not {count}"):
                parse("A", options=["x"] * count)
