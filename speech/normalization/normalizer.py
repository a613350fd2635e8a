"""Written text into spoken text, while it comes (paper section 8.2).

    normalizer.normalize("My PIN is 1234.")  ->  "My PIN is one two three four."

The tagger's labels are put together to spans, and each span is read by its rule as soon as the
label of the token behind it says that it is whole. Where a rule refuses what the tagger gave it the
next likely one reads, in the end character by character, so that nothing written is lost.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from language.errors import InputError
from speech.embeddings import CoreEmbeddings, EmbeddedText
from speech.normalization.data import MAX_SPAN
from speech.normalization.rules import CONTINUE, PLAIN, SILENT, VERBATIM, Language, UnreadableError
from speech.normalization.tagger import Tagger
from speech.normalization.tagging import TaggingStream, tag
from speech.normalization.written import WrittenToken, clean

MAX_WHOLE_CHARACTERS = 2000
"""Longest text for a tagger that reads whole texts."""
_MARKS = frozenset(",.;:!?…-–—()[]\"'“”‘’")
_SPACE = re.compile(r"\s")
_WORD_BEGIN = re.compile(r"\s(?=\S*$)")


@dataclass(frozen=True)
class Spoken:
    """A span of the text, and what is said for it."""

    written: str
    start: int
    """Of the span in the text that :func:`speech.normalization.written.clean` gives."""
    said: str
    """Words; empty where nothing is."""
    rule: str
    remark: str = ""
    """Why the span is read otherwise than the tagger said, or may not be understood."""


class Normalizer:
    """A tagger, its language's rules, and the core's embeddings if it sees them."""

    def __init__(
        self, tagger: Tagger, rules: Language, embeddings: CoreEmbeddings | None = None
    ) -> None:
        """Put together what belongs together.

        Raises:
            ValueError: the tagger was trained on other embeddings, or on none.
        """
        given = None if embeddings is None else embeddings.dim
        if tagger.config.core_dim != given:
            raise ValueError(
                f"the tagger sees embeddings of {tagger.config.core_dim or 'no'} values, "
                f"the core gives {given or 'none'}"
            )
        self.tagger, self.rules, self.embeddings = tagger, rules, embeddings

    def normalize(self, text: str) -> str:
        """The whole spoken text."""
        return joined(self.spans(text))

    def spans(self, text: str) -> list[Spoken]:
        """The spans of a whole text, as a stream gives them.

        Raises:
            InputError: the text is too long for a tagger without a look-ahead.
        """
        if self.tagger.config.look_ahead is None:
            return self._whole(clean(text))
        stream = self.stream()
        return [*stream.push(text), *stream.finish()]

    def stream(self, *, embeddings: CoreEmbeddings | None = None) -> "NormalizationStream":
        """For a text that comes in pieces.

        Args:
            embeddings: whose view of the text is kept for whoever takes it
                (:meth:`NormalizationStream.take_embedded`); the tagger's, if it has some.
        """
        return NormalizationStream(self, embeddings)

    def _whole(self, text: str) -> list[Spoken]:
        if len(text) > MAX_WHOLE_CHARACTERS:
            raise InputError(
                "text", f"longer than {MAX_WHOLE_CHARACTERS} characters, and read as a whole"
            )
        tokens, scores = tag(text, self.tagger, self.embeddings)
        reader = SpanReader(self.rules, self.tagger.config.labels)
        return [*reader.push(tokens, scores, text), *reader.finish()]


class NormalizationStream:
    """A text that grows, and what of it is said already."""

    def __init__(self, normalizer: Normalizer, embeddings: CoreEmbeddings | None = None) -> None:
        """Nothing is written yet; see :meth:`Normalizer.stream`."""
        self._tagging = TaggingStream(normalizer.tagger)
        source = normalizer.embeddings or embeddings
        self._core = None if source is None else source.stream()
        self._sees, self._keeps = normalizer.embeddings is not None, embeddings is not None
        self._embedded: list[EmbeddedText] = []
        self._reader = SpanReader(normalizer.rules, normalizer.tagger.config.labels)
        self._waiting = ""  # the last word, of which more may come
        self._is_begun = False

    def push(self, text: str) -> list[Spoken]:
        """Write on, anywhere between two characters; what can be said now is returned."""
        self._waiting += text
        found = _SPACE.search(text) and _WORD_BEGIN.search(self._waiting)
        if not found:
            return []
        words, self._waiting = self._waiting[: found.start()], self._waiting[found.start() :]
        return self._read(words)

    def finish(self) -> list[Spoken]:
        """End the text; what waited for more is returned."""
        rest, self._waiting = self._waiting, ""
        read = self._read(rest)
        read += self._reader.push([], self._tagging.finish(), "")
        return read + self._reader.finish()

    def take_embedded(self) -> list[EmbeddedText]:
        """The core's view of what was read since this was last asked."""
        taken, self._embedded = self._embedded, []
        return taken

    def _read(self, words: str) -> list[Spoken]:
        words = clean(words)
        if not words:
            return []
        words = " " + words if self._is_begun else words
        self._is_begun = True
        core = None if self._core is None else self._core.append(words)
        if core is not None and self._keeps:
            self._embedded.append(core)
        tokens, scores = self._tagging.push(words, core if self._sees else None)
        return self._reader.push(tokens, scores, words)


class SpanReader:
    """Puts tokens together as their labels say, and reads the spans."""

    def __init__(self, rules: Language, labels: tuple[str, ...]) -> None:
        """Read by ``rules`` what is scored by ``labels``."""
        self._rules, self._labels = rules, labels
        self._continue = labels.index(CONTINUE)
        self._undecided: list[WrittenToken] = []
        self._text, self._offset = "", 0  # what is written from character `offset` on
        self._span: list[WrittenToken] = []
        self._scores: list[float] = []  # of the labels of the span's first token

    def push(self, tokens: list[WrittenToken], scores: Tensor, text: str) -> list[Spoken]:
        """Take tokens of ``text`` and the scores [decided, labels] of the oldest undecided ones."""
        self._undecided += tokens
        self._text += text
        said = []
        decided, self._undecided = (
            self._undecided[: len(scores)],
            self._undecided[len(scores) :],
        )
        for token, row in zip(decided, scores.tolist(), strict=True):
            likeliest = max(range(len(row)), key=row.__getitem__)
            goes_on = likeliest == self._continue and 0 < len(self._span) < MAX_SPAN
            if not goes_on:
                said += self.finish()
                self._scores = row
            self._span.append(token)
        return said

    def finish(self) -> list[Spoken]:
        """The span that waited for its end, if there is one."""
        tokens, self._span = self._span, []
        if not tokens:
            return []
        ranked = sorted(range(len(self._labels)), key=self._scores.__getitem__, reverse=True)
        names = [self._labels[i] for i in ranked if i != self._continue]
        said = self._read(tokens, names)
        end = tokens[-1].end
        self._text, self._offset = self._text[end - self._offset :], end
        return said

    def _read(self, tokens: list[WrittenToken], names: list[str]) -> list[Spoken]:
        """Read a span by the first of its rules, or what of it that can read, or by another."""
        refusal = ""
        for number in range(len(tokens), 0, -1):  # marks behind a number often go too far
            written, rest = self._written(tokens[:number]), tokens[number:]
            if rest and rest[0].text not in _MARKS:
                break
            try:
                said = self._rules.read(names[0], written)
            except UnreadableError as error:
                refusal = refusal or str(error)
                continue
            remark = "" if _is_latin(said) else "no Latin letters: the voice may not know them"
            spoken = Spoken(written, tokens[0].start, said, names[0], remark)
            return [spoken, *(self._mark(token) for token in rest)]
        written = self._written(tokens)
        for name in [*names, VERBATIM, PLAIN]:
            try:
                said = self._rules.read(name, written)
            except UnreadableError:
                continue
            return [Spoken(written, tokens[0].start, said, name, f"read as {name}: {refusal}")]
        raise AssertionError("what is not read verbatim is a word")

    def _mark(self, token: WrittenToken) -> Spoken:
        """A symbol that its span could not take in."""
        return Spoken(token.text, token.start, self._rules.read(SILENT, token.text), SILENT)

    def _written(self, tokens: list[WrittenToken]) -> str:
        return self._text[tokens[0].start - self._offset : tokens[-1].end - self._offset]


def _is_latin(said: str) -> bool:
    return all(unicodedata.name(c, "").startswith("LATIN") for c in said if c.isalpha())


def joined(spans: list[Spoken]) -> str:
    """What is said, with the punctuation that is heard as rhythm."""
    text = ""
    for span in spans:
        if span.said:
            text += (" " if text else "") + span.said
        elif span.rule == "silent" and text and span.written in ".,;:!?…":
            text += span.written
    return text


def words_said(spans: list[Spoken]) -> Iterator[tuple[str, Spoken]]:
    """Each word that is said, with the span that it belongs to."""
    for span in spans:
        for word in span.said.split():
            yield word, span
