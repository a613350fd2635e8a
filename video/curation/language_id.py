"""Language identification: keep texts in the languages that are wanted (paper section 7.1).

py3langid brings its model of 97 languages along, and needs no network.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from language.errors import InputError
from video.curation.verdict import Verdict


@dataclass(frozen=True, kw_only=True)
class LanguageRules:
    """Which languages pass."""

    languages: tuple[str, ...] = ("en",)
    """ISO 639-1 codes."""
    min_probability: float = 0.5
    """Of the likeliest language."""
    min_letters: int = 10
    """Shorter texts cannot be judged, and pass."""

    def __post_init__(self) -> None:
        if not self.languages:
            raise ValueError("language_id.languages: name at least one")
        if not 0 <= self.min_probability <= 1:
            raise ValueError("language_id.min_probability is a share: 0 to 1")


def check_language(text: str, rules: LanguageRules) -> Verdict:
    """Judge the language of a text; the score is the likeliest one's probability.

    Raises:
        InputError: the extra ``curate`` is not installed.
    """
    if sum(sign.isalpha() for sign in text) < rules.min_letters:
        return Verdict(filter="language", passed=True, score=0.0)
    code, probability = identify(text)
    reason = ""
    if code not in rules.languages:
        reason = f"written in {code}, and not in {', '.join(rules.languages)}"
    elif probability < rules.min_probability:
        reason = f"{code} with a probability of {probability:.2f} alone"
    return Verdict(filter="language", passed=not reason, score=probability, reason=reason)


def identify(text: str) -> tuple[str, float]:
    """ISO 639-1 code of the likeliest language, and its probability.

    Raises:
        InputError: the extra ``curate`` is not installed.
    """
    code, probability = _identifier().classify(text)
    return str(code), float(probability)


@lru_cache
def _identifier() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise InputError("language_id", "needs the extra: pip install 'openherd[curate]'") from None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
