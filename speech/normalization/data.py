"""Written sentences and how they are spoken, from TSV files (paper section 8.2).

A line is a sentence: what is written, a tab, what is spoken, and, where it is known, a tab and a
label for each written token, with spaces between. Labels that are not given are inferred: the rules
are searched for a sequence that turns what is written into what is spoken.

    My PIN is 1234.	My PIN is one two three four
    My PIN is 1234.	My PIN is one two three four	plain plain plain digits silent
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from language.errors import InputError
from speech.normalization.rules import CONTINUE, SILENT, Language, UnreadableError
from speech.normalization.written import WrittenToken, clean, split

MAX_SPAN = 16
"""Most tokens that are read as one."""
MAX_LINE_BYTES = 1 << 16
_SAID = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Span:
    """Tokens that are read as one, and the rule that reads them."""

    start: int
    end: int
    """First character, and the one behind the last."""
    rule: str


@dataclass(frozen=True)
class LabelledText:
    """A text and a label for each of its tokens."""

    text: str
    labels: tuple[str, ...]

    @property
    def spans(self) -> list[Span]:
        """What is read as one."""
        return spans(split(self.text), self.labels)


def spans(tokens: Sequence[WrittenToken], labels: Sequence[str]) -> list[Span]:
    """Tokens put together by their labels; one that continues nothing begins a verbatim span."""
    found: list[Span] = []
    for token, label in zip(tokens, labels, strict=True):
        if label == CONTINUE and found:
            found[-1] = Span(found[-1].start, token.end, found[-1].rule)
        else:
            found.append(Span(token.start, token.end, label))
    return found


def spoken(labelled: LabelledText, language: Language) -> str:
    """What is said by the labels.

    Raises:
        UnreadableError: a rule does not apply where its label stands.
    """
    said = (language.read(s.rule, labelled.text[s.start : s.end]) for s in labelled.spans)
    return " ".join(words for words in said if words)


def read_tsv(file: Path, language: Language) -> Iterator[LabelledText]:
    """The sentences of a file.

    Raises:
        InputError: a line is no sentence of the form above, or nothing explains how it is spoken.
    """
    try:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield read_line(line.rstrip("\r\n"), language, name=f"{file}: line {number}")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(file, f"unreadable: {error}") from None


def read_line(line: str, language: Language, *, name: str) -> LabelledText:
    """A sentence; see :func:`read_tsv`."""
    if len(line) > MAX_LINE_BYTES:
        raise InputError(name, f"longer than {MAX_LINE_BYTES} characters")
    written, _, rest = line.partition("\t")
    said, _, given = rest.partition("\t")
    text = clean(written)
    if not text or not said.strip():
        raise InputError(name, "want what is written, a tab, and what is spoken")
    if not given.strip():
        labels = inferred(text, said, language)
        if labels is None:
            raise InputError(name, f"no rules of {language.code} turn {text!r} into {said!r}")
        return LabelledText(text, labels)
    labels, tokens = tuple(given.split()), split(text)
    if len(labels) != len(tokens):
        raise InputError(name, f"{len(labels)} labels for {len(tokens)} tokens")
    if unknown := next((label for label in labels if label not in language.labels), None):
        raise InputError(name, f"{language.code} has no rule {unknown!r}")
    labelled = LabelledText(text, labels)
    try:
        by_labels = spoken(labelled, language)
    except UnreadableError as error:
        raise InputError(name, str(error)) from None
    if words_of(by_labels) != words_of(said):
        raise InputError(name, f"by its labels it is spoken {by_labels!r}, not {said!r}")
    return labelled


def words_of(said: str) -> list[str]:
    """The words that are heard, without case and punctuation."""
    return _SAID.findall(said.lower())


def inferred(text: str, said: str, language: Language) -> tuple[str, ...] | None:
    """Labels by which ``text`` is spoken as ``said``; None if there are none.

    Of several ways the one with the longest spans first is taken, and among the rules of a span the
    first of the language: plain words before all others.
    """
    tokens, wanted = split(text), words_of(said)
    dead: set[tuple[int, int]] = set()

    @cache
    def readings(start: int, end: int) -> tuple[tuple[str, tuple[str, ...]], ...]:
        written, found = text[tokens[start].start : tokens[end - 1].end], []
        for name in language.rules:
            try:
                found.append((name, tuple(words_of(language.read(name, written)))))
            except UnreadableError:
                continue
        return tuple(found)

    def search(start: int, place: int) -> tuple[str, ...] | None:
        if start == len(tokens):
            return () if place == len(wanted) else None
        if (start, place) in dead:
            return None
        for end in range(min(len(tokens), start + MAX_SPAN), start, -1):
            for name, words in readings(start, end):
                if name == SILENT and end > start + 1:
                    continue  # punctuation is silent mark by mark
                if tuple(wanted[place : place + len(words)]) != words:
                    continue
                rest = search(end, place + len(words))
                if rest is not None:
                    return (name, *[CONTINUE] * (end - start - 1), *rest)
        dead.add((start, place))
        return None

    return search(0, 0)
