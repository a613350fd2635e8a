"""Written text as the tokens that are read one by one (paper section 8.2): by Unicode category.

Letters with their marks stand together, and so do digits; every other character is a token of its
own. White space ends a token and is none.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

MAX_CHARACTERS = 512
"""Longest token; what is longer is several."""

Kind = Literal["letters", "digits", "symbol"]
_SPACES = ("Cc", "Zl", "Zp", "Zs")
_APOSTROPHE = re.compile("['’]")
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class WrittenToken:
    """A token and where it stands."""

    text: str
    start: int
    """Of its first character in the text."""
    kind: Kind

    @property
    def end(self) -> int:
        """Behind its last character."""
        return self.start + len(self.text)


def clean(text: str) -> str:
    """``text`` with one space for each run of white space and of what cannot be seen or said.

    Control characters count as white space, invisible ones that only format are dropped, halves of
    characters become U+FFFD.
    """
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    seen = [(character, unicodedata.category(character)) for character in text]
    kept = [" " if category in _SPACES else c for c, category in seen if category != "Cf"]
    return _SPACE.sub(" ", "".join(kept)).strip()


def is_word(text: str) -> bool:
    """Whether ``text`` is letters with their marks, and apostrophes among them."""
    parts = _APOSTROPHE.split(text)
    return all(part and all(unicodedata.category(c)[0] in "LM" for c in part) for part in parts)


def split(text: str) -> list[WrittenToken]:
    """The tokens of a text."""
    tokens: list[WrittenToken] = []
    start, kind = 0, None
    for at, character in enumerate(text):
        found = _kind(character, kind)
        is_mark = kind is not None and unicodedata.category(character).startswith("M")
        if (found == kind != "symbol" or is_mark) and at - start < MAX_CHARACTERS:
            continue
        if kind is not None:
            tokens.append(WrittenToken(text[start:at], start, kind))
        start, kind = at, found
    if kind is not None:
        tokens.append(WrittenToken(text[start:], start, kind))
    return tokens


def _kind(character: str, before: Kind | None) -> Kind | None:
    category = unicodedata.category(character)
    if category.startswith("L"):
        return "letters"
    if category.startswith("M"):  # a mark goes with what it stands on
        return before or "symbol"
    if category == "Nd":
        return "digits"
    return None if category.startswith("Z") or category == "Cc" else "symbol"
