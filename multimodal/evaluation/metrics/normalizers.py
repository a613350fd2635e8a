"""What makes transcripts comparable before their errors are counted: normalisers, by name.

Transcripts are stored as they are, and normalised at scoring. A change of normaliser changes every
score, so each has a signature that is printed beside the score.
"""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True, kw_only=True)
class Normalizer:
    """A way to make transcripts comparable."""

    name: str
    signature: str
    """Its name and what its results depend on: its version, and that of the package or tables."""
    apply: Callable[[str], str]
    """Gives the normalised text."""


def normalizer(name: str) -> Normalizer:
    """A normaliser by its name.

    Args:
        name: one of ``NORMALIZERS``.

    Raises:
        ValueError: there is no such normaliser.
    """
    if name not in NORMALIZERS:
        raise ValueError(f"no normalizer {name!r}; there are {', '.join(NORMALIZERS)}")
    return NORMALIZERS[name]()


def keep_marks(text: str) -> str:
    """NFKC, lower case, spaces for punctuation and symbols; combining marks stay.

    Vowel signs of Indic scripts and tones of Thai are combining marks: Whisper's basic normaliser
    puts a space in their place, which takes words apart. Format characters go, such as the joiners
    within Indic words and the marks of direction in Arabic: they are not heard.
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    return " ".join("".join(map(_shown, text)).split())


def _shown(letter: str) -> str:
    category = unicodedata.category(letter)
    if letter.isspace() or category[0] in "PSZ":
        return " "
    # a variation selector is a mark, but of the emoji before it
    return "" if category in ("Cc", "Cf") or "\ufe00" <= letter <= "\ufe0f" else letter


@cache
def _whisper_english() -> Normalizer:
    """Whisper's for English: spellings, numbers and contractions are made alike, fillers go."""
    from whisper_normalizer.english import EnglishTextNormalizer

    return _of_package("whisper-english", EnglishTextNormalizer())


@cache
def _whisper_basic() -> Normalizer:
    """Whisper's for all other languages: spaces for punctuation, and for marks too."""
    from whisper_normalizer.basic import BasicTextNormalizer

    return _of_package("whisper-basic", BasicTextNormalizer())


def _of_package(name: str, apply: Callable[[str], str]) -> Normalizer:
    from importlib.metadata import version

    signature = f"{name}|whisper-normalizer:{version('whisper-normalizer')}"
    return Normalizer(name=name, signature=signature, apply=lambda text: apply(text).strip())


def _marks_kept() -> Normalizer:
    signature = f"marks-kept|version:1|unicode:{unicodedata.unidata_version}"
    return Normalizer(name="marks-kept", signature=signature, apply=keep_marks)


def _none() -> Normalizer:
    return Normalizer(name="none", signature="none|version:1", apply=lambda text: text)


NORMALIZERS: dict[str, Callable[[], Normalizer]] = {
    "whisper-english": _whisper_english,
    "whisper-basic": _whisper_basic,
    "marks-kept": _marks_kept,
    "none": _none,
}
"""Names of the normalisers, and what builds each; packages are imported only then."""
