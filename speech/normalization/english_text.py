"""English words, abbreviations, letters, addresses and symbols: how each is read."""

import re
import unicodedata

from speech.normalization.english_words import (
    ABBREVIATIONS,
    DIGITS,
    HOMOGRAPHS,
    PLACES,
    SYMBOLS,
    TITLES,
)
from speech.normalization.numbers import spell_digits
from speech.normalization.rules import PLAIN, SILENT, VERBATIM, Language, UnreadableError
from speech.normalization.written import is_word

TEXT = Language("en")
_rule = TEXT.rule


@_rule(PLAIN, {"house": "house", "Don't": "Don't"})
def plain(written: str) -> str:
    """A word as it stands."""
    if not is_word(written):
        raise UnreadableError(f"{written[:40]!r} is no word")
    return written


@_rule(SILENT, {",": "", "...": "", "-": ""})
def silent(written: str) -> str:
    """Punctuation; a digit or a letter is never silent."""
    if any(character.isalnum() for character in written):
        raise UnreadableError(f"{written[:40]!r} is not silent")
    return ""


@_rule(
    VERBATIM,
    {
        "A1": "A one",
        "&": "and",
        "#7": "hash seven",
        "x²": "x squared",
        "🙂": "slightly smiling face",
    },
)
def verbatim(written: str) -> str:
    """Every character by its name; refuses nothing but words in small letters."""
    if len(written) > 2 and written.islower() and is_word(written):
        raise UnreadableError(f"{written[:40]!r} is a word")
    said = []
    for character in written:
        if character.isspace() or unicodedata.category(character).startswith("M"):
            continue
        if character.isdecimal():
            said.append(DIGITS[int(character)])
        elif character.isalpha():
            said.append(character)
        else:
            said.append(SYMBOLS.get(character) or unicodedata.name(character, "unknown").lower())
    return " ".join(said)


def _looked_up(table: dict[str, str], written: str, what: str) -> str:
    key = written.lower().rstrip(".").replace(" ", "")
    if key not in table:
        raise UnreadableError(f"{written[:40]!r} is no {what}")
    return table[key]


@_rule("title", {"Dr.": "Doctor", "St": "Saint", "Mrs.": "Missus"})
def title(written: str) -> str:
    """An abbreviation before a name."""
    return _looked_up(TITLES, written, "title")


@_rule("place", {"Dr.": "Drive", "St.": "Street", "Blvd.": "Boulevard"})
def place(written: str) -> str:
    """An abbreviation behind a street's name."""
    return _looked_up(PLACES, written, "place")


@_rule(
    "abbreviation",
    {"No.": "number", "etc.": "et cetera", "e.g.": "for example", "Feb.": "February"},
)
def abbreviation(written: str) -> str:
    """An abbreviation of another word."""
    return _looked_up(ABBREVIATIONS, written, "abbreviation")


@_rule("letters", {"FBI": "F B I", "U.S.": "U S", "IBMs": "I B M s"})
def letters(written: str) -> str:
    """Letter by letter."""
    if written == written.lower() and "." not in written:
        raise UnreadableError(f"{written[:40]!r} has no capital")
    if not written or re.search(r"[^\w.&]|\d|_", written) or not any(map(str.isalpha, written)):
        raise UnreadableError(f"{written[:40]!r} is not letters")
    return " ".join("and" if c == "&" else c for c in written if c.isalpha() or c == "&")


@_rule(
    "electronic",
    {
        "ann@mail.org": "ann at mail dot org",
        "www.example.com/a1": "W W W dot example dot com slash a one",
        "https://x.io": "H T T P S colon slash slash x dot I O",
    },
)
def electronic(written: str) -> str:
    """An address of the web or of mail: words as words, the rest verbatim."""
    if re.search(r"\s", written) or not re.search(r"[.@/]", written):
        raise UnreadableError(f"{written[:40]!r} is no address")
    said = []
    for piece in re.findall(r"[^\W\d_]+|\d+|.", written):
        is_word = piece.isalpha() and re.search(r"[aeiouy]", piece.lower()) and len(piece) != 2
        said.append(piece if is_word or len(piece) == 1 and piece.isalpha() else _spelled(piece))
    return " ".join(said)


def _spelled(piece: str) -> str:
    if piece.isdecimal():
        return spell_digits(piece, DIGITS)
    return verbatim(piece.upper() if piece.isalpha() else piece)


@_rule("first_sense", {"read": "reed", "Lead": "Leed"})
def first_sense(written: str) -> str:
    """A word that is spelled like another: read it now, lead the way, wind the clock."""
    return _sense(written, 0)


@_rule("second_sense", {"read": "red", "lead": "led"})
def second_sense(written: str) -> str:
    """Its other sense: read it yesterday, a lead pipe, the cold wind."""
    return _sense(written, 1)


def _sense(written: str, number_of_sense: int) -> str:
    if written.lower() not in HOMOGRAPHS:
        raise UnreadableError(f"{written[:40]!r} has one sense")
    said = HOMOGRAPHS[written.lower()][number_of_sense]
    return said.capitalize() if written[0].isupper() else said
