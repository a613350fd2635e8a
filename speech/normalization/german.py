"""German, in part: enough to show that a language is a file of rules and nothing else."""

import re

from speech.normalization.numbers import MAX_DIGITS, plain_digits, spell_digits, words
from speech.normalization.rules import PLAIN, SILENT, VERBATIM, Language, UnreadableError
from speech.normalization.written import is_word

GERMAN = Language("de")
_rule = GERMAN.rule
_DIGITS = dict(enumerate("null eins zwei drei vier fünf sechs sieben acht neun".split()))
_MONTHS = (
    "Januar Februar März April Mai Juni Juli August September Oktober November Dezember".split()
)
_UNITS = {
    "km": "Kilometer", "m": "Meter", "cm": "Zentimeter", "kg": "Kilogramm", "g": "Gramm",
    "l": "Liter", "%": "Prozent", "°C": "Grad Celsius", "km/h": "Kilometer pro Stunde",
}  # fmt: skip
_SYMBOLS = {"&": "und", "@": "at", "+": "plus", "=": "gleich", "/": "Schrägstrich", ".": "Punkt"}


@_rule(PLAIN, {"Haus": "Haus"})
def plain(written: str) -> str:
    """A word as it stands."""
    if not is_word(written):
        raise UnreadableError(f"{written[:40]!r} is no word")
    return written


@_rule(SILENT, {",": ""})
def silent(written: str) -> str:
    """Punctuation."""
    if any(character.isalnum() for character in written):
        raise UnreadableError(f"{written[:40]!r} is not silent")
    return ""


@_rule(VERBATIM, {"A1": "A eins", "&": "und"})
def verbatim(written: str) -> str:
    """Every character by its name; refuses nothing."""
    seen = [character for character in written if not character.isspace()]
    return " ".join(
        _DIGITS[int(c)] if c.isdecimal() else c if c.isalpha() else _SYMBOLS.get(c, c) for c in seen
    )


@_rule("cardinal", {"21": "einundzwanzig", "1.000": "eintausend"})
def cardinal(written: str) -> str:
    """A number of things."""
    return words(plain_digits(written, thousands="."), "de")


@_rule("ordinal", {"3.": "dritte", "21.": "einundzwanzigste"})
def ordinal(written: str) -> str:
    """A place in an order."""
    if not re.fullmatch(rf"\d{{1,{MAX_DIGITS}}}\.?", written):
        raise UnreadableError(f"{written[:40]!r} is no ordinal")
    return words(int(written.rstrip(".")), "de", to="ordinal")


@_rule("year", {"1984": "neunzehnhundertvierundachtzig", "2024": "zweitausendvierundzwanzig"})
def year(written: str) -> str:
    """A year."""
    if not re.fullmatch(r"[1-9]\d{2,3}", written):
        raise UnreadableError(f"{written[:40]!r} is no year")
    return words(int(written), "de", to="year")


@_rule("digits", {"007": "null null sieben"})
def digits(written: str) -> str:
    """Digit by digit."""
    return spell_digits(written, _DIGITS)


@_rule("decimal", {"3,14": "drei Komma eins vier"})
def decimal(written: str) -> str:
    """A number with a decimal comma."""
    found = re.fullmatch(r"(\d+),(\d+)", written)
    if not found:
        raise UnreadableError(f"{written[:40]!r} is no decimal")
    return f"{cardinal(found[1])} Komma {spell_digits(found[2], _DIGITS)}"


@_rule(
    "measure", {"5 km": "fünf Kilometer", "1 kg": "ein Kilogramm", "2,5 m": "zwei Komma fünf Meter"}
)
def measure(written: str) -> str:
    """A number of units."""
    found = re.fullmatch(r"(\d+(?:,\d+)?) ?(\S+)", written)
    if not found or found[2] not in _UNITS:
        raise UnreadableError(f"{written[:40]!r} is no measure")
    return f"{_many(found[1])} {_UNITS[found[2]]}"


@_rule("money", {"5 €": "fünf Euro", "1 €": "ein Euro", "3,50 €": "drei Euro fünfzig"})
def money(written: str) -> str:
    """An amount of euros."""
    found = re.fullmatch(r"(\d+)(?:,(\d\d))? ?€", written)
    if not found:
        raise UnreadableError(f"{written[:40]!r} is no amount of money")
    cents = f" {cardinal(str(int(found[2])))}" if found[2] and int(found[2]) else ""
    return f"{_many(found[1])} Euro{cents}"


def _many(written: str) -> str:
    return "ein" if written == "1" else decimal(written) if "," in written else cardinal(written)


@_rule("time", {"17:30": "siebzehn Uhr dreißig", "9:00 Uhr": "neun Uhr", "1:05": "ein Uhr fünf"})
def time(written: str) -> str:
    """A time of day."""
    found = re.fullmatch(r"(\d{1,2})[:.](\d\d)(?: Uhr)?", written)
    if not found or int(found[1]) > 24 or int(found[2]) > 59:
        raise UnreadableError(f"{written[:40]!r} is no time")
    minutes = f" {cardinal(str(int(found[2])))}" if int(found[2]) else ""
    return f"{_many(str(int(found[1])))} Uhr{minutes}"


@_rule(
    "date",
    {"3.5.2024": "dritter Mai zweitausendvierundzwanzig", "24.12.": "vierundzwanzigster Dezember"},
)
def date(written: str) -> str:
    """A day, its month, and a year or none."""
    found = re.fullmatch(r"(\d{1,2})\. ?(\d{1,2})\.(?: ?(\d{4}))?", written)
    if not found or not 1 <= int(found[1]) <= 31 or not 1 <= int(found[2]) <= 12:
        raise UnreadableError(f"{written[:40]!r} is no date")
    said = f"{words(int(found[1]), 'de', to='ordinal')}r {_MONTHS[int(found[2]) - 1]}"
    return f"{said} {year(found[3])}" if found[3] else said
