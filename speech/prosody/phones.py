"""Phones of a spoken text, and what is known of each before it is spoken (paper section 8.2).

Words come from text normalization and know where in the written text the span ends that they were
read from; so every phone knows which of the core's tokens must be there before it may be spoken.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from language.errors import InputError
from speech.espeak import synthesise
from speech.normalization.normalizer import Spoken

STRESSES = {"ˈ": 2, "ˌ": 1}
PUNCTUATION = ",.?!;:"
"""Marks after a word that are told apart; others are none."""
MAX_CODES = 4
"""Characters of a phone's symbol that are looked at."""
NUM_CODES = 1024
"""Rows of the table of characters: IPA lies below 1024."""
VOWELS = frozenset("aeiouyæøœɐɑɒɔəɘɛɜɞɤɨɪɯɵʉʊʌʏɚɝᵻ")
FUNCTION_WORDS = frozenset(
    "a an the and or but not of to in on at by for with from as is are was were be been do does "
    "did has have had he she it they we you i me him her us them my your his its our their this "
    "that these those who what which when where how if so than then there will would can could "
    "may might shall should must no yes".split()
)
NUM_FLAGS = 3 + 1 + 4 + 1 + len(PUNCTUATION) + 1


@dataclass(frozen=True)
class Word:
    """A word that is said."""

    text: str
    end: int
    """Where the span that it was read from ends in the written text, in characters."""
    after: str = ""
    """Punctuation that follows it."""
    is_quoted: bool = False

    @property
    def sounded(self) -> str:
        """As espeak-ng is to read it, which would spell a word of capitals."""
        return self.text.lower() if len(self.text) > 1 else self.text


@dataclass(frozen=True)
class ProsodyPhone:
    """A speech sound of a word."""

    symbol: str
    """In IPA, without a stress mark."""
    stress: int
    """0 none, 1 secondary, 2 primary."""
    word: int
    """Number of its word in the text."""


@dataclass(frozen=True)
class PhoneInput:
    """Phones as numbers; one text, or a batch of them."""

    codes: Tensor
    """Characters of the symbols, [..., phones, MAX_CODES] int64, 0 is none."""
    flags: Tensor
    """Linguistic features, [..., phones, NUM_FLAGS] float."""

    @classmethod
    def of(
        cls, phones: Sequence[ProsodyPhone], words: Sequence[Word], *, first_word: int = 0
    ) -> "PhoneInput":
        """Features of whole words; ``words`` are those from number ``first_word`` on."""
        codes = torch.zeros(len(phones), MAX_CODES, dtype=torch.int64)
        flags = torch.zeros(len(phones), NUM_FLAGS)
        for index, phone in enumerate(phones):
            word = words[phone.word - first_word]
            for place, character in enumerate(phone.symbol[:MAX_CODES]):
                codes[index, place] = 1 + ord(character) % (NUM_CODES - 1)
            starts = index == 0 or phones[index - 1].word != phone.word
            ends = index + 1 == len(phones) or phones[index + 1].word != phone.word
            flags[index, phone.stress] = 1
            flags[index, 3] = phone.symbol[:1] in VOWELS
            flags[index, 4 + 2 * starts + ends] = 1
            flags[index, 8] = word.text.lower() in FUNCTION_WORDS
            if word.after and word.after[0] in PUNCTUATION:
                flags[index, 9 + PUNCTUATION.index(word.after[0])] = 1
            flags[index, -1] = word.is_quoted
        return cls(codes, flags)


class Lexicon(Protocol):
    """What says the phones of words."""

    def phones(self, words: Sequence[Word], *, first_word: int = 0) -> list[ProsodyPhone]:
        """The phones of words that are spoken together."""


class EspeakLexicon:
    """Phones as espeak-ng says the words."""

    def __init__(self, voice: str = "en-us") -> None:
        """By the rules of a voice's language."""
        self.voice = voice

    def phones(self, words: Sequence[Word], *, first_word: int = 0) -> list[ProsodyPhone]:
        """See :meth:`Lexicon.phones`.

        Raises:
            InputError: the extra is not installed, or there is no such voice.
        """
        text = " ".join(word.sounded for word in words)
        said = synthesise(text, self.voice)
        starts, at = [], 0
        for word in words:
            starts.append(at)
            at += len(word.text) + 1
        owner = [max(sum(s <= begun for s in starts) - 1, 0) for begun in said.word_starts] or [0]
        return [
            split_stress(phone.symbol, first_word + owner[min(phone.word, len(owner) - 1)])
            for phone in said.phones
        ]


class FileLexicon:
    """Phones of one's own: a file with a word and its phones on each line, spaces between.

    A word that the file lacks is asked of another lexicon, or refused.
    """

    @classmethod
    def read(cls, file: Path, *, otherwise: Lexicon | None = None) -> "FileLexicon":
        """The lexicon in a file.

        Raises:
            InputError: the file cannot be read, or a line has a word without phones.
        """
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(file, f"cannot be read ({error})") from None
        for number, line in enumerate(lines, start=1):
            if len(line.split()) == 1:
                raise InputError(file, f"line {number}: no phones behind the word {line.strip()!r}")
        return cls(lines, otherwise=otherwise)

    def __init__(self, lines: Sequence[str], *, otherwise: Lexicon | None = None) -> None:
        """Read the lines; stress marks stand before a phone's symbol, as in IPA."""
        entries = [line.split() for line in lines if line.strip()]
        self._phones = {word.lower(): phones for word, *phones in entries if phones}
        self._otherwise = otherwise

    def phones(self, words: Sequence[Word], *, first_word: int = 0) -> list[ProsodyPhone]:
        """See :meth:`Lexicon.phones`.

        Raises:
            InputError: a word is in neither lexicon.
        """
        found: list[ProsodyPhone] = []
        for number, word in enumerate(words, start=first_word):
            if symbols := self._phones.get(word.text.lower()):
                found += [split_stress(symbol, number) for symbol in symbols]
            elif self._otherwise is not None:
                found += self._otherwise.phones([word], first_word=number)
            else:
                raise InputError(word.text, "no lexicon has the phones of this word")
        return found


def split_stress(symbol: str, word: int) -> ProsodyPhone:
    """A phone from its symbol in IPA with or without a stress mark."""
    stress = STRESSES.get(symbol[:1], 0)
    return ProsodyPhone(symbol[1:] if stress else symbol, stress, word)


def words_of(spans: Sequence[Spoken], *, is_quoted: bool = False) -> tuple[list[Word], bool]:
    """The words of what text normalization says, and whether a quotation is open at the end.

    Punctuation becomes part of the word before it; at the begin of ``spans`` there is none.
    """
    words: list[Word] = []
    for span in spans:
        said = span.said.replace(",", " , ").split()
        if not said:
            is_quoted = is_quoted != (span.written in '"“”')
            if words and not words[-1].after and span.written in PUNCTUATION:
                words[-1] = Word(words[-1].text, span.start + 1, span.written, words[-1].is_quoted)
            continue
        end = span.start + len(span.written)
        for text in said:
            if text == "," and words:
                words[-1] = Word(words[-1].text, end, ",", is_quoted)
            elif text != ",":
                words.append(Word(text, end, "", is_quoted))
    return words, is_quoted
