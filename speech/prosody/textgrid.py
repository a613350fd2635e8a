"""Phones and their times from files of forced aligners: Praat TextGrids, and plain lists."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

from language.errors import InputError

PAUSES = frozenset(("", "sil", "sp", "spn", "pau", "<p:>", "_", "#"))
"""Labels of intervals in which no phone is spoken."""
_VALUE = re.compile(
    r'"((?:[^"]|"")*)"|<(exists|absent)>|(?<![^\s=])(-?\d+(?:\.\d*)?(?:e-?\d+)?)(?!\S)'
)
_ARPABET = {
    **{"AA": "ɑː", "AE": "æ", "AH": "ʌ", "AO": "ɔː", "AW": "aʊ", "AY": "aɪ", "B": "b", "CH": "tʃ"},
    **{"D": "d", "DH": "ð", "EH": "ɛ", "ER": "ɜː", "EY": "eɪ", "F": "f", "G": "ɡ", "HH": "h"},
    **{"IH": "ɪ", "IY": "iː", "JH": "dʒ", "K": "k", "L": "l", "M": "m", "N": "n", "NG": "ŋ"},
    **{"OW": "oʊ", "OY": "ɔɪ", "P": "p", "R": "ɹ", "S": "s", "SH": "ʃ", "T": "t", "TH": "θ"},
    **{"UH": "ʊ", "UW": "uː", "V": "v", "W": "w", "Y": "j", "Z": "z", "ZH": "ʒ"},
}
_MARKS = {"": "", "0": "", "1": "ˈ", "2": "ˌ"}


@dataclass(frozen=True)
class TimedPhone:
    """A phone, when it was spoken, and in which word."""

    symbol: str
    """In IPA, with its stress mark."""
    start: float
    """In seconds."""
    end: float
    word: int
    """Number of its word, from 0."""


@dataclass(frozen=True)
class _Interval:
    start: float
    end: float
    label: str


def read_alignment(file: Path) -> list[TimedPhone]:
    """Phones of a ``.TextGrid`` (:func:`read_textgrid`) or another file (:func:`read_phones`)."""
    return read_textgrid(file) if file.suffix.lower() == ".textgrid" else read_phones(file)


def read_textgrid(file: Path) -> list[TimedPhone]:
    """Phones of a TextGrid with interval tiers called "words" and "phones".

    Both forms are read, long and short, in UTF-8 or UTF-16. A tier's name may say the speaker
    first, as the Montreal Forced Aligner has it; ARPAbet becomes IPA.

    Raises:
        InputError: the file is none, is broken, or has not the tiers; a phone lies in no word.
    """
    tiers = _tiers(file)
    found = {}
    for kind in ("words", "phones"):
        names = [name for name in tiers if name.lower().split(" - ")[-1] in (kind, kind[:-1])]
        if len(names) != 1:
            raise InputError(file, f"want one tier called {kind!r}, there are {[*tiers]}")
        found[kind] = tiers[names[0]]
    words = [word for word in found["words"] if word.label.lower() not in PAUSES]
    phones = []
    for phone in found["phones"]:
        if phone.label.lower() in PAUSES:
            continue
        middle = (phone.start + phone.end) / 2
        word = next((n for n, word in enumerate(words) if word.start <= middle < word.end), None)
        if word is None:
            raise InputError(file, f"phone {phone.label!r} at {phone.start:g} s lies in no word")
        phones.append(TimedPhone(ipa(phone.label), phone.start, phone.end, word))
    return _checked(file, phones)


def read_phones(file: Path) -> list[TimedPhone]:
    """Phones of a text file with ``phone start end`` on each line; an empty line ends a word.

    Times are in seconds. A fourth field may give the number of the word, from 0, in place of empty
    lines: some words have no phones of their own.

    Raises:
        InputError: a line is something else, or time goes back.
    """
    phones: list[TimedPhone] = []
    word, is_open = 0, False
    for number, line in enumerate(_text(file).splitlines(), start=1):
        fields = line.split()
        if not fields:
            word, is_open = word + is_open, False
            continue
        try:
            symbol, start, end = fields[0], *map(float, fields[1:3])
            word = int(*fields[3:]) if len(fields) > 3 else word
        except (ValueError, TypeError):
            fault = f"line {number}: want phone, start, end, and no more than a number: {line!r}"
            raise InputError(file, fault) from None
        if symbol.lower() in PAUSES:
            continue
        phones.append(TimedPhone(ipa(symbol), start, end, word))
        is_open = True
    return _checked(file, phones)


def ipa(label: str) -> str:
    """A phone in IPA with its stress mark, of one in ARPAbet or in IPA already."""
    symbol, stress = (label[:-1], label[-1]) if label[-1:] in "012" else (label, "")
    return _MARKS[stress] + _ARPABET[symbol] if symbol in _ARPABET else label


def _checked(file: Path, phones: list[TimedPhone]) -> list[TimedPhone]:
    if not phones:
        raise InputError(file, "no phones")
    last, word = 0.0, 0
    for phone in phones:
        if phone.word < word:
            raise InputError(file, f"phone {phone.symbol!r} at {phone.start:g} s goes a word back")
        if not (math.isfinite(phone.end) and last - 1e-6 <= phone.start < phone.end):
            fault = f"phone {phone.symbol!r} lasts from {phone.start:g} to {phone.end:g} s"
            raise InputError(file, f"{fault}, after {last:g} s: times must rise")
        last, word = phone.end, phone.word
    return phones


def _tiers(file: Path) -> dict[str, list[_Interval]]:
    """Interval tiers by name.

    The long form is the short one with names before its values: both are the same row of values.
    """
    head, _, body = _text(file).partition('"TextGrid"')
    if "ooTextFile" not in head or not body:
        raise InputError(file, "no TextGrid: it does not begin as one")
    # In the long form `item [1]:` counts; what stands in brackets is no value.
    values = iter(
        [m[0] for m in _VALUE.finditer(re.sub(r"\[\d*\]", "", body)) if m[0] != "<absent>"]
    )

    def number() -> float:
        return float(next(values))

    def string() -> str:
        value = next(values)
        if not value.startswith('"'):
            raise ValueError(f"want a string where {value} is")
        return value[1:-1].replace('""', '"')

    tiers = {}
    try:
        number(), number()
        if next(values) != "<exists>":
            raise ValueError("no tiers")
        for _ in range(_count(number())):
            kind, name = string(), string()
            number(), number()
            size = _count(number())
            if kind == "IntervalTier":
                tiers[name] = [_Interval(number(), number(), string()) for _ in range(size)]
                continue
            for _ in range(size):  # a point and its label
                number(), string()
    except StopIteration:
        raise InputError(file, "broken TextGrid: it ends too early") from None
    except ValueError as error:
        raise InputError(file, f"broken TextGrid: {error}") from None
    return tiers


def _count(value: float) -> int:
    if value < 0 or value != int(value):
        raise ValueError(f"{value:g} is no number of things")
    return int(value)


def _text(file: Path) -> str:
    try:
        data = file.read_bytes()
        is_wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
        return data.decode("utf-16" if is_wide else "utf-8-sig")
    except OSError as error:
        raise InputError(file, error.strerror or str(error)) from None
    except UnicodeDecodeError:
        raise InputError(file, "neither UTF-8 nor UTF-16") from None
