"""Rule-based cleaning of the text that goes with a clip (paper section 7.1).

Titles and descriptions from the web carry what says nothing of the picture: markup, addresses,
hashtags, lists of chapters, calls to subscribe, file names. What can be taken out is taken out; a
text of which too little is left, or that shouts or stammers, is refused. Letters of all scripts,
accents, numbers and punctuation of sentences stay as they are.
"""

import html
import re
import unicodedata
from dataclasses import dataclass

from video.curation.verdict import Verdict

_TAG = re.compile(r"</?[A-Za-z][^<>]{0,200}>")
_ADDRESS = re.compile(r"(?:https?://|www\.)\S+|\b[\w.+-]+@[\w-]+\.[\w.-]+\b", re.IGNORECASE)
_TAGGED = re.compile(r"(?<!\w)[#@][\w.]+")
_TIMES = re.compile(r"(?m)^\s*\(?\d{1,2}:\d{2}(?::\d{2})?\)?\b.*$")
_FILE_NAME = re.compile(
    r"\b[\w-]*\d[\w-]*\.(?:mp4|mov|avi|mkv|webm|mpe?g|jpe?g|png|m4v)\b"
    r"|\b(?:IMG|DSC|VID|MVI|PXL)[_-]?\d{3,}\b",
    re.IGNORECASE,
)
_SPACES = re.compile(r"[^\S\n]+")
_REPEATED_WORD = re.compile(r"\b(\w+)(?:\W+\1\b){3,}", re.IGNORECASE)
_REPEATED_SIGN = re.compile(r"([^\w\s])\1{3,}|(\w)\2{5,}")


@dataclass(frozen=True, kw_only=True)
class TextRules:
    """Bounds of a text that is kept, and what is taken out of it."""

    min_characters: int = 8
    max_characters: int = 2000
    min_words: int = 2
    min_letters: float = 0.5
    """Least share of letters among what is no space."""
    max_capitals: float = 0.7
    """Largest share of capitals among letters that have them, in texts of some length."""
    boilerplate: tuple[str, ...] = (
        "subscribe to",
        "like and subscribe",
        "don't forget to subscribe",
        "hit the bell",
        "click the link",
        "link in bio",
        "link in the description",
        "follow us on",
        "follow me on",
        "all rights reserved",
        "for more information visit",
        "stock video",
        "royalty free",
    )
    """A sentence that holds one of these, in any case, is taken out."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_characters <= self.max_characters:
            raise ValueError("text: min_characters must be 0 or more, and not above max_characters")
        for key in ("min_letters", "max_capitals"):
            if not 0 <= getattr(self, key) <= 1:
                raise ValueError(f"text.{key} is a share: 0 to 1")


def clean_text(text: str, rules: TextRules) -> tuple[str, Verdict]:
    """Take out what says nothing of the clip, and judge what is left.

    Returns:
        The cleaned text, and the verdict; its score is the share of characters that were kept.
    """
    cleaned = _cleaned(text, rules)
    fault = _fault(cleaned, rules)
    kept = len(cleaned) / max(1, len(text.strip()))
    return cleaned, Verdict(filter="text", passed=not fault, score=min(1.0, kept), reason=fault)


def _cleaned(text: str, rules: TextRules) -> str:
    text = html.unescape(unicodedata.normalize("NFC", text[: 4 * rules.max_characters]))
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = "".join(sign for sign in text if sign in "\n\t" or not _is_noise(sign))
    for pattern in (_TAG, _ADDRESS, _TIMES, _TAGGED, _FILE_NAME):
        text = pattern.sub(" ", text)
    sentences = re.split(r"(?<=[.!?])\s+|\n+", text)
    phrases = tuple(phrase.lower() for phrase in rules.boilerplate)
    kept = [s for s in sentences if not any(phrase in s.lower() for phrase in phrases)]
    text = " ".join(" ".join(_SPACES.sub(" ", s).split()) for s in kept if s.strip())
    return text.strip(" -|:;,~*•")


def _is_noise(sign: str) -> bool:
    """Control characters, and pictures among the letters."""
    kind = unicodedata.category(sign)
    # Joiners (Cf) bind letters of some scripts; those that only bind emoji go with them.
    return kind in ("Cc", "Co", "Cs", "So", "Sk") or sign in "\ufeff\u200d\ufe0f\u200b"


def _fault(text: str, rules: TextRules) -> str:
    words = re.findall(r"\w+", text)
    solid = [sign for sign in text if not sign.isspace()]
    letters = [sign for sign in solid if sign.isalpha() or unicodedata.category(sign)[0] == "M"]
    cased = [sign for sign in letters if sign.lower() != sign.upper()]
    capitals = sum(sign.isupper() for sign in cased)
    if len(text) < rules.min_characters:
        return f"{len(text)} characters are left, fewer than {rules.min_characters}"
    if len(text) > rules.max_characters:
        return f"{len(text)} characters, more than {rules.max_characters}"
    is_spaced = any(len(word) < 12 for word in words)  # scripts without spaces have long "words"
    if len(words) < rules.min_words and is_spaced:
        return f"{len(words)} words are left, fewer than {rules.min_words}"
    if len(letters) < rules.min_letters * len(solid):
        return f"{len(letters) / len(solid):.0%} letters, less than {rules.min_letters:.0%}"
    if len(cased) >= 12 and capitals > rules.max_capitals * len(cased):
        return f"{capitals / len(cased):.0%} capitals, more than {rules.max_capitals:.0%}"
    if _REPEATED_WORD.search(text):
        return "a word is said four times or more in a row"
    if _REPEATED_SIGN.search(text):
        return "a sign is repeated over and over"
    return ""
