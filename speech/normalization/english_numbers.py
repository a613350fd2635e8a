"""English numbers of all classes: how each is read."""

import re

from speech.normalization.english_words import CURRENCIES, DIGITS, DOTTED, MONTHS, UNITS
from speech.normalization.numbers import plain_digits, roman, spell_digits, words
from speech.normalization.rules import Language, UnreadableError

NUMBERS = Language("en")
_rule = NUMBERS.rule
_FRACTIONS = {"½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3", "⅛": "1/8"}
_SCALES = ("hundred", "thousand", "million", "billion", "trillion")
_NUMBER = r"\d[\d,]*(?:\.\d+)?"


@_rule(
    "cardinal",
    {
        "0": "zero",
        "123": "one hundred and twenty three",
        "1,000": "one thousand",
        "-5": "minus five",
    },
)
def cardinal(written: str) -> str:
    """A number of things."""
    if written.startswith(("-", "−")):
        return "minus " + cardinal(written[1:])
    return words(plain_digits(written), "en")


@_rule("ordinal", {"1st": "first", "22nd": "twenty second", "3": "third"})
def ordinal(written: str) -> str:
    """A place in an order; a day of a month may stand without its ending."""
    found = re.fullmatch(r"([\d,]+)(?:st|nd|rd|th)?", written, re.IGNORECASE)
    if not found:
        raise UnreadableError(f"{written[:40]!r} is no ordinal")
    return words(plain_digits(found[1]), "en", to="ordinal")


@_rule(
    "year",
    {
        "1984": "nineteen eighty four",
        "2005": "two thousand and five",
        "2024": "twenty twenty four",
        "1900": "nineteen hundred",
        "1066": "ten sixty six",
    },
)
def year(written: str) -> str:
    """A year, by pairs of digits where it is said so."""
    if not re.fullmatch(r"\d{3,4}", written) or written.startswith("0"):
        raise UnreadableError(f"{written[:40]!r} is no year")
    return words(int(written), "en", to="year")


@_rule(
    "decade",
    {
        "1990s": "nineteen nineties",
        "2000s": "two thousands",
        "1920's": "nineteen twenties",
        "80s": "eighties",
    },
)
def decade(written: str) -> str:
    """Ten years."""
    found = re.fullmatch(r"['’]?(\d{1,3}0)['’]?s", written)
    if not found:
        raise UnreadableError(f"{written[:40]!r} is no decade")
    said = year(found[1]) if len(found[1]) > 2 else cardinal(found[1])
    return said[:-1] + "ies" if said.endswith("y") else said + "s"


@_rule(
    "digits",
    {"1234": "one two three four", "007": "zero zero seven", "12-34": "one two three four"},
)
def digits(written: str) -> str:
    """Digit by digit, as codes are."""
    if not re.fullmatch(r"\d(?:[ -]?\d)*", written):
        raise UnreadableError(f"{written[:40]!r} is not digits alone")
    return spell_digits(written, DIGITS)


@_rule(
    "decimal",
    {
        "3.14": "three point one four",
        "0.5": "zero point five",
        ".25": "point two five",
        "1,000.5": "one thousand point five",
    },
)
def decimal(written: str) -> str:
    """A number with a decimal point."""
    sign, written = ("minus ", written[1:]) if written[:1] in "-−" else ("", written)
    found = re.fullmatch(r"([\d,]*)\.(\d+)", written)
    if not found:
        raise UnreadableError(f"{written[:40]!r} is no decimal")
    front = cardinal(found[1]) + " " if found[1] else ""
    return f"{sign}{front}point {spell_digits(found[2], DIGITS)}"


@_rule(
    "fraction",
    {
        "1/2": "one half",
        "3/4": "three quarters",
        "2/3": "two thirds",
        "½": "one half",
        "1 1/2": "one and one half",
        "5/21": "five twenty firsts",
    },
)
def fraction(written: str) -> str:
    """A part of a whole, with or without whole ones before it."""
    for sign, spelled in _FRACTIONS.items():
        written = written.replace(sign, " " + spelled).strip()
    found = re.fullmatch(r"(?:(\d+) +)?(\d+)/(\d+)", written)
    if not found or int(found[3]) < 2:
        raise UnreadableError(f"{written[:40]!r} is no fraction")
    front = cardinal(found[1]) + " and " if found[1] else ""
    above, below = plain_digits(found[2]), plain_digits(found[3])
    name = {2: "half", 4: "quarter"}.get(below) or words(below, "en", to="ordinal")
    many = {"half": "halves"}.get(name, name + "s")
    return f"{front}{words(above, 'en')} {name if above == 1 else many}"


@_rule(
    "money",
    {
        "$5": "five dollars",
        "$3.50": "three dollars and fifty cents",
        "€1": "one euro",
        "£0.99": "ninety nine pence",
        "$2 million": "two million dollars",
        "$1.5 billion": "one point five billion dollars",
        "20€": "twenty euros",
    },
)
def money(written: str) -> str:
    """An amount of a currency."""
    signs = re.escape("".join(CURRENCIES))
    found = re.fullmatch(rf"([{signs}]) ?({_NUMBER})(?: ?({'|'.join(_SCALES)}))?", written)
    if not found and (turned := re.fullmatch(rf"({_NUMBER}) ?([{signs}])", written)):
        return money(turned[2] + turned[1])
    if not found:
        raise UnreadableError(f"{written[:40]!r} is no amount of money")
    one, many, part, parts = CURRENCIES[found[1]]
    if found[3]:
        return f"{number(found[2])} {found[3]} {many}"
    whole, _, hundredths = found[2].partition(".")
    if not hundredths:
        return f"{cardinal(whole)} {one if whole == '1' else many}"
    if len(hundredths) != 2 or not part:
        return f"{decimal(found[2])} {many}"
    said = []
    if int(whole.replace(",", "")):
        said.append(f"{cardinal(whole)} {one if whole == '1' else many}")
    if int(hundredths):
        said.append(f"{cardinal(str(int(hundredths)))} {part if hundredths == '01' else parts}")
    return " and ".join(said) or f"zero {many}"


@_rule(
    "measure",
    {
        "5 km": "five kilometers",
        "1kg": "one kilogram",
        "72°F": "seventy two degrees Fahrenheit",
        "50%": "fifty percent",
        "2.5 m": "two point five meters",
        "6 ft.": "six feet",
        "-3°": "minus three degrees",
    },
)
def measure(written: str) -> str:
    """A number of units."""
    found = re.fullmatch(rf"([-−]?{_NUMBER}) ?([^\s.]+)(\.?)", written)
    if not found or found[2] not in UNITS or (found[3] and found[2] not in DOTTED):
        raise UnreadableError(f"{written[:40]!r} is no measure")
    return f"{number(found[1])} {UNITS[found[2]][found[1] != '1']}"


@_rule(
    "date",
    {
        "1/2": "January second",
        "12/25/2023": "December twenty fifth twenty twenty three",
        "2024-03-05": "March fifth twenty twenty four",
    },
)
def date(written: str) -> str:
    """A day, as month and day with or without a year, or year, month and day (ISO 8601)."""
    if iso := re.fullmatch(r"(\d{4})-(\d{1,2})-(\d{1,2})", written):
        return _day(int(iso[2]), int(iso[3]), iso[1])
    found = re.fullmatch(r"(\d{1,2})([/.-])(\d{1,2})(?:\2(\d{4}|\d{2}))?", written)
    if not found:
        raise UnreadableError(f"{written[:40]!r} is no date")
    return _day(int(found[1]), int(found[3]), found[4])


def _day(month: int, day: int, years: str | None) -> str:
    if month not in MONTHS or not 1 <= day <= 31:
        raise UnreadableError(f"there is no day {day} of month {month}")
    said = f"{MONTHS[month]} {words(day, 'en', to='ordinal')}"
    if years is None:
        return said
    return f"{said} {year(years) if len(years) == 4 else short_year(years)}"


def short_year(written: str) -> str:
    """The last two digits of a year."""
    if written.startswith("0"):
        return "oh " + DIGITS[int(written[1])] if written != "00" else "two thousand"
    return cardinal(written)


@_rule(
    "time",
    {
        "5:30": "five thirty",
        "12:00": "twelve o'clock",
        "9:05 am": "nine oh five A M",
        "5 p.m.": "five P M",
        "17:45": "seventeen forty five",
        "5pm": "five P M",
        "12:00 pm": "twelve P M",
    },
)
def time(written: str) -> str:
    """A time of day."""
    found = re.fullmatch(r"(\d{1,2})(?:[:.](\d{2}))?(?: ?([ap])\.?m\.?)?", written, re.IGNORECASE)
    if not found or not (found[2] or found[3]) or int(found[1]) > 24 or int(found[2] or 0) > 59:
        raise UnreadableError(f"{written[:40]!r} is no time")
    said, half = [cardinal(str(int(found[1])))], found[3]
    if found[2] and int(found[2]):
        said.append(cardinal(found[2]) if int(found[2]) > 9 else f"oh {DIGITS[int(found[2])]}")
    elif not half:
        said.append("o'clock")
    return " ".join(said + ([f"{half.upper()} M"] if half else []))


@_rule(
    "telephone",
    {
        "555-0123": "five five five, zero one two three",
        "(555) 123-4567": "five five five, one two three, four five six seven",
        "+1 555 0123": "plus one, five five five, zero one two three",
    },
)
def telephone(written: str) -> str:
    """A telephone number, with a pause between its groups."""
    if not re.fullmatch(r"[+(]*\d[\d()\-. /]*\d", written):
        raise UnreadableError(f"{written[:40]!r} is no telephone number")
    groups = re.findall(r"\d+", written)
    if not groups:
        raise UnreadableError(f"{written[:40]!r} has no digit")
    said = ", ".join(spell_digits(group, DIGITS) for group in groups)
    return "plus " + said if written.startswith("+") else said


@_rule("roman_cardinal", {"IV": "four", "XII": "twelve"})
def roman_cardinal(written: str) -> str:
    """A Roman numeral that counts parts."""
    return words(roman(written), "en")


@_rule("roman_ordinal", {"IV": "the fourth", "XIV": "the fourteenth"})
def roman_ordinal(written: str) -> str:
    """A Roman numeral behind the name of a ruler."""
    return "the " + words(roman(written), "en", to="ordinal")


@_rule(
    "range",
    {
        "3-5": "three to five",
        "10–12": "ten to twelve",
        "1990-1995": "nineteen ninety to nineteen ninety five",
    },
)
def number_range(written: str) -> str:
    """From one number to another."""
    found = re.fullmatch(rf"({_NUMBER}) ?[-–—] ?({_NUMBER})", written)
    if not found:
        raise UnreadableError(f"{written[:40]!r} is no range")
    is_years = all(re.fullmatch(r"1[1-9]\d\d|20\d\d", end) for end in found.groups())
    return " to ".join((year if is_years else number)(end) for end in found.groups())


@_rule("score", {"3-2": "three two", "21–14": "twenty one fourteen"})
def score(written: str) -> str:
    """What either side of a match has."""
    found = re.fullmatch(r"(\d{1,3})[-–:](\d{1,3})", written)
    if not found:
        raise UnreadableError(f"{written[:40]!r} is no score")
    return f"{cardinal(found[1])} {cardinal(found[2])}"


@_rule("ratio", {"3:1": "three to one"})
def ratio(written: str) -> str:
    """So many parts to so many."""
    found = re.fullmatch(rf"({_NUMBER}):({_NUMBER})", written)
    if not found:
        raise UnreadableError(f"{written[:40]!r} is no ratio")
    return f"{number(found[1])} to {number(found[2])}"


def number(written: str) -> str:
    """A cardinal or a decimal."""
    return decimal(written) if "." in written else cardinal(written)
