"""Numbers in words, by the library num2words, within the bounds of what can be said."""

import re

from num2words import num2words

from speech.normalization.rules import UnreadableError

MAX_DIGITS = 36
"""Of a number that is said as a whole; nobody could follow a longer one."""
_MARKS = re.compile(r"[-,\s]+")


def plain_digits(written: str, *, thousands: str = ",") -> int:
    """The value of digits, whole or grouped by threes ("1,234,567").

    Raises:
        UnreadableError: it is no such number, or too long to be said as a whole.
    """
    group = re.escape(thousands)
    if not re.fullmatch(rf"\d+|\d{{1,3}}(?:{group}\d{{3}})+", written):
        raise UnreadableError(f"{written[:40]!r} is no number")
    digits = written.replace(thousands, "")
    if len(digits) > MAX_DIGITS:
        raise UnreadableError(f"a number of {len(digits)} digits is read digit by digit")
    return int(digits)


def words(value: int, language: str, *, to: str = "cardinal") -> str:
    """A number in words, without hyphens and commas.

    Args:
        value: at most :data:`MAX_DIGITS` digits.
        language: ISO 639-1 code.
        to: ``cardinal``, ``ordinal`` or ``year``.
    """
    return _MARKS.sub(" ", num2words(value, lang=language, to=to))


def spell_digits(written: str, names: dict[int, str]) -> str:
    """Digits one by one, of any script; what stands between them is left out.

    Raises:
        UnreadableError: there is no digit.
    """
    digits = [int(character) for character in written if character.isdecimal()]
    if not digits:
        raise UnreadableError(f"{written[:40]!r} has no digit")
    return " ".join(names[digit] for digit in digits)


def roman(written: str) -> int:
    """The value of a Roman numeral.

    Raises:
        UnreadableError: it is none.
    """
    pattern = r"M{0,3}(CM|CD|D?C{0,3})(XC|XL|L?X{0,3})(IX|IV|V?I{0,3})"
    if not written or not re.fullmatch(pattern, written):
        raise UnreadableError(f"{written[:40]!r} is no Roman numeral")
    values = [{"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}[c] for c in written]
    after = [*values[1:], 0]
    return sum(v if v >= following else -v for v, following in zip(values, after, strict=True))
