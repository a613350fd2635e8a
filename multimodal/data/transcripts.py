"""What is said in a recording, in which language, and what it means in others: from its record.

Records of speech come as ours, ``{"text", "lang", "translations": {"Spanish": ...}}``, and with the
keys of NeMo's manifests: ``source_lang`` and ``target_lang``, the target's text in ``answer``,
``translation`` or, where the two languages differ, in ``text``. Languages are names or codes.
"""

from dataclasses import dataclass, field
from typing import Any

from language.errors import InputError
from multimodal.languages import language_name

NO_ANSWERS = ("", "na", "n/a")
"""What manifests write where there is no text."""


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """What is known of what is said."""

    text: str | None = None
    """In the language of the speaker."""
    language: str | None = None
    """English name of that language."""
    translations: dict[str, str] = field(default_factory=dict)
    """By English name of the language."""


def transcript(record: dict[str, Any], *, name: str, language: str | None = None) -> Transcript:
    """Read a record.

    Args:
        record: of a sample.
        name: of the sample, for messages.
        language: spoken where a record names none.

    Raises:
        InputError: a value is no text, or a language unknown.
    """
    try:
        return _transcript(record, language)
    except InputError as error:
        raise InputError(name, f"{error.source}: {error.fault}") from None


def _transcript(record: dict[str, Any], default: str | None) -> Transcript:
    spoken = _language(record, "source_lang", "language", "lang") or (
        language_name(default) if default is not None else None
    )
    target = _language(record, "target_lang")
    text, answer = _text(record, "text"), _text(record, "answer")
    meaning = _text(record, "translation")
    if target is not None and target != spoken and meaning is None:
        # The answer is the target's; without one the text is, as in manifests of translations.
        meaning, text = (answer, text) if answer is not None else (text, None)
        text = text if text != meaning else None
    if meaning is not None and target is None:
        raise InputError("translation", "into which language? Give target_lang")
    translations = {} if meaning is None or target is None else {target: meaning}
    listed = record.get("translations", {})
    if not isinstance(listed, dict):
        raise InputError("translations", "must be an object of texts by language")
    for language in listed:
        found = _text(listed, language)
        if found is not None:
            translations[language_name(language)] = found
    return Transcript(
        text=answer if text is None and target in (None, spoken) else text,
        language=spoken,
        translations=translations,
    )


def _language(record: dict[str, Any], *keys: str) -> str | None:
    for key in keys:
        value = record.get(key)
        if value is not None:
            if not isinstance(value, str):
                raise InputError(key, "must be the name or the code of a language")
            return language_name(value)
    return None


def _text(record: dict[str, Any], key: str) -> str | None:
    value = record.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise InputError(key, "must be a text")
    return value.strip() if value.strip().lower() not in NO_ANSWERS else None
