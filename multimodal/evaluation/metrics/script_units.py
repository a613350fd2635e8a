"""Words or characters: what a text of a language is counted in."""

from enum import StrEnum


class Unit(StrEnum):
    """What errors are counted in."""

    WORD = "word"
    CHARACTER = "character"


CHARACTER_LANGUAGES = frozenset(
    "bo cmn dz hak ja jpn khm km ko kor lao lo my mya nan th tha wuu yue zh zho".split()
)
"""ISO 639 codes of languages whose error rate is one of characters.

Most put no spaces between words. Korean does, though not always in the same places.
"""


def primary_language(language: str) -> str:
    """The language of a tag in lower case, without region or script: `zh` of `zh-CN`, `zh_Hant`.

    Raises:
        ValueError: there is none.
    """
    primary = language.strip().lower().replace("_", "-").partition("-")[0]
    if not primary:
        raise ValueError(f"no language: {language!r}")
    return primary


def error_unit(language: str) -> Unit:
    """The unit in which a language's recognition errors are counted (section 8.3).

    Args:
        language: an ISO 639 code, which may have a region or a script.

    Raises:
        ValueError: it is empty.
    """
    in_characters = primary_language(language) in CHARACTER_LANGUAGES
    return Unit.CHARACTER if in_characters else Unit.WORD
