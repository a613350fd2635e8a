"""What an answer that reasons comes to: MMMU and ChartQA with chains of thought (section 7.5)."""

import re

_SAYS = re.compile(r"\banswer\b[\s*_`]*(?::|\bis\b:?)", re.IGNORECASE)
"""The words before an answer: "Final answer:", "the **answer** is"."""
_AROUND = '*_`"“”: \t'
"""What may stand around an answer that is none of it; behind it, a period, too."""


def conclusion(text: str) -> str:
    """The answer at the end of a chain of thought.

    What follows the last "answer:" or "answer is" on its line, or on the next one; where there are
    no such words, as in a text that was cut off, the last line. Marks of emphasis, quotes and a
    period around it are dropped, and so is LaTeX's box.

    Args:
        text: reasoning, and the answer at its end.
    """
    said = list(_SAYS.finditer(text))
    rest = text[said[-1].end() :] if said else ""
    found = next(filter(None, map(_plain, rest.splitlines())), "")
    found = found or next(filter(None, map(_plain, reversed(text.splitlines()))), "")
    if boxed := re.fullmatch(r"\$*\\boxed\{(.*)\}\$*", found):
        found = boxed[1].strip()
    return found


def _plain(line: str) -> str:
    return line.lstrip(_AROUND).rstrip(_AROUND + ".")
