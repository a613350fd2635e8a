"""What the speech benchmarks share: samples of recordings, and their two scores."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multimodal.evaluation.benchmark import Outcome, Sample, Settings, Spoken
from multimodal.evaluation.metrics.bleu import sentence_statistics
from multimodal.evaluation.metrics.normalizers import normalizer
from multimodal.evaluation.metrics.script_units import error_unit, primary_language
from multimodal.evaluation.metrics.word_errors import corpus_errors
from multimodal.evaluation.packed import Packed
from multimodal.languages import language_name

ERROR_RATE = "word error rate, %, lower is better (characters where words are not spaced)"
NORMALIZER = "whisper-english for English, marks-kept version 1 for others"


Recording = Path | Packed
"""A file, by itself or in an archive."""


def transcribed(
    key: str,
    recording: Recording,
    *,
    text: str,
    language: str,
    groups: Mapping[str, str] | None = None,
) -> Sample:
    """A recording that is to be written down.

    Args:
        key: of the sample.
        recording: of it.
        text: what it says.
        language: code of the language, as the set writes it.
        groups: by which results are broken down.
    """
    return Sample(
        key=key,
        request=Spoken(recording=recording, language=language_name(plain_code(language))),
        references={"text": text, "language": language},
        groups=groups or {},
        about=text,
    )


def translated(
    key: str,
    recording: Recording,
    *,
    text: str,
    language: str,
    to: str,
    groups: Mapping[str, str] | None = None,
) -> Sample:
    """A recording that is to be translated.

    Args:
        key: of the sample.
        recording: of it.
        text: its translation.
        language: code of the language that is spoken.
        to: code of the language of the translation.
        groups: by which results are broken down.
    """
    return Sample(
        key=key,
        request=Spoken(
            recording=recording,
            language=language_name(plain_code(language)),
            to=language_name(plain_code(to)),
        ),
        references={"text": text, "language": to},
        groups=groups or {},
        about=text,
    )


def plain_code(code: str) -> str:
    """The language of a set's code: "en_us" is "en", "cmn_hans_cn" is "zh"."""
    first = primary_language(code)
    return {"cmn": "zh", "fil": "tl", "nb": "no"}.get(first, first)


def error_rate(references: Any, raw: str, settings: Settings) -> Outcome:
    """Errors of a transcript, and words of its reference; an empty reference counts for nothing."""
    name = normalizer_of(references["language"])
    found = corpus_errors(
        [raw],
        references=[references["text"]],
        normalize=name,
        unit=error_unit(references["language"]),
    ).total
    return Outcome(
        sums=(float(found.errors), float(found.reference_length)),
        answer=normalizer(name).apply(raw),
    )


def normalizer_of(language: str) -> str:
    """What is done to texts of a language: Whisper's for English, or one that keeps all marks."""
    return "whisper-english" if primary_language(language) in ("en", "eng") else "marks-kept"


def translation(references: Any, raw: str, settings: Settings) -> Outcome:
    """What BLEU adds up of a translation."""
    sums = sentence_statistics(raw, reference=references["text"], language=references["language"])
    return Outcome(sums=sums, answer=raw.strip())
