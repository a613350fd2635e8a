"""MMMU's open questions: what an answer may have said, and whether that is right (section 7.5)."""

import re
from collections.abc import Sequence

Said = str | float
"""A phrase in lower case, or a number rounded to two decimals."""


def open_answer_matches(answer: str, *, golds: Sequence[str]) -> bool:
    """Whether an answer to an open question of MMMU is right, as the benchmark computes it.

    It is if a gold number is among the numbers said, or a gold phrase is part of a phrase said: so
    of "not red", "red" is. A gold phrase of one character counts only at a space.

    Args:
        answer: what the model said, reasoning included.
        golds: the answers that are accepted.
    """
    said = parse_open_answer(answer)
    phrases = [phrase for phrase in said if isinstance(phrase, str)]
    for gold in (form for text in golds for form in _forms(text)):
        if isinstance(gold, str):
            if any(gold in phrase for phrase in phrases):
                return True
        elif gold in said:
            return True
    return False


def parse_open_answer(answer: str) -> frozenset[Said]:
    """What an answer to an open question of MMMU (Yue et al. 2024) may have said.

    These are, of each line that has words such as "answer" or "so", what stands behind the last
    one, and all numbers in it; of an answer without such lines, the whole of it and its numbers.
    """
    phrases = _conclusions(answer)
    numbers = [number for phrase in phrases for number in _numbers(phrase)]
    return frozenset(form for text in (*phrases, *numbers) for form in _forms(text))


_INDICATORS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
"""What stands before a conclusion; also within words, as in "this "."""


def _conclusions(answer: str) -> list[str]:
    """The shortest ending behind an indicator, of each line; or else the answer.

    The published parser means to part sentences too, at a full stop before a capital: but it does
    so after all is in lower case, so that only lines are parted.
    """
    answer = answer.strip().strip(".").lower()
    *lines, last = answer.split("\n")
    found = [_ending(line, _INDICATORS) for line in lines]
    found.append(_ending(last, (*_INDICATORS, "=")))
    return [ending for ending in found if ending and ending not in set(":,.!?;'")] or [answer]


def _ending(line: str, indicators: Sequence[str]) -> str:
    shortest = ""
    for indicator in indicators:
        if indicator in line:
            ending = line.rpartition(indicator)[2].strip()
            if not shortest or len(ending) < len(shortest):
                shortest = ending
    return shortest


_GROUPED = r"-?\b\d{1,3}(?:,\d{3})+\b"
"""1,234,567"""
_SCIENTIFIC = r"-?\d+(?:\.\d+)?[eE][+-]?\d+"
"""1.5e-3"""
_PLAIN = r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])"
"""12, 1.5 or .5, not before a comma; parts of the others as well, such as the last group."""


def _numbers(text: str) -> list[str]:
    return [n for form in (_GROUPED, _SCIENTIFIC, _PLAIN) for n in re.findall(form, text)]


def _forms(text: str) -> list[Said]:
    """What a text is compared as: a number if it reads as one, else a phrase.

    One character could stand anywhere, so it needs a space before or behind it.
    """
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
    return [f" {text}", f"{text} "] if len(text) == 1 else [text]
