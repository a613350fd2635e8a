"""The 34 languages of the paper's speech data (section 8.1): codes of records, names of prompts."""

from language.errors import InputError

LANGUAGES = {
    "ar": "Arabic",
    "bn": "Bengali",
    "cs": "Czech",
    "de": "German",
    "el": "Greek",
    "en": "English",
    "es": "Spanish",
    "fa": "Persian",
    "fi": "Finnish",
    "fr": "French",
    "gu": "Gujarati",
    "hi": "Hindi",
    "hu": "Hungarian",
    "id": "Indonesian",
    "it": "Italian",
    "ja": "Japanese",
    "kn": "Kannada",
    "ko": "Korean",
    "ml": "Malayalam",
    "mr": "Marathi",
    "nl": "Dutch",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "sv": "Swedish",
    "sw": "Swahili",
    "ta": "Tamil",
    "te": "Telugu",
    "th": "Thai",
    "tr": "Turkish",
    "ur": "Urdu",
    "vi": "Vietnamese",
    "zh": "Chinese",
}
"""English names by ISO 639-1 code."""

_CODES = {name.lower(): code for code, name in LANGUAGES.items()}


def language_code(language: str) -> str:
    """The code of a language.

    Args:
        language: its English name, or its code, which may have a region (``en-US``, ``pt_br``);
            in upper or lower case.

    Raises:
        InputError: it is none of them.
    """
    word = language.strip().lower()
    code = _CODES.get(word, word.replace("_", "-").partition("-")[0])
    if code not in LANGUAGES:
        raise InputError(
            f"language {language!r}",
            f"unknown; known are {', '.join(f'{c} {name}' for c, name in LANGUAGES.items())}",
        )
    return code


def language_name(language: str) -> str:
    """The English name of a language; see `language_code`."""
    return LANGUAGES[language_code(language)]
