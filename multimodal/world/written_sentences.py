"""Written sentences with the rule by which each of their tokens is spoken.

Templates say how what they hold is read: `<digits>` draws a number and says that it is read digit
by digit, `[code]` draws a word of a class of the lexicon, `{read:second_sense}` is a
word as it stands with the rule named. Three kinds of context decide:

- *near* ones, where the tokens around say it ("12 Elm Dr.", "Dr. Lee");
- *words*, where only the class of a word does ("Next came Henry IV", "Next came chapter IV"): a
  model that has never met the word can but guess, one that sees the embeddings of a core that has
  read about it need not;
- *far* ones, where what decides comes many words later ("I read the ... every day").

Test sentences come from templates and from words that no training sentence uses. Spoken forms are
those of :mod:`speech.normalization.english`, whose examples are tested by themselves.
"""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from multimodal.world.lexicon import CLASSES, WordSplit, members
from multimodal.world.written_templates import PHRASES, SHARES, TEMPLATES
from speech.normalization.data import LabelledText
from speech.normalization.rules import CONTINUE, PLAIN, SILENT
from speech.normalization.written import WrittenToken, split

_APOSTROPHES = ("'", "’")
_MONTHS = "January February March April May June July August September October November December"
_MONTHS_SHORT = ("Jan.", "Feb.", "Apr.", "Aug.", "Sept.", "Oct.", "Nov.", "Dec.")
_NUMERALS = ("II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "XI", "XII", "XIV", "XVI")
_SITES = ("example", "openherd", "weather", "maps", "books", "radio", "garden", "library", "museum")
_DOMAINS = ("com", "org", "net", "edu", "io")
_ACRONYMS = ("FBI", "NSA", "BBC", "CNN", "CIA", "UK", "IBM", "UN", "EU", "U.S.", "HTML", "DNA")
"""Of the test; training has capitals drawn by chance."""
_UNITS = ("km", "m", "cm", "kg", "g", "mg", "lb", "oz", "mph", "km/h", "GB", "ml", "°C", "°F", "kW")
_PART = re.compile(r"<(\w+)>|\[(\w+)\]|\{([^:{}]+):(\w+)\}|([^<>\[\]{}]+)")


@dataclass(frozen=True)
class Segment:
    """A piece of a sentence and the rule that reads it; None for words said as they stand."""

    text: str
    rule: str | None = None


@dataclass(frozen=True)
class WrittenSentence:
    """A sentence and how it is read."""

    segments: tuple[Segment, ...]
    kind: str
    """What decides how it is read: near, words or far; or framed, a phrase in a frame."""

    @property
    def text(self) -> str:
        """As it is written."""
        return "".join(segment.text for segment in self.segments)


def sentences(
    *, split: WordSplit, seed: int, words: WordSplit | None = None
) -> Iterator[WrittenSentence]:
    """Sentences without end.

    Args:
        split: whose templates are filled.
        seed: of what is drawn.
        words: whose words fill them; those of ``split`` by default.
    """
    rng = random.Random(f"written {split} {seed}")
    kinds = list(SHARES)
    while True:
        kind = rng.choices(kinds, weights=[SHARES[kind] for kind in kinds])[0]
        template = rng.choice(TEMPLATES[split][kind])
        while "*" in template:
            template = template.replace("*", rng.choice(PHRASES[split]), 1)
        yield drawn(template, rng, split=words or split, kind=kind)


def drawn(template: str, rng: random.Random, *, split: WordSplit, kind: str) -> WrittenSentence:
    """A template with its slots filled."""
    segments: list[Segment] = []
    for form, name, written, rule, text in _PART.findall(template):
        if form:
            segments += _FORMS[form](rng, split)
        elif name:
            segments.append(Segment(_word(name, rng, split)))
        elif written:
            segments.append(Segment(written, rule))
        else:
            segments.append(Segment(text))
    if segments[0].rule is None:
        first = segments[0].text
        segments[0] = Segment(first[:1].upper() + first[1:])
    return WrittenSentence(tuple(segment for segment in segments if segment.text), kind)


def _word(name: str, rng: random.Random, split: WordSplit) -> str:
    if name == "month":
        return rng.choice(_MONTHS.split())
    return rng.choice(members(name, split=split))


def _natural(rng: random.Random, *, most: int = 5) -> int:
    return rng.randint(2, 10 ** rng.randint(1, most))


def _cardinal(rng: random.Random) -> str:
    value = rng.randint(1100, 2090) if rng.random() < 0.3 else _natural(rng)
    return f"{value:,}" if value > 9999 or rng.random() < 0.2 else str(value)


def _code(rng: random.Random) -> str:
    number = rng.choice([3, 4, 4, 4, 5, 6])
    return "".join(rng.choices("0123456789", k=number))


def _day(rng: random.Random) -> str:
    day = rng.randint(1, 28)
    return rng.choice([_ordinal(day), str(day)])


def _date(rng: random.Random) -> str:
    month, day, year = rng.randint(1, 12), rng.randint(1, 28), rng.randint(1900, 2040)
    return rng.choice([f"{month}/{day}/{year}", f"{year}-{month:02d}-{day:02d}"])


def _time(rng: random.Random) -> str:
    hour, minute = rng.randint(1, 12), rng.choice([0, 0, 5, 15, 30, 45, rng.randint(0, 59)])
    forms = [f"{hour}:{minute:02d}", f"{hour}:{minute:02d}", f"{hour}:{minute:02d} am", f"{hour}pm"]
    return rng.choice(forms)


def _telephone(rng: random.Random) -> str:
    area, front, back = (rng.randint(200, 999), rng.randint(200, 999), rng.randint(0, 9999))
    return rng.choice(
        [f"{front}-{back:04d}", f"({area}) {front}-{back:04d}", f"{area}-{front}-{back:04d}"]
    )


def _money(rng: random.Random) -> str:
    sign, value = rng.choice("$$$€£"), _natural(rng, most=4)
    forms = [f"{value}", f"{value}.{rng.randint(1, 99):02d}", f"{rng.randint(2, 90)} million"]
    return sign + rng.choice(forms)


def _measure(rng: random.Random) -> str:
    value = rng.choice([str(_natural(rng, most=3)), f"{rng.randint(1, 99)}.{rng.randint(1, 9)}"])
    return value + rng.choice(["", " "]) + rng.choice(_UNITS)


def _electronic(rng: random.Random) -> str:
    site, domain = rng.choice(_SITES), rng.choice(_DOMAINS)
    name = rng.choice(CLASSES["given"]).lower()
    forms = [f"www.{site}.{domain}", f"{name}@{site}.{domain}", f"{site}.{domain}/{name}"]
    return rng.choice(forms)


def _pair(rng: random.Random, *, apart: str) -> str:
    low = rng.randint(1, 12)
    return f"{low}{apart}{low + rng.randint(1, 9)}"


def _roman_owner(rng: random.Random, split: WordSplit) -> list[Segment]:
    name, rule = rng.choice([("ruler", "roman_ordinal"), ("part", "roman_cardinal")])
    return [Segment(_word(name, rng, split) + " "), Segment(rng.choice(_NUMERALS), rule)]


def _number_owner(rng: random.Random, split: WordSplit) -> list[Segment]:
    value = str(rng.randint(201, 1090))
    if rng.random() < 0.5:
        return [Segment(_word("code", rng, split) + " "), Segment(value, "digits")]
    return [Segment(_word("quantity", rng, split) + " "), Segment(value, "cardinal")]


def _dash_owner(rng: random.Random, split: WordSplit) -> list[Segment]:
    if rng.random() < 0.5:
        return [Segment(_word("team", rng, split) + " "), Segment(_pair(rng, apart="-"), "score")]
    return [Segment(_word("part", rng, split) + " "), Segment(_pair(rng, apart="-"), "range")]


def _metal(rng: random.Random, split: WordSplit) -> list[Segment]:
    if rng.random() < 0.5:
        written = [Segment("touched the "), Segment("lead", "second_sense")]
        return [*written, Segment(" " + _word("material", rng, split))]
    written = [Segment("wanted to "), Segment("lead", "first_sense")]
    return [*written, Segment(" the " + _word("led", rng, split))]


def _letters(rng: random.Random, split: WordSplit) -> list[Segment]:
    if split in ("validation", "test"):
        return [Segment(rng.choice(_ACRONYMS), "letters")]
    drawn = "".join(rng.choices("BCDFGHJKLMNPQRSTVWXZAEIU", k=rng.randint(2, 4)))
    drawn = "".join(f"{letter}." for letter in drawn[:2]) if rng.random() < 0.1 else drawn
    return [Segment("FBX" if drawn in _ACRONYMS else drawn, "letters")]


def _one(rule: str, draw: Callable[[random.Random], str]) -> Callable[..., list[Segment]]:
    return lambda rng, split: [Segment(draw(rng), rule)]


_FORMS: dict[str, Callable[[random.Random, WordSplit], list[Segment]]] = {
    "digits": _one("digits", _code),
    "cardinal": _one("cardinal", _cardinal),
    "cardinal_small": _one("cardinal", lambda rng: str(rng.randint(1, 99))),
    "number": _one("cardinal", lambda rng: str(rng.randint(1, 99))),
    "year": _one("year", lambda rng: str(rng.randint(1100, 2040))),
    "decade": _one("decade", lambda rng: f"{rng.randint(150, 202)}0s"),
    "ordinal": _one("ordinal", lambda rng: _ordinal(rng.randint(1, 40))),
    "day": _one("ordinal", _day),
    "month_short": _one("abbreviation", lambda rng: rng.choice(_MONTHS_SHORT)),
    "date": _one("date", _date),
    "short_date": _one("date", lambda rng: f"{rng.randint(1, 12)}/{rng.randint(1, 12)}"),
    "fraction": _one("fraction", lambda rng: f"{rng.randint(1, 9)}/{rng.randint(2, 12)}"),
    "measure": _one("measure", _measure),
    "percent": _one("measure", lambda rng: f"{rng.randint(1, 99)}%"),
    "feet": _one("measure", lambda rng: f"{rng.randint(2, 90)} ft."),
    "money": _one("money", _money),
    "decimal": _one("decimal", lambda rng: f"{rng.randint(0, 99)}.{rng.randint(1, 999)}"),
    "time": _one("time", _time),
    "telephone": _one("telephone", _telephone),
    "electronic": _one("electronic", _electronic),
    "letters": _letters,
    "range": _one("range", lambda rng: _pair(rng, apart=rng.choice("-–"))),
    "score": _one("score", lambda rng: _pair(rng, apart="-")),
    "ratio": _one("ratio", lambda rng: _pair(rng, apart=":")),
    "verbatim": _one("verbatim", lambda rng: rng.choice("ABCDEFGH") + str(rng.randint(1, 99))),
    "roman_owner": _roman_owner,
    "number_owner": _number_owner,
    "dash_owner": _dash_owner,
    "led": _metal,
}


def _ordinal(value: int) -> str:
    endings = {1: "st", 2: "nd", 3: "rd"}
    return str(value) + ("th" if 10 < value % 100 < 20 else endings.get(value % 10, "th"))


def labelled(sentences: Sequence[WrittenSentence]) -> LabelledText:
    """Sentences as one text with a label for each token."""
    text, labels = "", []
    for sentence in sentences:
        text += " " if text else ""
        for segment in sentence.segments:
            text += segment.text
            tokens = split(segment.text)
            if segment.rule is None:
                labels += _plain_labels(tokens)
            else:
                labels += [segment.rule, *[CONTINUE] * (len(tokens) - 1)]
    return LabelledText(text, tuple(labels))


def _plain_labels(tokens: Sequence[WrittenToken]) -> list[str]:
    """Labels of words and punctuation; what an apostrophe joins is one word."""
    joins = [
        token.text in _APOSTROPHES
        and 0 < index < len(tokens) - 1
        and tokens[index - 1].kind == tokens[index + 1].kind == "letters"
        and tokens[index - 1].end == token.start
        and token.end == tokens[index + 1].start
        for index, token in enumerate(tokens)
    ]
    goes_on = [joined or (i > 0 and joins[i - 1]) for i, joined in enumerate(joins)]
    return [
        CONTINUE if on else PLAIN if token.kind == "letters" else SILENT
        for token, on in zip(tokens, goes_on, strict=True)
    ]
