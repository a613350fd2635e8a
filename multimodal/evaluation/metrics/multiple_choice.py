"""The letter that an answer to a multiple-choice question picks (sections 7.5 and 7.6).

An answer that picks none gives None, which is wrong: never a random letter, as MMMU's published
parser draws.
"""

import re
from collections.abc import Sequence
from string import ascii_uppercase


def choice_letter(answer: str, *, options: Sequence[str]) -> str | None:
    """The letter picked by an answer to AI2D, PerceptionTest, NExT-QA or TVQA, or None.

    Prompts of these ask for the letter alone, so little else is understood. In this order:

    1. the answer is a letter, in either case, with or without marks: `B`, `(b)`, `**B**.`, `_B_`;
    2. it is the text of exactly one option, in either case and with or without a full stop;
    3. it says so: `the answer is B`, `Answer: (B)`; the last time counts;
    4. a capital with a mark behind it: `B. A cat`, `B)`, `(B)`, `[B]`; the first counts, as in
       lmms-eval, but no capital at a word's end does, where lmms-eval reads `of DNA.` as A.

    Args:
        answer: what the model said.
        options: the options' texts, A first; only their letters are understood.

    Raises:
        ValueError: there are no options, or more than letters.
    """
    letters = _letters(options)
    if (alone := re.fullmatch(r"[\W_]*([A-Za-z])[\W_]*", answer)) and alone[1].upper() in letters:
        return alone[1].upper()
    plain = _plain(answer)
    same = [letter for letter, text in zip(letters, options, strict=True) if _plain(text) == plain]
    if len(same) == 1:
        return same[0]
    choice = f"([{letters}])"
    if said := re.findall(rf"(?i:\banswer(?: is)?)\W+{choice}(?![\w'’])", answer):
        return said[-1]
    marked = re.search(rf"(?<![\w'’.]){choice}[.):\]]", answer)
    return marked[1] if marked else None


def mmmu_choice(answer: str, *, options: Sequence[str]) -> str | None:
    """The letter picked by an answer to MMMU, or None.

    The benchmark's parser (Yue et al. 2024) as lmms-eval runs it. The first of these ways to name
    options that occurs at all decides, and by it the option that is named last: `(B)`; a bare `B`;
    a word that ends in B (so "DNA" picks A, if nothing else is named); `B.`; and, if the answer has
    more than five words, an option's text in either case. Where the third and fourth way name
    several options, lmms-eval takes the first of the alphabet. Whitespace at the ends is dropped
    first, since it hides a period behind a letter from lmms-eval, and an option without a text is
    not found in every answer, as it is there.

    Args:
        answer: what the model said, reasoning included.
        options: the options' texts, A first.

    Raises:
        ValueError: there are no options, or more than letters.
    """
    letters = _letters(options)
    answer = answer.strip()
    for mark in ",.!?;:'":
        answer = answer.strip(mark)
    answer = f" {answer} "
    for form in ("({})", " {} ", "{} ", "{}."):
        if found := _last({letter: answer.rfind(form.format(letter)) for letter in letters}):
            return found
    if len(answer.split()) <= 5:
        return None
    answer, texts = answer.lower(), zip(letters, options, strict=True)
    return _last({letter: answer.rfind(text.lower()) for letter, text in texts if text})


def _last(places: dict[str, int]) -> str | None:
    """The letter with the last place, the first such one; None where all places are -1."""
    letter = max(places, key=lambda letter: places[letter], default=None)
    return letter if letter and places[letter] >= 0 else None


def _letters(options: Sequence[str]) -> str:
    if not 0 < len(options) <= len(ascii_uppercase):
        raise ValueError(f"a question has 1 to 26 options, not {len(options)}")
    return ascii_uppercase[: len(options)]


def _plain(text: str) -> str:
    return text.strip().removesuffix(".").lower()
